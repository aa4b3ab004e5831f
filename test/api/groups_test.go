package api_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/apidoc"
	"holdfast/operator"
)

// token makes an API token, and a client that has it.
func (w *world) token(t *testing.T, role operator.Role, groups ...identity.Group) (operator.Token, *client.Client) {
	t.Helper()
	token, err := w.api.AddToken(t.Context(), operator.AddToken{Name: "test", Role: role, Groups: groups, TTL: 600})
	if err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(w.dir, "operator", "profile.json")
	if err := client.Redirect(profile, "https://"+w.at.Operator); err != nil {
		t.Fatal(err)
	}
	c, err := client.OpenWithToken(profile, token.Secret)
	if err != nil {
		t.Fatal(err)
	}
	return token, c
}

// TestOneGroupSeesNothingOfAnother asks a whole hub, with its real services, for
// everything that can be read: for one group alone, after much has happened in
// another. Whatever names the other one is as if it were not there.
func TestOneGroupSeesNothingOfAnother(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, act := range []func() error{
		func() error { _, err := w.api.Act(ctx, "lamp-01", "quarantine", "odd"); return err },
		func() error {
			_, err := w.api.AddEnrollment(ctx, operator.Enrollment{Kind: operator.Individual, ID: "lamp-10", Group: "lab", Certificates: []identity.Digest{{1}}})
			return err
		},
		func() error {
			_, err := w.api.AddDevice(ctx, operator.AddDevice{ID: "pump-01", Group: "pumps", Token: true})
			return err
		},
		func() error {
			_, err := w.api.Act(ctx, "pump-01", "quarantine", "odd")
			return err
		},
	} {
		if err := act(); err != nil {
			t.Fatal(err)
		}
	}
	token, c := w.token(t, operator.RoleAdministrator, "pumps")
	header := http.Header{"Authorization": {"Bearer " + token.Secret}}
	doc, _ := described(t)
	named, read := 0, 0
	for _, o := range doc.Operations() {
		for _, tt := range []struct{ device, group string }{{"pump-01", "pumps"}, {"lamp-01", "pumps"}, {"pump-01", "lab"}} {
			theirs := tt.device == "lamp-01" || tt.group == "lab"
			if !theirs && o.Method != http.MethodGet || o.ID == "revoke-devices" {
				continue // what is read of its own, and all that names another's
			}
			r := naming(doc, o, tt.device, tt.group)
			r.Header = header
			if len(r.Body) > 0 {
				r.Header = r.Header.Clone()
				r.Header.Set("Content-Type", "application/json")
			}
			names := strings.Contains(r.URL+string(r.Body), "lamp-01") || strings.Contains(r.URL+string(r.Body), "lab\"") || strings.HasSuffix(r.URL, "/lab") || strings.Contains(r.URL, "=lab")
			if theirs && !names {
				continue
			}
			a := w.ask(t, r)
			if theirs && a.status != http.StatusNotFound && a.status != http.StatusForbidden {
				t.Errorf("%s %s %s: %d %.300s", r.Method, r.URL, r.Body, a.status, a.body)
			}
			if theirs {
				named++
			} else if strings.Contains(string(a.body), "lamp-") || strings.Contains(string(a.body), `"lab"`) {
				t.Errorf("%s %s tells of another group: %.2000s", r.Method, r.URL, a.body)
			} else if a.status == http.StatusOK {
				read++
			}
		}
	}
	t.Logf("%d requests named another's, %d read their own", named, read)
	if named < 20 || read < 20 {
		t.Error("too few to say anything")
	}
	if ds, err := c.Devices(ctx, "", ""); err != nil || len(ds) != 1 || ds[0].ID != "pump-01" {
		t.Errorf("%+v, %v", ds, err)
	}
	if rs, err := c.Ledger(ctx, 1, 1000); err != nil || len(rs) == 0 {
		t.Errorf("%+v, %v", rs, err)
	}
	if d, err := w.api.Device(ctx, "lamp-01"); err != nil || d.Group != "lab" {
		t.Errorf("something was done to another's device: %+v, %v", d, err)
	}
}

// naming makes a request that names a device and a group wherever it can.
func naming(doc *apidoc.Doc, o *apidoc.Operation, device, group string) apidoc.Request {
	m := &apidoc.Maker{Doc: doc, Rand: rand.New(rand.NewPCG(1, 1)), All: true, Value: func(name string, s *apidoc.Schema) (any, bool) {
		switch {
		case s.Items != nil || len(s.Enum) > 0:
			return nil, false
		case strings.HasPrefix(s.Pattern, "^[A-Za-z0-9]"):
			return device, true
		case name == "product":
			return "pump", true
		case strings.HasPrefix(s.Pattern, "^[0-9]{1,3}"):
			return "1.4.0", true
		case strings.HasPrefix(s.Pattern, "^[a-z]"):
			return group, true
		case strings.HasPrefix(s.Pattern, "^[0-9a-fA-F]{64}"):
			return strings.Repeat("5a", 32), true
		case name == "since":
			return time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), true
		case name == "limit":
			return 500, true
		case name == "from":
			return 1, true
		case name == "step":
			return 60, true
		case name == "after" || name == "search":
			return "", true
		case name == "follow" || name == "open" || name == "newest":
			return false, true
		}
		return nil, false
	}}
	return m.Valid(o)
}

// TestAStreamEndsWithItsToken: what goes on and on ends when what it was asked
// with does.
func TestAStreamEndsWithItsToken(t *testing.T) {
	w := newWorld(t)
	token, c := w.token(t, operator.RoleViewer)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	begun, ended := make(chan bool, 1000), make(chan error, 1)
	go func() {
		ended <- c.Events(ctx, operator.EventQuery{Follow: true}, func(operator.Event) error {
			begun <- true
			return nil
		})
	}()
	if _, err := w.api.Act(ctx, "lamp-01", "quarantine", "so that there is an event"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-begun:
	case err := <-ended:
		t.Fatalf("it ended at once: %v", err)
	}
	if err := w.api.RemoveToken(ctx, token.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || ctx.Err() != nil {
		t.Errorf("the stream ended with %v, %v", err, ctx.Err())
	}
	if _, err := c.Me(ctx); fault.Of(err) != fault.Denied {
		t.Errorf("the token still opens something: %v", err)
	}
}
