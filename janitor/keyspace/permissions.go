package keyspace

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Need is a command that has to be permitted, with arguments that its rule is about.
type Need struct {
	Command []any
	Writes  bool // it is never sent to find out, only asked about
	OfKeys  bool // it is about the keys, so that a refusal of the command as such says nothing
}

// Grant is whether a need is permitted.
type Grant int

// The answers to a need. Unclear is the zero value: nothing is taken for granted.
const (
	Unclear Grant = iota
	Granted
	Denied
)

// Grants finds out what this connection's user is permitted: by ACL DRYRUN (Redis 7.0) where that may be
// asked, and by sending the command where it only reads. The keys that it names should not exist.
func (n *Node) Grants(ctx context.Context, needs []Need) (grants []Grant, err error) {
	err = n.read(ctx, "ask for permissions", func() error {
		grants = make([]Grant, len(needs))
		user, err := n.data.Do(ctx, "acl", "whoami").Text()
		switch kind := KindOf(fail(ctx, "", "", err)); {
		case err == nil:
			if err := n.ask(ctx, needs, grants, func(need Need) []any { return append([]any{"acl", "dryrun", user}, need.Command...) }, dryRun); err != nil {
				return err
			}
		case kind != NoPerm && kind != NoCommand && kind != Other:
			return err
		}
		return n.ask(ctx, needs, grants, func(need Need) []any {
			if need.Writes {
				return nil
			}
			return need.Command
		}, tried)
	})
	return grants, err
}

// ask sends one command for each need that nothing is known of yet; none where there is none to send.
func (n *Node) ask(ctx context.Context, needs []Need, grants []Grant, command func(Need) []any, read func(*redis.Cmd) (Grant, string)) error {
	pipe := n.data.Pipeline()
	sent := make([]*redis.Cmd, len(needs))
	for i, need := range needs {
		if words := command(need); grants[i] == Unclear && words != nil {
			sent[i] = pipe.Do(ctx, words...)
		}
	}
	if pipe.Len() == 0 {
		return nil
	}
	_, _ = pipe.Exec(ctx) // each answer is looked at below
	for i, cmd := range sent {
		if cmd == nil {
			continue
		}
		var answer redis.Error
		if err := cmd.Err(); err != nil && !errors.As(err, &answer) {
			return err
		}
		var said string
		if grants[i], said = read(cmd); grants[i] == Denied && needs[i].OfKeys && !strings.Contains(said, "access") {
			grants[i] = Unclear
		}
	}
	return nil
}

// dryRun reads an answer to ACL DRYRUN: OK, or words that say what is not permitted (acl.c).
func dryRun(cmd *redis.Cmd) (Grant, string) {
	text, err := cmd.Text()
	switch {
	case err != nil:
		return Unclear, ""
	case text == "OK":
		return Granted, ""
	case strings.Contains(text, "no permissions"):
		return Denied, text
	}
	return Unclear, ""
}

// tried reads an answer to the command itself. The server looks at permissions before anything else, so
// that any other error, MOVED for one, means that it is permitted.
func tried(cmd *redis.Cmd) (Grant, string) {
	err := cmd.Err()
	switch kind := KindOf(fail(context.Background(), "", "", err)); {
	case err == nil:
		return Granted, ""
	case kind == NoPerm || kind == NoCommand:
		return Denied, err.Error()
	case kind == Auth || kind == Loading:
		return Unclear, ""
	}
	return Granted, ""
}
