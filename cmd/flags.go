package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"redis-janitor/cmd/policyfile"
	"redis-janitor/janitor"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// sizeValue is a flag that takes a size as redis.conf writes it.
type sizeValue int64

func (v *sizeValue) String() string {
	if *v == 0 {
		return ""
	}
	return ttlpolicy.FormatSize(int64(*v))
}

func (v *sizeValue) Type() string { return "size" }

func (v *sizeValue) Set(s string) error {
	n, err := ttlpolicy.ParseSize(s)
	*v = sizeValue(n)
	return err
}

// durationValue is a flag that takes a duration, days included.
type durationValue time.Duration

func (v *durationValue) String() string { return ttlpolicy.FormatDuration(time.Duration(*v)) }

func (v *durationValue) Type() string { return "duration" }

func (v *durationValue) Set(s string) error {
	d, err := ttlpolicy.ParseDuration(s)
	*v = durationValue(d)
	return err
}

// choiceValue is a flag that takes one of a few words.
type choiceValue struct {
	value   string
	choices []string
}

func (v *choiceValue) String() string { return v.value }

func (v *choiceValue) Type() string { return strings.Join(v.choices, "|") }

func (v *choiceValue) Set(s string) error {
	for _, c := range v.choices {
		if s == c {
			v.value = s
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", s, strings.Join(v.choices, ", "))
}

// choice adds a flag of a few words, and their completion.
func choice(cmd *cobra.Command, name, short, value, usage string, choices ...string) *choiceValue {
	v := &choiceValue{value: value, choices: choices}
	cmd.Flags().VarP(v, name, short, usage)
	complete := cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)
	// The only error is a flag that does not exist, and it was added one line above.
	_ = cmd.RegisterFlagCompletionFunc(name, complete)
	return v
}

// connectionFlags say where Redis is.
type connectionFlags struct {
	urls           []string
	cluster        bool
	sentinels      []string
	masterName     string
	user           string
	passwordFile   string
	caCert         string
	cert, key      string
	serverName     string
	connectTimeout durationValue
	commandTimeout durationValue
}

func (f *connectionFlags) add(flags *pflag.FlagSet) {
	f.connectTimeout, f.commandTimeout = durationValue(5*time.Second), durationValue(5*time.Second)
	flags.StringArrayVarP(&f.urls, "url", "u", nil, "`URL` of the Redis to connect to: redis://, rediss:// or unix:// (env REDIS_URL; default redis://127.0.0.1:6379/0)")
	flags.BoolVar(&f.cluster, "cluster", false, "the URL is a cluster's (detected when the server says so)")
	flags.StringArrayVar(&f.sentinels, "sentinel", nil, "`HOST:PORT` of a sentinel; repeatable")
	flags.StringVar(&f.masterName, "master-name", "", "`NAME` of the primary that the sentinels watch")
	flags.StringVar(&f.user, "user", "", "ACL user's `NAME`")
	flags.StringVar(&f.passwordFile, "password-file", "", "`FILE` with the password (default: the URL's, or env REDISCLI_AUTH)")
	flags.StringVar(&f.caCert, "cacert", "", "PEM `FILE` of the CA that signed the server's certificate")
	flags.StringVar(&f.cert, "cert", "", "PEM `FILE` of the client certificate")
	flags.StringVar(&f.key, "key", "", "PEM `FILE` of the client certificate's key")
	flags.StringVar(&f.serverName, "tls-server-name", "", "`NAME` that the server's certificate must hold for (default: the host connected to)")
	flags.Var(&f.connectTimeout, "connect-timeout", "how long a connection may take to open")
	flags.Var(&f.commandTimeout, "command-timeout", "how long the server may take to answer")
}

// defaultURL is where redis-cli connects, too.
const defaultURL = "redis://127.0.0.1:6379/0"

func (f *connectionFlags) options(ctx context.Context, sys System, workers int) (keyspace.Options, error) {
	o := keyspace.Options{
		URLs: f.urls, Cluster: f.cluster, Sentinels: f.sentinels, MasterName: f.masterName, Username: f.user,
		Fallback: sys.getenv("REDISCLI_AUTH"), CACert: f.caCert, Cert: f.cert, Key: f.key, ServerName: f.serverName,
		SentinelPassword: sys.getenv("REDIS_SENTINEL_AUTH"),
		ConnectTimeout:   time.Duration(f.connectTimeout), CommandTimeout: time.Duration(f.commandTimeout), Workers: workers,
	}
	if len(o.URLs) == 0 {
		if url := sys.getenv("REDIS_URL"); url != "" {
			o.URLs = []string{url}
		} else {
			o.URLs = []string{defaultURL}
		}
	}
	if f.passwordFile != "" {
		var err error
		if o.Password, err = readPassword(ctx, f.passwordFile); err != nil {
			return o, fmt.Errorf("--password-file: %w", err)
		}
	}
	secured := func(url string) bool { return strings.HasPrefix(strings.ToLower(url), "rediss://") }
	if f.caCert+f.cert+f.key+f.serverName != "" && !slices.ContainsFunc(o.URLs, secured) {
		return o, errors.New("--cacert, --cert, --key and --tls-server-name are for TLS, and the URL asks for none: write rediss:// instead of redis://")
	}
	if o.ConnectTimeout <= 0 || o.CommandTimeout <= 0 {
		return o, errors.New("--connect-timeout and --command-timeout must be above zero")
	}
	return o, o.Check()
}

// policyFlags say what may go, and when.
type policyFlags struct {
	file           string
	show           bool
	memoryLimit    string
	memorySource   *choiceValue
	level          *choiceValue
	target         string
	activeUsers    int64
	ignoreCooldown bool
	ignoreBusy     bool
	fileSHA256     string // digest of what the file says, once it was read

	limit janitor.Limit  // memoryLimit as check has read it
	goal  janitor.Target // target likewise
}

// addMemory adds those of a command that judges memory and decides about no key.
func (f *policyFlags) addMemory(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "policy", "p", "", "policy `FILE` (env REDIS_JANITOR_POLICY; default: the built-in combot policy)")
	flags.BoolVar(&f.show, "policy-show", false, "print the policy in force and exit")
	flags.StringVar(&f.memoryLimit, "memory-limit", "", "memory that the levels are shares of: `SIZE|maxmemory|system`")
	f.memorySource = choice(cmd, "memory-source", "", "", "what memory is measured by", "redis", "rss", "host", "cgroup")
}

