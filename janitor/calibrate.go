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
	looked        int
	bytes, hidden float64
}

// calibrate looks at a few of the first keys of each family. A family that mixes kinds gets their mean.
func (n *nodeJob) calibrate(ctx context.Context, chunk []found, facts []keyspace.KeyFacts) error {
	var keys []string
	var places []int
	for i, f := range facts {
		c := &n.calibrations[chunk[i].family]
		if f.Bytes >= 0 && c.looked < looksAtMost {
			c.looked++
			keys, places = append(keys, chunk[i].key), append(places, i)
		}
	}
	shares, err := n.node.Understated(ctx, n.info, keys)
	if err != nil {
		return err
	}
	for i, share := range shares {
		place := places[i]
		c := &n.calibrations[chunk[place].family]
		c.bytes += facts[place].Bytes
		c.hidden += facts[place].Bytes * share
	}
	return nil
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
