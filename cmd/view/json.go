package view

import (
	"encoding/json"
	"fmt"
	"io"

	"redis-janitor/janitor"
)

// JSON writes a report as one indented document with a newline at its end. Characters like < stay
// as they are: the document goes to jq, not into a web page.
func JSON(out io.Writer, r *janitor.Report) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(r); err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	return nil
}
