package cmd

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"redis-janitor/cmd/planfile"
	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// planFlags keep a plan, show one, or carry one out.
type planFlags struct {
	save, show string
	file       string
	maxAge     durationValue
}

func (f *planFlags) addPlan(flags *pflag.FlagSet) {
	flags.StringVar(&f.save, "save", "", "keep the plan in `FILE`, to be reviewed and carried out with execute --plan")
	flags.StringVar(&f.show, "show", "", "print the plan that `FILE` holds, and exit")
}

func (f *planFlags) addExecute(flags *pflag.FlagSet) {
	f.maxAge = durationValue(15 * time.Minute)
	flags.StringVar(&f.file, "plan", "", "carry out the plan that `FILE` holds, and refuse where things are no longer as planned")
	flags.Var(&f.maxAge, "max-plan-age", "how old that plan may be, up to 24h")
}

func (f *planFlags) check(cmd *cobra.Command) error {
	switch age := time.Duration(f.maxAge); {
	case f.file == "" && cmd.Flags().Changed("max-plan-age"):
		return errors.New("--max-plan-age goes with --plan FILE")
	case f.file != "" && (age <= 0 || age > janitor.MaxPlanAge):
		return fmt.Errorf("--max-plan-age must be above zero and at most %s", ttlpolicy.FormatDuration(janitor.MaxPlanAge))
	}
	return nil
}

// showPlan prints a saved plan as plan did.
func (o *runOptions) showPlan(cmd *cobra.Command, sys System) error {
	if o.plan.save != "" {
		return o.refused(cmd, sys, usageError{errors.New("--save and --show exclude each other")})
	}
	saved, policy, err := planfile.Read(o.plan.show)
	if err != nil {
		return o.refused(cmd, sys, err)
	}
	if o.policy.show {
		return o.output.showPolicy(sys, policy)
	}
	r := saved.Report
	r.Plan = &janitor.PlanReport{ID: saved.ID, MadeAt: saved.MadeAt}
	r.ExitCode = janitor.ExitDone
	if o.detailedExit && r.Outcome == janitor.Planned {
		r.ExitCode = janitor.ExitToEvict
	}
	return o.output.show(sys, r)
}

// savePlan is what the run hands its plan to; nil where none is to be kept.
func (o *runOptions) savePlan(policy janitor.Policy) func(*janitor.SavedPlan) error {
	if o.plan.save == "" {
		return nil
	}
	return func(p *janitor.SavedPlan) error {
		p.Policy.FileSHA256 = o.policy.fileSHA256
		return planfile.Write(o.plan.save, p, policy)
	}
}

// savedPlan reads the plan to carry out with its policy. Flags may repeat what it says and not contradict
// it. Given is the digest of a policy that is named besides: whether it changed is for the run to say.
func (o *runOptions) savedPlan(sys System) (saved *janitor.SavedPlan, policy janitor.Policy, given string, err error) {
	if saved, policy, err = planfile.Read(o.plan.file); err != nil {
		return nil, policy, "", err
	}
	if sys.policyPath(o.policy.file) != "" {
		if _, err := o.policy.policy(sys); err != nil {
			return nil, policy, "", err
		}
		given = o.policy.fileSHA256
	}
	changed, err := o.policy.changed(policy)
	if err != nil {
		return nil, policy, "", err
	}
	if changed.SHA256() != policy.SHA256() {
		return nil, policy, "", usageError{errors.New("--memory-limit, --memory-source or --target contradicts the plan, whose policy says otherwise (plan --show FILE --policy-show); leave it out, or make a new plan with it")}
	}
	if level := o.policy.forcedLevel(); level != ttlpolicy.OK {
		for _, n := range saved.Nodes {
			if n.Level != level {
				return nil, policy, "", usageError{fmt.Errorf("--level %s contradicts the plan, which was made for level %s of %s; leave it out, or make a new plan with it", level, n.Level, n.Addr)}
			}
		}
	}
	return saved, policy, given, nil
}
