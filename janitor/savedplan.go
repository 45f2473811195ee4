package janitor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"redis-janitor/ttlpolicy"
)

// PlanSchema names the layout of SavedPlan. It changes only when a field is renamed or removed.
const PlanSchema = "redis-janitor/plan/v1"

// SavedPlan is a plan that was kept to be reviewed, and to be carried out as it stands.
type SavedPlan struct {
	ID      string      `json:"id"`
	MadeAt  time.Time   `json:"made_at"`
	Version string      `json:"version"`
	Policy  SavedPolicy `json:"policy"`
	Nodes   []SavedNode `json:"nodes"`
	Report  *Report     `json:"report"` // what plan said, estimates and their intervals included
}

// SavedPolicy is the policy that a plan was made by, flags included.
type SavedPolicy struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	// FileSHA256 is the digest before flags had their say: what a policy file is compared with.
	FileSHA256 string `json:"file_sha256"`
	Text       string `json:"text"` // in full, as --policy-show prints it
}

// SavedNode is one server of a plan.
type SavedNode struct {
	Addr  string          `json:"addr"`
	RunID string          `json:"run_id"`
	DB    int             `json:"db"`
	Level ttlpolicy.Level `json:"level"`
	// ZeroMS is the survey's time zero in ms since 1970: by the server's own clock, by which TTLs run down,
	// or where that can't be told by this host's.
	ZeroMS      int64            `json:"zero_ms"`
	ServerClock bool             `json:"server_clock"`
	Sample      ttlpolicy.Sample `json:"sample"`
	Families    []SavedFamily    `json:"families"` // none at level ok
}

// SavedFamily is what a plan says of a family on a server.
type SavedFamily struct {
	Name      string            `json:"name"`
	Waterline SavedWaterline    `json:"waterline"`
	Outlook   ttlpolicy.Outlook `json:"outlook"`
}

// SavedWaterline is how far down the plan goes: never above it. TTLMS is the highest remaining TTL at
// time zero that goes; null where no key with a TTL does.
type SavedWaterline struct {
	NoTTL bool   `json:"no_ttl"`
	TTLMS *int64 `json:"ttl_ms"`
}

// PlanReport names the saved plan that a run made, or carried out.
type PlanReport struct {
	ID     string    `json:"id"`
	MadeAt time.Time `json:"made_at"`
}

// clocks finds out by how much each server's clock differs from this host's, where a plan is to be kept or held to.
func (j *job) clocks(ctx context.Context) error {
	if j.env.Save == nil && j.req.Saved == nil {
		return nil
	}
	return j.each(ctx, func(n *nodeJob) error {
		before := n.env.Now()
		info, err := n.node.Info(ctx)
		if err != nil {
			return err
		}
		n.zero = before
		n.stale = info.StaleShare(n.node.DB())
		if micros, ok := info.Int("server_time_usec"); ok {
			at := time.UnixMicro(micros)
			n.clock = clock{true, at.Sub(n.env.Now()), at.Sub(before)}
		}
		return nil
	})
}

// clock is by how much a server's clock is ahead of this host's, at least and at most; zero where that
// is not known.
type clock struct {
	known         bool
	least, utmost time.Duration
}

// save keeps the finished plan.
func (j *job) save() {
	if j.env.Save == nil || j.report.ExitCode != ExitDone && j.report.ExitCode != ExitToEvict {
		return
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		j.settle(unwritten{fmt.Errorf("make a plan's id: %w", err)})
		return
	}
	p := &SavedPlan{ID: hex.EncodeToString(random[:]), MadeAt: j.report.StartedAt, Version: j.req.Version,
		Policy: SavedPolicy{Name: j.req.Policy.Name, SHA256: j.req.Policy.SHA256()}, Report: j.report}
	for _, n := range j.nodes {
		if n.made == nil { // at level ok nothing was looked at
			made := n.saved()
			n.made = &made
		}
		p.Nodes = append(p.Nodes, *n.made)
	}
	j.report.Plan = &PlanReport{p.ID, p.MadeAt}
	if j.report.Outcome == Planned {
		j.report.Hint = "execute --plan with this file carries out exactly this; a plan is good for 15 minutes (--max-plan-age) and for one run"
	}
	if err := j.env.Save(p); err != nil {
		j.report.Plan = nil
		j.settle(unwritten{fmt.Errorf("save the plan: %w", err)})
	}
}

