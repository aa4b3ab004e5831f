// Command gendocs writes the documents that are made from the code:
// docs/MEASURES.md from the catalogue in package measure and the rules of the audit, docs/METRICS.md from
// the hub's table of metrics. "make gen" runs it from the root of the
// repository; its test fails when a document is stale.
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"strings"
	"text/template"

	"holdfast/measure"
)

//go:embed measures.md.tmpl
var measuresTemplate string

const measuresFile = "docs/MEASURES.md"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// documents says which document is made by what.
func documents() map[string]func() ([]byte, error) {
	return map[string]func() ([]byte, error){measuresFile: measuresDoc, metricsFile: metricsDoc}
}

func run() error {
	for file, text := range documents() {
		doc, err := text()
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, doc, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// measuresDoc returns the text of docs/MEASURES.md.
func measuresDoc() ([]byte, error) {
	t, err := template.New(measuresFile).Funcs(template.FuncMap{
		"anchor": anchor,
		"join":   func(s []string) string { return strings.Join(s, ", ") },
		"name":   itemName,
		"count":  count,
	}).Parse(measuresTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse template of %s: %w", measuresFile, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, map[string]any{
		"Measures": measure.Catalogue(),
		"Take":     bullets(measure.Take),
		"Avoid":    bullets(measure.Avoid),
		"By":       map[string]string{"Rule": byRule, "Evidence": byEvidence, "Both": byBoth, "Neither": byNeither},
	}); err != nil {
		return nil, fmt.Errorf("write %s: %w", measuresFile, err)
	}
	return b.Bytes(), nil
}

// anchor returns the name of the heading of a measure: Markdown renderers drop
// the dot.
func anchor(id measure.ID) string { return strings.ReplaceAll(string(id), ".", "") }

// itemName returns the id of a bullet, marked when it stands under another.
func itemName(it measure.Item) string {
	if it.Parent != "" {
		return "&nbsp;&nbsp;`" + it.ID + "`"
	}
	return "`" + it.ID + "`"
}

func items(list measure.List) []measure.Item {
	var out []measure.Item
	for _, it := range measure.Checklist() {
		if it.List == list {
			out = append(out, it)
		}
	}
	return out
}
