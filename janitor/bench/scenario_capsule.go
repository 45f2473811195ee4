package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// preserving is what it costs to keep what is evicted, and to put it back.
type preserving struct {
	held    contents
	paces   []string
	without map[string][]cleared
	with    map[string][]cleared
	size    map[string]int64 // of the file, of the last round
	values  int64            // bytes of the values in it, as DUMP wrote them
	back    []float64        // seconds of restore
}

func (b *bench) preserving(ctx context.Context) (*preserving, error) {
	s := startServer()
	defer s.close()
	held, err := b.fill(ctx, s, b.keys)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.Dir, "capsules")
	if err != nil {
		return nil, err
	}
	p := &preserving{held: held, paces: []string{"balanced", "fast"}, without: map[string][]cleared{}, with: map[string][]cleared{}, size: map[string]int64{}}
	for round := range b.rounds {
		for _, pace := range rotated(p.paces, round) {
			chosen, err := chosenWays(pace)
			if err != nil {
				return nil, err
			}
			file := filepath.Join(dir, fmt.Sprint(pace, round))
			keeping := chosen[0]
			keeping.command = func(b *bench, addr string) []string {
				return append(chosen[0].command(b, addr), "--capsule", file)
			}
			bare, err := b.clear(ctx, s, held, chosen[0], "", false)
			if err != nil {
				return nil, err
			}
			kept, err := b.clear(ctx, s, held, keeping, "", false)
			if err != nil {
				return nil, err
			}
			info, err := os.Stat(file)
			if err != nil {
				return nil, err
			}
			p.without[pace], p.with[pace], p.size[pace] = append(p.without[pace], bare), append(p.with[pace], kept), info.Size()
			used, out, err := measured(ctx, b.janitor(s.Addr, "restore", file, "--yes")...)
			if err != nil {
				return nil, err
			}
			report, err := readReport(out, "restored")
			if err != nil {
				return nil, err
			}
			p.values, p.back = report.Restore.Bytes, append(p.back, used.Wall.Seconds())
			b.log("round %d, %s: %.2fs, with a capsule of %d MB %.2fs, restored in %.2fs", round+1, pace, bare.Wall.Seconds(), info.Size()>>20, kept.Wall.Seconds(), used.Wall.Seconds())
			if err := os.Remove(file); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func (p *preserving) section() section {
	var rows [][]string
	wall := func(c cleared) float64 { return c.Wall.Seconds() }
	cpu := func(c cleared) float64 { return c.ServerCPU.Seconds() }
	for _, pace := range p.paces {
		without, with := p.without[pace], p.with[pace]
		rows = append(rows, []string{"`--pace " + pace + "`",
			seconds2(spreadOf(column(without, wall))), seconds2(spreadOf(column(with, wall))), spreadOf(ratios(column(with, wall), column(without, wall))).factor(),
			spreadOf(ratios(column(with, cpu), column(without, cpu))).factor(), megabytes(float64(p.size[pace])),
			megabytes(spreadOf(column(with, func(c cleared) float64 { return float64(c.PeakRSS) })).Max)})
	}
	return section{name: "capsule", title: "What a capsule costs",
		text: fmt.Sprintf("`execute` with and without `--capsule` on the same %d keys, of which %d go. Their values, as DUMP writes them, are %s MB, and much of it is noise that nothing compresses. "+
			"`restore` puts them back in %s s.\n\n", p.held.Keys, p.held.due(), megabytes(float64(p.values)), seconds2(spreadOf(p.back))) +
			table([]string{"way", "without, s", "with, s", "times as long", "times the server's CPU", "file, MB", "peak, MB"}, rows)}
}
