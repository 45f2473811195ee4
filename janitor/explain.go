package janitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/patterns"
	"redis-janitor/ttlpolicy"
)

// KeyReport is what explain has to say of one key.
type KeyReport struct {
	Key    string `json:"key"`  // quoted as redis-cli prints it, which JSON's own strings could not do for every byte
	Node   string `json:"node"` // where it lives, or would
	Exists bool   `json:"exists"`
	// Family and Pattern are empty where no family's pattern matches the key, ProtectedBy where none protects it.
	Family      string `json:"family"`
	Pattern     string `json:"pattern"`
	ProtectedBy string `json:"protected_by"`
	Type        string `json:"type"`
	// Null is what is not known, and an age or TTL that the key doesn't have.
	Bytes     *int64 `json:"bytes"` // its MEMORY USAGE
	Expires   *bool  `json:"expires"`
	TTLMS     *int64 `json:"ttl_ms"`
	LifetimeS *int64 `json:"lifetime_s"` // its family's
	AgeMS     *int64 `json:"age_ms"`
	IdleS     *int64 `json:"idle_s"` // not used for so long at least
	Message   string `json:"message"`
	// Levels are what each level would do, the lowest first; none where the key doesn't exist.
	Levels []LevelReport `json:"levels"`
}

// LevelReport is what one level would do with a key.
type LevelReport struct {
	Level   ttlpolicy.Level  `json:"level"`
	InForce bool             `json:"in_force"` // memory is at this level now, or --level says so
	Evicts  bool             `json:"evicts"`
	Reason  ttlpolicy.Reason `json:"reason"` // why it is kept, empty where it is not
	Message string           `json:"message"`
}

// noFamily is why a key is kept that the policy does not name. The walk doesn't count such keys.
const noFamily ttlpolicy.Reason = "no_family"

// explain says what each level would do with the keys that were asked for. It judges them by what execute
// does: the same patterns, the same waterlines, and the conditions of a batch, rehearsed.
func (j *job) explain(ctx context.Context) error {
	level := ttlpolicy.OK
	for _, n := range j.nodes {
		level = max(level, n.level)
	}
	if level > ttlpolicy.OK { // else execute would have left before it looked at these
		for _, gate := range []func(context.Context) error{j.paused, j.busy, j.cooldown} {
			if err := gate(ctx); err != nil {
				return err
			}
		}
	}
	asked := make([]*inquiry, len(j.nodes))
	for i, n := range j.nodes {
		asked[i] = &inquiry{nodeJob: n, floors: map[int]floor{}}
	}
	going, there := 0, 0
	for _, key := range j.req.Keys {
		report, err := explainKey(ctx, asked, key)
		if err != nil {
			return err
		}
		if report.Exists {
			there++
		}
		for _, l := range report.Levels {
			if l.InForce && l.Evicts {
				going++
			}
		}
		j.report.Keys = append(j.report.Keys, report)
	}
	for _, n := range j.nodes {
		n.report.Families = []FamilyReport{} // what the gates and waterlines needed to know of them is no answer
	}
	end := &ending{outcome: Nothing, reason: Explained, exit: ExitDone}
	if going > 0 {
		end.outcome = Planned
	}
	switch {
	case there == 0:
		end.message = "there is no such key"
		if len(j.req.Keys) > 1 {
			end.message = fmt.Sprintf("none of these %d keys exists", len(j.req.Keys))
		}
	case level == ttlpolicy.OK:
		end.message = "memory is below the cleanup threshold, so execute would leave every key alone now"
	default:
		end.message = fmt.Sprintf("execute would evict %d of %d keys now, at level %s", going, len(j.req.Keys), level)
	}
	return end
}

// explainKey asks the node that has the key. In a cluster the others answer that it moved.
func explainKey(ctx context.Context, nodes []*inquiry, key string) (KeyReport, error) {
	for _, n := range nodes {
		report, err := n.key(ctx, key)
		if keyspace.KindOf(err) != keyspace.Moved {
			return report, err
		}
	}
	return KeyReport{}, fmt.Errorf("no node answers for key %s: %w", patterns.Quote(key), errors.New("its slot is on its way, or the server that has it is down"))
}

// inquiry asks one node about keys.
type inquiry struct {
	*nodeJob
	floors map[int]floor // of families that were asked about
}

// floor is what keep_newest lets go of a family, as its keys stood at a moment.
type floor struct {
	ttlpolicy.Cut
	zero time.Time
}

