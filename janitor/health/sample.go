package health

import (
	"cmp"
	"maps"
	"math"
	"regexp"
	"slices"
	"time"

	"redis-janitor/janitor/keyspace"
)

// The fields of INFO that only grow while a server runs, and that CONFIG RESETSTAT sets back to 0 all at once.
const (
	hitsField     = "keyspace_hits"
	missesField   = "keyspace_misses"
	evictedField  = "evicted_keys"
	expiredField  = "expired_keys"
	rejectedField = "rejected_connections"
	errorsField   = "total_error_replies" // since 6.2
)

func counterFields() []string {
	return []string{hitsField, missesField, evictedField, expiredField, rejectedField, errorsField,
		// Nobody is told of these two. They grow fastest, and so show best that a server was reset.
		"total_commands_processed", "total_connections_received"}
}

const (
	// knownErrors and knownCommands bound what is remembered of one server.
	knownErrors   = 64
	knownCommands = 512
)

// sample is what one server had counted at one moment. What it did not tell is missing.
type sample struct {
	At       time.Time        `json:"at"`
	RunID    string           `json:"run_id,omitempty"`
	UptimeS  *int64           `json:"uptime_s,omitempty"`
	Counters map[string]int64 `json:"counters"`
	Errors   map[string]int64 `json:"errors"`
	Commands map[string]cost  `json:"commands"`
}

// cost is keyspace.CommandCost as the state file has it.
type cost struct {
	Calls  int64 `json:"calls"`
	Micros int64 `json:"us"`
}

func newSample(at time.Time, info keyspace.Info, costs map[string]keyspace.CommandCost) sample {
	s := sample{At: at, RunID: info.Text("run_id"), Counters: map[string]int64{}, Errors: most(info.ErrorCounts(), knownErrors, func(n int64) int64 { return n })}
	// What no server can have been up for would only overflow.
	if uptime, ok := info.Int("uptime_in_seconds"); ok && uptime >= 0 && uptime < math.MaxInt32 {
		s.UptimeS = &uptime
	}
	for _, name := range counterFields() {
		if n, ok := info.Int(name); ok {
			s.Counters[name] = n
		}
	}
	all := make(map[string]cost, len(costs))
	for name, c := range costs {
		all[name] = cost{c.Calls, c.Time.Microseconds()}
	}
	s.Commands = most(all, knownCommands, func(c cost) int64 { return c.Calls })
	return s
}

// most keeps those entries of a map that weigh most.
func most[V any](all map[string]V, keep int, weight func(V) int64) map[string]V {
	if len(all) <= keep {
		return all
	}
	names := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(weight(all[b]), weight(all[a])), cmp.Compare(a, b))
	})
	for _, name := range names[keep:] {
		delete(all, name)
	}
	return all
}

// change is what became of a server between two samples.
type change int

const (
	same      change = iota
	restarted        // it was started in between: its counters began at 0 then
	replaced         // another one answers, whose counters say nothing of the time in between
	reset            // its statistics were reset in between
)

// interval is what a server counted between two samples. The change decides what the counters are
// taken against.
type interval struct {
	span   time.Duration
	change change
	base   sample // empty where the counters began at 0 in between
	now    sample
}

// between compares a sample with the one before. It is false where nothing can be said of the time
// in between: the clock went back, or another server answers.
func between(before, now sample) (interval, bool) {
	i := interval{span: now.At.Sub(before.At), base: before, now: now}
	if i.span <= 0 {
		return i, false
	}
	switch i.change = changed(before, now); i.change {
	case replaced:
		return i, false
	case restarted, reset:
		i.base = sample{}
	}
	return i, true
}

func changed(before, now sample) change {
	span := now.At.Sub(before.At)
	startedSince := now.UptimeS != nil && time.Duration(*now.UptimeS)*time.Second <= span+time.Second
	switch {
	case before.RunID != "" && now.RunID != "" && before.RunID != now.RunID:
		if startedSince {
			return restarted
		}
		return replaced
	case before.RunID == "" || now.RunID == "":
		// Without run IDs the uptime has to tell, which counts whole seconds.
		if startedSince && before.UptimeS != nil && *now.UptimeS < *before.UptimeS+int64(span.Seconds())-2 {
			return restarted
		}
	}
	for name, was := range before.Counters {
		if is, ok := now.Counters[name]; ok && is < was {
			return reset
		}
	}
	return same
}

// counted is by how much a counter grew; false where a sample lacks it.
func (i interval) counted(name string) (int64, bool) {
	is, ok := i.now.counter(name)
	was, before := i.base.Counters[name]
	return is - was, ok && (before || i.base.Counters == nil)
}

// aside are the commands that Redis counts among its lookups and that fetch nothing from a cache: they ask about a key,
// as this janitor does for each one that it looks at (db.c, lookupKeyReadWithFlags; MEMORY USAGE and SCAN count nothing).
var aside = regexp.MustCompile(`^(p?ttl|p?expiretime|type|dump|object(\|.*)?)$`)

// hits is how many lookups of the interval fetched something. What was asked aside is taken for hits, since it
// is nearly always about keys that exist: a run of the janitor must not look like a cache that works.
func (i interval) hits() (int64, bool) {
	n, ok := i.counted(hitsField)
	for name, c := range i.now.Commands {
		if aside.MatchString(name) {
			n -= max(c.Calls-i.base.Commands[name].Calls, 0)
		}
	}
	return max(n, 0), ok
}

// errors lists the error replies of the interval, the most frequent first.
func (i interval) errors() []ErrorReport {
	list := []ErrorReport{}
	for code, n := range i.now.Errors {
		if grown := n - i.base.Errors[code]; grown > 0 {
			list = append(list, ErrorReport{code, grown})
		}
	}
	slices.SortFunc(list, func(a, b ErrorReport) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code))
	})
	return list
}

// commands lists the commands of the interval, those first that took most of the server's time.
func (i interval) commands() []CommandReport {
	list := []CommandReport{}
	for name, c := range i.now.Commands {
		was := i.base.Commands[name]
		calls, micros := c.Calls-was.Calls, c.Micros-was.Micros
		if calls > 0 && micros >= 0 {
			list = append(list, CommandReport{Name: name, Calls: calls, MeanUS: float64(micros) / float64(calls)})
		}
	}
	slices.SortFunc(list, func(a, b CommandReport) int {
		return cmp.Or(cmp.Compare(b.totalUS(), a.totalUS()), cmp.Compare(a.Name, b.Name))
	})
	return list
}

func (s sample) counter(name string) (int64, bool) {
	n, ok := s.Counters[name]
	return n, ok
}
