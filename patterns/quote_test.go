package patterns_test

import (
	"strings"
	"testing"

	"redis-janitor/patterns"
)

func TestAKeyIsPrintedAsRedisCliPrintsIt(t *testing.T) {
	for key, want := range map[string]string{
		"":                      `""`,
		"ml_results:1":          `"ml_results:1"`,
		"with space~":           `"with space~"`,
		"it's":                  `"it's"`,
		`say "hi" \o/`:          `"say \"hi\" \\o/"`,
		"\n\r\t\a\b":            `"\n\r\t\a\b"`,
		"\x00\x1b[31m\x7f":      `"\x00\x1b[31m\x7f"`,
		"é\xff":                 `"\xc3\xa9\xff"`,
		"\u202etxt.exe\v\f\x80": `"\xe2\x80\xaetxt.exe\x0b\x0c\x80"`,
	} {
		if got := patterns.Quote(key); got != want {
			t.Errorf("%q is printed as %s, want %s", key, got, want)
		}
		if got, err := patterns.Unquote(want); got != key || err != nil {
			t.Errorf("%s is read as %q, %v, want %q", want, got, err, key)
		}
	}
}

func TestAnUnquotedKeyIsTakenAsItIs(t *testing.T) {
	for _, key := range []string{"", "ml_results:1", `back\slash\x00`, `a"b"`, "'single'", "é\x00"} {
		if got, err := patterns.Unquote(key); got != key || err != nil {
			t.Errorf("%q is read as %q, %v", key, got, err)
		}
	}
}

func TestAQuotedKeyIsReadWithCapitalHexAndRawBytes(t *testing.T) {
	if got, err := patterns.Unquote("\"\\xC3\\xa9é\n\""); got != "éé\n" || err != nil {
		t.Errorf("read as %q, %v", got, err)
	}
}

func TestAMistypedQuotedKeyIsRefused(t *testing.T) {
	for s, says := range map[string]string{
		`"`:          "no closing quote",
		`"abc`:       "no closing quote",
		`"abc\"`:     "no closing quote",
		`"a"b`:       "after its closing quote at byte 3",
		`"a" `:       "after its closing quote",
		`"a\`:        "nothing follows",
		`"a\q"`:      `is none of`,
		`"\x"`:       "two hexadecimal digits",
		`"\x4"`:      "two hexadecimal digits",
		`"\x+4"`:     "two hexadecimal digits",
		`"\x0g"`:     "two hexadecimal digits",
		`"\xg0"`:     "two hexadecimal digits",
		`"\xé"`:      "two hexadecimal digits",
		"\"\\\x1b\"": `"\\\x1b" is none of`,
	} {
		got, err := patterns.Unquote(s)
		if err == nil || got != "" || !strings.Contains(err.Error(), says) {
			t.Errorf("%s is read as %q, error %v; want %q", s, got, err, says)
		}
	}
}

func FuzzUnquoteUndoesQuote(f *testing.F) {
	f.Add("\x00\"\\\n\xff")
	f.Add(`"\x4`)
	f.Fuzz(func(t *testing.T, key string) {
		q := patterns.Quote(key)
		for i := range len(q) {
			if q[i] < ' ' || q[i] > '~' {
				t.Fatalf("%q is printed with the raw byte %#x", key, q[i])
			}
		}
		if got, err := patterns.Unquote(q); got != key || err != nil {
			t.Errorf("%q, printed as %s, is read as %q, %v", key, q, got, err)
		}
		if plain, err := patterns.Unquote(key); err != nil {
			for i := range len(err.Error()) {
				if c := err.Error()[i]; c < ' ' || c > '~' {
					t.Fatalf("the error for %q has the raw byte %#x", key, c)
				}
			}
		} else if again, err := patterns.Unquote(patterns.Quote(plain)); again != plain || err != nil {
			t.Errorf("%q is read as %q, which does not survive: %q, %v", key, plain, again, err)
		}
	})
}
