package enroll_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"holdfast/birth"
	"holdfast/birth/birthtest"
	"holdfast/fault"
	"holdfast/hub/enroll"
	"holdfast/identity"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// closed is a registry that has nobody, under one root.
type closed struct{ root birth.Root }

func (c closed) EndorsementRoots(context.Context) ([]birth.Root, error) {
	return []birth.Root{c.root}, nil
}
func (closed) Claim(context.Context, birth.Showing) (birth.Entry, error) {
	return birth.Entry{}, fault.New(fault.Denied, "nobody")
}
func (closed) Bind(context.Context, identity.Device, birth.Showing) error { return nil }
func (closed) Born(context.Context, birth.Born) error                     { return nil }
func (closed) RefuseBirth(context.Context, birth.Showing, string) error   { return nil }
func (closed) IssueBirth(context.Context, identity.Device, identity.Group, []byte) ([]*x509.Certificate, error) {
	return nil, fault.New(fault.Denied, "nobody")
}
func (closed) BirthOf(context.Context, identity.Device, identity.Digest) ([]*x509.Certificate, error) {
	return nil, nil
}
func (closed) NoteKey(context.Context, identity.Digest, identity.Device, string) error { return nil }

// FuzzBegin sends any body: the answer is a refusal, and nothing falls over.
func FuzzBegin(f *testing.F) {
	m := birthtest.NewMaker(f, time.Now())
	good, err := json.Marshal(m.New().Show())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"csr":"AAAA","tpm":{"ek_public":"AAAA","ek_chain":["AAAA"],"ak_public":"","birth_public":"","certify":{"attest":"","signature":""}}}`))
	c := closed{m.Register(birth.Software)}
	e, err := enroll.New(enroll.Config{Registry: c, Issuer: c, Log: discard()})
	if err != nil {
		f.Fatal(err)
	}
	h := e.Handler()
	f.Fuzz(func(t *testing.T, body []byte) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/enroll/begin", bytes.NewReader(body)))
		switch rec.Code {
		case http.StatusBadRequest, http.StatusForbidden, http.StatusUnprocessableEntity:
		default:
			t.Errorf("status %d: %s", rec.Code, rec.Body)
		}
	})
}
