package ttlpolicy

import (
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
)

const sizeForms = "write bytes (1048576) or redis.conf's units: 8gb = 8×1024³, 8g = 8×10⁹, likewise tb/t, mb/m, kb/k, or GiB, MiB, KiB"

// ParseSize reads a number of bytes in redis.conf's units, in either case: b,
// kb, mb, gb and tb are powers of 1024, k, m, g and t powers of 1000; KiB to
// TiB say the former outright. (tb, t and the GiB kind are ours: Redis'
// memtoull ends at gb.) A decimal is accepted where it comes to whole bytes.
func ParseSize(s string) (int64, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	end := numberEnd(text)
	unit, ok := sizeUnit(strings.TrimLeft(text[end:], " "))
	number, isNumber := parseDecimal(text[:end])
	if !ok || !isNumber {
		return 0, fmt.Errorf("size %q is not understood: %s", s, sizeForms)
	}
	number.Mul(number, new(big.Rat).SetInt64(unit))
	if !number.IsInt() {
		return 0, fmt.Errorf("size %q is not a whole number of bytes: %s", s, sizeForms)
	}
	if !number.Num().IsInt64() {
		return 0, fmt.Errorf("size %q is too large: at most %d bytes", s, int64(math.MaxInt64))
	}
	return number.Num().Int64(), nil
}

func sizeUnit(name string) (int64, bool) {
	switch name {
	case "", "b":
		return 1, true
	case "k":
		return 1e3, true
	case "kb", "kib":
		return 1 << 10, true
	case "m":
		return 1e6, true
	case "mb", "mib":
		return 1 << 20, true
	case "g":
		return 1e9, true
	case "gb", "gib":
		return 1 << 30, true
	case "t":
		return 1e12, true
	case "tb", "tib":
		return 1 << 40, true
	}
	return 0, false
}

// FormatSize writes bytes for people: two decimals in units of 1024, labelled
// as redis.conf does, so that what was written as 4.8gb reads "4.80 GB".
func FormatSize(n int64) string {
	units := [...]string{"KB", "MB", "GB", "TB"}
	value := math.Abs(float64(n))
	sign := ""
	if n < 0 {
		sign = "-"
	}
	if value < 1024 {
		return fmt.Sprintf("%s%.0f B", sign, value)
	}
	value /= 1024
	unit := 0
	// 1023.995 would round up to 1024.00 of its unit.
	for value >= 1023.995 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%s%.2f %s", sign, value, units[unit])
}

// ParsePercent reads "60%" as 0.60. The sign is required, since a bare number is a size.
func ParsePercent(s string) (float64, error) {
	text, found := strings.CutSuffix(strings.TrimSpace(s), "%")
	number, ok := parseDecimal(strings.TrimRight(text, " "))
	if !found || !ok {
		return 0, fmt.Errorf("percentage %q is not understood: write 60%% or 62.5%%", s)
	}
	if number.Cmp(big.NewRat(100, 1)) > 0 {
		return 0, fmt.Errorf("percentage %q is out of bounds: write 0%% to 100%%", s)
	}
	share, _ := number.Quo(number, big.NewRat(100, 1)).Float64()
	return share, nil
}

const day = 24 * time.Hour

const durationForms = "write 45m, 1h30m, 7d, 1d12h, 1.5s, 250ms or 0s"

// ParseDuration reads what time.ParseDuration does, in whole nanoseconds and
// not below zero, and days of 24 hours too: "7d", "1d12h". A bare "0" is zero.
func ParseDuration(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	if text == "0" {
		return 0, nil
	}
	if strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("duration %q lies below zero: %s", s, durationForms)
	}
	total := new(big.Rat)
	for first := true; first || text != ""; first = false {
		end := numberEnd(text)
		number, isNumber := parseDecimal(text[:end])
		text = text[end:]
		end = strings.IndexFunc(text, func(r rune) bool { return r == '.' || r >= '0' && r <= '9' })
		if end < 0 {
			end = len(text)
		}
		unit, isUnit := durationUnit(text[:end])
		text = text[end:]
		if !isNumber || !isUnit {
			return 0, fmt.Errorf("duration %q is not understood: %s", s, durationForms)
		}
		total.Add(total, number.Mul(number, new(big.Rat).SetInt64(int64(unit))))
	}
	if !total.IsInt() {
		return 0, fmt.Errorf("duration %q is not a whole number of nanoseconds: %s", s, durationForms)
	}
	if !total.Num().IsInt64() {
		return 0, fmt.Errorf("duration %q is too long: at most %s", s, FormatDuration(math.MaxInt64/day*day))
	}
	return time.Duration(total.Num().Int64()), nil
}

func durationUnit(name string) (time.Duration, bool) {
	switch name {
	case "d":
		return day, true
	case "h":
		return time.Hour, true
	case "m":
		return time.Minute, true
	case "s":
		return time.Second, true
	case "ms":
		return time.Millisecond, true
	case "us", "µs", "μs":
		return time.Microsecond, true
	case "ns":
		return time.Nanosecond, true
	}
	return 0, false
}

// FormatDuration writes a duration without the zeros that time.Duration.String
// leaves: "1h30m", "45m", "7d", "1.5s". ParseDuration reads it back.
func FormatDuration(d time.Duration) string {
	if d < 0 {
		return d.String()
	}
	days, rest := d/day, d%day
	text := rest.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	switch {
	case days == 0:
		return text
	case rest == 0:
		return fmt.Sprintf("%dd", days)
	}
	return fmt.Sprintf("%dd%s", days, text)
}

// numberEnd is where the leading decimal number of s ends.
func numberEnd(s string) int {
	end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		return len(s)
	}
	return end
}

// parseDecimal reads digits with at most one point between digits: big.Rat
// alone would also take signs, exponents and fractions.
func parseDecimal(s string) (*big.Rat, bool) {
	whole, fraction, point := strings.Cut(s, ".")
	if whole == "" || point && fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}
