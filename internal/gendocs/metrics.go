package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"

	"holdfast/hub"
	"holdfast/hub/metrics"
)

//go:embed metrics.md.tmpl
var metricsTemplate string

const metricsFile = "docs/METRICS.md"

// metricsDoc returns the text of docs/METRICS.md.
func metricsDoc() ([]byte, error) {
	t, err := template.New(metricsFile).Funcs(template.FuncMap{"labels": labels}).Parse(metricsTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse template of %s: %w", metricsFile, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, map[string]any{"Prefix": metrics.Prefix, "Families": hub.Metrics()}); err != nil {
		return nil, fmt.Errorf("write %s: %w", metricsFile, err)
	}
	return b.Bytes(), nil
}

func labels(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "`" + strings.Join(names, "`, `") + "`"
}
