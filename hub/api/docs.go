package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the page
	"encoding/base64"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed docs.html
var docsPage string

// docsPolicy is the page's Content-Security-Policy: its own style, which it
// names by its digest, and nothing else.
func docsPolicy() string {
	_, style, _ := strings.Cut(docsPage, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// part is the operations of one part of the API, as the page shows them.
type part struct {
	Name       string
	Operations []shown
}

// shown is an operation as the page shows it.
type shown struct {
	*huma.Operation
	BodyName  string
	Example   string
	Responses []response
}

// response is what an operation may answer.
type response struct {
	Status, Description, Schema string
}

// describe serves the API's description, for programs and for people. It is
// made when it is first asked for.
func (a *api) describe(mux *http.ServeMux, doc *huma.OpenAPI) {
	serve := func(path, kind string, make func(*huma.OpenAPI) ([]byte, error)) {
		body := sync.OnceValues(func() ([]byte, error) { return make(doc) })
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			b, err := body()
			if err != nil {
				a.problem(r.Context(), w, err)
				return
			}
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Security-Policy", docsPolicy())
			_, _ = w.Write(b) // who asked may be gone
		})
	}
	serve("/openapi.json", "application/openapi+json", func(d *huma.OpenAPI) ([]byte, error) { return json.Marshal(d) })
	serve("/openapi-3.0.json", "application/openapi+json", downgrade)
	serve("/docs", "text/html; charset=utf-8", docs)
}

// downgrade puts the description into the older form, 3.0.3, which knows no
// mutual TLS, and in which a schema has no members but those of the form.
func downgrade(doc *huma.OpenAPI) ([]byte, error) {
	old, parts := *doc, *doc.Components
	parts.SecuritySchemes = maps.Clone(parts.SecuritySchemes)
	delete(parts.SecuritySchemes, byCertificate)
	old.Components = &parts
	old.Security = slices.DeleteFunc(slices.Clone(doc.Security), func(way map[string][]string) bool {
		_, ok := way[byCertificate]
		return ok
	})
	b, err := old.Downgrade()
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	without(v, "patternDescription", "contentMediaType")
	return json.Marshal(v)
}

// without takes members out of all objects in v.
func without(v any, names ...string) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range names {
			delete(v, name)
		}
		for _, e := range v {
			without(e, names...)
		}
	case []any:
		for _, e := range v {
			without(e, names...)
		}
	}
}

// docs makes the page.
func docs(doc *huma.OpenAPI) ([]byte, error) {
	t, err := template.New("docs").Funcs(template.FuncMap{"name": schemaName, "example": example}).Parse(docsPage)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = t.Execute(&page, map[string]any{"Doc": doc, "Parts": parts(doc), "Schemas": doc.Components.Schemas.Map()})
	return page.Bytes(), err
}

// operationsOf lists what a path can do.
func operationsOf(p *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{p.Get, p.Post, p.Put, p.Patch, p.Delete}
	return slices.DeleteFunc(all, func(o *huma.Operation) bool { return o == nil })
}

func parts(doc *huma.OpenAPI) []part {
	byName := map[string]*part{}
	var names []string
	for _, item := range doc.Paths {
		for _, o := range operationsOf(item) {
			name := o.Tags[0]
			if byName[name] == nil {
				byName[name] = &part{Name: name}
				names = append(names, name)
			}
			byName[name].Operations = append(byName[name].Operations, show(o))
		}
	}
	slices.Sort(names)
	out := make([]part, 0, len(names))
	for _, name := range names {
		p := byName[name]
		slices.SortFunc(p.Operations, func(a, b shown) int { return strings.Compare(a.Path+a.Method, b.Path+b.Method) })
		out = append(out, *p)
	}
	return out
}

func show(o *huma.Operation) shown {
	s := shown{Operation: o}
	if o.RequestBody != nil {
		for _, m := range o.RequestBody.Content {
			s.BodyName = schemaName(m.Schema)
			if text, ok := m.Example.(json.RawMessage); ok {
				s.Example = string(text)
			}
		}
	}
	for status, r := range o.Responses {
		x := response{Status: status, Description: r.Description}
		for _, m := range r.Content {
			x.Schema = schemaName(m.Schema)
		}
		s.Responses = append(s.Responses, x)
	}
	slices.SortFunc(s.Responses, func(a, b response) int { return strings.Compare(a.Status, b.Status) })
	return s
}

// schemaName says in few words what a schema is.
func schemaName(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return s.Ref[strings.LastIndex(s.Ref, "/")+1:]
	case s.Type == huma.TypeArray:
		return "list of " + schemaName(s.Items)
	case s.Format != "":
		return s.Type + " (" + s.Format + ")"
	}
	return s.Type
}

// example is a schema's example as JSON, or nothing.
func example(s *huma.Schema) string {
	if s == nil || len(s.Examples) == 0 {
		return ""
	}
	b, err := json.Marshal(s.Examples[0])
	if err != nil {
		return ""
	}
	return string(b)
}
