package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON writes a report, of a run or a check, as one indented document with a newline at its end. Characters like < stay
// as they are: the document goes to jq, not into a web page.
func JSON(out io.Writer, report any) error {
	var document bytes.Buffer
	encoder := json.NewEncoder(&document)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(report)
	if err == nil {
		_, err = out.Write(spelledOut(document.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	return nil
}

// spelledOut escapes what could act on a terminal: encoding/json leaves DEL, C1 controls and what
// changes the direction of text as they are.
func spelledOut(document []byte) []byte {
	out := make([]byte, 0, len(document))
	for len(document) > 0 {
		r, size := utf8.DecodeRune(document)
		if r > '~' && !unicode.IsPrint(r) {
			for _, unit := range utf16.AppendRune(nil, r) {
				out = fmt.Appendf(out, `\u%04x`, unit)
			}
		} else {
			out = append(out, document[:size]...)
		}
		document = document[size:]
	}
	return out
}
