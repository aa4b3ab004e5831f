package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/internal/httpfault"
)

// Each kind of refusal comes back as what the hub made a status of.
func TestRefusalsKeepTheirKind(t *testing.T) {
	const detail = `{"detail":"no"}`
	for name, c := range map[string]struct {
		status int
		body   string
		want   fault.Kind
	}{
		"invalid":         {httpfault.Status(fault.Invalid), detail, fault.Invalid},
		"denied":          {httpfault.Status(fault.Denied), detail, fault.Denied},
		"unauthorized":    {http.StatusUnauthorized, detail, fault.Denied},
		"not found":       {httpfault.Status(fault.NotFound), detail, fault.NotFound},
		"conflict":        {httpfault.Status(fault.Conflict), detail, fault.Conflict},
		"another ETag":    {http.StatusPreconditionFailed, detail, fault.Conflict},
		"unavailable":     {httpfault.Status(fault.Unavailable), detail, fault.Unavailable},
		"internal":        {httpfault.Status(fault.Internal), detail, fault.Internal},
		"does not verify": {httpfault.Status(fault.Integrity), detail, fault.Integrity},
		"breaks the schema": {http.StatusUnprocessableEntity, `{"detail":"validation failed","errors":[{"message":"expected string","location":"body.name"}]}`,
			fault.Invalid},
		"no problem at all": {http.StatusTeapot, `<html>`, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			defer s.Close()
			_, err := client.New(client.Config{URL: s.URL, HTTP: s.Client()}).Groups(t.Context())
			if err == nil || fault.Of(err) != c.want {
				t.Errorf("%v is of kind %s, want %s", err, fault.Of(err), c.want)
			}
		})
	}
}
