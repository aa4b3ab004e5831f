package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestRefusalsAreBounded: what a hostile peer makes the ledger keep.
func TestRefusalsAreBounded(t *testing.T) {
	r := newRefusals(nil, nil, nil)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	records := func(host string, n int, at time.Time) (recorded, left int) {
		for i := range n {
			first, l := r.first(refusal{kind: "session.refused", reason: fmt.Sprint(i), host: host}, at)
			if first {
				recorded++
			}
			left += l
		}
		return recorded, left
	}
	if got, _ := records("192.0.2.1", 1000, now); got != maxOfHost {
		t.Errorf("one host made %d records", got)
	}
	if got, _ := records("192.0.2.1", 10, now.Add(time.Minute)); got != 0 {
		t.Errorf("the same again made %d records", got)
	}
	if got, _ := records("192.0.2.2", 1, now); got != 1 {
		t.Error("one host keeps another out of the ledger")
	}
	total := maxOfHost + 1
	for i := range 100 {
		got, _ := records(fmt.Sprintf("198.51.100.%d", i), 100, now)
		total += got
	}
	if total != maxRefusals {
		t.Errorf("all together made %d records", total)
	}
	got, left := records("192.0.2.1", 1, now.Add(refusalEvery))
	if want := 1000 - maxOfHost + 100*100 - (maxRefusals - maxOfHost - 1); got != 1 || left != want {
		t.Errorf("later %d records, and %d said to be left out, want %d", got, left, want)
	}
}

// What TLS policy chooses for a client stays, and is watched.
func TestWatchKeepsTheChoiceForAClient(t *testing.T) {
	chosen := &tls.Config{MaxVersion: tls.VersionTLS12}
	cfg := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		switch hello.ServerName {
		case "old":
			return chosen, nil
		case "bad":
			return nil, errors.New("refused")
		}
		return nil, nil
	}}
	r := newRefusals(nil, nil, nil)
	watching := r.watch(cfg, "test")
	got, err := watching.GetConfigForClient(&tls.ClientHelloInfo{ServerName: "old"})
	if err != nil || got.MaxVersion != tls.VersionTLS12 || got.VerifyConnection == nil || chosen.VerifyConnection != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := watching.GetConfigForClient(&tls.ClientHelloInfo{ServerName: "new"}); err != nil || got.MaxVersion != 0 || got.VerifyConnection == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := watching.GetConfigForClient(&tls.ClientHelloInfo{ServerName: "bad"}); err == nil {
		t.Error("not refused")
	}
}
