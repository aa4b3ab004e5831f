package provision_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
)

func TestAddEnrollmentRefuses(t *testing.T) {
	w := newWorld(t)
	d := identity.Sum([]byte("certificate"))
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "Meter-1", Group: "meters", Certificates: []identity.Digest{d}})
	w.enroll(operator.Enrollment{Kind: operator.ForGroup, ID: "some", Group: "meters", MakerCA: "acme", IDs: []string{"meter-7*"}})
	one := operator.Enrollment{Kind: operator.Individual, ID: "x", Group: "meters"}
	many := operator.Enrollment{Kind: operator.ForGroup, ID: "x", Group: "spares", MakerCA: "acme", IDs: []string{"x-*"}}
	for name, tc := range map[string]struct {
		base   operator.Enrollment
		change func(*operator.Enrollment)
		want   fault.Kind
	}{
		"no kind":                        {one, func(e *operator.Enrollment) { e.Kind = "" }, fault.Invalid},
		"no id":                          {one, func(e *operator.Enrollment) { e.ID = "" }, fault.Invalid},
		"an id that is none":             {one, func(e *operator.Enrollment) { e.ID = "a/b" }, fault.Invalid},
		"taken, in other letters":        {one, func(e *operator.Enrollment) { e.ID = "METER-1" }, fault.Conflict},
		"no such group":                  {one, func(e *operator.Enrollment) { e.Group = "gone" }, fault.NotFound},
		"a CA that the group lacks":      {one, func(e *operator.Enrollment) { e.MakerCA = "other" }, fault.Invalid},
		"ids of one":                     {one, func(e *operator.Enrollment) { e.IDs = []string{"a"} }, fault.Invalid},
		"three certificates":             {one, func(e *operator.Enrollment) { e.Certificates = make([]identity.Digest, 3) }, fault.Invalid},
		"a certificate of zeros":         {one, func(e *operator.Enrollment) { e.Certificates = make([]identity.Digest, 1) }, fault.Invalid},
		"another's certificate":          {one, func(e *operator.Enrollment) { e.Certificates = []identity.Digest{d} }, fault.Conflict},
		"nothing could come":             {one, func(e *operator.Enrollment) { e.Group = "empty" }, fault.Invalid},
		"self-signed without the digest": {one, func(e *operator.Enrollment) { e.Group = "old" }, fault.Invalid},
		"re-provisioning":                {one, func(e *operator.Enrollment) { e.Reprovision = "never" }, fault.Invalid},
		"payload is no JSON":             {one, func(e *operator.Enrollment) { e.Payload = json.RawMessage("{") }, fault.Invalid},
		"payload is too long": {one, func(e *operator.Enrollment) {
			e.Payload = json.RawMessage(`"` + strings.Repeat("x", 4<<10) + `"`)
		}, fault.Invalid},
		"twin is no object":     {one, func(e *operator.Enrollment) { e.Twin = &operator.SetTwin{Tags: json.RawMessage("[]")} }, fault.Invalid},
		"twin is too large":     {one, func(e *operator.Enrollment) { e.Twin = &operator.SetTwin{Tags: large()} }, fault.Invalid},
		"many without a CA":     {many, func(e *operator.Enrollment) { e.MakerCA = "" }, fault.Invalid},
		"many without ids":      {many, func(e *operator.Enrollment) { e.IDs = nil }, fault.Invalid},
		"a pattern of all":      {many, func(e *operator.Enrollment) { e.IDs = []string{"*"} }, fault.Invalid},
		"a pattern in between":  {many, func(e *operator.Enrollment) { e.IDs = []string{"a*b"} }, fault.Invalid},
		"many with certificate": {many, func(e *operator.Enrollment) { e.Certificates = []identity.Digest{d} }, fault.Invalid},
		"overlap":               {many, func(e *operator.Enrollment) { e.IDs = []string{"meter-*"} }, fault.Conflict},
	} {
		e := tc.base
		tc.change(&e)
		if out, err := w.AddEnrollment(t.Context(), "admin", e); err == nil || fault.Of(err) != tc.want {
			t.Errorf("%s: %+v, %v, want %s", name, out, err, tc.want)
		}
	}
	if all, err := w.Enrollments(t.Context(), ""); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	w.must1(w.AddEnrollment(t.Context(), "admin", one))
	many.MakerCA, many.IDs = "other", []string{"meter-*"} // another CA's ids are others
	w.must1(w.AddEnrollment(t.Context(), "admin", many))
}

func large() json.RawMessage {
	b, _ := json.Marshal(map[string]string{"a": strings.Repeat("x", 4000), "b": strings.Repeat("x", 4000), "c": strings.Repeat("x", 4000)})
	return b
}

func TestEnrollmentsAreKept(t *testing.T) {
	w := newWorld(t)
	e := w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "Meter-1", Group: "meters", MakerCA: "acme",
		Twin: &operator.SetTwin{Desired: json.RawMessage(`{"a":1}`)}, Payload: json.RawMessage(`[1]`)})
	if e.Reprovision != operator.Keep || !e.Created.Equal(w.now) {
		t.Errorf("%+v", e)
	}
	w.restart()
	got, err := w.Enrollment(t.Context(), operator.Individual, "meter-1")
	if diff := cmp.Diff(e, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := w.Enrollment(t.Context(), operator.ForGroup, "meter-1"); fault.Of(err) != fault.NotFound {
		t.Errorf("of the other kind: %v", err)
	}
	if off, err := w.DisableEnrollment(t.Context(), "admin", operator.Individual, "meter-1", true); err != nil || !off.Disabled {
		t.Errorf("%+v, %v", off, err)
	}
	_, err = w.DisableEnrollment(t.Context(), "admin", operator.Individual, "nobody", true)
	if fault.Of(err) != fault.NotFound {
		t.Error(err)
	}
	w.must(w.RemoveEnrollment(t.Context(), "admin", operator.Individual, "METER-1"))
	if err := w.RemoveEnrollment(t.Context(), "admin", operator.Individual, "meter-1"); fault.Of(err) != fault.NotFound {
		t.Errorf("removed twice: %v", err)
	}
	if w.count("enrollment.set ") != 2 || w.count("enrollment.remove ") != 1 {
		t.Errorf("%q", w.ledger)
	}
	if _, err := w.Enrollments(t.Context(), "both"); fault.Of(err) != fault.Invalid {
		t.Error(err)
	}
}
