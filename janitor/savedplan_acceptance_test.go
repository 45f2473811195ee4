package janitor_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-janitor/janitor"
	"redis-janitor/janitor/redistest"
	"redis-janitor/ttlpolicy"
)

// planOf makes a plan as plan --save does, and reads it back as execute --plan would.
func planOf(t *testing.T, s *redistest.Server, change ...func(*janitor.Request)) *janitor.SavedPlan {
	t.Helper()
	env := host(t.TempDir())
	var text []byte
	env.Save = func(p *janitor.SavedPlan) (err error) {
		text, err = json.Marshal(p)
		return err
	}
	req := request(s, change...)
	req.Command = janitor.Plan
	r := checked(t, janitor.Run(t.Context(), req, env))
	p := &janitor.SavedPlan{}
	if err := json.Unmarshal(text, p); err != nil {
		t.Fatalf("no plan was saved (%s: %s): %v", r.Outcome, r.Message, err)
	}
	if err := p.Valid(req.Policy); err != nil || r.Plan == nil || r.Plan.ID != p.ID {
		t.Fatalf("the plan is not valid (%v), or not the report's: %+v", err, r.Plan)
	}
	return p
}

// following carries out a plan by the policy that it was made by.
func following(p *janitor.SavedPlan) func(*janitor.Request) {
	return func(r *janitor.Request) {
		if r.Saved = p; r.MaxPlanAge == 0 {
			r.MaxPlanAge = 15 * time.Minute
		}
	}
}

func scatter(t *testing.T, c *redis.Client, prefix string, from, to int, spread ages) {
	t.Helper()
	plant(t, c, func(p *planter) {
		for i := from; i < to; i++ {
			p.set(prefix+md5Of(i), spread.ttl(i))
		}
	})
}

// planKeys are the marks of used plans.
func planKeys(t *testing.T, c *redis.Client) int64 { return countKeys(t, c, "redis-janitor:plan:*") }

func TestAPlanIsCarriedOutAsItWasReviewedAndOnce(t *testing.T) {
	for _, pressure := range []string{"", "out of memory"} {
		t.Run(pressure, func(t *testing.T) {
			s := redistest.Start(t)
			c := s.Client()
			scatter(t, c, "ml_results:", 0, 40_000, mlAges) // more than a sample draws
			scatter(t, c, "combot_cache:", 0, 5000, appAges)
			before := redistest.Snapshot(t.Context(), c)
			started := time.Now()
			p := planOf(t, s, atLevel(ttlpolicy.Force), noTarget, calm)
			if !p.Report.Nodes[0].Sampled {
				t.Fatal("that was meant to be a sample")
			}
			// What is written after the plan was not in it, though the policy lets it go by now.
			plant(t, c, func(p *planter) {
				for i := range 400 {
					p.set("ml_results:new"+md5Of(i), 2*time.Hour)
					if i%8 == 0 {
						p.set("combot_cache:new"+md5Of(i), 30*time.Minute)
					}
				}
			})
			if pressure != "" {
				do(t, c, []any{"CONFIG", "SET", "maxmemory", "1mb"})
			}
			r := clean(t, s, noTarget, ignoreBusy, following(p))
			expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
			left := redistest.Snapshot(t.Context(), c)
			for name, key := range before {
				_, there := left[name]
				if want := fateOf(name, key, ttlpolicy.Force, started, time.Now()); want != either && there == (want == goes) {
					t.Fatalf("%q (%+v, %s): left is %t", name, key, want, there)
				}
			}
			if n := countKeys(t, c, "*:new*"); n != 450 {
				t.Errorf("of 450 keys that were written after the plan %d are left", n)
			}
			if r.Plan == nil || r.Plan.ID != p.ID {
				t.Errorf("the report is of plan %+v", r.Plan)
			}
			if ttl := c.PTTL(t.Context(), "redis-janitor:plan:"+p.ID).Val(); ttl < janitor.MaxPlanAge || ttl > janitor.MaxPlanAge+2*time.Hour {
				t.Errorf("that the plan was used is known for %s", ttl)
			}
			again := clean(t, s, noTarget, calm, following(p))
			expect(t, again, janitor.Refused, "plan_used", janitor.ExitRefused)
			if len(redistest.Snapshot(t.Context(), c)) != len(left) {
				t.Error("keys went all the same")
			}
		})
	}
}

