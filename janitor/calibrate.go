package janitor

import (
	"context"

	"redis-janitor/janitor/keyspace"
	"redis-janitor/ttlpolicy"
)

// looksAtMost is of how many of a family's keys a run asks how their values are kept.
const looksAtMost = 50

// calibration is what is known of the bytes that MEMORY USAGE leaves out of a family's values.
type calibration struct {
	looked               int
	bytes, hidden, doubt float64
}

// calibrate looks at a few of the first keys of each family. A family that mixes kinds gets their mean.
func (n *nodeJob) calibrate(ctx context.Context, chunk []found, facts []keyspace.KeyFacts) error {
	var keys []string
	var usage []float64
	var families []int
	for i, f := range facts {
		c := &n.calibrations[chunk[i].family]
		if f.Bytes >= 0 && c.looked < looksAtMost {
			c.looked++
			keys, usage, families = append(keys, chunk[i].key), append(usage, f.Bytes), append(families, chunk[i].family)
		}
	}
	hidden, err := n.node.Hidden(ctx, n.info, keys, usage)
	if err != nil {
		return err
	}
	for i, h := range hidden {
		c := &n.calibrations[families[i]]
		c.bytes += usage[i]
		c.hidden += h.Bytes
		c.doubt += h.Doubt
	}
	return nil
}

// doubts tells a census how far each family's calibration may be off.
func (n *nodeJob) doubts(census *ttlpolicy.Census) {
	for i, c := range n.calibrations {
		if c.bytes > 0 {
			census.Doubt(i, c.doubt/(c.bytes+c.hidden))
		}
	}
}

// shrinkage is what the hash tables of the database are expected to give back when so many keys of each family go,
// in equal parts for each key.
func (n *nodeJob) shrinkage(estimates []ttlpolicy.Estimate, going func(ttlpolicy.Estimate) int64) (bytesPerKey float64) {
	var keys, persistent int64
	for _, e := range estimates {
		keys += going(e)
		persistent += e.NoTTL
	}
	if keys == 0 {
		return 0
	}
	return float64(n.info.FreedTables(n.node.DB(), keys, max(keys-persistent, 0))) / float64(keys)
}

// weight is what deleting a key should give back: its MEMORY USAGE and what that leaves out; below
// zero where it was not measured.
func (n *nodeJob) weight(family int, f keyspace.KeyFacts) float64 {
	if f.Bytes < 0 {
		return -1
	}
	return n.weightOf(family, f.Bytes, f.Facts)
}

func (n *nodeJob) weightOf(family int, usage float64, f ttlpolicy.Facts) float64 {
	perKey, perExpire := n.info.Overhead()
	if f.Expiry == ttlpolicy.Expiring {
		perKey += perExpire
	}
	if c := n.calibrations[family]; c.bytes > 0 {
		usage *= 1 + c.hidden/c.bytes
	}
	return usage + perKey
}
