package health

import "time"

// horizon is how far a straight line may be drawn on: what lies beyond it is not foreseen.
const horizon = 365 * 24 * time.Hour

// shortestTrend is how long memory must have been watched before a line is drawn: within seconds one client's buffers
// look like a server that is full by noon.
const shortestTrend = 10 * time.Minute

// slope is how fast memory grows in bytes a second: the straight line with the least squares through
// all points, so that one reading more or less changes little. It is false for less than two moments.
func slope(points []point) (perSecond float64, over time.Duration, ok bool) {
	if len(points) < 2 {
		return 0, 0, false
	}
	first, n := points[0], float64(len(points))
	var meanX, meanY float64
	for _, p := range points {
		meanX += p.At.Sub(first.At).Seconds() / n
		meanY += float64(p.Used-first.Used) / n
	}
	var xy, xx float64
	for _, p := range points {
		dx := p.At.Sub(first.At).Seconds() - meanX
		xy += dx * (float64(p.Used-first.Used) - meanY)
		xx += dx * dx
	}
	if xx == 0 {
		return 0, 0, false
	}
	return xy / xx, points[len(points)-1].At.Sub(first.At), true
}

// reaches tells when memory comes to a threshold at this rate; false where it is there, or where that
// would be beyond the horizon or never.
func reaches(used, threshold int64, perSecond float64) (time.Duration, bool) {
	if perSecond <= 0 || used >= threshold {
		return 0, false
	}
	seconds := float64(threshold-used) / perSecond
	if seconds > horizon.Seconds() {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}
