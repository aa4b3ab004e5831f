package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/hub/issuer"
	"holdfast/hub/store"
	"holdfast/identity"
	"holdfast/pki"
)

var issued = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

func issuerStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func certificate(serial string, class pki.Class, name string) issuer.Certificate {
	return issuer.Certificate{
		Serial: serial, Class: class, Name: name, Key: identity.Sum([]byte(serial)), DER: []byte(serial),
		NotBefore: issued.Add(-time.Minute), NotAfter: issued.Add(time.Hour), IssuedAt: issued,
	}
}

func TestAddCertificatesJudgesEachOfABatch(t *testing.T) {
	s := issuerStore(t)
	first, second := certificate("01", pki.Birth, "pump-01"), certificate("02", pki.Birth, "pump-02")
	again := certificate("03", pki.Birth, "pump-03")
	again.Key = first.Key
	added, err := s.AddCertificates(t.Context(), []issuer.Certificate{first, again, second})
	if err != nil {
		t.Fatal(err)
	}
	var seen *issuer.KeySeenError
	if len(added) != 3 || added[0].Err != nil || added[2].Err != nil || !errors.As(added[1].Err, &seen) {
		t.Fatalf("results %+v", added)
	}
	if want := (issuer.Key{Digest: first.Key, Owner: "pump-01", Kind: "birth"}); seen.Known != want {
		t.Errorf("seen before as %+v, want %+v", seen.Known, want)
	}
	for name, want := range map[string][]issuer.Certificate{"pump-01": {first}, "pump-02": {second}, "pump-03": nil} {
		got, err := s.Certificates(t.Context(), issuer.Selection{Name: name})
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

// A batch is one transaction: what cannot be written at all takes the others along.
func TestAddCertificatesWritesAllOrNothing(t *testing.T) {
	s := issuerStore(t)
	twin := certificate("01", pki.Operational, "pump-02")
	twin.Key = identity.Sum([]byte("another key")) // the same serial number under another key
	if _, err := s.AddCertificates(t.Context(), []issuer.Certificate{certificate("01", pki.Operational, "pump-01"), twin}); err == nil {
		t.Fatal("one serial number was given twice")
	}
	added, err := s.AddCertificates(t.Context(), []issuer.Certificate{certificate("01", pki.Operational, "pump-01")})
	if err != nil || added[0].Err != nil {
		t.Errorf("the failed batch left something: %+v, %v", added, err)
	}
}

func TestRevokeSelects(t *testing.T) {
	s := issuerStore(t)
	batch := []issuer.Certificate{
		certificate("01", pki.Birth, "pump-01"), certificate("02", pki.Operational, "pump-01"),
		certificate("03", pki.Operational, "pump-02"),
	}
	if _, err := s.AddCertificates(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		which issuer.Selection
		want  []string
	}{
		{issuer.Selection{}, nil}, // a mistake, not everything
		{issuer.Selection{Class: pki.Operational, Name: "pump-01"}, []string{"02"}},
		{issuer.Selection{Name: "pump-01"}, []string{"01"}},
		{issuer.Selection{Name: "pump-01"}, nil},
		{issuer.Selection{Serial: "03"}, []string{"03"}},
	} {
		got, err := s.Revoke(t.Context(), step.which, issued.Add(time.Minute), pki.ReasonRetired)
		if diff := cmp.Diff(step.want, got); err != nil || diff != "" {
			t.Errorf("%+v: %v (-want +got):\n%s", step.which, err, diff)
		}
	}
	got, err := s.Certificates(t.Context(), issuer.Selection{Serial: "03"})
	if err != nil || len(got) != 1 || !got[0].RevokedAt.Equal(issued.Add(time.Minute)) || got[0].Reason != pki.ReasonRetired {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNextCRL(t *testing.T) {
	s := issuerStore(t)
	if _, err := s.AddCertificates(t.Context(), []issuer.Certificate{
		certificate("01", pki.Birth, "pump-01"), certificate("02", pki.Operational, "pump-01"), certificate("03", pki.Operational, "pump-02"),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Revoke(t.Context(), issuer.Selection{Name: "pump-01"}, issued, pki.ReasonRetired); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		class  pki.Class
		since  time.Time
		number int64
		want   string
	}{
		{pki.Operational, issued, 1, "[02]"},
		{pki.Birth, issued, 1, "[01]"},
		{pki.Operational, issued.Add(2 * time.Hour), 2, "[]"}, // it has ended long ago
		{pki.Operational, issued, 3, "[02]"},
	} {
		number, certs, err := s.NextCRL(t.Context(), step.class, step.since)
		serials := []string{}
		for _, c := range certs {
			serials = append(serials, c.Serial)
		}
		if err != nil || number != step.number || fmt.Sprint(serials) != step.want {
			t.Errorf("%s: number %d, %v, %v; want %d, %s", step.class, number, serials, err, step.number, step.want)
		}
	}
}

func TestNoteKey(t *testing.T) {
	s := issuerStore(t)
	key := issuer.Key{Digest: identity.Sum([]byte("k")), Owner: "sensor-01", Kind: "maker"}
	for range 2 {
		if err := s.NoteKey(t.Context(), key, issued); err != nil {
			t.Fatal(err)
		}
	}
	key.Owner = "sensor-02"
	var seen *issuer.KeySeenError
	if err := s.NoteKey(t.Context(), key, issued); !errors.As(err, &seen) || seen.Known.Owner != "sensor-01" {
		t.Errorf("another's key: %v", err)
	}
}
