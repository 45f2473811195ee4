package main_test

import (
	"path"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The parts of Kubernetes' objects that the recipes use, and no others: a name that is written wrong is an error.
type (
	metadata struct {
		Name        string
		Annotations map[string]string
	}
	secret struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   metadata
		Type       string
		StringData map[string]string `yaml:"stringData"`
	}
	configMap struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   metadata
		Data       map[string]string
	}
	container struct {
		Name, Image     string
		Args            []string
		Env             []struct{ Name, Value string }
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct{ Drop []string }
		} `yaml:"securityContext"`
		Resources    struct{ Requests, Limits map[string]string }
		VolumeMounts []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	podSpec struct {
		RestartPolicy   string `yaml:"restartPolicy"`
		Token           *bool  `yaml:"automountServiceAccountToken"`
		Grace           int    `yaml:"terminationGracePeriodSeconds"`
		SecurityContext struct {
			RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
			RunAsUser      int                   `yaml:"runAsUser"`
			RunAsGroup     int                   `yaml:"runAsGroup"`
			FSGroup        int                   `yaml:"fsGroup"`
			SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		Containers []container
		Volumes    []struct {
			Name      string
			ConfigMap *struct{ Name string } `yaml:"configMap"`
			Secret    *struct {
				SecretName  string `yaml:"secretName"`
				DefaultMode int    `yaml:"defaultMode"`
			}
			EmptyDir *struct{} `yaml:"emptyDir"`
		}
	}
	jobSpec struct {
		BackoffLimit          *int `yaml:"backoffLimit"`
		ActiveDeadlineSeconds int  `yaml:"activeDeadlineSeconds"`
		Template              struct{ Spec podSpec }
	}
	job struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   metadata
		Spec       jobSpec
	}
	cronJob struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   metadata
		Spec       struct {
			Schedule          string
			ConcurrencyPolicy string                 `yaml:"concurrencyPolicy"`
			StartingDeadline  int                    `yaml:"startingDeadlineSeconds"`
			Successful        int                    `yaml:"successfulJobsHistoryLimit"`
			Failed            int                    `yaml:"failedJobsHistoryLimit"`
			JobTemplate       struct{ Spec jobSpec } `yaml:"jobTemplate"`
		}
	}
)

// manifests reads a file's objects, each strictly by its kind.
func manifests(t *testing.T, name string) map[string]any {
	t.Helper()
	found := map[string]any{}
	for _, text := range strings.Split(recipe(t, name), "\n---\n") {
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(text), &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.Kind {
		case "Secret":
			found[kind.Kind] = new(secret)
		case "ConfigMap":
			found[kind.Kind] = new(configMap)
		case "CronJob":
			found[kind.Kind] = new(cronJob)
		case "Job":
			found[kind.Kind] = new(job)
		default:
			t.Fatalf("%s: a %q", name, kind.Kind)
		}
		strictly(t, text, found[kind.Kind])
	}
	return found
}

// runPod carries out what a job's container would, with what is mounted into it, after a look at what it may do.
func runPod(t *testing.T, spec jobSpec, config *configMap, password *secret) string {
	t.Helper()
	pod := spec.Template.Spec
	if pod.RestartPolicy != "Never" || spec.BackoffLimit == nil || *spec.BackoffLimit != 0 || spec.ActiveDeadlineSeconds <= 600 {
		t.Errorf("a failed run would be repeated at once, or ended by force: %+v", spec)
	}
	if pod.Token == nil || *pod.Token || !pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.RunAsUser == 0 || pod.SecurityContext.SeccompProfile.Type != "RuntimeDefault" || len(pod.Containers) != 1 {
		t.Errorf("the pod may do more than it needs: %+v", pod)
	}
	c := pod.Containers[0]
	if may := c.SecurityContext; may.AllowPrivilegeEscalation == nil || *may.AllowPrivilegeEscalation || !may.ReadOnlyRootFilesystem || !slices.Equal(may.Capabilities.Drop, []string{"ALL"}) || c.Resources.Limits["memory"] == "" {
		t.Errorf("the container may do more than it needs: %+v", c)
	}
	files := map[string]bool{} // by their paths in the container
	for _, mount := range c.VolumeMounts {
		for _, v := range pod.Volumes {
			if v.Name != mount.Name {
				continue
			}
			if v.ConfigMap != nil && v.ConfigMap.Name == config.Metadata.Name {
				for name := range config.Data {
					files[path.Join(mount.MountPath, name)] = mount.ReadOnly
				}
			}
			if v.Secret != nil && v.Secret.SecretName == password.Metadata.Name && v.Secret.DefaultMode == 0o440 {
				for name := range password.StringData {
					files[path.Join(mount.MountPath, name)] = mount.ReadOnly
				}
			}
		}
	}
	for _, argument := range c.Args {
		if _, file, isFile := strings.Cut(argument, "="); isFile && strings.HasPrefix(file, "/") && !files[file] {
			t.Errorf("%s is not mounted: %v", argument, files)
		}
	}
	s, dir := recipeSite(t)
	if len(password.StringData) != 1 || password.StringData["password"] != "PASSWORD" {
		t.Errorf("the secret has more than the password: %v", password.StringData)
	}
	// The site's own policy is the built-in one, with the limit that this server needs; the recipe's says the same of it.
	if err := writeFile(dir, "policy.yaml", config.Data["policy.yaml"]); err != nil {
		t.Fatal(err)
	}
	var env []string
	for _, variable := range c.Env {
		env = append(env, variable.Name+"="+variable.Value)
	}
	return s.evicts(t, dir, "redis-janitor "+strings.Join(c.Args, " "), env...)
}

func TestTheKubernetesCronJobEvictsAndMayDoNothingElse(t *testing.T) {
	all := manifests(t, "cronjob.yaml")
	cron := all["CronJob"].(*cronJob)
	if cron.APIVersion != "batch/v1" || cron.Spec.ConcurrencyPolicy != "Forbid" || cron.Spec.Schedule != "*/5 * * * *" || cron.Spec.StartingDeadline == 0 {
		t.Errorf("%+v", cron)
	}
	if out := runPod(t, cron.Spec.JobTemplate.Spec, all["ConfigMap"].(*configMap), all["Secret"].(*secret)); !strings.Contains(out, "EVICTED") {
		t.Errorf("it said %s", out)
	}
}

func TestThePredeployJobOfHelmAndArgoEvictsAndFailsWhereItWasSkipped(t *testing.T) {
	all := manifests(t, "cronjob.yaml")
	hook := manifests(t, "predeploy-job.yaml")["Job"].(*job)
	want := map[string]string{"helm.sh/hook": "pre-upgrade", "argocd.argoproj.io/hook": "PreSync"}
	for name, value := range want {
		if hook.Metadata.Annotations[name] != value {
			t.Errorf("%s is %q", name, hook.Metadata.Annotations[name])
		}
	}
	if !slices.Contains(hook.Spec.Template.Spec.Containers[0].Args, "--fail-if-skipped") {
		t.Error("a run that was skipped would let the deploy go on")
	}
	if out := runPod(t, hook.Spec, all["ConfigMap"].(*configMap), all["Secret"].(*secret)); !strings.Contains(out, "exhausted, exit 0") {
		t.Errorf("it said %s", out)
	}
}
