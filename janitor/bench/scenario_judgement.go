package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// pushedTo is the share of the limit at which memory stands when it is cleaned, and cleanedTo the target: both as the
// built-in policy has them, force beginning at 75 %.
const (
	pushedTo  = 0.80
	cleanedTo = 0.55
)

// verdict is how one way to clean did in one replay. Hit rates and what was freed of what was needed are in percent.
type verdict struct {
	LostSessions, LostOthers int
	HitsSoon, HitsLater      float64 // of the ML results
	PageHits, AllHits        float64 // AllHits: of results and pages together, as often as each is read
	ResultsLeft              int64   // right after the cleanup
	Freed                    float64
}

// judgement is what the scenario found: verdicts by cleaner, one a round.
type judgement struct {
	cleaners []cleaner
	verdicts [][]verdict
}

// sideBySide is how many servers a replay keeps up with on two cores. The others replay the same trace after them.
const sideBySide = 6

func (b *bench) judging(ctx context.Context) (*judgement, error) {
	j := &judgement{cleaners: cleaners()}
	j.verdicts = make([][]verdict, len(j.cleaners))
	for round := range b.rounds {
		var found []verdict
		for some := range slices.Chunk(j.cleaners, sideBySide) {
			verdicts, err := b.judgeOnce(ctx, some, uint64(round+1))
			if err != nil {
				return nil, err
			}
			found = append(found, verdicts...)
		}
		for i, v := range found {
			j.verdicts[i] = append(j.verdicts[i], v)
			b.log("round %d, %s: %+v", round+1, j.cleaners[i].label, v)
		}
	}
	return j, nil
}

// judgeOnce replays one trace on as many servers as there are cleaners, side by side.
func (b *bench) judgeOnce(ctx context.Context, all []cleaner, seed uint64) ([]verdict, error) {
	events := trace(seed)
	zero := time.Now().Add(2*time.Second + time.Duration(len(all))*time.Second)
	players := make([]*player, len(all))
	for i := range all {
		p, err := newPlayer(ctx, zero, events)
		if err != nil {
			return nil, err
		}
		defer p.server.close()
		players[i] = p
	}
	if time.Now().After(zero) {
		return nil, errors.New("this machine is too slow to write the replay's history in time")
	}
	verdicts, errs := make([]verdict, len(all)), make([]error, 2*len(all))
	var working sync.WaitGroup
	for i, p := range players {
		working.Go(func() { errs[2*i] = p.play(ctx, events) })
		working.Go(func() { errs[2*i+1] = b.cleanInReplay(ctx, all[i], p, &verdicts[i]) })
	}
	working.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	// The notes' code holds its server for a while, and that is its own doing; a slow machine holds all of them.
	if behind := slices.MinFunc(players, func(a, b *player) int { return cmp.Compare(a.behind, b.behind) }).behind; behind > 2*minute {
		return nil, fmt.Errorf("this machine is too slow or too busy: the replay was %s behind", behind)
	}
	for i, p := range players {
		v := &verdicts[i]
		v.LostSessions = p.lost
		v.HitsSoon, v.HitsLater = p.hitRate(cleanupAt, cleanupAt+5*minute, useResult), p.hitRate(cleanupAt, playedFor, useResult)
		v.PageHits, v.AllHits = p.hitRate(cleanupAt, playedFor, usePage), p.hitRate(cleanupAt, playedFor, useResult, usePage)
		var err error
		if v.LostOthers, err = p.othersLost(ctx); err != nil {
			return nil, err
		}
	}
	return verdicts, nil
}

// cleanInReplay cleans when the time has come, and notes how much was freed, in percent of what was needed, and how many
// results are left.
func (b *bench) cleanInReplay(ctx context.Context, c cleaner, p *player, v *verdict) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Until(p.zero.Add(cleanupAt))):
	}
	before, err := p.used(ctx)
	if err != nil {
		return err
	}
	limit := int64(float64(before) / pushedTo)
	target := int64(cleanedTo * float64(limit))
	if err := c.clean(ctx, b, p, limit, target); err != nil {
		return fmt.Errorf("%s: %w", c.label, err)
	}
	if err := p.server.drain(ctx); err != nil {
		return err
	}
	after, err := p.used(ctx)
	if err != nil {
		return err
	}
	v.Freed = 100 * float64(before-after) / float64(before-target)
	v.ResultsLeft, err = p.results(ctx)
	return err
}

