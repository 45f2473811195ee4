package policyfile

import (
	"bytes"
	"encoding/json"
	"slices"

	"go.yaml.in/yaml/v3"

	"redis-janitor/janitor"
)

// JSON writes out what Format does, in the same fields, as one JSON document. Text that is no UTF-8 has none in
// JSON: it begins with !!binary, and base64 follows.
func JSON(p janitor.Policy) (json.RawMessage, error) {
	root, _, err := decode(Format(p))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = writeJSON(&b, "", root)
	return b.Bytes(), err
}

// unquoted are the fields whose values are numbers or true and false in JSON, too. The others are text, whatever
// it looks like: a limit of 1025 is a size as 8gb is.
func unquoted(field string) bool {
	return slices.Contains([]string{"version", "readings", "users_over", "keep_newest", "broad", "worker_restarts_per_hour"}, field)
}

func writeJSON(b *bytes.Buffer, field string, n *yaml.Node) error {
	text := func(s string) error {
		quoted := json.NewEncoder(b)
		quoted.SetEscapeHTML(false)
		err := quoted.Encode(s)
		b.Truncate(b.Len() - 1) // its line end
		return err
	}
	brackets, step := "[]", 1
	switch {
	case n.Kind == yaml.ScalarNode && unquoted(field):
		b.WriteString(n.Value)
		return nil
	case n.Kind == yaml.ScalarNode && n.Tag == binaryTag:
		return text(binaryTag + " " + n.Value)
	case n.Kind == yaml.ScalarNode:
		return text(n.Value)
	case n.Kind == yaml.MappingNode:
		brackets, step = "{}", 2
	}
	b.WriteByte(brackets[0])
	for i := 0; i < len(n.Content); i += step {
		if i > 0 {
			b.WriteByte(',')
		}
		name := ""
		if step == 2 {
			name = n.Content[i].Value
			if err := text(name); err != nil {
				return err
			}
			b.WriteByte(':')
		}
		if err := writeJSON(b, name, n.Content[i+step-1]); err != nil {
			return err
		}
	}
	b.WriteByte(brackets[1])
	return nil
}
