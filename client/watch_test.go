package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
)

// hub answers every request with a body, and remembers what was asked.
func hub(t *testing.T, status int, body string) (*client.Client, *[]string) {
	t.Helper()
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.RequestURI()+" "+string(b)+" "+r.Header.Get("Authorization"))
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return client.New(client.Config{URL: s.URL, HTTP: s.Client(), Token: "hft_x"}), &asked
}

func TestWhatIsAsked(t *testing.T) {
	since := time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)
	for want, ask := range map[string]func(*client.Client) error{
		"GET /v1/groups/pumps ":                 func(c *client.Client) error { _, err := c.Group(t.Context(), "pumps"); return err },
		"GET /v1/devices/a:b/sessions?limit=7 ": func(c *client.Client) error { _, err := c.Sessions(t.Context(), "a:b", 7); return err },
		"GET /v1/alerts?after=x&device=a&group=g&limit=3&open=true ": func(c *client.Client) error {
			_, err := c.Alerts(t.Context(), operator.AlertQuery{Group: "g", Device: "a", Open: true, After: "x", Limit: 3})
			return err
		},
		"POST /v1/alerts/a%2Fb/acknowledge ": func(c *client.Client) error { _, err := c.Acknowledge(t.Context(), "a/b"); return err },
		"GET /v1/series?names=pass%2Cfail&since=2026-11-02T03%3A04%3A05Z&step=60 ": func(c *client.Client) error {
			_, err := c.Series(t.Context(), []string{"pass", "fail"}, since, time.Minute)
			return err
		},
		"GET /v1/ledger?device=a&from=9&kind=k&limit=5&newest=true ": func(c *client.Client) error {
			_, err := c.SearchLedger(t.Context(), operator.LedgerQuery{From: 9, Limit: 5, Newest: true, Device: "a", Kind: "k"})
			return err
		},
		"GET /v1/policies ": func(c *client.Client) error { _, err := c.Policies(t.Context()); return err },
		"GET /v1/measures ": func(c *client.Client) error { _, err := c.Measures(t.Context()); return err },
		`POST /v1/devices/revoke {"devices":["a"],"reason":"why"}`: func(c *client.Client) error {
			_, err := c.RevokeDevices(t.Context(), operator.RevokeDevices{Devices: []identity.Device{"a"}, Reason: "why"})
			return err
		},
	} {
		c, asked := hub(t, 200, "null")
		if err := ask(c); err != nil || len(*asked) != 1 || (*asked)[0] != want+" Bearer hft_x" {
			t.Errorf("%v; asked %q, want %q", err, *asked, want)
		}
	}
}

// Devices are read to the last.
func TestDevicesArePaged(t *testing.T) {
	const n = 2500
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("after"))
		page := []operator.Device{}
		for i := range n {
			if id := identity.Device(fmt.Sprintf("d%04d", i)); string(id) > r.URL.Query().Get("after") && len(page) < 1000 {
				page = append(page, operator.Device{ID: id})
			}
		}
		_ = json.NewEncoder(w).Encode(page)
	}))
	defer s.Close()
	ds, err := client.New(client.Config{URL: s.URL, HTTP: s.Client()}).Devices(t.Context(), "", "")
	if err != nil || len(ds) != n || ds[n-1].ID != "d2499" {
		t.Errorf("%d devices, %v", len(ds), err)
	}
	if d := cmp.Diff([]string{"", "d0999", "d1999"}, asked); d != "" {
		t.Error(d)
	}
}

// A caller can tell that a fresh proof is all that is missing.
func TestStepUp(t *testing.T) {
	c, _ := hub(t, 403, `{"type":"`+operator.StepUpProblem+`","status":403,"detail":"prove it"}`)
	if _, err := c.Groups(t.Context()); !errors.Is(err, operator.ErrStepUp) || fault.Of(err) != fault.Denied {
		t.Errorf("%v", err)
	}
	c, _ = hub(t, 403, `{"status":403,"detail":"no"}`)
	if _, err := c.Groups(t.Context()); errors.Is(err, operator.ErrStepUp) || fault.Of(err) != fault.Denied {
		t.Errorf("of another type: %v", err)
	}
}
