package httpfault_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/fault"
	"holdfast/internal/httpfault"
)

func TestWriteTellsThePeerOnlyThePublicText(t *testing.T) {
	var log strings.Builder
	w := httptest.NewRecorder()
	err := fault.Hide(fault.Integrity, "evidence does not verify", errors.New("quote: signature"))
	httpfault.Write(w, slog.New(slog.NewTextHandler(&log, nil)), err, "device", "pump-01")
	if w.Code != 422 {
		t.Errorf("status %d, want 422", w.Code)
	}
	var b httpfault.Body
	if err := json.Unmarshal(w.Body.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	if b.Error.Kind != fault.Integrity || b.Error.Message != "evidence does not verify" {
		t.Errorf("body %+v", b)
	}
	if !strings.Contains(log.String(), "quote: signature") || !strings.Contains(log.String(), b.Error.ID) {
		t.Errorf("the log has not the cause under the id: %s", &log)
	}
	if strings.Contains(w.Body.String(), "signature") {
		t.Error("the peer learned the cause")
	}
}

func TestStatusOfEachKind(t *testing.T) {
	want := map[fault.Kind]int{fault.Invalid: 400, fault.Denied: 403, fault.NotFound: 404, fault.Conflict: 409,
		fault.Integrity: 422, fault.Pending: 202, fault.Unavailable: 503, fault.Internal: 500, "other": 500}
	for k, status := range want {
		if got := httpfault.Status(k); got != status {
			t.Errorf("%s: status %d, want %d", k, got, status)
		}
	}
}