func (q *inquiry) key(ctx context.Context, key string) (KeyReport, error) {
	class := q.set.Classify(key)
	r := KeyReport{Key: patterns.Quote(key), Node: q.node.Addr(), Levels: []LevelReport{}}
	r.Pattern, r.ProtectedBy = q.set.Patterns(key)
	var rule ttlpolicy.Rule
	if class.Family >= 0 {
		rule = q.rules[class.Family]
		r.Family, r.LifetimeS = rule.Family, ptr(int64(rule.Lifetime/time.Second))
	}
	f, err := q.facts(ctx, key)
	if keyspace.KindOf(err) == keyspace.NoPerm {
		r.Message = fmt.Sprintf("what decides about it may not be read on %s by this Redis user, so it stays (docs/acl.md)", r.Node)
	} else if err != nil {
		return r, err
	}
	f.Protected = class.Protected
	if r.Exists = f.Expiry != ttlpolicy.Missing; !r.Exists {
		r.Message = q.missing(r.Family)
		return r, nil
	}
	if r.Type, err = q.node.Type(ctx, key); err != nil && !forbidden(err) { // nothing hangs on it
		return r, err
	}
	q.describe(&r, rule, f)
	for _, level := range ttlpolicy.Levels() {
		verdict, err := q.verdict(ctx, key, class, level, f)
		if err != nil {
			return r, err
		}
		r.Levels = append(r.Levels, verdict)
	}
	if r.Message == "" {
		r.Message = q.summary(r)
	}
	return r, nil
}

// facts reads all there is to know of a key, or only what decides where the rest may not be read.
func (q *inquiry) facts(ctx context.Context, key string) (keyspace.KeyFacts, error) {
	facts, err := q.node.Facts(ctx, []string{key}, keyspace.Ask{
		Idle: func(int) bool { return q.info.TellsIdleTimes() }, Bytes: func(int) bool { return true },
	})
	if forbidden(err) {
		facts, err = q.node.Facts(ctx, []string{key}, keyspace.Ask{})
	}
	if err == nil && facts[0].Moved {
		err = &keyspace.Error{Op: "explain", Addr: q.node.Addr(), Kind: keyspace.Moved, Err: errors.New("another server of the cluster has this key")}
	}
	if err != nil {
		return keyspace.KeyFacts{Bytes: -1}, err
	}
	return facts[0], nil
}

func forbidden(err error) bool {
	kind := keyspace.KindOf(err)
	return kind == keyspace.NoPerm || kind == keyspace.NoCommand
}

// describe fills in what was read of a key that exists.
func (q *inquiry) describe(r *KeyReport, rule ttlpolicy.Rule, f keyspace.KeyFacts) {
	if f.Bytes >= 0 {
		r.Bytes = ptr(int64(f.Bytes))
	}
	switch f.Expiry {
	case ttlpolicy.Expiring:
		r.Expires, r.TTLMS = ptr(true), ptr(f.TTL.Milliseconds())
	case ttlpolicy.Persistent:
		r.Expires = ptr(false)
	}
	if f.IdleKnown {
		r.IdleS = ptr(int64(f.Idle / time.Second))
	}
	if v := rule.Judge(ttlpolicy.OK, f.Facts); v.AgeKnown && rule.Lifetime > 0 {
		r.AgeMS = ptr(v.Age.Milliseconds())
	}
}

func ptr[T any](v T) *T { return &v }

func (q *inquiry) missing(family string) string {
	text := fmt.Sprintf("there is no such key in DB %d of %s: it expired, was deleted, or never was", q.node.DB(), q.node.Addr())
	if family != "" {
		text += "; by its name it would belong to family " + family
	}
	return text
}

// summary says what happens to a key now.
func (q *inquiry) summary(r KeyReport) string {
	if q.level == ttlpolicy.OK {
		return fmt.Sprintf("memory of %s is below the cleanup threshold: execute would not look at it now", r.Node)
	}
	for _, l := range r.Levels {
		if l.InForce {
			return fmt.Sprintf("%s (level %s)", l.Message, l.Level)
		}
	}
	return ""
}

// verdict is what a level would do with a key that exists.
func (q *inquiry) verdict(ctx context.Context, key string, class patterns.Class, level ttlpolicy.Level, f keyspace.KeyFacts) (LevelReport, error) {
	v := LevelReport{Level: level, InForce: level == q.level}
	var rule ttlpolicy.Rule
	var err error
	switch {
	case class.Family < 0:
		v.Reason = noFamily
		if class.Protected {
			v.Reason = ttlpolicy.ReasonProtected
		}
	case class.Protected:
		v.Reason = ttlpolicy.ReasonProtected
	case !q.set.FixedPrefixHolds(class.Family, key):
		v.Reason = ttlpolicy.ReasonUnknown
	default:
		rule = q.rules[class.Family]
		if v.Reason, err = q.rehearse(ctx, key, rule, level); err == nil && v.Reason == ttlpolicy.ReasonNone {
			v.Reason, err = q.spared(ctx, class.Family, v.InForce, f.Facts)
		}
	}
	if err != nil {
		return v, err
	}
	v.Evicts = v.Reason == ttlpolicy.ReasonNone
	v.Message = q.why(v, rule, f.Facts)
	return v, nil
}

