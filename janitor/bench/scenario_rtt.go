package main

import (
	"context"
	"time"
)

// farTrip is the round trip of the scenario in which the server is far away.
const farTrip = time.Millisecond

// distances are the ways to the server that are compared: none in between, the proxy alone, the proxy with its delay.
func distances() []string { return []string{"direct", "proxy", "far"} }

// travelling is what the scenario found: the wall times by way and distance, a round each.
type travelling struct {
	ways  []way
	walls map[string]map[string][]float64
}

func (b *bench) travelling(ctx context.Context) (*travelling, error) {
	names := b.ways
	if names == "" {
		// One TTL at a time, or ten keys a SCAN, only multiplies the round trip by the number of keys: nothing to learn.
		names = "gentle,balanced,fast,pipelines"
	}
	chosen, err := chosenWays(names)
	if err != nil {
		return nil, err
	}
	s := startServer()
	defer s.close()
	held, err := b.fill(ctx, s, b.keys)
	if err != nil {
		return nil, err
	}
	t := &travelling{ways: chosen, walls: map[string]map[string][]float64{}}
	for _, w := range chosen {
		t.walls[w.name] = map[string][]float64{}
	}
	for round := range b.rounds {
		for _, w := range rotated(chosen, round) {
			for _, distance := range rotated(distances(), round) {
				wall, err := b.travel(ctx, s, held, w, distance)
				if err != nil {
					return nil, err
				}
				t.walls[w.name][distance] = append(t.walls[w.name][distance], wall.Seconds())
				b.log("round %d, %s, %s: %.2fs", round+1, w.name, distance, wall.Seconds())
			}
		}
	}
	return t, nil
}

func (b *bench) travel(ctx context.Context, s *server, held contents, w way, distance string) (time.Duration, error) {
	via := ""
	if distance != "direct" {
		trip := time.Duration(0)
		if distance == "far" {
			trip = farTrip
		}
		p, err := startProxy(ctx, s.Addr, trip)
		if err != nil {
			return 0, err
		}
		defer p.close()
		via = p.addr
	}
	run, err := b.clear(ctx, s, held, w, via, false)
	return run.Wall, err
}

// section writes the scenario up.
func (t *travelling) section() section {
	var rows [][]string
	var goals []goal
	for _, w := range t.ways {
		walls := t.walls[w.name]
		far := spreadOf(ratios(walls["far"], walls["direct"]))
		rows = append(rows, []string{w.label, seconds2(spreadOf(walls["direct"])), seconds2(spreadOf(walls["proxy"])), seconds2(spreadOf(walls["far"])), far.factor()})
		if isPace(w.name) {
			goals = append(goals, atMost(w.label+": time at a 1 ms round trip, in times of its loopback time", far, 1.5))
		}
	}
	return section{name: "rtt", title: "A round trip of 1 ms", goals: goals, text: `A proxy on the loopback delays every byte by half a millisecond in each direction, however many are under way. The
proxy without a delay shows what it costs by itself: it needs a processor's time too. Not run: ways that wait for each
key or each ten keys by themselves; their time is the number of keys times the round trip.

` + table([]string{"way", "direct, s", "through the proxy, s", "at 1 ms, s", "at 1 ms ÷ direct"}, rows)}
}
