package janitor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// MaxPlanAge is the most that --max-plan-age may be: the mark of a used plan lasts longer.
const MaxPlanAge = 24 * time.Hour

// planMarkLasts is how long it is known that a plan was carried out: longer than any plan may be.
const planMarkLasts = MaxPlanAge + time.Hour

// drift holds a saved plan against what there is now, and refuses where it no longer is what was reviewed.
func (j *job) drift(ctx context.Context) error {
	p := j.req.Saved
	if p == nil {
		return nil
	}
	j.report.Plan = &PlanReport{p.ID, p.MadeAt}
	if differs := j.differences(p); len(differs) > 0 {
		return drifted(differs)
	}
	if err := j.unused(ctx); err != nil {
		return err
	}
	var mu sync.Mutex
	var differs []string
	err := j.each(ctx, func(n *nodeJob) error {
		moved, err := n.moved(ctx)
		mu.Lock()
		defer mu.Unlock()
		differs = append(differs, moved...)
		return err
	})
	if err == nil && len(differs) > 0 {
		slices.Sort(differs)
		err = drifted(differs)
	}
	return err
}

func drifted(differs []string) error {
	return &ending{Refused, Drift, ExitRefused, "what was planned is not what is there now: " + strings.Join(differs, "; "),
		"nothing was deleted; make a new plan with plan --save FILE, look at it, and carry that one out"}
}

// differences are what a plan and the servers differ in before a key is looked at. It gives each node its
// part of the plan.
func (j *job) differences(p *SavedPlan) (differs []string) {
	add := func(format string, args ...any) { differs = append(differs, fmt.Sprintf(format, args...)) }
	if given := j.req.GivenPolicy; given != "" && given != p.Policy.FileSHA256 {
		add("the policy changed: the one given has sha256 %.12s, and the plan was made by %s with sha256 %.12s", given, p.Policy.Name, p.Policy.FileSHA256)
	}
	for _, d := range j.down {
		add("%s does not answer", d.report.Addr)
	}
	left := slices.Clone(p.Nodes)
	for _, n := range j.nodes {
		here := n.report
		i := slices.IndexFunc(left, func(s SavedNode) bool { return s.RunID == here.RunID && (s.RunID != "" || s.Addr == here.Addr) })
		if i < 0 {
			i = slices.IndexFunc(left, func(s SavedNode) bool { return s.Addr == here.Addr })
		}
		if i < 0 {
			add("the plan is not for %s (run_id %.12s)", here.Addr, here.RunID)
			continue
		}
		planned := left[i]
		n.plan, left = &planned, slices.Delete(left, i, i+1)
		if planned.RunID != here.RunID {
			add("%s was restarted, or is another server: its run_id was %.12s and is %.12s", here.Addr, planned.RunID, here.RunID)
		}
		if planned.DB != here.DB {
			add("the plan is for DB %d of %s, and this is DB %d", planned.DB, here.Addr, here.DB)
		}
		switch age, most := n.since(j.env.Now()), j.req.MaxPlanAge; {
		case age > most:
			add("the plan was made %s ago, more than --max-plan-age %s", ttlpolicy.FormatDuration(age.Round(time.Second)), ttlpolicy.FormatDuration(most))
		case age < -time.Minute:
			add("the plan was made %s from now, by the clock of %s", ttlpolicy.FormatDuration((-age).Round(time.Second)), here.Addr)
		}
	}
	for _, s := range left {
		add("%s (run_id %.12s), which the plan is for too, is not there", s.Addr, s.RunID)
	}
	return differs
}

// moved looks at the keyspace, and says which families are no longer what they should have become.
func (n *nodeJob) moved(ctx context.Context) (differs []string, err error) {
	n.level = n.plan.Level
	n.report.Level = n.level
	if n.level == ttlpolicy.OK {
		return nil, nil
	}
	if err := n.choosePace(); err != nil {
		return nil, err
	}
	if err := n.survey(ctx, fullSample); err != nil {
		return nil, err
	}
	seeing := n.env.Now().Sub(n.zero)
	now := n.census.Sample()
	now.Stale = n.stale
	for i, f := range n.plan.Families {
		s := n.census.Compare(i, f.Outlook, n.plan.Sample, now, n.since(n.zero), seeing)
		if s.Moved {
			differs = append(differs, fmt.Sprintf("family %s on %s has %s eligible keys, and by the plan it should have %s", f.Name, n.report.Addr,
				aboutKeys(s.Now, s.NowLow, s.NowHigh), aboutKeys(s.Expected, s.ExpectedLow, s.ExpectedHigh)))
		}
	}
	return differs, nil
}

