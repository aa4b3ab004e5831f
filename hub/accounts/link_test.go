package accounts_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/accounts"
	"holdfast/operator"
)

func TestALinkLogsInOnce(t *testing.T) {
	w := newWorld(t)
	l, err := w.NewLink(w.as("admin"), "")
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(l.URL)
	if u.Host != "hub.example:9443" || u.Path != "/login" || u.RawQuery != "" || len(u.Fragment) != 43 || !l.Expires.Equal(w.now.Add(2*time.Minute)) {
		t.Errorf("link %+v", l)
	}
	b := w.browser()
	resp := b.do("POST", "/auth/link", linkBody(u.Fragment))
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("status %d: %s", resp.StatusCode, bodyOf(t, resp))
	}
	c := b.cookies[cookieName]
	if c == nil || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 {
		t.Errorf("cookie %+v", c)
	}
	p := b.who()
	if p.Name != "admin" || p.Role != operator.RoleAdministrator || p.Via != operator.ViaLink || !p.Proved.IsZero() || p.Remote != "192.0.2.99" {
		t.Errorf("logged in as %+v", p)
	}
	if r := w.recorded("login.ok"); r["by"] != "admin" || r["via"] != operator.ViaLink || r["remote"] != "192.0.2.99" {
		t.Errorf("record %v", r)
	}
	if r := w.recorded("link.made"); r["by"] != "admin" || r["name"] != "admin" {
		t.Errorf("record %v", r)
	}
}

// TestBadLinksAreToldApartInside: whoever tries one learns nothing, log and
// ledger do.
func TestBadLinksAreToldApartInside(t *testing.T) {
	w := newWorld(t)
	var answers []string
	try := func(secret, words string) {
		t.Helper()
		b := w.browser()
		resp := b.do("POST", "/auth/link", linkBody(secret))
		if resp.StatusCode != http.StatusForbidden || len(b.cookies) != 0 {
			t.Errorf("%s: status %d, cookies %v", words, resp.StatusCode, b.cookies)
		}
		answers = append(answers, bodyOf(t, resp))
		w.refusedFor(words)
	}
	try(strings.Repeat("x", 43), accounts.ErrLinkUnknown.Error())
	try("", accounts.ErrLinkUnknown.Error())

	used := w.link("admin")
	if got := w.browser().status("POST", "/auth/link", linkBody(used)); got != http.StatusNoContent {
		t.Fatalf("status %d", got)
	}
	try(used, accounts.ErrLinkUsed.Error())

	expired := w.link("admin")
	w.pass(accounts.LinkFor)
	try(expired, accounts.ErrLinkExpired.Error())

	w.add("ann", operator.RoleViewer)
	revoked := w.link("ann")
	if err := w.RevokeAccount(w.as("admin"), "ann", "left"); err != nil {
		t.Fatal(err)
	}
	try(revoked, accounts.ErrLinkUnknown.Error())

	for _, a := range answers[1:] {
		if a != answers[0] {
			t.Errorf("answers differ: %s and %s", answers[0], a)
		}
	}
	if strings.Contains(w.log.String(), used) || strings.Contains(w.log.String(), expired) {
		t.Error("the log has a secret")
	}
}

func TestALinkIsForOneselfUnlessOneAdministers(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleOperator)
	w.add("ben", operator.RoleAdministrator, "pumps")
	w.add("cat", operator.RoleViewer, "pumps")
	for _, tt := range []struct {
		by, of string
		ok     bool
	}{
		{"admin", "ann", true}, {"ann", "ann", true}, {"ben", "cat", true},
		{"ann", "admin", false}, {"ann", "cat", false}, {"ben", "admin", false}, {"ben", "ann", false}, {"admin", "nobody", false},
	} {
		_, err := w.NewLink(w.as(tt.by), tt.of)
		if (err == nil) != tt.ok || err != nil && fault.Of(err) != fault.NotFound {
			t.Errorf("link of %s by %s: %v", tt.of, tt.by, err)
		}
	}
	_, err := w.NewLink(w.login("admin").ctx(), "")
	isKind(t, "with a session that a link began", err, fault.Denied, operator.ErrStepUp.Error())
}

func TestAttemptsToLogInAreLimited(t *testing.T) {
	w := newWorld(t)
	good := w.link("admin")
	b := w.browser()
	limited := 0
	for range 40 {
		resp := b.do("POST", "/auth/link", linkBody("wrong"))
		if resp.StatusCode == http.StatusTooManyRequests {
			if resp.Header.Get("Retry-After") == "" {
				t.Error("nothing says how long to wait")
			}
			limited++
		}
	}
	if limited != 20 {
		t.Errorf("%d of 40 attempts were limited, want 20", limited)
	}
	if got := b.status("POST", "/auth/link", linkBody(good)); got != http.StatusTooManyRequests {
		t.Errorf("the right link, too soon: status %d", got)
	}
	other := w.browser()
	other.remote = "192.0.2.100:1"
	if got := other.status("POST", "/auth/link", linkBody(good)); got != http.StatusNoContent {
		t.Errorf("from elsewhere: status %d", got)
	}
}

func TestLoginBodiesAreReadStrictly(t *testing.T) {
	w := newWorld(t)
	for name, body := range map[string]string{
		"an unknown member": `{"secret":"x","admin":true}`,
		"two objects":       `{"secret":"x"}{}`,
		"no JSON":           `secret=x`,
		"a number":          `{"secret":1}`,
		"a body too long":   `{"secret":"` + strings.Repeat("x", 64<<10) + `"}`,
	} {
		if got := w.browser().status("POST", "/auth/link", body); got != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, got)
		}
	}
	b := w.browser()
	b.header.Set("Content-Type", "application/x-www-form-urlencoded")
	if got := b.status("POST", "/auth/link", ""); got != http.StatusBadRequest {
		t.Errorf("a form: status %d", got)
	}
}
