// Package planfile is the form in which a janitor.SavedPlan is kept in a file: JSON, with a schema and a
// digest, so that what is carried out is what was reviewed.
package planfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"redis-janitor/cmd/policyfile"
	"redis-janitor/janitor"
	"redis-janitor/janitor/statefile"
)

// maxSize is far above what is ever written.
const maxSize = 64 << 20

// file is the outermost object.
type file struct {
	Schema string          `json:"schema"`
	SHA256 string          `json:"sha256"` // of the plan, without the spaces between its fields
	Plan   json.RawMessage `json:"plan"`
}

// Error is a file that holds no plan that can be carried out.
type Error struct{ File, Msg string }

func (e *Error) Error() string { return "plan " + e.File + ": " + e.Msg }

// Write keeps a plan, with the policy that it was made by, in the place of an earlier plan and of no other
// file. Only its owner may read it: the report may tell of people.
func Write(name string, p *janitor.SavedPlan, policy janitor.Policy) error {
	// What is no regular file is refused below; a pipe must not be waited for.
	if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
		old, err := read(name)
		if err != nil {
			return err
		}
		if !bytes.Contains(old[:min(len(old), 100)], []byte(planSchemas)) {
			return fmt.Errorf("%s is there and holds no plan, so it stays: name another file", name)
		}
	}
	p.Policy.Text = string(policyfile.Format(policy))
	plan, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	text, err := json.MarshalIndent(file{janitor.PlanSchema, digest(plan), plan}, "", " ")
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return statefile.Replace(name, 0o600, append(text, '\n'))
}

func digest(compact []byte) string {
	sum := sha256.Sum256(compact)
	return hex.EncodeToString(sum[:])
}

// Read returns a plan and the policy that it was made by. Whatever is wrong is an *[Error].
func Read(name string) (*janitor.SavedPlan, janitor.Policy, error) {
	fail := func(format string, args ...any) (*janitor.SavedPlan, janitor.Policy, error) {
		return nil, janitor.Policy{}, &Error{name, fmt.Sprintf(format, args...)}
	}
	data, err := read(name)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err // the path already stands in front
		}
		return fail("cannot be read: %v; name a file that plan --save has written", err)
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return fail("is not a whole JSON document (%v): name a file that plan --save has written", err)
	}
	switch {
	case f.Schema == janitor.PlanSchema:
	case len(f.Schema) > len(planSchemas) && f.Schema[:len(planSchemas)] == planSchemas:
		return fail("has the schema %.60q, and this version knows %s: use the version that made it, or make a new one", f.Schema, janitor.PlanSchema)
	default:
		return fail("is no plan: its schema is %.60q, not %s", f.Schema, janitor.PlanSchema)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, f.Plan); err != nil {
		return fail("holds no plan: %v", err)
	}
	if digest(compact.Bytes()) != f.SHA256 {
		return fail("was changed since it was saved: a plan is carried out as it was made, or not at all; make a new one")
	}
	var p janitor.SavedPlan
	if err := json.Unmarshal(f.Plan, &p); err != nil {
		return fail("holds no plan that this version understands: %v", err)
	}
	policy, err := policyfile.Parse(name+" (its policy)", []byte(p.Policy.Text))
	if err == nil {
		err = p.Valid(policy)
	}
	if err != nil {
		return fail("cannot be carried out: %v", err)
	}
	return &p, policy, nil
}

// planSchemas is what the schema of every version begins with.
const planSchemas = "redis-janitor/plan/"

// read stops one byte beyond maxSize: a path may also be a device that never ends.
func read(name string) ([]byte, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("it is larger than %d MiB, which no plan is", maxSize>>20)
	}
	return data, err
}
