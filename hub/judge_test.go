package hub

import (
	"net/http/httptest"
	"testing"

	"holdfast/hub/console"
)

// TestRefreshingIsNoUse: a page that shows itself anew does not keep a login
// alive; nothing that changes anything passes for one.
func TestRefreshingIsNoUse(t *testing.T) {
	for _, tt := range []struct {
		method, header string
		want           bool
	}{{"GET", "1", true}, {"GET", "", false}, {"POST", "1", false}, {"PUT", "1", false}} {
		r := httptest.NewRequest(tt.method, "/rollouts/pump-x", nil)
		if tt.header != "" {
			r.Header.Set(console.Refresh, tt.header)
		}
		if got := refreshes(r); got != tt.want {
			t.Errorf("%s with %q: %v", tt.method, tt.header, got)
		}
	}
}
