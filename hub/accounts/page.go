package accounts

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
)

// pages are what somebody sees who comes back from a provider. The browser goes
// on by itself, as from a page of this hub: a redirect would be a part of the
// provider's, and the session's cookie, which is strict, would stay behind.
var pages = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{.Title}} - Holdfast</title>
{{if .Refresh}}<meta http-equiv="refresh" content="0; url={{.Next}}">{{end}}</head>
<body><main><h1>{{.Title}}</h1><p>{{.Text}}</p><p><a href="{{.Next}}">Go on</a></p></main></body></html>
`))

// page answers with a page that leads to a path of this hub: at once where all
// is well.
func page(w http.ResponseWriter, status int, title, text, next string) error {
	var b bytes.Buffer
	err := pages.Execute(&b, map[string]any{"Title": title, "Text": text, "Next": next, "Refresh": status == http.StatusOK})
	if err != nil {
		return fmt.Errorf("make a page: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
	return nil
}
