package apidoc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Request is a request that was made up.
type Request struct {
	Method, URL string
	Header      http.Header
	Body        []byte // nil: none
	What        string // what is wrong with it, for whoever reads of it
}

// Maker makes requests. The same seed makes the same ones.
type Maker struct {
	Doc  *Doc
	Rand *rand.Rand
	// Value may give the value of a parameter or member, by its name and schema;
	// without one it is made up.
	Value func(name string, s *Schema) (v any, ok bool)
	// All has every member and parameter be there, and none at a bound.
	All bool
}

// values are what a request says, before it is put into its form.
type values struct {
	path   map[string]string
	query  url.Values
	header http.Header
	body   any // nil: none
}

// Valid makes a request that is as described.
func (m *Maker) Valid(o *Operation) Request { return m.request(o, m.values(o), "valid") }

func (m *Maker) values(o *Operation) values {
	v := values{path: map[string]string{}, query: url.Values{}, header: http.Header{}}
	for _, p := range o.Params {
		if !p.Required && !m.All && m.Rand.IntN(2) == 0 {
			continue
		}
		text := asText(m.value(p.Name, p.Schema, 0))
		switch p.In {
		case "path":
			v.path[p.Name] = text
		case "query":
			v.query.Set(p.Name, text)
		case "header":
			if given, ok := m.given(p.Name, p.Schema); ok {
				v.header.Set(p.Name, asText(given)) // no other is sure to be right
			}
		}
	}
	switch s := m.Doc.BodySchema(o); {
	case s == nil:
	case !m.All && o.Example() != nil && m.Rand.IntN(3) == 0:
		v.body = o.Example()
		if b, ok := v.body.(map[string]any); ok {
			v.body = maps.Clone(b) // Broken changes it
		}
	default:
		v.body = m.value("", s, 0)
	}
	return v
}

func (m *Maker) request(o *Operation, v values, what string) Request {
	path := o.Path
	for name, text := range v.path {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(text))
	}
	if len(v.query) > 0 {
		path += "?" + v.query.Encode()
	}
	r := Request{Method: o.Method, URL: path, Header: v.header, What: what}
	if v.body != nil {
		r.Body, _ = json.Marshal(v.body) // made of what marshals
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// asText is a value as a parameter has it.
func asText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, asText(e))
		}
		return strings.Join(parts, ",")
	}
	b, _ := json.Marshal(v) // made of what marshals
	return string(b)
}

func (m *Maker) given(name string, s *Schema) (any, bool) {
	if m.Value == nil {
		return nil, false
	}
	return m.Value(name, s)
}

// maxDepth bounds how deep values are made.
const maxDepth = 6

// value makes a value of a form.
func (m *Maker) value(name string, s *Schema, depth int) any {
	s = m.Doc.Resolve(s)
	if v, ok := m.given(name, s); ok {
		return v
	}
	if len(s.Enum) > 0 {
		return s.Enum[m.Rand.IntN(len(s.Enum))]
	}
	switch s.is() {
	case "object":
		return m.object(s, depth)
	case "array":
		list := []any{}
		for range m.length(s.MaxItems) {
			list = append(list, m.value(name, s.Items, depth+1))
		}
		return list
	case "string":
		return m.text(s)
	case "boolean":
		return m.Rand.IntN(2) == 0
	case "integer", "number":
		return m.number(s)
	}
	return []any{nil, true, "x", map[string]any{}, map[string]any{"a": 1}}[m.Rand.IntN(5)]
}

func (m *Maker) length(most *int) int {
	n := 1
	if !m.All {
		n = m.Rand.IntN(4)
	}
	if most != nil {
		n = min(n, *most)
	}
	return n
}

func (m *Maker) object(s *Schema, depth int) any {
	o := map[string]any{}
	for _, name := range sorted(s.Properties) { // in one order: the same seed makes the same
		p := s.Properties[name]
		must := false
		for _, r := range s.Required {
			must = must || r == name
		}
		if r := m.Doc.Resolve(p); r.ReadOnly && !must || !must && depth > maxDepth || name == "$schema" {
			continue
		}
		if must || m.All || m.Rand.IntN(2) == 0 {
			o[name] = m.value(name, p, depth+1)
		}
	}
	if len(s.Properties) == 0 && m.Rand.IntN(2) == 0 {
		o["key"] = "value"
	}
	return o
}

func (m *Maker) number(s *Schema) any {
	low, high := 0.0, 1000.0
	if s.Minimum != nil {
		low = *s.Minimum
		high = max(high, low)
	}
	if s.Maximum != nil {
		high = *s.Maximum
	}
	if m.All {
		return int64(low)
	}
	switch m.Rand.IntN(3) {
	case 0:
		return int64(low)
	case 1:
		return int64(high)
	}
	return int64(low) + m.Rand.Int64N(int64(high-low)+1)
}

