package janitor_test

import (
	"context"
	"testing"
	"time"

	"redis-janitor/janitor"
)

func TestARunThatIsNotConfirmedReportsNothingOfWhatItWasAskedAbout(t *testing.T) {
	s := startLean(t)
	fill(t, s, writeString, evenly("first:", 3_000, 10*time.Minute, time.Hour, bytesEach(1000)))
	change := cleaning(settledMemory(t, s.Client())*100/80, first)
	env := host(t.TempDir())
	var asked *janitor.Report
	env.Confirm = func(_ context.Context, preview *janitor.Report) (bool, error) {
		asked = preview
		return false, nil
	}
	unconfirmed := func(r *janitor.Request) { r.Confirmed = false }
	r := checked(t, janitor.Run(t.Context(), request(s, change, unconfirmed), env))
	expect(t, r, janitor.Refused, janitor.Guard, janitor.ExitRefused)
	if dbSize(t, s.Client()) != 3_000 {
		t.Errorf("%d keys left", dbSize(t, s.Client()))
	}
	if m, f := asked.Nodes[0].Memory, asked.Nodes[0].Families[0]; m.AfterBytes >= m.UsedBytes || f.Estimate.Evict == 0 || f.WaterlineMS == nil {
		t.Errorf("the question shows %+v and %+v", m, f)
	}
	if m, f := r.Nodes[0].Memory, r.Nodes[0].Families[0]; m.AfterBytes != m.UsedBytes || f.Estimate.Evict != 0 || f.WaterlineMS != nil {
		t.Errorf("nothing was done, and the report says %+v and %+v", m, f)
	}

	janitor.Run(t.Context(), request(s, change, unconfirmed, maxKeys(7)), env)
	if e := asked.Nodes[0].Families[0].Estimate; e.Evict != 7 {
		t.Errorf("with --max-keys 7 the question speaks of %d keys", e.Evict)
	}
}
