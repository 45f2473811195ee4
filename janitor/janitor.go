// Package janitor is the whole job: probe → gates → lease → survey → walk → report.
package janitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"redis-janitor/janitor/capsule"
	"redis-janitor/janitor/keyspace"
	"redis-janitor/janitor/lease"
	"redis-janitor/janitor/pace"
	"redis-janitor/janitor/probe"
	"redis-janitor/janitor/receipt"
	"redis-janitor/patterns"
	"redis-janitor/ttlpolicy"
)

// Command is what a run is to do.
type Command string

// The commands that look at a keyspace. Only Execute writes.
const (
	Plan    Command = "plan"
	DryRun  Command = "dry-run"
	Execute Command = "execute"
	Explain Command = "explain"
)

// Request is everything a run depends on besides its surroundings.
type Request struct {
	Command    Command
	Keys       []string // that Explain is asked about
	Version    string
	Policy     Policy
	Connection keyspace.Options

	Level          ttlpolicy.Level // in the place of the probe's verdict; OK: the probe decides
	ActiveUsers    int64           // in the place of the policy's users_from; below zero: not given
	IgnoreBusy     bool
	IgnoreCooldown bool
	DetailedExit   bool // plan, dry-run: exit 10 where there is something to evict

	Confirmed     bool          // --yes
	MaxKeys       int64         // 0: no limit
	MaxBytes      int64         // estimated bytes; 0: no limit
	Deadline      time.Duration // from the lease to the last batch; 0: none
	Pace          string
	MaxRate       float64 // keys a second; 0: no limit
	Wait          time.Duration
	Splay         time.Duration
	FailIfSkipped bool
	NodesAtOnce   int    // servers of a cluster that are worked on at the same time; 0: NodesAtOnce
	PauseFile     string // while it exists nothing is evicted from this host; "": none is looked for

	Saved       *SavedPlan    // the plan to carry out, by whose policy Policy is; nil: none
	GivenPolicy string        // digest of a policy that was named besides; "": none was
	MaxPlanAge  time.Duration // how old Saved may be

	// Receipt names the file that an execute, or a dry run, writes each key's fate to; "" for none.
	Receipt string

	Capsule         string // file for what is deleted; "": none
	CapsuleMax      int64  // bytes that the file may have; 0: no limit
	CapsuleMaxValue int64  // bytes of the largest value that is put into it: keys with larger ones stay
}

// Env is what surrounds a run. Tests own all of it.
type Env struct {
	Now     func() time.Time
	Log     *slog.Logger
	Machine probe.Machine
	LockDir string
	Name    string // host and process, for the lease
	Random  *rand.Rand
	// Progress hears how far the work has come, from one goroutine a node; nil: nobody listens.
	Progress func(Progress)
	// Confirm shows a plan and asks a person; nil where there is none.
	Confirm func(context.Context, *Report) (bool, error)
	// Save keeps what plan has found; nil: it isn't kept.
	Save func(*SavedPlan) error
}

// Signal is the cause of a cancelled context when the process was asked to stop.
type Signal struct {
	Name string
	Exit int
}

func (s *Signal) Error() string { return "stopped by " + s.Name }

// Run does the job and reports on it, whatever happened: every failure is in the report. When ctx
// is cancelled, the batch in hand is finished first.
func Run(ctx context.Context, req Request, env Env) *Report {
	j := &job{req: req, env: env, started: env.Now(), rules: req.Policy.Rules()}
	j.report = &Report{
		Schema:    ReportSchema,
		Command:   string(req.Command),
		Version:   req.Version,
		StartedAt: j.started.UTC(),
		Policy:    PolicyReport{Name: req.Policy.Name, SHA256: req.Policy.SHA256()},
		Users:     UsersReport{Over: req.Policy.Busy.UsersOver, From: req.Policy.Busy.UsersFrom},
	}
	j.settle(j.story(ctx))
	j.closeCapsule()
	if err := j.close(ctx); err != nil {
		j.env.Log.Warn("close connections", "error", err)
	}
	j.report.close()
	j.report.DurationMS = env.Now().Sub(j.started).Milliseconds()
	if err := j.closeReceipt(j.report.Totals); err != nil {
		j.settle(err)
	}
	j.save()
	return j.report
}