// saved is this node's part of a plan. The time zero is taken early rather than late, so that a
// waterline is never higher than it was.
func (n *nodeJob) saved() SavedNode {
	s := SavedNode{Addr: n.report.Addr, RunID: n.report.RunID, DB: n.report.DB, Level: n.level,
		ZeroMS: n.zero.Add(n.clock.least).UnixMilli(), ServerClock: n.clock.known}
	if n.level == ttlpolicy.OK || n.census == nil {
		return s
	}
	s.Sample = n.census.Sample()
	s.Sample.Stale = n.stale
	for i, rule := range n.rules {
		s.Families = append(s.Families, SavedFamily{rule.Family, savedWaterline(n.cuts[i], rule, n.level), n.census.Outlook(i)})
	}
	return s
}

// savedWaterline writes out where a family goes whole, too: what becomes old enough after the plan was
// made was not in it.
func savedWaterline(cut ttlpolicy.Cut, rule ttlpolicy.Rule, level ttlpolicy.Level) SavedWaterline {
	maxTTL, acts := rule.MaxTTL(level)
	if !acts {
		return SavedWaterline{}
	}
	w := SavedWaterline{NoTTL: cut.Persistent && rule.EvictNoTTL}
	if !cut.None {
		if !cut.All {
			maxTTL = min(maxTTL, cut.TTL)
		}
		ms := maxTTL.Milliseconds()
		w.TTLMS = &ms
	}
	return w
}

// cut is the waterline a time after the plan's time zero.
func (w SavedWaterline) cut(after time.Duration) ttlpolicy.Cut {
	cut := ttlpolicy.Cut{Persistent: w.NoTTL, None: true}
	if w.TTLMS != nil {
		if ttl := time.Duration(*w.TTLMS)*time.Millisecond - after; ttl >= 0 {
			cut.None, cut.TTL = false, ttl
		}
	}
	return cut
}

// since is the time from a plan's time zero to a moment, late rather than early.
func (n *nodeJob) since(at time.Time) time.Duration {
	ahead := time.Duration(0)
	if n.plan.ServerClock {
		ahead = n.clock.utmost
	}
	return at.Add(ahead).Sub(time.UnixMilli(n.plan.ZeroMS))
}

// ceiling is what no waterline of this run may lie above: a saved plan's, and all that is eligible elsewhere.
func (n *nodeJob) ceiling() []ttlpolicy.Cut {
	cuts := n.takeAll()
	if n.plan != nil {
		after := n.since(n.zero)
		for i := range cuts {
			cuts[i] = n.plan.Families[i].Waterline.cut(after)
		}
	}
	return cuts
}

// below keeps waterlines under the ceiling.
func (n *nodeJob) below(cuts []ttlpolicy.Cut) []ttlpolicy.Cut {
	kept := n.ceiling()
	for i, most := range kept {
		kept[i] = cuts[i].Within(most)
	}
	return kept
}

// Valid finds what makes a saved plan one that can't be carried out, whatever the server says. The rules
// are its policy's.
func (p *SavedPlan) Valid(policy Policy) error {
	switch {
	case p.ID == "" || len(p.ID) > 64 || p.MadeAt.IsZero() || p.Report == nil || len(p.Nodes) == 0:
		return errors.New("it lacks an id, a date, servers or a report")
	case p.Policy.SHA256 != policy.SHA256():
		return errors.New("its policy does not have the digest that it names")
	}
	for _, n := range p.Nodes {
		if n.Level == ttlpolicy.OK {
			continue
		}
		if len(n.Families) != len(policy.Families) {
			return fmt.Errorf("it has %d families for %s, and its policy %d", len(n.Families), n.Addr, len(policy.Families))
		}
		for i, f := range n.Families {
			if f.Name != policy.Families[i].Name {
				return fmt.Errorf("family %q for %s stands where its policy has %q", f.Name, n.Addr, policy.Families[i].Name)
			}
		}
	}
	return nil
}
