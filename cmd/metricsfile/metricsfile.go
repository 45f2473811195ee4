// Package metricsfile writes what runs and checks came to for node_exporter's textfile collector.
package metricsfile

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"redis-janitor/janitor"
	"redis-janitor/janitor/health"
	"redis-janitor/janitor/statefile"
)

// mode lets node_exporter read the file, whoever wrote it.
const mode = 0o644

// Run writes what a plan, dry-run, execute or restore came to. Counters go on from what the file said, and what
// this run says nothing of stays: other commands, nodes and families. A file that holds metrics of ours and can't be
// read is begun anew, and corrupt says so; one that holds anything else is left alone, which is an error.
func Run(ctx context.Context, file string, r *janitor.Report, now time.Time) (corrupt string, err error) {
	return update(ctx, file, func(m *metrics) { m.run(r, now) })
}

// Check writes what a check came to, in the same way.
func Check(ctx context.Context, file string, r *health.Report, now time.Time) (corrupt string, err error) {
	return update(ctx, file, func(m *metrics) { m.check(r, now) })
}

func update(ctx context.Context, file string, record func(*metrics)) (corrupt string, err error) {
	err = statefile.Update(ctx, file, mode, func(old []byte) ([]byte, error) {
		m := newMetrics()
		if len(bytes.TrimSpace(old)) > 0 && !bytes.Contains(old, []byte(prefix)) {
			return nil, fmt.Errorf("%s holds something else than redis-janitor's metrics, so it stays: name another file", file)
		}
		if problem := m.load(old); problem != nil {
			corrupt = fmt.Sprintf("%s holds no metrics of redis-janitor's (%v): its counters begin at 0 again", file, problem)
			m = newMetrics()
		}
		record(m)
		return m.text()
	})
	return corrupt, err
}

// load takes over what an earlier run wrote.
func (m *metrics) load(old []byte) error {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(old))
	if err != nil {
		return err
	}
	for _, v := range m.vectors {
		family := families[v.name]
		if family == nil {
			continue
		}
		series := family.GetMetric()
		// Addresses can change with every deployment: a file must not remember all there ever were.
		if len(series) > maxSeries {
			continue
		}
		for _, metric := range series {
			labels := map[string]string{}
			for _, pair := range metric.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			values := make([]string, len(v.labels))
			named := len(labels) == len(v.labels)
			for i, name := range v.labels {
				value, ok := labels[name]
				values[i], named = value, named && ok
			}
			if !named {
				return fmt.Errorf("%s has the labels %v, not %v", v.name, labels, v.labels)
			}
			if err := v.restore(metric, values); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *metrics) text() ([]byte, error) {
	families, err := m.registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var text bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			return nil, fmt.Errorf("write metrics as text: %w", err)
		}
	}
	return text.Bytes(), nil
}
