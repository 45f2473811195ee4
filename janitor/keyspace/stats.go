package keyspace

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// CommandCost is what a server has spent on one command since it started or its statistics were
// reset: the time inside the server, without the network or waiting in line.
type CommandCost struct {
	Calls int64
	Time  time.Duration
}

// CommandCosts asks what each command has cost so far, by its name, subcommands as "client|setname".
func (n *Node) CommandCosts(ctx context.Context) (map[string]CommandCost, error) {
	var text string
	err := n.read(ctx, "read INFO commandstats", func() (err error) {
		text, err = n.data.Info(ctx, "commandstats").Result()
		return err
	})
	if err != nil {
		return nil, err
	}
	return ParseInfo(text).CommandCosts(), nil
}

// CommandCosts reads lines such as cmdstat_get:calls=2,usec=9,usec_per_call=4.50. INFO has them only
// where they are asked for.
func (i Info) CommandCosts() map[string]CommandCost {
	costs := map[string]CommandCost{}
	for name, line := range i.fields {
		command, ok := strings.CutPrefix(name, "cmdstat_")
		if !ok {
			continue
		}
		calls, hasCalls := subfield(line, "calls")
		micros, hasMicros := subfield(line, "usec")
		if hasCalls && hasMicros {
			costs[command] = CommandCost{calls, time.Duration(micros) * time.Microsecond}
		}
	}
	return costs
}

// ErrorCounts tells how often the server has answered with each error code (OOM, WRONGTYPE, ERR) since
// it started, from lines such as errorstat_OOM:count=3. Servers before 6.2 have none.
func (i Info) ErrorCounts() map[string]int64 {
	counts := map[string]int64{}
	for name, line := range i.fields {
		if code, ok := strings.CutPrefix(name, "errorstat_"); ok {
			if count, ok := subfield(line, "count"); ok {
				counts[code] = count
			}
		}
	}
	return counts
}

// subfield finds a whole number in a value such as "calls=2,usec=9".
func subfield(line, name string) (int64, bool) {
	for part := range strings.SplitSeq(line, ",") {
		if value, ok := strings.CutPrefix(part, name+"="); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