// write writes a file of the benchmark's own. Two at work write the same, or under different names.
func (b *bench) write(name, text string) (string, error) {
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

func (j *judgement) section() section {
	var rows [][]string
	for i, c := range j.cleaners {
		percent := func(of func(verdict) float64) string {
			return spreadOf(column(j.verdicts[i], of)).tenths()
		}
		rows = append(rows, []string{c.label,
			fmt.Sprint(j.total(i, func(v verdict) int { return v.LostSessions })), fmt.Sprint(j.total(i, func(v verdict) int { return v.LostOthers })),
			percent(func(v verdict) float64 { return v.HitsSoon }), percent(func(v verdict) float64 { return v.HitsLater }),
			percent(func(v verdict) float64 { return v.PageHits }), percent(func(v verdict) float64 { return v.AllHits }),
			fmt.Sprintf("%.0f", spreadOf(column(j.verdicts[i], func(v verdict) float64 { return float64(v.ResultsLeft) })).Median),
			percent(func(v verdict) float64 { return v.Freed })})
	}
	return section{name: "judgement", title: "What is left for people", goals: j.goals(), text: fmt.Sprintf(`A replay of %.0f minutes of the application, a second for a minute, the same for each way to clean, on a server of its own (%d
at a time): users who come back the likelier the shorter they have been gone, ML results and pages read by a Zipf law and
made anew where they are missing. What the %.0f minutes before have left is there at the start, with its expiry and idle
times. A rush pushes memory to %.0f %% of the limit; each way brings it to %.0f %% (the notes' code knows no target), once;
then the replay goes on. A session is lost when its user comes back before its end and has to log in again. Others' keys are
Celery's and the product breakdowns. The janitor's policy is the built-in one, and the same with results spared that were
used lately, for idle times from %d to %d minutes. All reads are those of results and pages together, each counting as often
as it is read; results left are counted right after the cleanup.

`, playedFor.Seconds(), sideBySide, historyFor.Seconds(), 100*pushedTo, 100*cleanedTo, slices.Min(minIdles()), slices.Max(minIdles())) +
		table([]string{"who cleans", "sessions lost", "others' keys lost", "ML hit rate, next 5 min, %", "next 30 min, %", "pages', next 30 min, %", "all reads', next 30 min, %", "results left", "freed ÷ needed, %"}, rows) + `
All who know a target free the same bytes. Who takes a part of them from sessions, pages or others' keys takes so many fewer
results, and the more results are left, the more reads of results hit. On results alone nobody who spares the rest can be
ahead of that, unless his choice among the results gains more than the results lose that he takes beside. The column of
results left says how many these are; those of what was lost, and of the pages, say who pays for them. Where nothing of
people's is lost, the choice alone makes the difference.
`}
}

func (j *judgement) total(cleaner int, of func(verdict) int) int {
	total := 0
	for _, v := range j.verdicts[cleaner] {
		total += of(v)
	}
	return total
}

func (j *judgement) goals() []goal {
	none := func(what string, n int) goal { return goal{what, "0", fmt.Sprint(n), n == 0} }
	freed := spreadOf(column(j.verdicts[builtIn], func(v verdict) float64 { return v.Freed }))
	// 2 % of the limit, in percent of what was needed.
	over := 100 + 2/(pushedTo-cleanedTo)
	goals := []goal{
		none("the janitor: sessions lost", j.total(builtIn, func(v verdict) int { return v.LostSessions })),
		none("the janitor: others' keys lost", j.total(builtIn, func(v verdict) int { return v.LostOthers })),
		{"the janitor: freed, in % of what was needed", fmt.Sprintf("100 to %.0f", over), fmt.Sprintf("%.1f to %.1f", freed.Min, freed.Max), freed.Min >= 100 && freed.Max <= over},
	}
	anyone := func(verdict) bool { return true }
	harmless := func(v verdict) bool { return v.LostSessions+v.LostOthers == 0 }
	results, reads := func(v verdict) float64 { return v.HitsLater }, func(v verdict) float64 { return v.AllHits }
	for i, c := range j.cleaners {
		name := "built-in policy"
		switch {
		case c.label == minIdleLabel(usualMinIdle):
			name = fmt.Sprintf("with `min_idle: %dm`", usualMinIdle)
		case i != builtIn:
			continue
		}
		goals = append(goals,
			j.ahead(i, name+": ML hit rate, points ahead of who loses no session and no other's key", results, harmless),
			j.ahead(i, name+": ML hit rate, points ahead of everybody", results, anyone),
			j.ahead(i, name+": all reads' hit rate, points ahead of everybody", reads, anyone))
	}
	return goals
}

// ahead compares a janitor's hit rate of the next 30 minutes with the best of some of the others', round by round.
func (j *judgement) ahead(ours int, what string, rate func(verdict) float64, counts func(verdict) bool) goal {
	var points []float64
	for round, v := range j.verdicts[ours] {
		best := 0.0
		for other, c := range j.cleaners {
			if o := j.verdicts[other][round]; other != nobody && !c.ours && counts(o) {
				best = max(best, rate(o))
			}
		}
		points = append(points, rate(v)-best)
	}
	s := spreadOf(points)
	return goal{what, "≥ 0", s.tenths(), s.Median >= 0}
}