// job is one run.
type job struct {
	req     Request
	env     Env
	started time.Time
	rules   []ttlpolicy.Rule
	set     *patterns.Set
	space   *keyspace.Keyspace
	nodes   []*nodeJob
	lease   *lease.Lease
	receipt *receipt.Writer // nil where none was asked for, and until keys are decided on
	capsule *capsule.Writer // nil where there is none
	report  *Report
	down    []*downNode
	limit   *rate.Limiter // keys a second, of all nodes together
	spent   spent
	claim   claim
	served  atomic.Bool // a server was surveyed: from then on a cluster that is down was up before
	telling sync.Mutex  // held while warnings are added: nodes work at the same time
}

// nodeJob is one server's part of a run.
type nodeJob struct {
	*job
	node    *keyspace.Node
	report  *NodeReport
	row     int // the report's place in that of the run
	info    keyspace.Info
	reading probe.Reading
	level   ttlpolicy.Level
	asked   pace.Pace // as the request or the level has it
	pace    pace.Pace // fitted to the distance

	zero          time.Time // the survey's time zero
	surveyedLevel ttlpolicy.Level
	surveyedDraws int
	census        *ttlpolicy.Census
	sampled       bool
	largest       []float64     // bytes of the largest key seen of each family
	calibrations  []calibration // of each family
	floor         pace.Floor    // the shortest round trip
	pipelines     *pace.Sizer   // how many keys' facts are read at once
	governor      *pace.Governor
	turn          int // so that not always the same places of a pipeline are measured

	cuts   []ttlpolicy.Cut
	ledger *ledger

	plan  *SavedNode // this server's part of the plan that is carried out; nil: none is
	made  *SavedNode // its part of the plan that is being made
	clock clock
	stale float64 // share of the keys that has expired and is still counted

	doubted atomic.Int64 // when it was last asked whether it is still a primary

	spared *ending // why a gate holds this node back; nil: none does
	err    error   // what ended its work; the other nodes go on
}

// story tells the whole job in its order. The first step that ends the run returns an *ending.
func (j *job) story(ctx context.Context) error {
	steps := []step{
		{"splay", j.splay, nil},
		{"connect", j.connect, j.foundServers},
		{"guards", j.guards, nil},
		{"clocks", j.clocks, nil},
		{"drift", j.drift, nil},
		{"probe", j.probe, j.foundMemory},
		{"pause", j.paused, j.foundPause},
		{"busy", j.busy, j.foundUsers},
		{"cooldown", j.cooldown, j.foundReady},
		{"confirm", j.confirm, nil},
		{"lease", j.takeLease, j.foundLease},
		{"capsule", j.openCapsule, nil},
		{"work", j.work, j.foundKeys},
	}
	if j.req.Command == Explain {
		steps = []step{{"connect", j.connect, j.foundServers}, {"guards", j.guards, nil}, {"probe", j.probe, j.foundMemory}, {"explain", j.explain, nil}}
	}
	return j.carryOut(ctx, steps)
}

// whyStopped is what ended ctx, where err only says that a command was not sent because of that.
func whyStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && keyspace.KindOf(err) == keyspace.Stopped {
		return context.Cause(ctx)
	}
	return err
}

func (j *job) acts() bool { return j.req.Command == Execute }

// splay keeps the janitors of many hosts from starting in the same second.
func (j *job) splay(ctx context.Context) error {
	if j.req.Splay <= 0 || !j.acts() {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(j.env.Random.Int64N(int64(j.req.Splay)))):
		return nil
	}
}

func (j *job) connect(ctx context.Context) error {
	set, err := j.req.Policy.Patterns()
	if err != nil {
		return err
	}
	j.set = set
	options := j.req.Connection
	options.Mode = keyspace.Reading
	if j.acts() {
		options.Mode = keyspace.Evicting
	}
	if j.acts() && j.req.Capsule != "" {
		options.Mode = keyspace.Preserving
	}
	return j.meet(ctx, options)
}

