package patterns

import (
	"fmt"
	"strconv"
	"strings"
)

// Quote prints a key the way redis-cli does (sdscatrepr in Redis' src/sds.c): in double quotes, with \n, \r, \t, \a, \b,
// \" and \\, and \xNN for every byte that is not printable ASCII. So no key reaches a terminal raw.
func Quote(key string) string {
	b := make([]byte, 0, len(key)+2)
	b = append(b, '"')
	for i := range len(key) {
		switch c := key[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		case '\a':
			b = append(b, `\a`...)
		case '\b':
			b = append(b, `\b`...)
		default:
			if c < ' ' || c > '~' {
				b = fmt.Appendf(b, `\x%02x`, c)
			} else {
				b = append(b, c)
			}
		}
	}
	return string(append(b, '"'))
}

// Unquote is the inverse of [Quote]; what does not begin with a double quote is a plain key and returned as it is.
// Where redis-cli guesses (\q is q, \x4 is x4), Unquote refuses: a mistyped key would name another one.
func Unquote(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			if i+1 < len(s) {
				return "", fmt.Errorf("key %s goes on after its closing quote at byte %d: write \\\" for a quote inside it", Quote(s), i+1)
			}
			return b.String(), nil
		case '\\':
			c, size, err := unescape(s[i+1:])
			if err != nil {
				return "", fmt.Errorf("key %s, escape at byte %d: %w", Quote(s), i+1, err)
			}
			b.WriteByte(c)
			i += size
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("key %s has no closing quote: add it; a key that itself begins with a quote is written %s", Quote(s), Quote(`"...`))
}

// unescape reads what follows a backslash and returns its byte and how much of s it took.
func unescape(s string) (c byte, size int, err error) {
	if s == "" {
		return 0, 0, fmt.Errorf("nothing follows the backslash")
	}
	switch s[0] {
	case '"', '\\':
		return s[0], 1, nil
	case 'n':
		return '\n', 1, nil
	case 'r':
		return '\r', 1, nil
	case 't':
		return '\t', 1, nil
	case 'a':
		return '\a', 1, nil
	case 'b':
		return '\b', 1, nil
	case 'x':
		if len(s) >= 3 {
			if v, err := strconv.ParseUint(s[1:3], 16, 8); err == nil {
				return byte(v), 3, nil
			}
		}
		return 0, 0, fmt.Errorf("\\x needs two hexadecimal digits")
	}
	return 0, 0, fmt.Errorf("%s is none of \\n \\r \\t \\a \\b \\\" \\\\ \\xNN", Quote(`\`+s[:1]))
}