// aboutKeys writes a number of keys with what it lies between.
func aboutKeys(n, low, high float64) string {
	if high-low < 1 {
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("about %.0f (%.0f to %.0f)", n, low, high)
}

// claim is a run's right to carry out a plan.
type claim struct {
	mu    sync.Mutex
	ours  bool   // an error is not kept: whoever asks next may get an answer
	token string // in Redis, or perhaps; "" where the mark is a file
	file  string // on this host; "" where the mark is in Redis
}

// unused refuses a plan that was carried out, before anything else is looked at. That it can't be told here
// is no matter: claimPlan asks again.
func (j *job) unused(ctx context.Context) error {
	holder, used, err := j.space.PlanHolder(ctx, j.req.Saved.ID)
	switch kind := keyspace.KindOf(err); {
	case used:
		return j.usedEnding(holder)
	case err != nil && kind != keyspace.NoPerm && kind != keyspace.NoCommand && kind != keyspace.WrongType:
		return err
	}
	if _, err := os.Stat(j.planMark()); err == nil {
		return j.usedEnding(keyspace.Holder{})
	}
	return nil
}

func (j *job) usedEnding(by keyspace.Holder) error {
	message := "this plan was carried out already, and a plan is used up by its first deletion"
	if by.Name != "" {
		message = fmt.Sprintf("this plan was carried out already, by %s at %s, and a plan is used up by its first deletion", by.Name, by.Since)
	}
	return &ending{Refused, PlanUsed, ExitRefused, message, "nothing was deleted; make a new plan with plan --save FILE"}
}

// planMark is where this host keeps that a plan was used where Redis can't.
func (j *job) planMark() string {
	return filepath.Join(j.env.LockDir, "redis-janitor-plan-"+filepath.Base(j.req.Saved.ID)+".used")
}

// claimPlan uses the plan up, once a run, right before its first batch goes.
func (j *job) claimPlan(ctx context.Context) error {
	if j.req.Saved == nil {
		return nil
	}
	c := &j.claim
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ours {
		return nil
	}
	err := j.takePlan(ctx, c)
	c.ours = err == nil
	return err
}

func (j *job) takePlan(ctx context.Context, c *claim) error {
	if c.token == "" {
		var random [16]byte
		if _, err := rand.Read(random[:]); err != nil {
			return fmt.Errorf("claim the plan: %w", err)
		}
		// Before it is asked for: if no answer comes, the plan is ours to give back all the same.
		c.token = hex.EncodeToString(random[:])
	}
	var holder keyspace.Holder
	var ours bool
	err := keyspace.Again(ctx, func() (err error) {
		now := j.env.Now().UTC().Format(time.RFC3339)
		holder, ours, err = j.space.TakePlan(ctx, j.req.Saved.ID, c.token, j.env.Name, now, planMarkLasts)
		return err
	})
	switch kind := keyspace.KindOf(err); {
	case err == nil && !ours:
		return j.usedEnding(holder)
	case err == nil:
		return nil
	case kind != keyspace.OOM && kind != keyspace.NoPerm && kind != keyspace.NoCommand && kind != keyspace.WrongType:
		return err
	}
	c.token = ""
	mark, fileErr := os.OpenFile(j.planMark(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(fileErr, fs.ErrExist):
		return j.usedEnding(keyspace.Holder{})
	case fileErr != nil:
		return unwritten{fmt.Errorf("that the plan is used can be written neither to Redis (%w) nor to this host: %w", err, fileErr)}
	}
	c.file = mark.Name()
	j.warn(nil, "", "plan_unmarked", "that this plan is used cannot be written to Redis (%v): only this host knows", err)
	return mark.Close()
}

// releasePlan gives back a plan of which nothing came: only a deletion uses it up.
func (j *job) releasePlan(ctx context.Context) error {
	if j.deleted() {
		return nil
	}
	switch {
	case j.claim.token != "":
		return j.space.ReleasePlan(ctx, j.req.Saved.ID, j.claim.token)
	case j.claim.file != "":
		return os.Remove(j.claim.file)
	}
	return nil
}
