package main

import (
	"encoding/json"
	"fmt"
)

// report is what is needed of the janitor's own (-o json).
type report struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
	Restore struct {
		Bytes int64 `json:"bytes"`
	} `json:"restore"`
	Nodes []struct {
		Families []struct {
			Estimate struct {
				Bytes int64 `json:"bytes"`
				Low   int64 `json:"bytes_low"`
				High  int64 `json:"bytes_high"`
			} `json:"estimate"`
		} `json:"families"`
	} `json:"nodes"`
}

// readReport reads a report that must have come to one of the outcomes.
func readReport(text string, outcome string) (report, error) {
	var r report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fmt.Errorf("read the janitor's report: %w\n%s", err, text)
	}
	if r.Outcome != outcome || len(r.Nodes) != 1 {
		return r, fmt.Errorf("the janitor's outcome is %s (%s), not %s:\n%s", r.Outcome, r.Reason, outcome, text)
	}
	return r, nil
}
