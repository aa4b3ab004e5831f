package verifier_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/hub/verifier"
	"holdfast/internal/httpfault"
)

func post(h http.Handler, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w
}

func TestHTTP(t *testing.T) {
	h, b := forged(t)
	p := peer(pump, 1)
	handler := h.Handler(func(*http.Request) (verifier.Peer, error) { return p, nil })
	w := post(handler, "/attest/nonce", "")
	var n evidence.Nonce
	if err := json.Unmarshal(w.Body.Bytes(), &n); err != nil || w.Code != http.StatusOK || len(n.Nonce) != evidence.NonceSize {
		t.Fatal(w.Code, w.Body, err)
	}
	if want := h.now.Add(verifier.NonceLifetime); !n.Expires.Equal(want) {
		t.Errorf("expires %s, want %s", n.Expires, want)
	}
	text, err := json.Marshal(b.Attest(t, n.Nonce, pump, p.Exporter))
	if err != nil {
		t.Fatal(err)
	}
	w = post(handler, "/attest/evidence", string(text))
	var r evidence.Result
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusOK || !r.Verified || len(r.Rows) == 0 {
		t.Fatal(w.Code, w.Body, err)
	}
	if w = post(handler, "/attest/evidence", string(text)); w.Code != http.StatusConflict {
		t.Errorf("the same evidence again: %d", w.Code)
	}
}

func TestHTTPRefuses(t *testing.T) {
	h, _ := forged(t)
	known := func(*http.Request) (verifier.Peer, error) { return peer(pump, 1), nil }
	for name, c := range map[string]struct {
		authenticate func(*http.Request) (verifier.Peer, error)
		path, body   string
		status       int
		kind         fault.Kind
	}{
		"stranger": {func(*http.Request) (verifier.Peer, error) {
			return verifier.Peer{}, fault.New(fault.Denied, "no certificate")
		}, "/attest/nonce", "", http.StatusForbidden, fault.Denied},
		"without key": {func(*http.Request) (verifier.Peer, error) { return peer("valve-01", 1), nil },
			"/attest/nonce", "", http.StatusForbidden, fault.Denied},
		"not JSON":   {known, "/attest/evidence", "{", http.StatusBadRequest, fault.Invalid},
		"nothing":    {known, "/attest/evidence", "", http.StatusBadRequest, fault.Invalid},
		"no nonce":   {known, "/attest/evidence", "{}", http.StatusConflict, fault.Conflict},
		"too long":   {known, "/attest/evidence", strings.Repeat(" ", verifier.MaxBody+1), http.StatusBadRequest, fault.Invalid},
		"long nonce": {known, "/attest/nonce", strings.Repeat(" ", verifier.MaxBody+1), http.StatusBadRequest, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			w := post(h.Handler(c.authenticate), c.path, c.body)
			var body httpfault.Body
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != c.status || body.Error.Kind != c.kind {
				t.Errorf("%d %s %v", w.Code, w.Body, err)
			}
			if !strings.Contains(h.log.String(), body.Error.ID) {
				t.Error("the log does not have the id")
			}
		})
	}
	if status, _ := h.Exchange(t.Context(), peer(pump, 1), "strange", nil); status != http.StatusNotFound {
		t.Errorf("strange operation: %d", status)
	}
	if status, _ := h.Exchange(t.Context(), peer(pump, 1), verifier.OpEvidence, make([]byte, verifier.MaxBody+1)); status != http.StatusBadRequest {
		t.Errorf("long payload: %d", status)
	}
}
