package api_test

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"holdfast/hub/api"
	"holdfast/internal/apidoc"
)

// described is the API's description, as its own form and as somebody else's
// reader has it.
func described(t testing.TB) (*apidoc.Doc, *openapi3.T) {
	t.Helper()
	now, err := api.OpenAPI("test")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := apidoc.Parse(now)
	if err != nil {
		t.Fatal(err)
	}
	old, err := api.OpenAPI30("test")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := openapi3.NewLoader().LoadFromData(old)
	if err != nil {
		t.Fatal(err)
	}
	return doc, spec
}

func TestTheDescriptionIsValid(t *testing.T) {
	doc, spec := described(t)
	if err := spec.Validate(t.Context()); err != nil {
		t.Errorf("OpenAPI 3.0: %v", err)
	}
	n := 0
	for _, item := range spec.Paths.Map() {
		n += len(item.Operations())
	}
	if want := len(doc.Operations()); n != want {
		t.Errorf("the older form has %d operations, the newer %d", n, want)
	}
}

// asDescribed says what of an answer is not as the description says.
func asDescribed(spec *openapi3.T, o *apidoc.Operation, a answer) string {
	op := spec.Paths.Value(o.Path).GetOperation(o.Method)
	r := op.Responses.Value(strconv.Itoa(a.status))
	if r == nil {
		return "status " + strconv.Itoa(a.status) + " is not described"
	}
	if len(a.body) == 0 && len(r.Value.Content) == 0 {
		return ""
	}
	m := r.Value.Content[a.kind]
	if m == nil {
		return "media type " + a.kind + " is not described for " + strconv.Itoa(a.status)
	}
	if a.kind != "application/json" && a.kind != "application/problem+json" {
		return ""
	}
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		return "no JSON: " + err.Error()
	}
	if err := m.Schema.Value.VisitJSON(v, openapi3.MultiErrors()); err != nil {
		return err.Error()
	}
	return ""
}
