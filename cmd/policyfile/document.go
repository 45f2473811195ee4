package policyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// document returns the root of the file's only YAML document.
func document(file string, data []byte) (*yaml.Node, error) {
	if len(data) > MaxSize {
		return nil, &Error{File: file, Msg: fmt.Sprintf("is longer than %d KiB, and a policy has a few dozen lines; is this the right file?", MaxSize>>10)}
	}
	// The library would also read UTF-16, where lines cannot be counted by their bytes.
	for i, line := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(line) {
			return nil, &Error{File: file, Line: i + 1, Msg: `is not UTF-8; save the file as UTF-8, and write a pattern's raw bytes in base64, as in !!binary "/w=="`}
		}
	}
	root, second, err := decode(data)
	switch {
	case err != nil:
		return nil, syntaxError(file, data, err)
	case second > 0:
		return nil, &Error{File: file, Line: second, Msg: "a second document begins here; a policy is one document, so remove this one"}
	case root == nil || root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return nil, &Error{File: file, Line: 1, Msg: "is empty; a policy needs at least its families"}
	}
	return root, nil
}

// decode returns the root of the first document (nil: there is none) and the line at which a
// second one begins (0: there is none).
func decode(data []byte) (root *yaml.Node, second int, err error) {
	var first, next yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&first); errors.Is(err, io.EOF) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	if err := decoder.Decode(&next); errors.Is(err, io.EOF) {
		return first.Content[0], 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	return nil, next.Line, nil
}

// syntaxError finds the line itself. The library names the one at which the enclosing list or
// mapping begins, or the one before, or none. The line to look at is the last of the shortest
// beginning of the file that raises the same complaint.
func syntaxError(file string, data []byte, err error) error {
	complaint := withoutLine(err)
	lines := bytes.SplitAfter(data, []byte("\n"))
	i := sort.Search(len(lines)-1, func(i int) bool {
		_, _, err := decode(bytes.Join(lines[:i+1], nil))
		return err != nil && withoutLine(err) == complaint
	})
	return &Error{File: file, Line: i + 1, Msg: explain(complaint, lines[i])}
}

func withoutLine(err error) string {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, found := strings.CutPrefix(msg, "line "); found {
		_, msg, _ = strings.Cut(rest, ": ")
	}
	return msg
}

// explain puts the complaints that a policy's author is likely to meet into words that say what to do.
func explain(complaint string, line []byte) string {
	indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	switch {
	case bytes.Contains(indent, []byte("\t")):
		return "is indented with a tab; use spaces"
	case strings.HasPrefix(complaint, "unknown anchor"), complaint == "did not find expected alphabetic or numeric character":
		return `text that begins with * or & must be quoted, as in "*:tmp"`
	case complaint == "found character that cannot start any token":
		return "text that begins with %, @ or ` must be quoted"
	}
	return "is not YAML: " + complaint
}
