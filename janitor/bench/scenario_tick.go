package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ticking is what one tick of cron costs that finds memory ok.
type ticking struct {
	keys     int64
	walls    []float64
	commands map[string]int64 // of the last tick
	total    int64            // of these
}

func (b *bench) ticking(ctx context.Context) (*ticking, error) {
	s := startServer()
	defer s.close()
	held, err := fillCombot(ctx, s.Addr, b.keys)
	if err != nil {
		return nil, err
	}
	t := &ticking{keys: held.Keys}
	for range max(b.rounds, 1) * 4 {
		s.ResetStats()
		used, out, err := measured(ctx, b.janitor(s.Addr, "execute", "--memory-limit", "64gb", "--yes")...)
		if err != nil {
			return nil, err
		}
		if _, err := readReport(out, "nothing"); err != nil {
			return nil, err
		}
		t.walls = append(t.walls, used.Wall.Seconds()*1000)
		t.commands, t.total = s.ran(ctx)
	}
	b.log("tick: %.1f ms, %v", spreadOf(t.walls).Median, t.commands)
	return t, nil
}

func (t *ticking) section() section {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(t.commands)) {
		list = append(list, fmt.Sprintf("%s × %d", strings.ToUpper(name), t.commands[name]))
	}
	walls := spreadOf(t.walls)
	return section{name: "tick", title: "A tick that finds memory ok",
		goals: []goal{{"commands of a tick at `ok`, no walk", "≤ 8", fmt.Sprint(t.total), t.total <= 8 && t.commands["scan"]+t.commands["randomkey"] == 0}},
		text: fmt.Sprintf("`execute --yes` beside %d keys, memory below every threshold. The server ran %d commands: %s. The process took %.1f ms (%.1f–%.1f) from start to exit.",
			t.keys, t.total, strings.Join(list, ", "), walls.Median, walls.Min, walls.Max)}
}
