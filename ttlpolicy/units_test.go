package ttlpolicy

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestSizesAreReadInRedisConfUnits(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "17b": 17, "8gb": 8 << 30, "8g": 8e9, "8GB": 8 << 30, "8Gb": 8 << 30, "8G": 8e9,
		"512mb": 512 << 20, "512m": 512e6, "3kb": 3072, "3k": 3000, "2tb": 2 << 40, "2t": 2e12,
		"8GiB": 8 << 30, "1.5MiB": 3 << 19, "4KiB": 4096, "1TiB": 1 << 40, "1.5gb": 3 << 29, "0.001k": 1, "4.8g": 4.8e9,
		" 8gb ": 8 << 30, "8 GB": 8 << 30, "00008k": 8000, "9223372036854775807": math.MaxInt64, "1.000": 1,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
}

func TestASizeThatIsNotOneSaysWhatIs(t *testing.T) {
	for _, s := range []string{
		"", " ", "b", "gb", "-1", "-8gb", "+8gb", "1.5", "4.81kb", "0.0001k", ".5gb", "5.gb", "1..5gb", "1e3", "0x10", "1_000", "1/2gb",
		"8gbs", "8 g b", "8pb", "8gb8", "60%", "٣gb", "inf", "9223372036854775808", "8388608tb", "99999999999999999999999999999999999999999999999",
	} {
		n, err := ParseSize(s)
		if err == nil {
			t.Errorf("ParseSize(%q) = %d", s, n)
		} else if !strings.Contains(err.Error(), s) || !strings.Contains(err.Error(), "bytes") {
			t.Errorf("ParseSize(%q): %v", s, err)
		}
	}
}

func TestSizesAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KB", 1536: "1.50 KB", 1<<20 - 1: "1.00 MB", 1 << 20: "1.00 MB",
		5153960755: "4.80 GB", 6 << 30: "6.00 GB", 1<<40 - 1: "1.00 TB", math.MaxInt64: "8388608.00 TB",
		-1536: "-1.50 KB", math.MinInt64: "-8388608.00 TB", 1023 << 20: "1023.00 MB",
	} {
		if got := FormatSize(n); got != want {
			t.Errorf("FormatSize(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPercentagesNeedTheirSign(t *testing.T) {
	for s, want := range map[string]float64{"60%": 0.60, "0%": 0, "100%": 1, "62.5%": 0.625, "55 %": 0.55, " 0.1% ": 0.001, "7%": 0.07} {
		if got, err := ParsePercent(s); err != nil || got != want {
			t.Errorf("ParsePercent(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "%", "60", "0.6", "-1%", "+1%", "100.1%", "60%%", "1e1%", "NaN%", "sixty%"} {
		got, err := ParsePercent(s)
		if err == nil {
			t.Errorf("ParsePercent(%q) = %v", s, got)
		} else if !strings.Contains(err.Error(), s) || !strings.Contains(err.Error(), "write") {
			t.Errorf("ParsePercent(%q): %v", s, err)
		}
	}
}

func TestDurationsTakeDays(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "0d": 0, "45m": 45 * time.Minute, "1h30m": 90 * time.Minute, "7d": 7 * day, "1d12h": 36 * hour,
		"1.5d": 36 * hour, "1.5s": 1500 * time.Millisecond, "250ms": 250 * time.Millisecond, "3us": 3000, "3µs": 3000, "3μs": 3000, "9ns": 9,
		" 2h ": 2 * hour, "106751d23h47m16.854775807s": math.MaxInt64,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", " ", "5", "d", "m", "-1m", "-0", "+1m", "1d-1h", "1h 30m", "1d0", "7days", "1w", "1..5s", "1.s", "0.1ns", "1e3s", "1D", "one hour",
		"106752d", "106751d24h", "999999999999999999999999999999999999999999999s",
	} {
		got, err := ParseDuration(s)
		if err == nil {
			t.Errorf("ParseDuration(%q) = %v", s, got)
		} else if !strings.Contains(err.Error(), s) {
			t.Errorf("ParseDuration(%q): %v", s, err)
		}
	}
}

func TestDurationsAreWrittenWithoutZeros(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 90 * time.Minute: "1h30m", 45 * time.Minute: "45m", 25 * time.Minute: "25m", 7 * day: "7d", 1500 * time.Millisecond: "1.5s",
		hour: "1h", 2*hour + 5*time.Second: "2h0m5s", day + 12*hour: "1d12h", day + 30*time.Minute: "1d30m", 10 * time.Second: "10s",
		10 * time.Minute: "10m", 20 * hour: "20h", 250 * time.Millisecond: "250ms", -90 * time.Minute: "-1h30m0s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}

func FuzzParseSizeTakesNothingBelowZero(f *testing.F) {
	for _, s := range []string{"8gb", "1.5GiB", "-1", "9223372036854775808", "8 g", "1e9", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseSize(s)
		if err != nil {
			if n != 0 {
				t.Fatalf("%q: %d besides %v", s, n, err)
			}
			return
		}
		if n < 0 || strings.Contains(s, "-") {
			t.Fatalf("%q read as %d", s, n)
		}
		if upper, err := ParseSize(strings.ToUpper(s)); err != nil || upper != n {
			t.Fatalf("%q read as %d, in capitals as %d, %v", s, n, upper, err)
		}
	})
}

func FuzzParsePercentStaysWithinBounds(f *testing.F) {
	for _, s := range []string{"60%", "100.0001%", "-1%", "0%", "60"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if share, err := ParsePercent(s); err == nil && !(share >= 0 && share <= 1) || err != nil && share != 0 {
			t.Fatalf("%q read as %v, %v", s, share, err)
		}
	})
}

func FuzzParseDurationAgreesWithGo(f *testing.F) {
	for _, s := range []string{"1h30m", "1d", "1.5s", "-3m", "0", "106751d23h47m16.854775807s", "1µs", "1.5h1ms"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			if d != 0 {
				t.Fatalf("%q: %v besides %v", s, d, err)
			}
			return
		}
		if d < 0 {
			t.Fatalf("%q read as %v", s, d)
		}
		if goes, err := time.ParseDuration(strings.TrimSpace(s)); err == nil && goes != d {
			t.Fatalf("%q read as %v, by Go as %v", s, d, goes)
		}
	})
}

func FuzzAWrittenDurationIsReadBack(f *testing.F) {
	f.Add(int64(90 * time.Minute))
	f.Add(int64(math.MaxInt64))
	f.Add(int64(day + time.Microsecond))
	f.Fuzz(func(t *testing.T, n int64) {
		if n < 0 {
			return
		}
		text := FormatDuration(time.Duration(n))
		if d, err := ParseDuration(text); err != nil || int64(d) != n {
			t.Fatalf("%d written as %q, read as %d, %v", n, text, d, err)
		}
	})
}