// letters are in every set of characters that a name may have.
const letters = "abcdefghijklmnopqrstuvwxyz"

func (m *Maker) text(s *Schema) any {
	switch {
	case s.Format == "date-time":
		return time.Unix(1700000000+m.Rand.Int64N(1e8), 0).UTC().Format(time.RFC3339)
	case s.Encoding == "base64":
		return base64.StdEncoding.EncodeToString([]byte(letters[:m.Rand.IntN(len(letters))]))
	}
	low, high := 0, 12
	if s.MinLength != nil {
		low = *s.MinLength
		high = max(high, low)
	}
	if s.MaxLength != nil {
		high = *s.MaxLength
	}
	n := min(low+m.Rand.IntN(12), high)
	if !m.All && m.Rand.IntN(8) == 0 {
		n = high
	}
	if low == 0 && s.Pattern != "" {
		n = max(n, 1)
	}
	b := make([]byte, min(n, 1<<16))
	for i := range b {
		b[i] = letters[m.Rand.IntN(len(letters))]
	}
	return string(b)
}

// hostile are texts that mean something to somebody.
var hostile = []string{"", " ", "../../etc/passwd", "%2e%2e%2f", "<script>alert(1)</script>", "'; DROP TABLE ledger; --", "a\r\nSet-Cookie: x=1", "\x00", "\u202e", "💥",
	"{{.}}", "$(id)", "*", "#", "+", "$hub/posture", "null", "true", "-1", "1e309", "99999999999999999999", "\"", "\\", "a\tb", strings.Repeat("x", 5000)}

// Broken makes a request of which something is not as described, or hostile.
// The hub may refuse it or, where the description leaves it open, do it.
func (m *Maker) Broken(o *Operation) Request {
	v := m.values(o)
	odd := hostile[m.Rand.IntN(len(hostile))]
	switch m.Rand.IntN(8) {
	case 0, 1:
		if name, ok := pick(m, v.path); ok {
			v.path[name] = odd
			if odd == "" {
				v.path[name] = "%"
			}
			return m.request(o, v, fmt.Sprintf("path %s = %.40q", name, odd))
		}
	case 2:
		if len(o.Params) > 0 {
			p := o.Params[m.Rand.IntN(len(o.Params))]
			if p.In == "query" {
				v.query.Set(p.Name, odd)
				return m.request(o, v, fmt.Sprintf("query %s = %.40q", p.Name, odd))
			}
			if p.In == "header" && !strings.ContainsAny(odd, "\r\n\x00") {
				v.header.Set(p.Name, odd)
				return m.request(o, v, fmt.Sprintf("header %s = %.40q", p.Name, odd))
			}
		}
		v.query.Set("unknown", "1")
		return m.request(o, v, "unknown query parameter")
	case 3:
		if v.body != nil {
			r := m.request(o, v, "body cut")
			r.Body = r.Body[:m.Rand.IntN(len(r.Body)+1)]
			return r
		}
	case 4:
		if v.body != nil {
			r := m.request(o, v, "body of another type")
			r.Header.Set("Content-Type", []string{"text/plain", "application/xml", "multipart/form-data", "application/json; charset=x", ""}[m.Rand.IntN(5)])
			return r
		}
	case 5:
		if v.body != nil {
			r := m.request(o, v, "body is something else")
			r.Body = []byte([]string{"null", "[]", "7", `"x"`, "{}", "{}{}", strings.Repeat("[", 20000), `{"a":` + strings.Repeat("1", 4000) + "}"}[m.Rand.IntN(8)])
			return r
		}
	}
	if b, ok := v.body.(map[string]any); ok && len(b) > 0 {
		name, _ := pick(m, b)
		switch m.Rand.IntN(4) {
		case 0:
			delete(b, name)
			return m.request(o, v, "without "+name)
		case 1:
			b["unknown"] = odd
			return m.request(o, v, "unknown member")
		case 2:
			b[name] = []any{nil, true, 7, -1, 1e18, 0.5, []any{}, []any{odd}, map[string]any{odd: odd}}[m.Rand.IntN(9)]
			return m.request(o, v, fmt.Sprintf("%s of another type: %v", name, b[name]))
		}
		b[name] = odd
		return m.request(o, v, fmt.Sprintf("%s = %.40q", name, odd))
	}
	v.query.Set("unknown", odd)
	return m.request(o, v, "unknown query parameter")
}

// pick returns one of the keys.
func pick[T any](m *Maker, of map[string]T) (string, bool) {
	keys := sorted(of)
	if len(keys) == 0 {
		return "", false
	}
	return keys[m.Rand.IntN(len(keys))], true
}

func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
