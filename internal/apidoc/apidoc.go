// Package apidoc makes requests from an API's own OpenAPI description (3.1):
// valid ones, some of them at the bounds of what is allowed, and broken ones.
// It is for tests, which find with it what nobody thought of when an operation
// was added.
package apidoc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Doc is an API's description.
type Doc struct {
	Paths      map[string]map[string]*Operation `json:"paths"`
	Components struct {
		Schemas map[string]*Schema `json:"schemas"`
	} `json:"components"`
}

// Operation is one thing that the API does.
type Operation struct {
	ID     string   `json:"operationId"`
	Params []*Param `json:"parameters"`
	Body   *struct {
		Required bool               `json:"required"`
		Content  map[string]content `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Content map[string]content `json:"content"`
	} `json:"responses"`

	Method, Path string `json:"-"`
}

type content struct {
	Schema  *Schema `json:"schema"`
	Example any     `json:"example"`
}

// Param is a parameter of an operation.
type Param struct {
	Name     string  `json:"name"`
	In       string  `json:"in"`
	Required bool    `json:"required"`
	Schema   *Schema `json:"schema"`
}

// Schema says what a value looks like (JSON Schema 2020-12, as far as it is used here).
type Schema struct {
	Ref        string             `json:"$ref"`
	Type       types              `json:"type"`
	Format     string             `json:"format"`
	Encoding   string             `json:"contentEncoding"`
	Pattern    string             `json:"pattern"`
	Enum       []any              `json:"enum"`
	Examples   []any              `json:"examples"`
	ReadOnly   bool               `json:"readOnly"`
	MinLength  *int               `json:"minLength"`
	MaxLength  *int               `json:"maxLength"`
	Minimum    *float64           `json:"minimum"`
	Maximum    *float64           `json:"maximum"`
	MaxItems   *int               `json:"maxItems"`
	Items      *Schema            `json:"items"`
	Properties map[string]*Schema `json:"properties"`
	Required   []string           `json:"required"`
	Additional json.RawMessage    `json:"additionalProperties"`
}

// types are the types that a value may have; a single one is not in a list.
type types []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *types) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		*t = types{""}
		return json.Unmarshal(b, &(*t)[0])
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// is returns the one type that is not null.
func (s *Schema) is() string {
	for _, t := range s.Type {
		if t != "null" {
			return t
		}
	}
	return ""
}

// Parse reads a description.
func Parse(b []byte) (*Doc, error) {
	var d Doc
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("read OpenAPI: %w", err)
	}
	for path, item := range d.Paths {
		for method, o := range item {
			o.Method, o.Path = strings.ToUpper(method), path
		}
	}
	return &d, nil
}

// Operations are all that the API does, by path and method.
func (d *Doc) Operations() []*Operation {
	var all []*Operation
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			all = append(all, d.Paths[path][method])
		}
	}
	return all
}

// Resolve follows a reference.
func (d *Doc) Resolve(s *Schema) *Schema {
	for s != nil && s.Ref != "" {
		s = d.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
	}
	return s
}

// BodySchema is the form of an operation's body; nil: it takes none.
func (d *Doc) BodySchema(o *Operation) *Schema {
	if o.Body == nil {
		return nil
	}
	return d.Resolve(o.Body.Content["application/json"].Schema)
}

// Example is the body that the description gives for an operation; nil: none.
func (o *Operation) Example() any {
	if o.Body == nil {
		return nil
	}
	return o.Body.Content["application/json"].Example
}
