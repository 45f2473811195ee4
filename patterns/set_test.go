package patterns_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"redis-janitor/patterns"
)

func globs(texts ...string) []patterns.Glob {
	var all []patterns.Glob
	for _, text := range texts {
		all = append(all, patterns.Compile(text))
	}
	return all
}

// combot is the built-in policy's families and protection.
func combot(t testing.TB) *patterns.Set {
	t.Helper()
	s, err := patterns.NewSet([]patterns.Family{
		{Name: "ml-results", Match: globs("ml_results:*")},
		{Name: "app-cache", Match: globs("combot_cache:*")},
		{Name: "sessions", Match: globs("combot_cache:1:django.contrib.sessions.cache*")},
	}, globs("celery*", "_kombu*", "unacked*"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAKeyBelongsToTheLongestFixedPrefixThatMatches(t *testing.T) {
	s := combot(t)
	for key, want := range map[string]patterns.Class{
		"ml_results:5d41402a":                                {Family: 0},
		"ml_results:1:ml_classification:5d41402a":            {Family: 0},
		"combot_cache:1:stats":                               {Family: 1},
		"combot_cache:1:django.contrib.sessions.cache8f14e4": {Family: 2},
		"combot_cache:1:django.contrib.sessions.db":          {Family: 1},
		"ml_results":               {Family: -1},
		"Ml_results:x":             {Family: -1},
		"":                         {Family: -1},
		"product_breakdown:7":      {Family: -1},
		"celery-task-meta-1":       {Family: -1, Protected: true},
		"_kombu.binding.celery":    {Family: -1, Protected: true},
		"unacked_mutex":            {Family: -1, Protected: true},
		"redis-janitor":            {Family: -1, Protected: true},
		"redis-janitor:lease":      {Family: -1, Protected: true},
		"redis-janito":             {Family: -1},
		"x:redis-janitor":          {Family: -1},
		"Redis-janitor:not-my-own": {Family: -1},
	} {
		if got := s.Classify(key); got != want {
			t.Errorf("%q: %+v, want %+v", key, got, want)
		}
	}
}

func TestALongerPrefixThatDoesNotMatchClaimsNothing(t *testing.T) {
	s, err := patterns.NewSet([]patterns.Family{
		{Name: "all", Match: globs("cache:*")},
		{Name: "png", Match: globs("cache:img:*.png", "c*")},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, family := range map[string]int{"cache:img:a.png": 1, "cache:img:a.jpg": 0, "cafe": 1, "b": -1} {
		if got := s.Classify(key).Family; got != family {
			t.Errorf("%q belongs to %d, want %d", key, got, family)
		}
	}
}

func TestProtectionDoesNotDependOnTheFamily(t *testing.T) {
	s, err := patterns.NewSet([]patterns.Family{{Name: "redis", Match: globs("redis*")}}, globs("*:keep", "redis:x"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]patterns.Class{
		"redis:1:keep":        {Family: 0, Protected: true},
		"redis:x":             {Family: 0, Protected: true},
		"redis:xx":            {Family: 0},
		"redis-janitor:lease": {Family: 0, Protected: true},
		"other:keep":          {Family: -1, Protected: true},
	} {
		if got := s.Classify(key); got != want {
			t.Errorf("%q: %+v, want %+v", key, got, want)
		}
	}
}

func TestTheDecidingPatternsAreNamed(t *testing.T) {
	s, err := patterns.NewSet([]patterns.Family{{Name: "redis", Match: globs("red*", "redis:*")}}, globs("*:keep", "redis:x:*"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][2]string{
		"redis:1":             {"redis:*", ""},
		"red":                 {"red*", ""},
		"redis:x:keep":        {"redis:*", "*:keep"},
		"other:keep":          {"", "*:keep"},
		"redis-janitor:lease": {"red*", "redis-janitor*"},
		"other":               {},
	} {
		family, protection := s.Patterns(key)
		class := s.Classify(key)
		if family != want[0] || protection != want[1] || (class.Family >= 0) != (family != "") || class.Protected != (protection != "") {
			t.Errorf("%q: %q and %q, want %q; its class is %+v", key, family, protection, want, class)
		}
	}
}

func TestATieOfTwoFamiliesIsAnError(t *testing.T) {
	for _, row := range []struct {
		a, b []string
		tie  string // the two patterns, or empty
	}{
		{[]string{"user:*"}, []string{"user:*"}, "user:* user:*"},
		{[]string{"user:*"}, []string{"user:?"}, "user:* user:?"},
		{[]string{"x*", "user:*:a"}, []string{"y*", "user:b:*"}, ""},
		{[]string{"x*", "user:*:a"}, []string{"y*", "user:?:*"}, "user:*:a user:?:*"},
		{[]string{`user\:*`}, []string{"user:*"}, `user\:* user:*`},
		{[]string{"user:1"}, []string{"user:1"}, "user:1 user:1"},
		{[]string{"user:*.png"}, []string{"user:*.jpg"}, ""},
		{[]string{"user:[0-4]*"}, []string{"user:[5-9]*"}, ""},
		{[]string{"user:[0-5]*"}, []string{"user:[5-9]*"}, "user:[0-5]* user:[5-9]*"},
		{[]string{"user:*"}, []string{"user:1*"}, ""},
		{[]string{"user:*", "user:*"}, []string{"admin:*"}, ""},
		{[]string{"user:[]*"}, []string{"user:*"}, ""},
	} {
		families := []patterns.Family{{Name: "other", Match: globs("other:*")}, {Name: "one", Match: globs(row.a...)}, {Name: "two", Match: globs(row.b...)}}
		_, err := patterns.NewSet(families, nil)
		var tie *patterns.TieError
		switch {
		case !errors.As(err, &tie):
			if err != nil || row.tie != "" {
				t.Errorf("%q and %q: error %v, want a tie of %q", row.a, row.b, err, row.tie)
			}
		case tie.PatternA+" "+tie.PatternB != row.tie || tie.FamilyA != 1 || tie.FamilyB != 2:
			t.Errorf("%q and %q: tie %+v, want %q", row.a, row.b, tie, row.tie)
		default:
			for _, name := range []string{"one", "two", patterns.Quote(tie.PatternA), patterns.Quote(tie.PatternB)} {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("error %q does not name %s", err, name)
				}
			}
		}
	}
}

func TestTheSecondLookAsksForAFixedPrefixOfTheVeryFamily(t *testing.T) {
	s := combot(t)
	for _, row := range []struct {
		family int
		key    string
		holds  bool
	}{
		{0, "ml_results:1", true},
		{0, "ml_results", false},
		{0, "combot_cache:1", false},
		{1, "combot_cache:1", true},
		{2, "combot_cache:1", false},
		{2, "combot_cache:1:django.contrib.sessions.cache1", true},
		{-1, "ml_results:1", false},
		{3, "ml_results:1", false},
	} {
		if got := s.FixedPrefixHolds(row.family, row.key); got != row.holds {
			t.Errorf("family %d, key %q: %v, want %v", row.family, row.key, got, row.holds)
		}
	}
}

func TestTheSecondLookDoesNotAskTheMatcher(t *testing.T) {
	s, err := patterns.NewSet([]patterns.Family{{Name: "png", Match: globs(`img\:*.png`)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !s.FixedPrefixHolds(0, "img:a.jpg") {
		t.Error("the fixed prefix holds for img:a.jpg, though the pattern does not match it")
	}
}

func TestASetKeepsWhatItWasMadeOf(t *testing.T) {
	match, protect := globs("cache:*", "img:*"), globs("cache:keep")
	s, err := patterns.NewSet([]patterns.Family{{Name: "cache", Match: match}}, protect)
	if err != nil {
		t.Fatal(err)
	}
	match[0], protect[0] = patterns.Compile("*"), patterns.Compile("x")
	if s.FixedPrefixHolds(0, "user:1") || !s.Classify("cache:keep").Protected {
		t.Error("changing the slices given to NewSet changed the set")
	}
}

func TestASpecimenIsAFamilysKey(t *testing.T) {
	for _, tt := range []struct {
		match []string
		want  string
	}{
		{[]string{"ml_results:*"}, "ml_results:"},
		{[]string{"a:*", "a:b:*:c", "a:[bc]?"}, "a:"},
		{[]string{"celery"}, "celery"},
		{[]string{`a\*b*`}, "a*b"},
		{[]string{"a:*:b", "a:?", "*:b", "[ab]"}, ""},
		{[]string{"*"}, ""},
		{nil, ""},
	} {
		s, err := patterns.NewSet([]patterns.Family{{Name: "f", Match: globs(tt.match...)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := s.Specimen()
		if got != tt.want || got != "" && s.Classify(got).Family != 0 {
			t.Errorf("of %q: %q, want %q", tt.match, got, tt.want)
		}
	}
}

func TestOneMatchArgumentCoversEveryFamily(t *testing.T) {
	for _, row := range []struct {
		families [][]string
		superset string
	}{
		{[][]string{{"ml_results:*"}}, "ml_results:*"},
		{[][]string{{"ml_*:x?"}}, "ml_*:x?"},
		{[][]string{{"cache:1:*", "cache:2:*"}}, "cache:*"},
		{[][]string{{"cache:1:*"}, {"cache:2:*"}}, "cache:*"},
		{[][]string{{"cache:*"}, {"cache:2:*"}}, "cache:*"},
		{[][]string{{`a\*b\?c\[d\\1*`, `a\*b\?c\[d\\2*`}}, `a\*b\?c\[d\\*`},
		{[][]string{{`abc\`, `abc\x`}}, "abc*"},
		{[][]string{{"ml_results:*"}, {"combot_cache:*"}}, "*"},
		{[][]string{{"ml_results:*"}, {"*"}}, "*"},
		{nil, "*"},
	} {
		var families []patterns.Family
		for i, texts := range row.families {
			families = append(families, patterns.Family{Name: fmt.Sprint(i), Match: globs(texts...)})
		}
		s, err := patterns.NewSet(families, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Superset(); got != row.superset {
			t.Errorf("%q: %q, want %q", row.families, got, row.superset)
		}
		if len(families) == 1 && s.FamilySuperset(0) != row.superset {
			t.Errorf("%q: the family's is %q, want %q", row.families, s.FamilySuperset(0), row.superset)
		}
	}
	s := combot(t)
	if got := s.FamilySuperset(2); got != "combot_cache:1:django.contrib.sessions.cache*" {
		t.Errorf("the sessions' superset is %q", got)
	}
}

func TestClassifyAllocatesNothing(t *testing.T) {
	s := combot(t)
	for _, key := range benchmarkKeys {
		if n := testing.AllocsPerRun(100, func() { s.Classify(key); s.FixedPrefixHolds(2, key) }); n != 0 {
			t.Errorf("%q: %v allocations", key, n)
		}
	}
}

func FuzzASetKeepsItsPromises(f *testing.F) {
	f.Add("a*", "ab*", `a\**`, "*c", "abc")
	f.Add("user:*:a", "user:?:*", "user:1", "user*", "user:1:a")
	f.Add("a[b-", "a]", "**", "redis-janitor", "redis-janitor:lease")
	f.Add(`\[x*`, `\[y*`, `\[\`, "", "[x")
	f.Fuzz(func(t *testing.T, a, b, c, protect, key string) {
		if max(len(a), len(b), len(c)) > 200 || len(key) > 1000 {
			return
		}
		families := []patterns.Family{{Name: "a", Match: globs(a)}, {Name: "bc", Match: globs(b, c)}}
		s, err := patterns.NewSet(families, globs(protect))
		one := patterns.Compile(a)
		if err != nil {
			var tie *patterns.TieError
			if !errors.As(err, &tie) {
				t.Fatalf("error %v is no tie", err)
			}
			if x, y := patterns.Compile(tie.PatternA), patterns.Compile(tie.PatternB); x.FixedPrefix() != y.FixedPrefix() || !x.Intersects(y) {
				t.Fatalf("%v, which is not so", err)
			}
			return
		}
		class := s.Classify(key)
		if want := patterns.Compile(protect).Match(key) || strings.HasPrefix(key, patterns.OwnPrefix); class.Protected != want {
			t.Errorf("%q: protected %v, want %v", key, class.Protected, want)
		}
		longest, owners := -1, map[int]bool{-1: true}
		for i, family := range families {
			for _, g := range family.Match {
				if n := len(g.FixedPrefix()); g.Match(key) && n >= longest {
					if n > longest {
						clear(owners)
					}
					longest, owners[i] = n, true
				}
			}
		}
		if len(owners) != 1 || !owners[class.Family] {
			t.Fatalf("%q belongs to %d, want the only one of %v", key, class.Family, owners)
		}
		if class.Family < 0 {
			return
		}
		if !s.FixedPrefixHolds(class.Family, key) {
			t.Errorf("%q belongs to %d, but the second look says no", key, class.Family)
		}
		for _, super := range []string{s.Superset(), s.FamilySuperset(class.Family)} {
			if !patterns.Compile(super).Match(key) {
				t.Errorf("%q belongs to %d (%q, %q, %q), but the superset %q does not match it", key, class.Family, one, b, c, super)
			}
		}
	})
}

var benchmarkKeys = []string{
	"ml_results:1:ml_classification:5d41402abc4b2a76b9719d911017c592",
	"combot_cache:1:stats:5d41402abc4b2a76",
	"combot_cache:1:django.contrib.sessions.cache5d41402abc4b2a76b9719d911017c592",
	"product_breakdown:5d41402abc4b2a76b9719d911017c592",
	"celery-task-meta-5d41402a-bc4b-2a76-b971-9d911017c592",
}

func BenchmarkClassify(b *testing.B) {
	s := combot(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Classify(benchmarkKeys[i%len(benchmarkKeys)])
	}
}

func BenchmarkMatchWithStarsInside(b *testing.B) {
	g := patterns.Compile("*:session?:[0-9a-f]*c592")
	b.ReportAllocs()
	for b.Loop() {
		g.Match("combot_cache:1:sessions:5d41402abc4b2a76b9719d911017c592")
	}
}
