package accounts_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/accounts"
	"holdfast/operator"
	"holdfast/pki"
)

func peerOf(name string) pki.Peer { return pki.Peer{Name: name, NotAfter: time.Now().Add(time.Hour)} }

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	idle := w.login("admin")
	w.pass(accounts.DefaultIdle)
	if p := idle.who(); p.Name != "" {
		t.Errorf("idle for an hour, it goes on as %+v", p)
	}

	busy := w.login("admin")
	for range 24 {
		if busy.who().Name != "admin" {
			t.Fatal("a session that is used ended")
		}
		w.pass(accounts.DefaultLifetime / 24)
	}
	if p := busy.who(); p.Name != "" {
		t.Errorf("after its time, it goes on as %+v", p)
	}

	out := w.login("admin")
	cookie := out.cookies[cookieName]
	if got := out.status("POST", "/auth/logout", ""); got != http.StatusNoContent || out.cookies[cookieName] != nil {
		t.Errorf("log out: status %d, cookies %v", got, out.cookies)
	}
	out.cookies[cookieName] = cookie
	if p := out.who(); p.Name != "" {
		t.Errorf("logged out, the cookie is good for %+v", p)
	}
	if r := w.recorded("logout"); r["by"] != "admin" || r["name"] != "admin" {
		t.Errorf("record %v", r)
	}
	if got := w.browser().status("POST", "/auth/logout", ""); got != http.StatusNoContent {
		t.Errorf("log out nobody: status %d", got)
	}
}

// TestAnAnswerThatGoesOnIsNoUse: a page that listens for hours keeps nobody
// logged in.
func TestAnAnswerThatGoesOnIsNoUse(t *testing.T) {
	w := newWorld(t)
	b, until := w.login("admin"), w.now.Add(accounts.DefaultIdle)
	for range 10 {
		w.pass(accounts.DefaultIdle / 10)
		if p, err := w.Again(b.request("GET", "/", "")); err != nil || p.Name != "admin" && w.clock().Before(until) {
			t.Fatal(p, err)
		}
	}
	if p := b.who(); p.Name != "" {
		t.Errorf("it goes on as %+v", p)
	}
}

func TestCookiesThatAreNoneOpenNothing(t *testing.T) {
	w := newWorld(t)
	good := w.login("admin").cookies[cookieName].Value
	sessions, err := w.store.SessionsOf(t.Context(), "admin", w.now)
	if err != nil || len(sessions) != 1 {
		t.Fatal(sessions, err)
	}
	for name, value := range map[string]string{
		"made up":          strings.Repeat("A", 43),
		"cut":              good[:42],
		"longer":           good + "A",
		"other case":       strings.ToLower(good),
		"the session's id": sessions[0].ID,
		"the digest":       sessions[0].Hash.String(),
		"empty":            "",
	} {
		b := w.browser()
		b.cookies[cookieName] = &http.Cookie{Name: cookieName, Value: value}
		if p := b.who(); p.Name != "" {
			t.Errorf("%s: good for %+v", name, p)
		}
		w.refusedFor("no session's")
	}
	b := w.browser()
	b.cookies[cookieName] = &http.Cookie{Name: cookieName, Value: good}
	b.cookies["second"] = &http.Cookie{Name: cookieName, Value: good}
	if p := b.who(); p.Name != "" {
		t.Errorf("twice: good for %+v", p)
	}
}

// TestLoggingInMakesAnotherCookie: somebody who plants a cookie does not have
// the session that follows.
func TestLoggingInMakesAnotherCookie(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	planted := strings.Repeat("A", 43)
	b.cookies[cookieName] = &http.Cookie{Name: cookieName, Value: planted}
	if got := b.status("POST", "/auth/link", linkBody(w.link("admin"))); got != http.StatusNoContent {
		t.Fatalf("status %d", got)
	}
	first := b.cookies[cookieName]
	if first.Value == planted {
		t.Fatal("the planted cookie is the session's")
	}
	w.add("ann", operator.RoleViewer)
	if got := b.status("POST", "/auth/link", linkBody(w.link("ann"))); got != http.StatusNoContent {
		t.Fatalf("status %d", got)
	}
	if b.who().Name != "ann" || b.cookies[cookieName].Value == first.Value {
		t.Errorf("logged in as %+v", b.who())
	}
	b.cookies[cookieName] = first
	if p := b.who(); p.Name != "" {
		t.Errorf("the session of before is good for %+v", p)
	}
}

