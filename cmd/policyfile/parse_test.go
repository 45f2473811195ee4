package policyfile

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"redis-janitor/janitor"
	"redis-janitor/ttlpolicy"
)

// good is a valid family; the tables below break what stands around it.
const good = "families:\n  - {name: a, match: 'a:*', lifetime: 1h}\n"

func mustParse(t *testing.T, text string) janitor.Policy {
	t.Helper()
	p, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

func TestTheContractsBlockIsTheBuiltInPolicy(t *testing.T) {
	p, err := Load("../../testdata/policies/contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p, janitor.Combot()) || p.SHA256() != janitor.Combot().SHA256() {
		t.Errorf("the contract's block reads as\n%s\nand the built-in policy is\n%s", Format(p), Format(janitor.Combot()))
	}
}

func TestEveryFieldIsRead(t *testing.T) {
	got, err := Load("../../testdata/policies/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := janitor.Policy{
		Version: 1,
		Name:    "shop",
		Memory: janitor.MemoryPolicy{
			Limit: janitor.Limit{From: "maxmemory"}, Source: "rss",
			Levels:   ttlpolicy.Thresholds{Cleanup: 0.625, Force: 0.75, Critical: 0.85},
			Target:   janitor.Target{Share: 0.5},
			Readings: 3, Every: 250 * time.Millisecond,
		},
		Busy:     janitor.BusyPolicy{UsersOver: 5, UsersFrom: "key:shop:online", ActiveWithin: 90 * time.Minute},
		Cooldown: 24 * time.Hour,
		Families: []janitor.Family{
			{Name: "carts", Match: []string{"cart:*"}, Rule: ttlpolicy.Rule{
				Family: "carts", Lifetime: 7 * 24 * time.Hour, KeepNewest: 500, MinIdle: 10 * time.Minute,
				OlderThan: map[ttlpolicy.Level]time.Duration{ttlpolicy.Critical: 156 * time.Hour},
			}},
			{Name: "raw", Match: []string{"\xff\x00", "caf\u00e9:*", "123"}, Broad: true, Rule: ttlpolicy.Rule{
				Family: "raw", Lifetime: 90 * time.Second, EvictNoTTL: true,
			}},
		},
		Alerts: janitor.Defaults().Alerts,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", Format(got), Format(want))
	}
}

func TestWhatAFileLeavesOutTakesTheBuiltInsValuesButNoProtectionAndNoFamilies(t *testing.T) {
	got := mustParse(t, good)
	want := janitor.Combot()
	want.Protect = nil
	want.Families = []janitor.Family{{Name: "a", Match: []string{"a:*"}, Rule: ttlpolicy.Rule{Family: "a", Lifetime: time.Hour}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", Format(got), Format(want))
	}
	// A group that is given in part keeps the rest of its values.
	if p := mustParse(t, "busy: {users_over: 7}\n"+good); p.Busy.UsersOver != 7 || p.Busy.ActiveWithin != want.Busy.ActiveWithin {
		t.Errorf("busy: %+v", p.Busy)
	}
}

func TestALevelLeftOutNeverEvictsAndOneAtZeroEvictsAnyAge(t *testing.T) {
	f := mustParse(t, "families:\n  - {name: a, match: 'a:*', lifetime: 1h, older_than: {force: 0}}\n").Families[0]
	want := map[ttlpolicy.Level]time.Duration{ttlpolicy.Force: 0}
	if !reflect.DeepEqual(f.Rule.OlderThan, want) {
		t.Errorf("got %v, want %v", f.Rule.OlderThan, want)
	}
}

func TestAKeyWithoutTTLIsKeptUnlessItsFamilySaysEvict(t *testing.T) {
	for _, c := range []struct {
		field string
		evict bool
	}{{"", false}, {", no_ttl: keep", false}, {", no_ttl: evict", true}} {
		f := mustParse(t, "families:\n  - {name: a, match: 'a:*', lifetime: 1h"+c.field+"}\n").Families[0]
		if f.Rule.EvictNoTTL != c.evict {
			t.Errorf("with %q: evict %v", c.field, f.Rule.EvictNoTTL)
		}
	}
}

func TestAFamilyIsBroadOnlyWhereItSaysSo(t *testing.T) {
	for field, broad := range map[string]bool{"": false, ", broad: false": false, ", broad: true": true} {
		f := mustParse(t, "families:\n  - {name: a, match: '*', lifetime: 1h"+field+"}\n").Families[0]
		if f.Broad != broad {
			t.Errorf("with %q: broad %v", field, f.Broad)
		}
	}
}

func TestQuotedOrNotIsTheSame(t *testing.T) {
	plain := mustParse(t, "version: 1\nmemory: {limit: 8589934592, target: 55%, readings: 2, every: 5s}\nbusy: {users_over: 20}\n"+
		"families:\n  - {name: 12, match: [12], lifetime: 1h, broad: true, keep_newest: 3}\n")
	quoted := mustParse(t, "\"version\": \"1\"\nmemory: {limit: '8589934592', target: \"55%\", readings: '2', every: '5s'}\nbusy: {users_over: '20'}\n"+
		"families:\n  - {name: '12', match: !!str 12, lifetime: '1h', broad: 'true', keep_newest: \"3\"}\n")
	if !reflect.DeepEqual(plain, quoted) {
		t.Errorf("plain\n%s\nquoted\n%s", Format(plain), Format(quoted))
	}
}

func TestWordsThatYAMLWouldConvertAreTakenByTheirText(t *testing.T) {
	p := mustParse(t, "name: 1e3\nfamilies:\n  - {name: no, match: [0x10, 2026-01-02, yes, 1_000, <<], lifetime: 1h}\n")
	want := []string{"0x10", "2026-01-02", "yes", "1_000", "<<"}
	if p.Name != "1e3" || p.Families[0].Name != "no" || !reflect.DeepEqual(p.Families[0].Match, want) {
		t.Errorf("got name %q, family %q, patterns %q", p.Name, p.Families[0].Name, p.Families[0].Match)
	}
}

// Each file is wrong in one place; at is what stands before the message, message a part of it.
var badFiles = []struct{ name, text, at, message string }{
	// The file as a whole.
	{"empty file", "", "line 1", "is empty"},
	{"only comments", "# nothing\n\n# here\n", "line 1", "is empty"},
	{"empty document", "---\n...\n", "line 1", "is empty"},
	{"a second document", good + "---\n" + good, "line 3", "a second document"},
	{"a second, empty document", good + "---\n", "line 3", "a second document"},
	{"text behind the document", good + "...\nfamilies: []\n", "line 4", "is not YAML"},
	{"a list at the top", "- version: 1\n", "line 1", "needs a mapping (name: value), and this is a list"},
	{"a word at the top", "# c\ncombot\n", "line 2", "needs a mapping (name: value), and this is a single value"},
	{"not UTF-8", good + "name: \"\xff\"\n", "line 3", "is not UTF-8"},
	{"UTF-16", "\xff\xfev\x00:\x00", "line 1", "is not UTF-8"},
	{"a NUL byte", good + "name: \"\x00\"\n", "line 3", "control characters are not allowed"},
	{"too long", good + strings.Repeat("#", MaxSize), "", "is longer than 256 KiB"},
	{"too deep", "name: x\nfamilies: " + strings.Repeat("[", 20000), "line 2", "exceeded max depth"},

	// Syntax. The line is the one to look at, not where the library happened to notice.
	{"indented with a tab", "memory:\n\tlimit: 8gb\n" + good, "line 2", "is indented with a tab; use spaces"},
	{"a tab after spaces", "memory:\n  source: redis\n \tlimit: 8gb\n" + good, "line 3", "is indented with a tab; use spaces"},
	{"a list that never ends", "name: a\nprotect: [\"a\"\nfamilies:\n  - {name: a}\n", "line 2", "is not YAML"},
	{"the wrong bracket", "version: 1\nname: a\nprotect: [\"a\"}\n", "line 3", "is not YAML"},
	{"a quote that never ends", "version: 1\nname: \"a\nfamilies: []\n", "line 2", "is not YAML"},
	{"a field indented too little", "families:\n  - name: a\n    match: b\n   lifetime: 1h\n", "line 4", "is not YAML"},
	{"a field indented too much", "families:\n  - name: a\n    match: b\n      lifetime: 1h\n", "line 4", "is not YAML"},
	{"an unknown escape", "version: 1\nname: \"\\q\"\n", "line 2", "unknown escape"},
	{"an unquoted star", good + "protect:\n  - celery\n  - *celery\n", "line 5", `text that begins with * or & must be quoted`},
	{"an unquoted star in a list over lines", good + "protect: [\n  \"*celery\",\n  *celery,\n  x]\n", "line 5", `must be quoted`},
	{"a star alone", "protect: [*]\n", "line 1", `must be quoted`},
	{"an unquoted percent sign", "version: 1\nname: %a\n", "line 2", "must be quoted"},

	// A policy must read as written.
	{"an alias", "name: &n x\nfamilies: *n\n", "line 1, name", "anchors (&n) are not accepted"},
	{"an anchor on a mapping", "memory: &m {source: rss}\n" + good, "line 1, memory", "anchors (&m)"},
	{"an anchor on a key", "&k name: x\n" + good, "line 1", "anchors (&k)"},
	{"an alias to the mapping around it", "families: &f\n  - *f\n", "line 1, families", "anchors (&f)"},
	{"a merge key", "memory:\n  <<: {source: rss}\n" + good, "line 2, memory", "merge keys"},
	{"a tag", "memory:\n  limit: !env LIMIT\n" + good, "line 2, memory.limit", "the tag !env is not accepted"},
	{"a tag on a list", "families: !!seq\n  - {name: a, match: b, lifetime: 1h}\n", "line 1, families", "the tag !!seq"},
	{"a value's tag on a mapping", "memory: !!str {source: rss}\n" + good, "line 1, memory", "the tag !!str"},
	{"a converting tag", "busy: {users_over: !!int 20}\n" + good, "line 1, busy.users_over", "the tag !!int"},
	{"binary that is no pattern", "name: !!binary eA==\n" + good, "line 1, name", "only for patterns"},
	{"binary that is not base64", "protect: [!!binary 'x']\n" + good, "line 1, protect[0]", "needs base64"},
	{"a block scalar", "protect:\n  - |\n    celery*\n" + good, "line 2, protect[0]", "must stand on one line"},

	// Names.
	{"unknown field between Windows' line ends", "version: 1\r\nname: x\r\ncooldwn: 2m\r\n", "line 3, cooldwn", "did you mean cooldown?"},
	{"unknown field", "families:\n  - name: a\n    match: 'a:*'\n    lifetme: 1h\n", "line 4, families[0].lifetme", "unknown field lifetme; did you mean lifetime?"},
	{"unknown field in a group", "memory:\n  source: rss\n  treshold: 3\n" + good, "line 3, memory.treshold", "unknown field treshold; known are limit, source"},
	{"unknown field at the top", "famlies: []\n", "line 1, famlies", "did you mean families?"},
	{"field in capitals", good + "Cooldown: 2m\n", "line 3, Cooldown", "did you mean cooldown?"},
	{"unknown level", "memory: {levels: {ok: 1%}}\n" + good, "line 1, memory.levels.ok", "known are cleanup, force, critical"},
	{"age for no level", "families:\n  - {name: a, match: b, lifetime: 1h, older_than: {forced: 0s}}\n", "line 2, families[0].older_than.forced", "did you mean force?"},
	{"odd field name", "\"a\\e[2J.b\": 1\n", `line 1, "a\x1b[2J.b"`, `unknown field "a\x1b[2J.b"`},
	{"empty field name", "\"\": 1\n", `line 1, ""`, `unknown field ""`},
	{"no field name", "memory:\n  ~: 1\n" + good, "line 2, memory", "~ is YAML for no value"},
	{"a list as a field name", "? [a]\n: 1\n", "line 1", "needs a single value, and this is a list"},
	{"repeated field", "cooldown: 2m\n" + good + "cooldown: 3m\n", "line 4, cooldown", "stands here and already on line 1"},
	{"repeated field in a family", "families:\n  - name: a\n    match: b\n    lifetime: 1h\n    \"match\": c\n", "line 5, families[0].match", "already on line 3"},
	{"repeated level", "memory:\n  levels:\n    force: 70%\n    force: 71%\n" + good, "line 4, memory.levels.force", "already on line 3"},

	// Kinds.
	{"a list for a mapping", "memory:\n  - limit: 8gb\n" + good, "line 2, memory", "needs a mapping (name: value), and this is a list"},
	{"a value for a mapping", "memory: 8gb\n" + good, "line 1, memory", "needs a mapping (name: value), and this is a single value"},
	{"a mapping for a list", "families:\n  a: {match: 'a:*'}\n", "line 2, families", "needs a list, and this is a mapping"},
	{"a list for a value", good + "cooldown: [2m]\n", "line 3, cooldown", "needs a single value, and this is a list"},
	{"a mapping for a value", good + "cooldown: {m: 2}\n", "line 3, cooldown", "needs a single value, and this is a mapping"},
	{"a list for a family", "families:\n  - [a]\n", "line 2, families[0]", "needs a mapping"},
	{"a mapping for a pattern", "families:\n  - name: a\n    match:\n      - 'a:*'\n      - b: '*'\n    lifetime: 1h\n", "line 5, families[0].match[1]", "needs a single value"},
	{"a mapping for patterns", "families:\n  - {name: a, match: {b: c}, lifetime: 1h}\n", "line 2, families[0].match", "needs a list"},

	// No value.
	{"nothing for a value", "version: 1\ncooldown:\nname: x\n" + good, "line 2, cooldown", "has no value"},
	{"nothing for a mapping", "version: 1\nmemory:\n" + good, "line 2, memory", "has no value"},
	{"nothing for a list", "version: 1\nfamilies:\n", "line 2, families", "has no value"},
	{"null for a value", "cooldown: null\n" + good, "line 1, cooldown", "null is YAML for no value"},
	{"null for a pattern", "protect:\n  - a\n  - ~\n" + good, "line 3, protect[1]", "~ is YAML for no value"},
	{"a dash without a family", good + "  -\n", "line 3, families[1]", "has no value"},

	// Values.
	{"a later version", "version: 2\n" + good, "line 1, version", "write 1"},
	{"a version in decimals", "version: 1.0\n" + good, "line 1, version", "not a whole number"},
	{"a limit that is a percentage", "memory:\n  limit: 60%\n" + good, "line 2, memory.limit", "or maxmemory or system"},
	{"a limit that is nearly a word", "memory:\n  limit: maxmemroy\n" + good, "line 2, memory.limit", "did you mean maxmemory?"},
	{"a limit of nothing", "memory:\n  limit: 0\n" + good, "line 2, memory.limit", "must be above zero"},
	{"an unknown source", "memory:\n  source: cgroups\n" + good, "line 2, memory.source", `"cgroups" is unknown; did you mean cgroup?`},
	{"a level as a fraction", "memory:\n  levels:\n    force: 0.75\n" + good, "line 3, memory.levels.force", "0.75 is not a percentage; write 75%"},
	{"a level without its sign", "memory:\n  levels:\n    force: 75\n" + good, "line 3, memory.levels.force", "write 60%"},
	{"a level above everything", "alerts:\n  hit_rate_below: 101%\n" + good, "line 2, alerts.hit_rate_below", "out of bounds"},
	{"levels out of order", "memory:\n  source: rss\n  levels:\n    force: 90%\n" + good, "line 3, memory.levels", "levels cleanup 60 %, force 90 %, critical 85 % are out of order"},
	{"alerts out of order", good + "alerts:\n  memory_warning: 90%\n  memory_critical: 85%\n", "line 4, alerts.memory_warning", "90% lies above memory_critical at 85%"},
	{"an alert below the other's default", good + "alerts:\n  memory_critical: 75%\n", "line 3, alerts.memory_warning", "80% lies above memory_critical at 75%"},
	{"restarts below zero", good + "alerts:\n  worker_restarts_per_hour: -1\n", "line 4, alerts.worker_restarts_per_hour", "must not be negative"},
	{"a target above the lowest level", "memory:\n  source: rss\n  target: 61%\n" + good, "line 3, memory.target", "61% lies above the lowest level"},
	{"a size as target above the lowest level", "memory:\n  limit: 1gb\n  target: 700mb\n" + good, "line 3, memory.target", "lies above the lowest level"},
	{"a target left out above a lowered level", "version: 1\nmemory:\n  levels:\n    cleanup: 50%\n" + good, "line 2, memory.target", "55% lies above the lowest level, cleanup at 50%"},
	{"a target as a fraction", "memory:\n  target: 0.55\n" + good, "line 2, memory.target", "0.55 is not a percentage; write 55%"},
	{"a target that is nearly a word", "memory:\n  target: nome\n" + good, "line 2, memory.target", "did you mean none?"},
	{"a target that is nothing known", "memory:\n  target: low\n" + good, "line 2, memory.target", "or none; or a percentage such as 55%"},
	{"no readings", "memory:\n  readings: 0\n" + good, "line 2, memory.readings", "must be from 1 to 1000"},
	{"a number with words", "busy:\n  users_over: twenty\n" + good, "line 2, busy.users_over", "not a whole number"},
	{"a number in decimals", "busy:\n  users_over: 20.5\n" + good, "line 2, busy.users_over", "not a whole number"},
	{"a number that YAML versions read differently", "busy:\n  users_over: 010\n" + good, "line 2, busy.users_over", "not a whole number"},
	{"a number too large", "busy:\n  users_over: 9223372036854775808\n" + good, "line 2, busy.users_over", "not a whole number"},
	{"a number below zero", "busy:\n  users_over: -1\n" + good, "line 2, busy.users_over", "must not be negative"},
	{"an unknown way to count users", "busy:\n  users_from: sessions\n" + good, "line 2, busy.users_from", "use family:NAME"},
	{"users from a family that is not there", "busy:\n  users_from: family:b\n" + good, "line 2, busy.users_from", `there is no family "b"`},
	{"a duration without its unit", good + "cooldown: 120\n", "line 3, cooldown", "is not understood"},
	{"a duration below zero", good + "cooldown: -2m\n", "line 3, cooldown", "below zero"},
	{"a boolean in other words", "families:\n  - name: a\n    match: b\n    lifetime: 1h\n    broad: yes\n", "line 5, families[0].broad", "neither true nor false"},
	{"an unknown way with keys without TTL", "families:\n  - name: a\n    match: b\n    lifetime: 1h\n    no_ttl: evcit\n", "line 5, families[0].no_ttl", "did you mean evict?"},
	{"an empty pattern", good + "protect:\n  - a\n  - ''\n", "line 5, protect[1]", "an empty pattern"},
	{"an empty pattern of a family", "families:\n  - name: a\n    lifetime: 1h\n    match: ''\n", "line 4, families[0].match[0]", "an empty pattern"},

	// Families.
	{"no families", "name: x\n", "line 1, families", "name at least one"},
	{"no family", "name: x\nfamilies: []\n", "line 2, families", "name at least one"},
	{"a family without a name", "families:\n  - match: a\n    lifetime: 1h\n", "line 2, families[0].name", "is missing"},
	{"a family without patterns", good + "  - name: b\n    lifetime: 1h\n", "line 3, families[1].match", "is missing"},
	{"a family without a lifetime", good + "  - name: b\n    match: b\n", "line 3, families[1].lifetime", "is missing"},
	{"an empty list of patterns", "families:\n  - name: a\n    match: []\n    lifetime: 1h\n", "line 3, families[0].match", "at least one pattern"},
	{"a lifetime of nothing", "families:\n  - name: a\n    match: a\n    lifetime: 0s\n", "line 4, families[0].lifetime", "must be above zero"},
	{"two families of one name", good + "  - match: 'b:*'\n    lifetime: 1h\n    name: a\n", "line 5, families[1].name", "already the name of families[0]"},
	{"a name with a space", "families:\n  - {match: a, lifetime: 1h, name: a b}\n", "line 2, families[0].name", "spaces"},
	{"an age above its lifetime", good + "  - name: b\n    match: b\n    lifetime: 1h\n    older_than:\n      cleanup: 30m\n      force: 61m\n", "line 8, families[1].older_than.force", "lies above the lifetime of 1h"},
	{"fewer than none to keep", "families:\n  - name: a\n    match: b\n    lifetime: 1h\n    keep_newest: -1\n", "line 5, families[0].keep_newest", "must not be negative"},
	{"patterns that tie", good + "  - name: b\n    lifetime: 1h\n    match: 'a:*'\n", "line 5, families[1].match", "tie"},
}

func TestAMistakeIsNamedWithItsLineAndField(t *testing.T) {
	for _, c := range badFiles {
		t.Run(c.name, func(t *testing.T) {
			p, err := Parse("combot.yaml", []byte(c.text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			want := "policy combot.yaml"
			if c.at != "" {
				want += ", " + c.at
			}
			if got := err.Error(); !strings.HasPrefix(got, want+": ") || !strings.Contains(got, c.message) {
				t.Errorf("got  %s\nwant %s: …%s…", got, want, c.message)
			}
			if !reflect.DeepEqual(p, janitor.Policy{}) {
				t.Errorf("a policy came along with the error: %+v", p)
			}
		})
	}
}

func TestAFileThatCannotBeReadSaysSo(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // so that "-" is the name of no file
	for _, path := range []string{filepath.Join(dir, "missing.yaml"), dir, "-", ""} {
		_, err := Load(path)
		var e *Error
		if !errors.As(err, &e) || e.Line != 0 || !strings.HasPrefix(err.Error(), "policy "+path+": cannot be read: ") || strings.Contains(e.Msg, dir) {
			t.Errorf("%q: got %v", path, err)
		}
	}
}

func TestADashIsAFilesName(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("-", []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := Load("-"); err != nil || p.Families[0].Name != "a" {
		t.Errorf("got %v, %v", p.Families, err)
	}
}

func TestAFileThatNeverEndsIsRefused(t *testing.T) {
	_, err := Load("/dev/zero")
	if err == nil || !strings.Contains(err.Error(), "is longer than") {
		t.Errorf("got %v", err)
	}
}

func TestTheFlagsReadLimitsAndTargetsAsTheFileDoes(t *testing.T) {
	for s, want := range map[string]janitor.Limit{
		"8gb": {Bytes: 8 << 30}, "8g": {Bytes: 8e9}, "512MiB": {Bytes: 512 << 20}, "1048576": {Bytes: 1 << 20},
		"maxmemory": {From: "maxmemory"}, "system": {From: "system"},
	} {
		if got, err := ParseLimit(s); err != nil || got != want {
			t.Errorf("limit %s: got %+v, %v", s, got, err)
		}
	}
	for s, want := range map[string]janitor.Target{
		"4gb": {Bytes: 4 << 30}, "55%": {Share: 0.55}, "62.5%": {Share: 0.625}, "0%": {}, "0": {}, "none": {None: true},
	} {
		if got, err := ParseTarget(s); err != nil || got != want {
			t.Errorf("target %s: got %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "None", "8xb", "101%", "-1", "%", "0.5", "NaN", "Inf"} {
		if got, err := ParseTarget(s); err == nil {
			t.Errorf("target %q is read as %+v", s, got)
		}
		if got, err := ParseLimit(s); err == nil {
			t.Errorf("limit %q is read as %+v", s, got)
		}
	}
}

func TestAWordIsSuggestedOnlyWhereItIsLikelyMeant(t *testing.T) {
	known := []string{"redis", "rss", "host", "cgroup"}
	for s, want := range map[string]string{"reids": "redis", "rs": "rss", "CGROUP": "cgroup", "ghost": "host", "memory": "", "": "", "x": ""} {
		if got, _ := Nearest(s, known); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"lifetme", "lifetime", 1}, {"abc", "", 3}, {"flaw", "lawn", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