// meet opens the connections and gets to know who answers.
func (j *job) meet(ctx context.Context, options keyspace.Options) (err error) {
	if j.space, err = keyspace.Open(ctx, options); err != nil {
		return err
	}
	return j.muster()
}

// guards hold back an execute that nobody can have meant. plan and dry-run only mention them.
func (j *job) guards(context.Context) error {
	for _, n := range j.nodes {
		if !n.info.Replica() {
			continue
		}
		if j.acts() {
			return &ending{Refused, Replica, ExitRefused,
				fmt.Sprintf("%s is a replica, and a replica is never cleaned", n.node.Addr()),
				fmt.Sprintf("give the primary's address: %s says it is %s:%s", n.node.Addr(), n.info.Text("master_host"), n.info.Text("master_port"))}
		}
		j.warn(n, "", "replica", "%s is a replica: execute would refuse to run here", n.node.Addr())
	}
	for _, pattern := range j.req.Policy.BroadPatterns() {
		if j.acts() {
			return &ending{Refused, Guard, ExitRefused,
				fmt.Sprintf("pattern %s begins with fewer than %d fixed bytes, which may match far more than is meant", pattern, patterns.MinFixedPrefix),
				"make the pattern longer, or say broad: true in its family"}
		}
		j.warn(nil, "", "broad_pattern", "pattern %s begins with fewer than %d fixed bytes: execute refuses it unless its family says broad: true", pattern, patterns.MinFixedPrefix)
	}
	if err := j.idleCanBeTold(); err != nil {
		return err
	}
	if err := j.receiptCanBegin(); err != nil {
		return err
	}
	if err := j.capsuleCanBe(); err != nil {
		return err
	}
	if j.acts() && !j.req.Confirmed && j.env.Confirm == nil {
		return &ending{Refused, Guard, ExitRefused,
			"execute deletes keys, and there is no terminal to ask on",
			"add --yes; run plan or dry-run first to see what would go"}
	}
	return nil
}

// idleCanBeTold holds that a min_idle rule is only carried out where the server keeps idle times.
func (j *job) idleCanBeTold() error {
	for _, rule := range j.rules {
		if rule.MinIdle <= 0 {
			continue
		}
		for _, n := range j.nodes {
			if n.info.TellsIdleTimes() {
				continue
			}
			why := fmt.Sprintf("family %s asks for min_idle, but %s keeps no idle times (its maxmemory-policy is %s)",
				rule.Family, n.node.Addr(), n.info.Text("maxmemory_policy"))
			if j.acts() {
				return &ending{Refused, Guard, ExitRefused, why, "remove min_idle, or use an eviction policy of the server that isn't LFU"}
			}
			j.warn(n, rule.Family, "idle_unknown", "%s: execute would refuse, and here its keys are kept as unknown", why)
		}
	}
	return nil
}

// confirm shows a person the plan and asks.
func (j *job) confirm(ctx context.Context) error {
	if !j.acts() || j.req.Confirmed {
		return nil
	}
	err := j.each(ctx, func(n *nodeJob) error {
		if !n.works() {
			return nil
		}
		if err := n.survey(ctx, fullSample); err != nil {
			return err
		}
		n.aim()
		return nil
	})
	if err != nil {
		return err
	}
	preview := j.preview()
	if !preview.wouldEvict() {
		return nil // nothing to ask about: the run goes on to say so
	}
	yes, err := j.env.Confirm(ctx, preview)
	if err != nil {
		return fmt.Errorf("ask for confirmation: %w", err)
	}
	if !yes {
		return &ending{Refused, Guard, ExitRefused, "not confirmed: nothing was deleted", "run it again to be asked again; plan --save FILE keeps a plan for somebody else to look at"}
	}
	return nil
}

