package janitor

import (
	"math"
	"time"

	"redis-janitor/ttlpolicy"
)

// describe fills in what is known of a node as soon as it is connected.
func (n *nodeJob) describe() {
	n.report.Addr = n.node.Addr()
	n.report.RunID = n.info.Text("run_id")
	n.report.Server = n.info.Server()
	n.report.Role = n.info.Text("role")
	n.report.DB = n.node.DB()
	n.report.Keys, _ = n.info.Keys(n.node.DB())
	n.report.Families = make([]FamilyReport, len(n.rules))
	for i, rule := range n.rules {
		n.report.Families[i] = FamilyReport{Name: rule.Family, LifetimeS: int64(rule.Lifetime / time.Second), Histogram: []Bin{}}
	}
}

// estimates writes what the survey expects into a report.
func (n *nodeJob) estimates(into *NodeReport) {
	n.doubts(n.census)
	estimates := make([]ttlpolicy.Estimate, len(n.cuts))
	for i, cut := range n.cuts {
		estimates[i] = n.census.Estimate(i, cut)
	}
	fewest := n.shrinkage(estimates, func(e ttlpolicy.Estimate) int64 { return e.EligibleLow })
	likely := n.shrinkage(estimates, func(e ttlpolicy.Estimate) int64 { return e.Eligible })
	most := n.shrinkage(estimates, func(e ttlpolicy.Estimate) int64 { return e.EligibleHigh })
	for i, goes := range n.needed() {
		estimates[i].Evict, estimates[i].EvictBytes = goes.Keys, goes.Bytes
	}
	wanted := n.shrinkage(estimates, func(e ttlpolicy.Estimate) int64 { return e.Evict })
	for i := range into.Families {
		f, cut, e := &into.Families[i], n.cuts[i], estimates[i]
		f.Estimate = Estimate{
			Matched: e.Matched, NoTTL: e.NoTTL, Eligible: e.Eligible, EligibleLow: e.EligibleLow, EligibleHigh: e.EligibleHigh,
			Evict: e.Evict, EvictBytes: e.EvictBytes + int64(wanted*float64(e.Evict)),
			Bytes:     e.Bytes + int64(likely*float64(e.Eligible)),
			BytesLow:  e.BytesLow + int64(fewest*float64(e.EligibleLow)),
			BytesHigh: e.BytesHigh + int64(most*float64(e.EligibleHigh)),
		}
		f.OlderThan = nil
		if maxTTL, acts := n.rules[i].MaxTTL(n.level); acts {
			age := int64((n.rules[i].Lifetime - maxTTL) / time.Second)
			f.OlderThan = &age
		}
		f.WaterlineMS = waterline(cut)
		f.Histogram = []Bin{}
		for _, b := range n.census.Bins(i, histogramBins) {
			f.Histogram = append(f.Histogram, Bin{int64(b.From / time.Second), int64(b.To / time.Second), b.Keys, b.Bytes})
		}
	}
	into.Sampled = n.sampled
}

// needed is what the run takes of each family: to the target, or as far as --max-keys and --max-bytes let it.
func (n *nodeJob) needed() []ttlpolicy.Needed {
	bytes, keys := n.need(), int64(math.MaxInt64)
	if n.req.MaxBytes > 0 {
		bytes = min(bytes, n.req.MaxBytes)
	}
	if n.req.MaxKeys > 0 {
		keys = n.req.MaxKeys
	}
	return n.census.Needed(n.cuts, bytes, keys)
}

// waterline is null where no key with a TTL goes, and where all that is eligible does.
func waterline(cut ttlpolicy.Cut) *int64 {
	if cut.None || cut.All {
		return nil
	}
	ms := cut.TTL.Milliseconds()
	return &ms
}

// lint warns of rules that do not do what they seem to say.
func (n *nodeJob) lint() {
	for _, l := range n.census.Lints() {
		n.warn(n, l.Family, l.Code, "%s", l.Message)
	}
	matched := int64(0)
	for i := range n.rules {
		matched += n.census.Estimate(i, n.cuts[i]).Matched
	}
	if matched == 0 && n.report.Keys > 0 {
		n.warn(n, "", "policy_matches_nothing", "no key of the %d in DB %d of %s was found to belong to any family of policy %s: look at its patterns, and at the DB in the URL",
			n.report.Keys, n.node.DB(), n.node.Addr(), n.req.Policy.Name)
	}
	if n.req.Command != Execute && n.target() >= 0 && n.reading.Used <= n.target() {
		n.warn(n, "", "below_target", "memory of %s (%s) is not above the target (%s), so execute would evict nothing; --target none, or a lower one, would",
			n.node.Addr(), ttlpolicy.FormatSize(n.reading.Used), ttlpolicy.FormatSize(n.target()))
	}
}

// planned closes the report of a plan: what it draws is all from the survey.
func (n *nodeJob) planned(into *NodeReport) {
	var freed int64
	for _, f := range into.Families {
		freed += f.Estimate.EvictBytes
	}
	into.Memory.AfterBytes = max(n.reading.Used-freed, 0)
	if !n.sampled {
		into.Scanned = into.Keys
	}
}