func TestAPlanIsRefusedWhereThingsAreNoLongerAsPlannedAndOnlyThere(t *testing.T) {
	other := redistest.Start(t)
	plan := func(t *testing.T, s *redistest.Server) *janitor.SavedPlan {
		return planOf(t, s, atLevel(ttlpolicy.Force), noTarget, calm)
	}
	for _, sizes := range []struct {
		name string
		keys int
	}{{"every key counted", 5000}, {"sampled", 60_000}} {
		for _, it := range []struct {
			name   string
			change func(t *testing.T, s *redistest.Server, c *redis.Client) []func(*janitor.Request)
			says   string // in the message; "": it is no drift
		}{
			{"nothing happened", func(*testing.T, *redistest.Server, *redis.Client) []func(*janitor.Request) { return nil }, ""},
			{"a few keys came", func(t *testing.T, _ *redistest.Server, c *redis.Client) []func(*janitor.Request) {
				scatter(t, c, "ml_results:", sizes.keys, sizes.keys+sizes.keys/50, mlAges)
				return nil
			}, ""},
			{"strangers came", func(t *testing.T, _ *redistest.Server, c *redis.Client) []func(*janitor.Request) {
				scatter(t, c, "user:", 0, 2*sizes.keys, mlAges)
				return nil
			}, ""},
			{"the same policy was given", func(*testing.T, *redistest.Server, *redis.Client) []func(*janitor.Request) {
				return []func(*janitor.Request){func(r *janitor.Request) { r.GivenPolicy = "the file's" }}
			}, ""},
			{"many keys came", func(t *testing.T, _ *redistest.Server, c *redis.Client) []func(*janitor.Request) {
				scatter(t, c, "ml_results:", sizes.keys, sizes.keys+sizes.keys/4, mlAges)
				return nil
			}, "family ml-results on "},
			{"many keys went", func(t *testing.T, _ *redistest.Server, c *redis.Client) []func(*janitor.Request) {
				plant(t, c, func(p *planter) {
					for i := range sizes.keys / 4 {
						p.do("UNLINK", "ml_results:"+md5Of(i))
					}
				})
				return nil
			}, "family ml-results on "},
			{"many keys were refreshed beyond their lifetime", func(t *testing.T, _ *redistest.Server, c *redis.Client) []func(*janitor.Request) {
				plant(t, c, func(p *planter) {
					for i := range sizes.keys / 4 {
						p.do("PEXPIRE", "ml_results:"+md5Of(i), (3 * time.Hour).Milliseconds())
					}
				})
				return nil
			}, "family ml-results on "},
			{"the server was restarted", func(t *testing.T, s *redistest.Server, c *redis.Client) []func(*janitor.Request) {
				do(t, c, []any{"SAVE"})
				restart(t, s, nil)
				for s.Client().Ping(t.Context()).Err() != nil { // until it has loaded its data
					time.Sleep(time.Millisecond)
				}
				return nil
			}, "was restarted"},
			{"it is another server", func(*testing.T, *redistest.Server, *redis.Client) []func(*janitor.Request) {
				return []func(*janitor.Request){inDB(other, 0)}
			}, "the plan is not for "},
			{"it is another database", func(_ *testing.T, s *redistest.Server, _ *redis.Client) []func(*janitor.Request) {
				return []func(*janitor.Request){inDB(s, 1)}
			}, "the plan is for DB 0"},
			{"another policy was given", func(*testing.T, *redistest.Server, *redis.Client) []func(*janitor.Request) {
				return []func(*janitor.Request){func(r *janitor.Request) { r.GivenPolicy = "another" }}
			}, "the policy changed"},
			{"it is too old", func(*testing.T, *redistest.Server, *redis.Client) []func(*janitor.Request) {
				return []func(*janitor.Request){func(r *janitor.Request) { r.MaxPlanAge = time.Microsecond }}
			}, "more than --max-plan-age"},
		} {
			t.Run(sizes.name+"/"+it.name, func(t *testing.T) {
				s := redistest.Start(t, "--save", "")
				c := s.Client()
				scatter(t, c, "ml_results:", 0, sizes.keys, mlAges)
				p := plan(t, s)
				p.Policy.FileSHA256 = "the file's"
				changes := it.change(t, s, c)
				if it.says == "" {
					expect(t, clean(t, s, append(changes, noTarget, calm, following(p))...), janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
					return
				}
				c = s.Client()
				before := dbSize(t, c)
				r := clean(t, s, append(changes, noTarget, calm, following(p))...)
				expect(t, r, janitor.Refused, janitor.Drift, janitor.ExitRefused)
				if !strings.Contains(r.Message, it.says) || r.Hint == "" {
					t.Errorf("the message is %q", r.Message)
				}
				if now := dbSize(t, c); now != before || planKeys(t, c) != 0 {
					t.Errorf("there were %d keys, and there are %d", before, now)
				}
			})
		}
	}
}

// Its keys expire by the thousand while the plan gets older, and Redis counts many that have expired.
func TestAQuietServerNeverDriftsWhateverExpires(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	short := func(r *janitor.Request) {
		r.Policy.Busy.UsersFrom = "none"
		r.Policy.Families = []janitor.Family{{Name: "short", Match: []string{"short:*"}, Rule: ttlpolicy.Rule{
			Family: "short", Lifetime: time.Minute, OlderThan: map[ttlpolicy.Level]time.Duration{ttlpolicy.Force: 20 * time.Second}}}}
	}
	plant(t, c, func(p *planter) {
		for i := range 150_000 {
			p.set(fmt.Sprintf("short:%d", i), 5*time.Second+time.Duration(i%600)*100*time.Millisecond)
		}
	})
	p := planOf(t, s, short, atLevel(ttlpolicy.Force), noTarget)
	before := dbSize(t, c)
	skipped := 0
	// A gate comes after the look at the keyspace, and uses up no plan.
	for began := time.Now(); time.Since(began) < 25*time.Second; skipped++ {
		r := clean(t, s, short, noTarget, activeUsers(100), following(p))
		expect(t, r, janitor.Skipped, janitor.Busy, janitor.ExitDone)
		if t.Failed() {
			t.Fatalf("after %s", time.Since(began))
		}
	}
	gone := before - dbSize(t, c)
	if gone < 20_000 || skipped < 5 || planKeys(t, c) != 0 {
		t.Errorf("%d looks, in whose course %d keys expired: that shows little", skipped, gone)
	}
	expect(t, clean(t, s, short, noTarget, calm, following(p)), janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
}

func TestARunUnderAPlanGoesNeverAboveItsWaterline(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	scatter(t, c, "ml_results:", 0, 60_000, ages{{30 * time.Minute, 110 * time.Minute}})
	limit := atRatio(t, c, 0.78)
	p := planOf(t, s, limit, calm)
	line := &p.Nodes[0].Families[0].Waterline
	if line.TTLMS == nil || p.Report.Nodes[0].Families[0].WaterlineMS == nil || *line.TTLMS != *p.Report.Nodes[0].Families[0].WaterlineMS {
		t.Fatalf("the plan's waterline is %+v, and the report's %v", line, p.Report.Nodes[0].Families[0].WaterlineMS)
	}
	// Lower than the target needs: as if memory had risen since.
	*line.TTLMS = (45 * time.Minute).Milliseconds()
	before := redistest.Snapshot(t.Context(), c)
	r := clean(t, s, limit, calm, following(p))
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	left := redistest.Snapshot(t.Context(), c)
	gone := 0
	for name, key := range before {
		if family, _ := belongs(name); family == "" {
			continue
		}
		_, there := left[name]
		// Redis's clock is this host's here, so the line is exact.
		atZero := time.Duration(key.ExpiresAt-p.Nodes[0].ZeroMS) * time.Millisecond
		if !there && atZero > 45*time.Minute || there && atZero < 44*time.Minute {
			t.Fatalf("%q had %s left when the plan was made; left is %t", name, atZero, there)
		}
		if !there {
			gone++
		}
	}
	if gone < 1000 || int64(gone) != r.Totals.Evicted {
		t.Errorf("%d keys are gone, the report says %d", gone, r.Totals.Evicted)
	}
	if over := r.Nodes[0].Families[0].Kept.AboveWaterline; over == 0 {
		t.Error("nothing was kept above the waterline")
	}
}

func TestOnlyADeletionUsesAPlanUp(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	scatter(t, c, "ml_results:", 0, 3000, mlAges)
	p := planOf(t, s, atLevel(ttlpolicy.Force), noTarget, calm)
	proxy := redistest.Proxy(t, s.Addr)
	proxy.Answer(func(cmd []string) (string, bool) {
		return "-MISCONF Redis is configured to save RDB snapshots", evictionKeys(cmd) != nil && !strings.HasPrefix(cmd[3], "redis-janitor:")
	})
	expect(t, clean(t, s, noTarget, activeUsers(100), following(p)), janitor.Skipped, janitor.Busy, janitor.ExitDone)
	expect(t, clean(t, s, noTarget, calm, following(p), func(r *janitor.Request) { r.Confirmed = false }), janitor.Refused, janitor.Guard, janitor.ExitRefused)
	expect(t, clean(t, s, noTarget, calm, following(p), through(proxy)), janitor.Refused, "misconf", janitor.ExitNoServer)
	for began := time.Now(); planKeys(t, c) != 0; time.Sleep(time.Millisecond) { // the mark runs out within one
		if time.Since(began) > 10*time.Second {
			t.Fatal("the plan is marked as used")
		}
	}
	// A part is enough.
	expect(t, clean(t, s, noTarget, calm, following(p), maxKeys(10)), janitor.Incomplete, janitor.MaxKeys, janitor.ExitIncomplete)
	expect(t, clean(t, s, noTarget, calm, following(p)), janitor.Refused, "plan_used", janitor.ExitRefused)
}

// claims tells a script that uses a plan up from all others, also from the one that gives it back.
func claims(cmd []string) bool {
	return strings.EqualFold(cmd[0], "EVALSHA") && len(cmd) > 5 && strings.HasPrefix(cmd[3], "redis-janitor:plan:") && cmd[5] != "1"
}

func TestALostReplyToAPlansMarkUsesItUpOnlyWhereSomethingGoes(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	scatter(t, c, "ml_results:", 0, 3000, mlAges)
	p := planOf(t, s, atLevel(ttlpolicy.Force), noTarget, calm)
	proxy := redistest.Proxy(t, s.Addr)
	proxy.DropReplyTo(claims)
	proxy.Answer(func(cmd []string) (string, bool) {
		if claims(cmd) { // and the next
			proxy.DropReplyTo(claims)
		}
		return "", false
	})
	expect(t, clean(t, s, noTarget, calm, following(p), through(proxy)), janitor.Failed, "unreachable", janitor.ExitNoServer)
	if n := countKeys(t, c, "ml_results:*"); n != 3000 {
		t.Fatalf("there were 3000 keys, and there are %d", n)
	}
	poll(t, "the mark to run out", func() bool { return planKeys(t, c) == 0 })
	proxy.Answer(nil)
	proxy.DropReplyTo(claims)
	expect(t, clean(t, s, noTarget, calm, following(p), through(proxy)), janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	expect(t, clean(t, s, noTarget, calm, following(p)), janitor.Refused, "plan_used", janitor.ExitRefused)
}

func TestWhereAUsedPlanCannotBeMarkedThisHostKnows(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	scatter(t, c, "ml_results:", 0, 3000, mlAges)
	setUser(t, c, "least", leastPermissions)
	user, here := asUser(s, "least"), t.TempDir()
	p := planOf(t, s, atLevel(ttlpolicy.Force), noTarget, calm)
	r := cleanOn(t.Context(), t, here, s, noTarget, calm, user, following(p), maxKeys(10))
	expect(t, r, janitor.Incomplete, janitor.MaxKeys, janitor.ExitIncomplete)
	expectWarning(t, r, "plan_unmarked")
	expect(t, cleanOn(t.Context(), t, here, s, noTarget, calm, user, following(p)), janitor.Refused, "plan_used", janitor.ExitRefused)
}

func TestAPlanMadeBelowTheThresholdEvictsNothing(t *testing.T) {
	s := redistest.Start(t)
	plantSome(t, s.Client())
	p := planOf(t, s)
	before := dbSize(t, s.Client())
	// Also where memory has risen since.
	r := clean(t, s, following(p), atRatio(t, s.Client(), 0.9), ignoreBusy)
	expect(t, r, janitor.Nothing, janitor.BelowThreshold, janitor.ExitDone)
	if !strings.Contains(r.Message, "when the plan was made") {
		t.Errorf("the message is %q", r.Message)
	}
	if now := dbSize(t, s.Client()); now != before {
		t.Errorf("there were %d keys, and there are %d", before, now)
	}
}

func TestAPlanForAClusterIsForItsServersAndUsedOnce(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	goes, stays := combotStock(3000)
	fillCluster(t, cluster, append(goes, stays...)...)
	s := cluster.Masters[0]
	p := planOf(t, s, atLevel(ttlpolicy.Force), noTarget, calm)
	if len(p.Nodes) != 3 {
		t.Fatalf("the plan is for %d servers", len(p.Nodes))
	}
	fewer := *p
	fewer.Nodes = p.Nodes[:2]
	r := clean(t, s, noTarget, calm, following(&fewer))
	expect(t, r, janitor.Refused, janitor.Drift, janitor.ExitRefused)
	before, each := keysOfAll(t, cluster)
	r = clean(t, s, noTarget, calm, following(p))
	expect(t, r, janitor.Evicted, janitor.Exhausted, janitor.ExitDone)
	left, now := keysOfAll(t, cluster)
	want := int64(0)
	for _, n := range gonePerNode(goes, each, now) {
		want += n
	}
	maps.DeleteFunc(left, func(key string, _ bool) bool { return strings.HasPrefix(key, "redis-janitor:") })
	if r.Totals.Evicted != want || want == 0 || int64(len(before)-len(left)) != want {
		t.Errorf("%d keys are gone, %d by the report, of %d that were", want, r.Totals.Evicted, len(before))
	}
	expect(t, clean(t, s, noTarget, calm, following(p)), janitor.Refused, "plan_used", janitor.ExitRefused)
}