// preview is a report of what is about to be done. The run's own report has nothing of it: it may never be done.
func (j *job) preview() *Report {
	preview := *j.report
	preview.Command = string(Plan)
	preview.Outcome = Planned
	preview.Message = "This is what execute would do."
	preview.DurationMS = j.env.Now().Sub(j.started).Milliseconds()
	preview.Nodes = slices.Clone(preview.Nodes)
	for i := range preview.Nodes {
		preview.Nodes[i].Families = slices.Clone(preview.Nodes[i].Families)
	}
	for _, n := range j.nodes {
		if n.works() {
			n.estimates(&preview.Nodes[n.row])
			n.planned(&preview.Nodes[n.row])
		}
	}
	preview.close()
	return &preview
}

func (r *Report) wouldEvict() bool {
	for _, n := range r.Nodes {
		for _, f := range n.Families {
			if f.Estimate.Evict > 0 {
				return true
			}
		}
	}
	return false
}

// work surveys and walks every node that is under pressure.
func (j *job) work(ctx context.Context) error {
	if j.req.Deadline > 0 && j.acts() {
		// Cancelled, not timed out: at a context's deadline a command on its way would lose its answer.
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		defer time.AfterFunc(j.req.Deadline, func() { cancel(errDeadline) }).Stop()
	}
	if err := j.beginReceipt(); err != nil {
		return err
	}
	j.limit = newLimit(j.req.MaxRate)
	return j.cleanAll(ctx)
}

var errDeadline = errors.New("the deadline has passed")

// clean takes one node from its survey to its last batch, and begins again where the server was lost
// and came back.
func (n *nodeJob) clean(ctx context.Context) error {
	err := n.walkAll(ctx)
	for again := 1; again <= maxRestarts; again++ {
		gained := false
		if err == nil && n.ledger != nil && n.ledger.stopped() == Exhausted {
			gained, err = n.reshaped(ctx)
		}
		if !gained && !n.lost(err) {
			break
		}
		if err = n.beginAgain(ctx); err != nil {
			break
		}
		err = n.walkAll(ctx)
	}
	if n.ledger != nil && (err == nil || n.ledger.evicted() > 0 && !n.lost(err)) {
		if measured := n.measureAfter(ctx); err == nil {
			err = measured
		}
	}
	return err
}

// walkAll surveys a node and walks it until there is no more to do.
func (n *nodeJob) walkAll(ctx context.Context) error {
	draws := fullSample
	if n.req.Command != Plan && n.unlimited() {
		// Everything eligible goes, so the sample only has to tell sizes and mistaken rules.
		draws = smallSample
	}
	if err := n.survey(ctx, draws); err != nil {
		return err
	}
	n.served.Store(true)
	n.aim()
	n.estimates(n.report)
	n.lint()
	if n.req.Command == Plan {
		n.planned(n.report)
		made := n.saved()
		n.made = &made
		return nil
	}
	if n.ledger == nil || !n.acts() {
		n.ledger = newLedger(n)
	} else {
		n.ledger.again()
	}
	stop := n.governed(ctx) // by now the survey has seen how far it is
	err := n.evict(ctx)
	stop()
	n.account(ctx)
	return err
}

// parting is how long what is asked of a server at the very end may take: whoever stopped the run may soon kill it.
const parting = time.Second

// hurried is whether somebody waits for the end of the run.
func hurried(ctx context.Context) bool {
	var signal *Signal
	return errors.As(context.Cause(ctx), &signal)
}

// close gives back what the run holds. It may have been stopped, and this must work all the same.
func (j *job) close(ctx context.Context) error {
	var errs []error
	giveBack := func(back func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
		defer cancel()
		errs = append(errs, back(ctx))
	}
	answered := true
	if j.lease != nil {
		patience := j.req.Connection.CommandTimeout
		if hurried(ctx) {
			patience = parting
		}
		err := j.lease.Rest(patience)
		errs, answered = append(errs, err), err == nil
	}
	if answered && j.req.Saved != nil && j.space != nil {
		giveBack(j.releasePlan)
	}
	if answered && j.lease != nil {
		giveBack(j.lease.Release)
	}
	if j.space != nil {
		errs = append(errs, j.space.Close())
	}
	return errors.Join(errs...)
}