// TestAPasskeyOfAnotherIsNoStepUp: it begins a session of its own, with the time
// of its own.
func TestAPasskeyOfAnotherIsNoStepUp(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleViewer)
	a := w.registered("ann")
	b := w.login("admin")
	w.pass(30 * time.Minute)
	if got := a.login(b).StatusCode; got != http.StatusNoContent {
		t.Fatalf("status %d", got)
	}
	if p := b.who(); p.Name != "ann" || p.Role != operator.RoleViewer || !p.Until.Equal(w.now.Add(accounts.DefaultLifetime)) {
		t.Errorf("logged in as %+v", p)
	}
}

func TestLoginsAreSeenAndEndedByTheirOwn(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleViewer)
	w.add("ben", operator.RoleAdministrator, "pumps")
	ann, admin := w.login("ann"), w.login("admin")
	ls, err := w.Logins(ann.ctx())
	if err != nil || len(ls) != 1 || !ls[0].Current || ls[0].Account != "ann" || ls[0].Via != operator.ViaLink || ls[0].Remote != "192.0.2.99" {
		t.Fatalf("logins %+v, %v", ls, err)
	}
	if ls, _ := w.Logins(w.as("ben")); len(ls) != 0 {
		t.Errorf("ben sees %+v", ls)
	}
	all, err := w.Logins(admin.ctx())
	if err != nil || len(all) != 2 {
		t.Fatalf("logins %+v, %v", all, err)
	}
	adminID := admin.who().Credential
	isKind(t, "another's", w.EndLogin(ann.ctx(), adminID), fault.NotFound, "no session")
	isKind(t, "an administrator of others", w.EndLogin(w.as("ben"), adminID), fault.NotFound, "no session")
	token, err := w.AddToken(w.as("ann"), operator.AddToken{Name: "ci", Role: operator.RoleViewer, TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	script := w.browser()
	script.header.Set("Authorization", "Bearer "+token.Secret)
	isKind(t, "with a token", w.EndLogin(script.ctx(), ls[0].ID), fault.NotFound, "no session")
	if err := w.EndLogin(admin.ctx(), ls[0].ID); err != nil || ann.who().Name != "" {
		t.Errorf("ended by an administrator: %v, goes on as %q", err, ann.who().Name)
	}
	if err := w.EndLogin(admin.ctx(), adminID); err != nil || admin.who().Name != "" {
		t.Errorf("ended by itself: %v", err)
	}
}

// TestWhatABrowserSaysIsCleaned: its name goes into pages, logs and the ledger.
func TestWhatABrowserSaysIsCleaned(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.header.Set("User-Agent", "Mozilla\r\nSet-Cookie: x=y\x1b[31m"+strings.Repeat("z", 4000))
	if got := b.status("POST", "/auth/link", linkBody(w.link("admin"))); got != http.StatusNoContent {
		t.Fatalf("status %d", got)
	}
	ls, err := w.Logins(b.ctx())
	if err != nil || len(ls) != 1 || len(ls[0].Agent) != 200 || strings.ContainsAny(ls[0].Agent, "\r\n\x1b") {
		t.Errorf("logins %+v, %v", ls, err)
	}
}

func TestMeSaysWhoAsks(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleOperator, "pumps")
	resp := w.login("ann").do("GET", "/auth/me", "")
	var got struct {
		Account, Role, Via string
		Groups             []string
		Passkeys           int
		Expires            time.Time
	}
	if err := json.Unmarshal([]byte(bodyOf(t, resp)), &got); err != nil || got.Account != "ann" || got.Role != "operator" || got.Via != "link" || len(got.Groups) != 1 || got.Expires.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if got := w.browser().status("GET", "/auth/me", ""); got != http.StatusUnauthorized {
		t.Errorf("nobody: status %d", got)
	}
}