// rehearse asks the server as a batch of execute would that stands before no waterline.
func (q *inquiry) rehearse(ctx context.Context, key string, rule ttlpolicy.Rule, level ttlpolicy.Level) (ttlpolicy.Reason, error) {
	b := keyspace.Batch{Keys: []string{key}, MinIdle: rule.MinIdle, Lifetime: rule.Lifetime}
	b.Persistent, b.MaxTTL = conditions(rule, level, 0, ttlpolicy.TakeAll())
	removal, err := q.node.Rehearse(ctx, b)
	switch {
	case keyspace.KindOf(err) == keyspace.NoPerm:
		return ttlpolicy.ReasonUnknown, nil
	case err != nil:
		return "", err
	case removal.Fates[0] == keyspace.Gone:
		return ttlpolicy.ReasonNone, nil
	}
	return keptReason(removal.Fates[0]), nil // one that has just vanished is unknown
}

// spared is whether a key that a level lets go stays all the same: under its family's floor, or above the
// waterline that memory asks for now.
func (q *inquiry) spared(ctx context.Context, family int, inForce bool, f ttlpolicy.Facts) (ttlpolicy.Reason, error) {
	floor, err := q.floor(ctx, family)
	if err != nil {
		return "", err
	}
	if !floor.Takes(f, q.env.Now().Sub(floor.zero)) {
		return ttlpolicy.ReasonNewest, nil
	}
	if !inForce || q.unlimited() {
		return ttlpolicy.ReasonNone, nil
	}
	if err := q.survey(ctx, fullSample); err != nil {
		return "", err
	}
	q.aim()
	if q.need() == 0 || !q.cuts[family].Takes(f, q.elapsed()) {
		return ttlpolicy.ReasonAboveWaterline, nil
	}
	return ttlpolicy.ReasonNone, nil
}

// floor counts a family whose newest keys stay, once.
func (q *inquiry) floor(ctx context.Context, family int) (floor, error) {
	if q.rules[family].KeepNewest <= 0 {
		return floor{Cut: ttlpolicy.TakeAll()}, nil
	}
	if known, ok := q.floors[family]; ok {
		return known, nil
	}
	q.zero = q.env.Now()
	census, err := q.count(ctx, q.set.FamilySuperset(family))
	if err != nil {
		return floor{}, err
	}
	q.floors[family] = floor{floorOf(census, family), q.zero}
	return q.floors[family], nil
}

// why puts a verdict into words.
func (q *inquiry) why(v LevelReport, rule ttlpolicy.Rule, f ttlpolicy.Facts) string {
	lasts := ttlpolicy.FormatDuration
	older, acts := rule.OlderThan[v.Level]
	age := (rule.Lifetime - f.TTL).Round(time.Second)
	switch v.Reason {
	case ttlpolicy.ReasonNone:
		switch {
		case f.Expiry == ttlpolicy.Persistent:
			return "goes: it has no TTL, and its family says no_ttl: evict"
		case older == 0:
			return "goes: keys of any age may"
		}
		return fmt.Sprintf("goes: it is %s old, and keys older than %s may", lasts(age), lasts(older))
	case noFamily:
		return "stays: no family's pattern matches it"
	case ttlpolicy.ReasonProtected:
		return "stays: it is protected, which wins over everything"
	case ttlpolicy.ReasonNoTTL:
		if rule.EvictNoTTL {
			return fmt.Sprintf("stays: the family lets nothing go at %s", v.Level)
		}
		return "stays: it has no TTL, and its family says no_ttl: keep"
	case ttlpolicy.ReasonTTLOverLifetime:
		return fmt.Sprintf("stays: its TTL of %s lies above the lifetime of %s, so its age is not known", lasts(f.TTL.Round(time.Second)), lasts(rule.Lifetime))
	case ttlpolicy.ReasonFresh:
		if !acts {
			return fmt.Sprintf("stays: the family lets nothing go at %s", v.Level)
		}
		return fmt.Sprintf("stays: it is %s old, and only keys older than %s may go; if nobody writes it again, in %s", lasts(age), lasts(older), lasts(older-age))
	case ttlpolicy.ReasonNotIdle:
		return fmt.Sprintf("stays: it was used within min_idle, %s", lasts(rule.MinIdle))
	case ttlpolicy.ReasonNewest:
		return fmt.Sprintf("stays: it is among the newest %d, which keep_newest keeps", rule.KeepNewest)
	case ttlpolicy.ReasonAboveWaterline:
		return q.notNeeded(v.Level)
	}
	return "stays: what decides about it could not be read"
}

// notNeeded says why a key that may go stays for now. A waterline is an estimate.
func (q *inquiry) notNeeded(level ttlpolicy.Level) string {
	if q.need() == 0 {
		return fmt.Sprintf("stays for now: %s lets it go, but memory is at the target already", level)
	}
	return fmt.Sprintf("stays for now: %s lets it go, but by an estimate older keys, or families before this one, are enough to reach the target", level)
}
