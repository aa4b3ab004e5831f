package hub_test

import (
	"bytes"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/hub/issuer"
	"holdfast/hub/store"
	"holdfast/pki"
)

// TestRevokedOperatorIsRefusedOnAnOpenConnection: a connection is no longer
// trusted than its operator.
func TestRevokedOperatorIsRefusedOnAnOpenConnection(t *testing.T) {
	w := newWorld(t)
	cert := w.operatorCertificate()
	transport := &http.Transport{TLSClientConfig: w.tls(cert, "http/1.1")}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: patience}
	status := func() int {
		resp, err := c.Get("https://" + w.at.Operator + "/v1/hub")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b bytes.Buffer
		if _, err := b.ReadFrom(resp.Body); err != nil { // to the end: the connection is kept
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	if got := status(); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	s := must(store.Open(t.Context(), filepath.Join(w.dir, "holdfast.db")))(t)
	defer s.Close()
	must(s.Revoke(t.Context(), issuer.Selection{Serial: pki.SerialText(cert.Leaf)}, time.Now(), pki.ReasonUnspecified))(t)
	if got := status(); got != http.StatusForbidden {
		t.Errorf("revoked, yet status %d on the open connection", got)
	}
	w.logged(t, "request refused", "revoked")
}

// TestOtherSitesCannotUseAnOperatorsBrowser: what changes something is refused
// where a browser says that another site asks.
func TestOtherSitesCannotUseAnOperatorsBrowser(t *testing.T) {
	w := newWorld(t)
	transport := &http.Transport{TLSClientConfig: w.tls(w.operatorCertificate(), "http/1.1")}
	defer transport.CloseIdleConnections()
	req := must(http.NewRequest(http.MethodPost, "https://"+w.at.Operator+"/v1/devices/healthy-01/revoke", strings.NewReader(`{"reason":"x"}`)))(t)
	req.Header.Set("Origin", "https://elsewhere.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp := must((&http.Client{Transport: transport, Timeout: patience}).Do(req))(t)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", resp.StatusCode)
	}
	w.goesOn(t)
}