func (f *policyFlags) add(cmd *cobra.Command) {
	f.addMemory(cmd)
	flags := cmd.Flags()
	f.level = choice(cmd, "level", "", "", "act as if the probe had said so", "cleanup", "force", "critical")
	flags.StringVar(&f.target, "target", "", "where to stop: `SIZE|PERCENT|none`; a percentage is of the limit, and none evicts all that is eligible")
	flags.Int64Var(&f.activeUsers, "active-users", -1, "say that `N` users are active, in the place of counting them")
	flags.Lookup("active-users").DefValue = "0" // which help leaves out
	flags.BoolVar(&f.ignoreCooldown, "ignore-cooldown", false, "act also within the cooldown of the last eviction")
	flags.BoolVar(&f.ignoreBusy, "ignore-busy", false, "act also while many users are active")
}

// usageError marks what is wrong with the command line itself.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// policyPath is the file of the policy that is named, or else that of the environment; "" for the built-in one.
func (sys System) policyPath(file string) string {
	return cmp.Or(file, sys.getenv("REDIS_JANITOR_POLICY"))
}

// policyIn is the policy of a file, or else that of the environment, or else the built-in one.
func (sys System) policyIn(file string) (janitor.Policy, error) {
	if file = sys.policyPath(file); file == "" {
		return janitor.Combot(), nil
	}
	return policyfile.Load(file)
}

// policy reads the policy and lets the flags have their say.
func (f *policyFlags) policy(sys System) (janitor.Policy, error) {
	p, err := sys.policyIn(f.file)
	if err != nil {
		return p, err
	}
	f.fileSHA256 = p.SHA256()
	return f.changed(p)
}

// check reads the flags: what is wrong with them is told before what may be wrong with a policy.
func (f *policyFlags) check(cmd *cobra.Command) (err error) {
	if f.memoryLimit != "" {
		if f.limit, err = policyfile.ParseLimit(f.memoryLimit); err != nil {
			return fmt.Errorf("--memory-limit: %w", err)
		}
	}
	if f.target != "" {
		if f.goal, err = policyfile.ParseTarget(f.target); err != nil {
			return fmt.Errorf("--target: %w", err)
		}
	}
	if cmd.Flags().Changed("active-users") && f.activeUsers < 0 {
		return errors.New("--active-users must not be negative")
	}
	return nil
}

// changed is a valid policy as the flags, which have been checked, would have it.
func (f *policyFlags) changed(p janitor.Policy) (janitor.Policy, error) {
	if f.memoryLimit != "" {
		p.Memory.Limit = f.limit
	}
	if f.memorySource.value != "" {
		p.Memory.Source = f.memorySource.value
	}
	if f.target != "" {
		p.Memory.Target = f.goal
	}
	// The file was valid by itself, so what is wrong now came with a flag.
	err := p.Validate()
	var field *janitor.FieldError
	switch {
	case err == nil:
		return p, nil
	case errors.As(err, &field) && field.Path == "memory.target" && f.target != "":
		err = fmt.Errorf("--target: %s", field.Msg)
	case errors.As(err, &field) && field.Path == "memory.limit":
		err = fmt.Errorf("--memory-limit: %s", field.Msg)
	case f.memoryLimit != "":
		err = fmt.Errorf("--memory-limit: with it, %w", err)
	}
	return p, usageError{err}
}

