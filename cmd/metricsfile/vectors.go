package metricsfile

import (
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// maxSeries is how many series a metric may have before those of earlier runs are dropped.
const maxSeries = 10_000

// vector is one metric with its labels. Either counter or gauge is set.
type vector struct {
	name    string
	labels  []string
	counter *prometheus.CounterVec
	gauge   *prometheus.GaugeVec
}

// metrics is all that the file may hold.
type metrics struct {
	registry *prometheus.Registry
	vectors  []*vector

	runs, outcomes, freed, restored                             *vector
	lastRun, duration, exitCode, lastSuccess                    *vector
	used, limit, rss, target, threshold, level, measured        *vector
	keys, matched, eligible, kept, walked                       *vector
	hits, misses, evictions, expiries, rejections, errors       *vector
	hitRatio, latency, growth, reached, restarts, workerRestart *vector
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewPedanticRegistry()}
	m.runs = m.counter("runs_total", "Runs by what they came to.", "command", "outcome", "reason")
	m.lastRun = m.gauge("last_run_timestamp_seconds", "When the last run ended.", "command")
	m.duration = m.gauge("last_run_duration_seconds", "How long the last run took.", "command")
	m.exitCode = m.gauge("last_run_exit_code", "Exit code of the last run; of a check 0 is OK, 1 WARNING, 2 CRITICAL and 3 UNKNOWN.", "command")
	m.lastSuccess = m.gauge("last_success_timestamp_seconds", "When a run last did what it was meant to, if that was nothing; for a check, when it could last tell the state.", "command")

	m.used = m.gauge("memory_used_bytes", "Memory in use by the policy's source.", "node")
	m.limit = m.gauge("memory_limit_bytes", "Memory that levels and target are shares of.", "node")
	m.rss = m.gauge("memory_rss_bytes", "The server's resident set, which need not fall when keys go.", "node")
	m.target = m.gauge("memory_target_bytes", "Where an eviction stops.", "node")
	m.threshold = m.gauge("memory_threshold_bytes", "Where a level begins, or an alert (alert_warning, alert_critical).", "node", "level")
	m.level = m.gauge("memory_level", "1 for the level that memory is at, 0 for the others.", "node", "level")
	m.measured = m.gauge("memory_measured_timestamp_seconds", "When the node's memory was last read.", "node")

	m.keys = m.gauge("keys", "Keys in the database.", "node")
	m.matched = m.gauge("family_keys", "Keys of the family when the keyspace was last looked through; an estimate after a plan.", "node", "family")
	m.eligible = m.gauge("family_eligible_keys", "Keys of the family that policy and level allowed to go when the keyspace was last looked through; an estimate after a plan.", "node", "family")
	m.kept = m.gauge("family_kept_keys", "Keys of the family that stayed in the last walk of execute or dry-run.", "node", "family", "reason")
	m.walked = m.gauge("last_walk_timestamp_seconds", "When the keyspace was last walked by execute or dry-run.", "node")

	m.outcomes = m.counter("eviction_outcomes_total", "Keys that execute was about to evict, by what became of them.", "node", "family", "outcome")
	m.freed = m.counter("freed_bytes_total", "What execute freed, an estimate from the sizes of the keys.", "node", "family")
	m.restored = m.counter("restored_keys_total", "Keys that restore put back.", "family")

	m.hits = m.counter("server_hits_total", "Lookups that found their key, as the server counts since it started.", "node")
	m.misses = m.counter("server_misses_total", "Lookups that found no key, as the server counts since it started.", "node")
	m.evictions = m.counter("server_evicted_keys_total", "Keys that the server evicted by itself since it started.", "node")
	m.expiries = m.counter("server_expired_keys_total", "Keys that expired since the server started.", "node")
	m.rejections = m.counter("server_rejected_connections_total", "Connections that the server rejected since it started.", "node")
	m.errors = m.counter("server_command_errors_total", "Error replies since the server started.", "node")
	m.hitRatio = m.gauge("hit_ratio", "Share of lookups that found their key between the last two checks.", "node")
	m.latency = m.gauge("command_latency_seconds", "Mean time of a command inside the server between the last two checks.", "node")
	m.growth = m.gauge("memory_growth_bytes_per_second", "Trend of memory over the last checks.", "node")
	m.reached = m.gauge("memory_threshold_reached_in_seconds", "When memory will come to a threshold at this rate; without a value if not within a year.", "node", "level")
	m.restarts = m.gauge("server_restarts", "Restarts and replacements of the server that checks saw in the last hour.", "node")
	m.workerRestart = m.gauge("worker_restarts", "Workers that gunicorn booted in the last hour.")
	return m
}

const prefix = "redis_janitor_"

func (m *metrics) counter(name, help string, labels ...string) *vector {
	v := &vector{name: prefix + name, labels: labels}
	v.counter = prometheus.NewCounterVec(prometheus.CounterOpts{Name: v.name, Help: help}, labels)
	m.registry.MustRegister(v.counter)
	m.vectors = append(m.vectors, v)
	return v
}

func (m *metrics) gauge(name, help string, labels ...string) *vector {
	v := &vector{name: prefix + name, labels: labels}
	v.gauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: v.name, Help: help}, labels)
	m.registry.MustRegister(v.gauge)
	m.vectors = append(m.vectors, v)
	return v
}

// restore sets a series to what the file said.
func (v *vector) restore(metric *dto.Metric, values []string) error {
	if v.gauge != nil {
		if metric.Gauge == nil {
			return fmt.Errorf("%s is no gauge there", v.name)
		}
		v.set(metric.GetGauge().GetValue(), values...)
		return nil
	}
	count := metric.GetCounter().GetValue()
	if metric.Counter == nil || count < 0 || math.IsNaN(count) || math.IsInf(count, 0) {
		return fmt.Errorf("%s does not count there", v.name)
	}
	v.add(count, values...)
	return nil
}

func (v *vector) set(value float64, labels ...string) {
	v.gauge.WithLabelValues(printable(labels)...).Set(value)
}

func (v *vector) add(value float64, labels ...string) {
	v.counter.WithLabelValues(printable(labels)...).Add(value)
}

// forget drops all of a node's series, since those that come now are all there are.
func (v *vector) forget(node string) {
	match := prometheus.Labels{"node": printable([]string{node})[0]}
	if v.gauge != nil {
		v.gauge.DeletePartialMatch(match)
		return
	}
	v.counter.DeletePartialMatch(match)
}

// printable makes labels of names that came from outside: they have to be UTF-8.
func printable(labels []string) []string {
	valid := make([]string, len(labels))
	for i, label := range labels {
		valid[i] = strings.ToValidUTF8(label, "\uFFFD")
	}
	return valid
}
