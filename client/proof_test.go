package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"holdfast/client"
	"holdfast/operator"
)

// TestAFreshProofIsANewConnection: a client that lives for long proves its key
// again where an act takes that. A token proves nothing, and is not tried twice.
func TestAFreshProofIsANewConnection(t *testing.T) {
	for _, tt := range []struct {
		token string
		asked int
	}{{"", 2}, {"hft_x", 1}} {
		var from []string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				io.WriteString(w, `[]`)
				return
			}
			b, _ := io.ReadAll(r.Body)
			if from = append(from, r.RemoteAddr); len(from) == 1 || string(b) == "" {
				w.WriteHeader(http.StatusForbidden)
				io.WriteString(w, `{"type":"`+operator.StepUpProblem+`","status":403,"detail":"prove it"}`)
				return
			}
			io.WriteString(w, `{}`)
		}))
		defer s.Close()
		c := client.New(client.Config{URL: s.URL, HTTP: s.Client(), Token: tt.token})
		if _, err := c.Groups(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := c.SetGroup(t.Context(), "pumps", operator.SetGroup{})
		if (err == nil) != (tt.token == "") || len(from) != tt.asked {
			t.Errorf("token %q: asked %d times, %v", tt.token, len(from), err)
		}
		if len(from) == 2 && from[0] == from[1] {
			t.Error("the proof was asked for on the same connection")
		}
	}
}