func (f *policyFlags) forcedLevel() ttlpolicy.Level {
	level, err := ttlpolicy.ParseLevel(f.level.value)
	if err != nil {
		return ttlpolicy.OK // the flag was not given: its values are checked when they are set
	}
	return level
}

// receiptFlag names the file that each key's fate is written to.
func receiptFlag(flags *pflag.FlagSet, file *string) {
	flags.StringVar(file, "receipt", "", "write a JSON line for each key decided on to a new `FILE` (.gz, .zst: compressed)")
}

// executeFlags bound what execute does.
type executeFlags struct {
	yes           bool
	maxKeys       int64
	maxBytes      sizeValue
	deadline      durationValue
	pace          *choiceValue
	maxRate       float64
	workers       int
	nodesAtOnce   int
	wait          durationValue
	splay         durationValue
	failIfSkipped bool
	receipt       string
	capsule       capsuleFlags
}

// capsuleFlags say where what is deleted is kept.
type capsuleFlags struct {
	file     string
	max      sizeValue
	maxValue sizeValue
}

func (f *capsuleFlags) add(flags *pflag.FlagSet) {
	f.maxValue = janitor.CapsuleValue
	flags.StringVar(&f.file, "capsule", "", "new `FILE` for the values of what is deleted, for restore to put back")
	flags.Var(&f.max, "capsule-max", "stop when the capsule's file has this size")
	flags.Var(&f.maxValue, "capsule-max-value", "keys with larger values than this stay")
}

func (f *capsuleFlags) check() error {
	const largest = 512 << 20 // a Redis string's limit
	switch {
	case f.file == "" && (f.max != 0 || f.maxValue != 0 && f.maxValue != janitor.CapsuleValue):
		return errors.New("--capsule-max and --capsule-max-value go with --capsule FILE")
	case f.file != "" && (f.maxValue < 1 || f.maxValue > largest):
		return errors.New("--capsule-max-value must be from 1 byte to 512mb")
	}
	return nil
}

func (f *executeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.deadline = durationValue(10 * time.Minute)
	flags.BoolVar(&f.yes, "yes", false, "do not ask; needed where stdin is no terminal")
	flags.Int64Var(&f.maxKeys, "max-keys", 0, "evict no more than `N` keys (0: no limit)")
	flags.Var(&f.maxBytes, "max-bytes", "free no more than about so much (an estimate)")
	flags.Var(&f.deadline, "deadline", "from the lease to the last batch (0: none)")
	f.addWalk(cmd)
	flags.Float64Var(&f.maxRate, "max-rate", 0, "evict no more than so many `KEYS_PER_SECOND` (0: no limit)")
	flags.Var(&f.wait, "wait", "how long to wait for another janitor to finish")
	flags.Var(&f.splay, "splay", "start after a random delay of up to this, so that many hosts don't start at once")
	flags.BoolVar(&f.failIfSkipped, "fail-if-skipped", false, "exit 3 instead of 0 when a gate skipped the run")
	f.capsule.add(flags)
}

func (f *executeFlags) addWalk(cmd *cobra.Command) {
	f.pace = choice(cmd, "pace", "", "auto", "how long one command may hold the server: 0.5, 1 or 5 ms; auto by the level", "auto", "gentle", "balanced", "fast")
	cmd.Flags().IntVar(&f.workers, "workers", 2, "`N` connections that evict")
	cmd.Flags().IntVar(&f.nodesAtOnce, "nodes-at-once", janitor.NodesAtOnce, "`N` of a cluster's servers are worked on at the same time")
	receiptFlag(cmd.Flags(), &f.receipt)
}

func (f *executeFlags) check() error {
	switch {
	case f.maxKeys < 0:
		return errors.New("--max-keys must not be negative")
	case f.maxRate < 0 || math.IsNaN(f.maxRate) || math.IsInf(f.maxRate, 0):
		return errors.New("--max-rate must be a number of keys a second, 0 or above")
	case f.workers < 1 || f.workers > 64:
		return errors.New("--workers must be from 1 to 64")
	case f.nodesAtOnce < 1 || f.nodesAtOnce > 1000:
		return errors.New("--nodes-at-once must be from 1 to 1000")
	}
	return f.capsule.check()
}
