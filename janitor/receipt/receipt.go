// Package receipt writes down what became of each key while a run decides on it: one JSON object a line,
// a header, the keys, a footer. The lines of a batch follow its deletion and are handed to the system
// before the next batch of that worker, so that a run that is killed leaves a true prefix.
package receipt

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Schema names the layout of the lines. It changes only when a field is renamed or removed.
const Schema = "redis-janitor/receipt/v1"

// Header is the first line: whose receipt this is.
type Header struct {
	Schema    string    `json:"schema"`
	Command   string    `json:"command"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Policy    Policy    `json:"policy,omitzero"`
	Plan      string    `json:"plan,omitempty"` // id of the saved plan that is carried out
	Servers   []Server  `json:"servers"`
}

// Policy names the policy in force.
type Policy struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Server is one of those whose keys the lines are about.
type Server struct {
	Addr  string `json:"addr"`
	RunID string `json:"run_id"`
	DB    int    `json:"db"`
}

// Key is what became of one key.
type Key struct {
	Key    string
	Family string
	// Outcome is evicted, refreshed, vanished, failed, uncertain or kept. Reason says why: what the policy
	// calls the rule that let a key go, the reason for which one was kept, or what the server refused it with.
	Outcome, Reason string
	Age             time.Duration // below zero: not known
	TTL             int64         // in ms as PTTL says it: -1 without one; below that: not known
	Bytes           int64         // MEMORY USAGE; below zero: not measured
}

// Footer is the last line. A file without one is from a run that did not end by itself.
type Footer struct {
	EndedAt    time.Time `json:"ended_at"`
	DurationMS int64     `json:"duration_ms"`
	// Result is the run's outcome: a field named outcome stands on key lines only.
	Result   string `json:"result"`
	Reason   string `json:"reason"`
	ExitCode int    `json:"exit_code"`
	Totals   any    `json:"totals"` // as in the run's report
}

// line puts the type in front of what is marshalled.
func line(kind string, fields any) ([]byte, error) {
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("write the %s of the receipt: %w", kind, err)
	}
	return fmt.Appendf(nil, "{\"type\":%q,%s\n", kind, text[1:]), nil
}

// appendKey writes a key's line. It is written out by hand because there may be millions of them.
func appendKey(b []byte, k *Key) []byte {
	b = append(b, `{"type":"key",`...)
	if utf8.ValidString(k.Key) {
		b = append(b, `"key":`...)
		b = appendText(b, k.Key)
	} else {
		b = append(b, `"key_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(k.Key))
		b = append(b, '"')
	}
	b = append(b, `,"family":`...)
	b = appendText(b, k.Family)
	b = append(b, `,"outcome":"`...)
	b = append(b, k.Outcome...)
	b = append(b, '"')
	if k.Reason != "" {
		b = append(b, `,"reason":`...)
		b = appendText(b, k.Reason)
	}
	if k.Bytes >= 0 {
		b = append(b, `,"bytes":`...)
		b = strconv.AppendInt(b, k.Bytes, 10)
	}
	if k.TTL >= -1 {
		b = append(b, `,"ttl_ms":`...)
		b = strconv.AppendInt(b, k.TTL, 10)
	}
	if k.Age >= 0 {
		b = append(b, `,"age_ms":`...)
		b = strconv.AppendInt(b, k.Age.Milliseconds(), 10)
	}
	return append(b, "}\n"...)
}

// appendText writes a JSON string from which exactly the same bytes are read back, and which does nothing
// to a terminal that it is shown on.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c < ' ' || c == 0x7f:
				b = fmt.Appendf(b, `\u%04x`, c)
			default:
				b = append(b, c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if unicode.IsPrint(r) {
			b = append(b, s[i:i+size]...)
		} else {
			for _, unit := range utf16.AppendRune(nil, r) {
				b = fmt.Appendf(b, `\u%04x`, unit)
			}
		}
		i += size
	}
	return append(b, '"')
}
