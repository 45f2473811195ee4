// Package policyfile is the strict YAML form of janitor.Policy.
//
// A policy decides what gets deleted, so it must read as written: no aliases, anchors, merge keys
// or tags, nothing unknown, nothing twice, no field without a value. Every mistake is an [Error]
// that names file, line and field.
//
// Scalars count by their text, quoted or not. Inside double quotes YAML's escapes hold, and there
// "\xff" is the character U+00FF, two bytes in UTF-8; a pattern with bytes that are no UTF-8 is
// written in base64: !!binary "/w==".
package policyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"redis-janitor/janitor"
)

// MaxSize is how long a policy file may be, in bytes.
const MaxSize = 256 << 10

// Error is a mistake in a policy file.
type Error struct {
	File  string
	Line  int    // from 1; 0 where the file as a whole is meant
	Field string // such as families[1].older_than.force; "" where no field is meant
	Msg   string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("policy " + e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ", line %d", e.Line)
	}
	if e.Field != "" {
		b.WriteString(", " + e.Field)
	}
	return b.String() + ": " + e.Msg
}

// Load reads the policy file at path. "-" is a file's name like any other, not stdin. Whatever is
// wrong, also with reading, is an *[Error].
func Load(path string) (janitor.Policy, error) {
	data, err := read(path)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err // the path already stands in front
		}
		return janitor.Policy{}, &Error{File: path, Msg: fmt.Sprintf("cannot be read: %v; name a readable file, or none for the built-in policy", err)}
	}
	return Parse(path, data)
}

// read stops one byte beyond MaxSize, which is enough for Parse to refuse: a path may also be a
// device that never ends.
func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, MaxSize+1))
}

// Parse reads a policy file's content; name is the file's, for errors. What the file leaves out
// takes the built-in policy's values, its name included, except that it protects nothing and must
// name its own families. Errors are *[Error].
func Parse(name string, data []byte) (janitor.Policy, error) {
	root, err := document(name, data)
	if err != nil {
		return janitor.Policy{}, err
	}
	p := janitor.Defaults()
	p.Name = janitor.Combot().Name
	r := reader{file: name, lines: map[string]int{"": root.Line}}
	if err := r.policy(root, &p); err != nil {
		return janitor.Policy{}, err
	}
	if err := p.Validate(); err != nil {
		return janitor.Policy{}, r.locate(err)
	}
	return p, nil
}

// locate turns a FieldError into an Error at the line of its field, or of the nearest thing around
// it that stands in the file.
func (r *reader) locate(err error) error {
	var wrong *janitor.FieldError
	if !errors.As(err, &wrong) {
		return &Error{File: r.file, Msg: err.Error()}
	}
	at := wrong.Path
	line, ok := r.lines[at]
	for !ok {
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
		line, ok = r.lines[at]
	}
	return &Error{File: r.file, Line: line, Field: wrong.Path, Msg: wrong.Msg}
}
