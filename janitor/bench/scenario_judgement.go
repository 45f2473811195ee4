package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	PageHits                 float64
	Freed                    float64
}

// judgement is what the scenario found: verdicts by cleaner, one a round.
type judgement struct {
	cleaners []cleaner
	verdicts [][]verdict
}

func (b *bench) judging(ctx context.Context) (*judgement, error) {
	j := &judgement{cleaners: cleaners()}
	j.verdicts = make([][]verdict, len(j.cleaners))
	for round := range b.rounds {
		found, err := b.judgeOnce(ctx, j.cleaners, uint64(round+1))
		if err != nil {
			return nil, err
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
		working.Go(func() { verdicts[i].Freed, errs[2*i+1] = b.cleanInReplay(ctx, all[i], p) })
	}
	working.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	// The notes' code holds its server for a while, and that is its own doing; here nobody does.
	if behind := players[nobody].behind; behind > 2*minute {
		return nil, fmt.Errorf("this machine is too slow or too busy: the replay was %s behind", behind)
	}
	for i, p := range players {
		v := &verdicts[i]
		v.LostSessions = p.lost
		v.HitsSoon, v.HitsLater = p.hitRate(useResult, cleanupAt, cleanupAt+5*minute), p.hitRate(useResult, cleanupAt, playedFor)
		v.PageHits = p.hitRate(usePage, cleanupAt, playedFor)
		var err error
		if v.LostOthers, err = p.othersLost(ctx); err != nil {
			return nil, err
		}
	}
	return verdicts, nil
}

// cleanInReplay cleans when the time has come, and tells how much was freed, in percent of what was needed.
func (b *bench) cleanInReplay(ctx context.Context, c cleaner, p *player) (float64, error) {
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(time.Until(p.zero.Add(cleanupAt))):
	}
	before, err := p.used(ctx)
	if err != nil {
		return 0, err
	}
	limit := int64(float64(before) / pushedTo)
	target := int64(cleanedTo * float64(limit))
	if err := c.clean(ctx, b, p, limit, target); err != nil {
		return 0, fmt.Errorf("%s: %w", c.label, err)
	}
	if err := p.server.drain(ctx); err != nil {
		return 0, err
	}
	after, err := p.used(ctx)
	return 100 * float64(before-after) / float64(before-target), err
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
			s := spreadOf(column(j.verdicts[i], of))
			return fmt.Sprintf("%.1f (%.1f–%.1f)", s.Median, s.Min, s.Max)
		}
		rows = append(rows, []string{c.label,
			fmt.Sprint(j.total(i, func(v verdict) int { return v.LostSessions })), fmt.Sprint(j.total(i, func(v verdict) int { return v.LostOthers })),
			percent(func(v verdict) float64 { return v.HitsSoon }), percent(func(v verdict) float64 { return v.HitsLater }),
			percent(func(v verdict) float64 { return v.PageHits }), percent(func(v verdict) float64 { return v.Freed })})
	}
	return section{name: "judgement", title: "What is left for people", goals: j.goals(), text: fmt.Sprintf(`A replay of %.0f minutes of the application, a second for a minute, on a server for each way to clean, side by side: users
who come back the likelier the shorter they have been gone, ML results and pages read by a Zipf law and made anew where
they are missing. What the %.0f minutes before have left is there at the start, with its expiry and idle times. A rush
pushes memory to %.0f %% of the limit; each way brings it to %.0f %% (the notes' code knows no target), once; then the replay
goes on. A session is lost when its user comes back before its end and has to log in again. Others' keys are Celery's and
the product breakdowns. The janitor's policy is the built-in one, and once with results spared that were used lately.

`, playedFor.Seconds(), historyFor.Seconds(), 100*pushedTo, 100*cleanedTo) +
		table([]string{"who cleans", "sessions lost", "others' keys lost", "ML hit rate, next 5 min, %", "next 30 min, %", "pages' hit rate, %", "freed ÷ needed, %"}, rows) + `
Redis's own policies free part of their bytes from sessions, pages and others' keys, which spares results; the columns
beside say who pays.
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
	for _, ours := range []struct {
		cleaner int
		name    string
	}{{builtIn, "built-in policy"}, {withMinIdle, "with `min_idle`"}} {
		goals = append(goals,
			j.ahead(ours.cleaner, ours.name+": ML hit rate, points ahead of who loses no session and no other's key", harmless),
			j.ahead(ours.cleaner, ours.name+": ML hit rate, points ahead of everybody", anyone))
	}
	return goals
}

// ahead compares a janitor's hit rate of the next 30 minutes with the best of some of the others', round by round.
func (j *judgement) ahead(ours int, what string, counts func(verdict) bool) goal {
	var points []float64
	for round, v := range j.verdicts[ours] {
		best := 0.0
		for other := withMinIdle + 1; other < len(j.cleaners); other++ {
			if o := j.verdicts[other][round]; counts(o) {
				best = max(best, o.HitsLater)
			}
		}
		points = append(points, v.HitsLater-best)
	}
	s := spreadOf(points)
	return goal{what, "≥ 0", fmt.Sprintf("%.1f (%.1f–%.1f)", s.Median, s.Min, s.Max), s.Median >= 0}
}
