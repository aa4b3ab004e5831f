package accounts_test

import (
	"slices"
	"strings"
	"testing"

	"holdfast/fault"
	"holdfast/hub/accounts"
	"holdfast/identity"
	"holdfast/operator"
)

func TestFirstOperatorBecomesTheFirstAccount(t *testing.T) {
	w := newWorld(t)
	as, err := w.Accounts.Accounts(w.as("admin"))
	if err != nil || len(as) != 1 || as[0].Role != operator.RoleAdministrator || as[0].Groups != nil || as[0].By != "hub" {
		t.Errorf("accounts %+v, %v", as, err)
	}
	if err := w.Adopt(t.Context(), "mallory"); err != nil {
		t.Fatal(err)
	}
	if as, _ := w.Accounts.Accounts(w.as("admin")); len(as) != 1 {
		t.Errorf("a second adoption made %+v", as)
	}
}

func TestAddAccountRefuses(t *testing.T) {
	w := newWorld(t)
	w.addSubject("ann", "ann@example.com")
	w.add("ben", operator.RoleAdministrator, "pumps")
	w.add("gone", operator.RoleViewer)
	if err := w.RevokeAccount(w.as("admin"), "gone", "left"); err != nil {
		t.Fatal(err)
	}
	viewer, admin := operator.RoleViewer, operator.RoleAdministrator
	for _, tt := range []struct {
		by    string
		in    operator.Account
		kind  fault.Kind
		words string
	}{
		{"admin", operator.Account{Name: "a b", Role: viewer}, fault.Invalid, "account name"},
		{"admin", operator.Account{Name: "", Role: viewer}, fault.Invalid, "account name"},
		{"admin", operator.Account{Name: "../etc", Role: viewer}, fault.Invalid, "account name"},
		{"admin", operator.Account{Name: "a\r\nb", Role: viewer}, fault.Invalid, "account name"},
		{"admin", operator.Account{Name: strings.Repeat("x", 101), Role: viewer}, fault.Invalid, "account name"},
		{"admin", operator.Account{Name: "HUB", Role: viewer}, fault.Invalid, "ledger"},
		{"admin", operator.Account{Name: "x", Role: "root"}, fault.Invalid, "role"},
		{"admin", operator.Account{Name: "x"}, fault.Invalid, "role"},
		{"admin", operator.Account{Name: "x", Role: viewer, Groups: []identity.Group{}}, fault.Invalid, "groups"},
		{"admin", operator.Account{Name: "x", Role: viewer, Groups: []identity.Group{"A B"}}, fault.Invalid, "group name"},
		{"admin", operator.Account{Name: "x", Role: viewer, Subject: "ann"}, fault.Invalid, "OIDC subject"},
		{"admin", operator.Account{Name: "x", Role: viewer, Subject: "http://idp.example 7"}, fault.Invalid, "OIDC subject"},
		{"admin", operator.Account{Name: "x", Role: viewer, Subject: "a@b\n"}, fault.Invalid, "OIDC subject"},
		{"admin", operator.Account{Name: "x", Role: viewer, Subject: "ANN@example.com"}, fault.Conflict, "subject"},
		{"admin", operator.Account{Name: "ann", Role: viewer}, fault.Conflict, "there is an account"},
		{"admin", operator.Account{Name: "Ann", Role: viewer}, fault.Conflict, "there is an account"},
		{"admin", operator.Account{Name: "gone", Role: viewer}, fault.Conflict, "revoked"},
		{"ann", operator.Account{Name: "x", Role: viewer}, fault.Denied, "administrator"},
		{"ben", operator.Account{Name: "x", Role: viewer}, fault.Denied, "more than they have"},
		{"ben", operator.Account{Name: "x", Role: admin, Groups: []identity.Group{"pumps", "valves"}}, fault.Denied, "more than they have"},
	} {
		_, err := w.AddAccount(w.as(tt.by), tt.in)
		isKind(t, tt.by+" adds "+tt.in.Name, err, tt.kind, tt.words)
	}
	if _, err := w.AddAccount(w.as("ben"), operator.Account{Name: "x", Role: admin, Groups: []identity.Group{"pumps"}}); err != nil {
		t.Errorf("what he has himself: %v", err)
	}
	_, err := w.AddAccount(w.login("admin").ctx(), operator.Account{Name: "y", Role: viewer})
	isKind(t, "without a fresh proof", err, fault.Denied, operator.ErrStepUp.Error())
	_, err = w.AddAccount(t.Context(), operator.Account{Name: "y", Role: viewer})
	isKind(t, "nobody", err, fault.Denied, "role")
}

func TestNobodySeesOrChangesMoreThanTheyAdminister(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleOperator)
	w.add("ben", operator.RoleAdministrator, "pumps", "valves")
	w.add("cat", operator.RoleViewer, "pumps")
	w.add("dan", operator.RoleViewer, "meters")
	for by, want := range map[string][]string{"admin": {"admin", "ann", "ben", "cat", "dan"}, "ann": {"ann"}, "ben": {"ben", "cat"}, "cat": {"cat"}} {
		as, err := w.Accounts.Accounts(w.as(by))
		var got []string
		for _, a := range as {
			got = append(got, a.Name)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s sees %v, %v; want %v", by, got, err, want)
		}
	}
	viewer := operator.Account{Role: operator.RoleViewer, Groups: []identity.Group{"pumps"}}
	for _, tt := range []struct {
		by, of string
		to     operator.Account
		kind   fault.Kind
		words  string
	}{
		{"ann", "cat", viewer, fault.Denied, "administrator"},
		{"ben", "admin", viewer, fault.NotFound, "no account"},
		{"ben", "ann", viewer, fault.NotFound, "no account"},
		{"ben", "dan", viewer, fault.NotFound, "no account"},
		{"ben", "nobody", viewer, fault.NotFound, "no account"},
		{"ben", "cat", operator.Account{Role: operator.RoleViewer}, fault.Denied, "more than they have"},
		{"ben", "ben", operator.Account{Role: operator.RoleAdministrator}, fault.Denied, "more than they have"},
	} {
		_, err := w.ChangeAccount(w.as(tt.by), tt.of, tt.to)
		isKind(t, tt.by+" changes "+tt.of, err, tt.kind, tt.words)
		if tt.of != "cat" && tt.of != "ben" {
			isKind(t, tt.by+" revokes "+tt.of, w.RevokeAccount(w.as(tt.by), tt.of, "x"), tt.kind, tt.words)
		}
	}
	if a, err := w.ChangeAccount(w.as("ben"), "cat", operator.Account{Role: operator.RoleOperator, Groups: []identity.Group{"valves", "pumps", "valves"}}); err != nil || !slices.Equal(a.Groups, []identity.Group{"pumps", "valves"}) {
		t.Errorf("%+v, %v", a, err)
	}
	if r := w.recorded("operator.change"); r["by"] != "ben" || r["name"] != "cat" || r["role"] != operator.RoleOperator {
		t.Errorf("record %v", r)
	}
}

func TestTheLastAdministratorStays(t *testing.T) {
	w := newWorld(t)
	w.add("ben", operator.RoleAdministrator, "pumps")
	demoted := operator.Account{Role: operator.RoleOperator}
	limited := operator.Account{Role: operator.RoleAdministrator, Groups: []identity.Group{"pumps"}}
	before := len(w.records)
	for what, err := range map[string]error{
		"revoke": w.RevokeAccount(w.as("admin"), "admin", "x"),
		"demote": func() error { _, err := w.ChangeAccount(w.as("admin"), "admin", demoted); return err }(),
		"limit":  func() error { _, err := w.ChangeAccount(w.as("admin"), "admin", limited); return err }(),
	} {
		isKind(t, what, err, fault.Conflict, "last administrator")
	}
	if len(w.records) != before {
		t.Errorf("the ledger has what did not happen: %v", w.records[before:])
	}
	w.add("eve", operator.RoleAdministrator)
	if _, err := w.ChangeAccount(w.as("admin"), "admin", demoted); err != nil {
		t.Fatal(err)
	}
	isKind(t, "revoke the other", w.RevokeAccount(w.as("eve"), "eve", "x"), fault.Conflict, "last administrator")
	isKind(t, "at the same time, in the store", w.store.ChangeAccount(t.Context(), "eve", func(r accounts.Record, others int) (accounts.Record, error) {
		if others != 0 {
			t.Errorf("%d other administrators", others)
		}
		return r, fault.New(fault.Conflict, "as asked")
	}), fault.Conflict, "as asked")
}

// TestARevokedAccountOpensNothing by any of the ways in.
func TestARevokedAccountOpensNothing(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleAdministrator)
	b := w.login("ann")
	token, err := w.AddToken(w.as("ann"), operator.AddToken{Name: "ci", Role: operator.RoleViewer, TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	link := w.link("ann")
	if err := w.RevokeAccount(w.as("admin"), "ann", "left the firm"); err != nil {
		t.Fatal(err)
	}
	if p := b.who(); p.Name != "" {
		t.Errorf("the cookie is good for %+v", p)
	}
	script := w.browser()
	script.header.Set("Authorization", "Bearer "+token.Secret)
	if _, err := w.Identify(script.request("GET", "/", "")); fault.Of(err) != fault.Denied {
		t.Errorf("the token: %v", err)
	}
	if got := w.browser().status("POST", "/auth/link", linkBody(link)); got != 403 {
		t.Errorf("the link: status %d", got)
	}
	_, err = w.ByCertificate(b.request("GET", "/", ""), peerOf("ann"), w.now)
	isKind(t, "the certificate", err, fault.Denied, "was revoked")
	if !slices.Equal(w.revoked, []string{"ann"}) {
		t.Errorf("certificates revoked of %v", w.revoked)
	}
	if r := w.recorded("operator.revoke"); r["by"] != "admin" || r["name"] != "ann" || r["reason"] != "left the firm" {
		t.Errorf("record %v", r)
	}
	isKind(t, "again", w.RevokeAccount(w.as("admin"), "ann", "x"), fault.NotFound, "no account")
	_, err = w.ByCertificate(b.request("GET", "/", ""), peerOf("nobody"), w.now)
	isKind(t, "a certificate without an account", err, fault.Denied, "no account")
}

// TestAChangeEndsSessions: whoever loses a role loses it in open browsers too,
// and tokens shrink with their account.
func TestAChangeEndsSessions(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleAdministrator)
	b := w.login("ann")
	token, err := w.AddToken(w.as("ann"), operator.AddToken{Name: "ci", Role: operator.RoleOperator, TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	script := w.browser()
	script.header.Set("Authorization", "Bearer "+token.Secret)
	if _, err := w.ChangeAccount(w.as("admin"), "ann", operator.Account{Role: operator.RoleViewer, Groups: []identity.Group{"pumps"}}); err != nil {
		t.Fatal(err)
	}
	if p := b.who(); p.Name != "" {
		t.Errorf("the session goes on as %+v", p)
	}
	if p := script.who(); p.Role != operator.RoleViewer || !slices.Equal(p.Groups, []identity.Group{"pumps"}) {
		t.Errorf("the token has %+v", p)
	}
}

func TestNothingHappensThatTheLedgerDoesNotTake(t *testing.T) {
	w := newWorld(t)
	w.add("ann", operator.RoleViewer)
	a := w.registered("admin")
	b := w.browser()
	if got := a.login(b).StatusCode; got != 204 {
		t.Fatal(got)
	}
	link := w.link("ann")
	w.full = true
	admin := w.as("admin")
	if _, err := w.AddAccount(admin, operator.Account{Name: "x", Role: operator.RoleViewer}); err == nil {
		t.Error("an account was added")
	}
	if _, err := w.ChangeAccount(admin, "ann", operator.Account{Role: operator.RoleOperator}); err == nil {
		t.Error("an account was changed")
	}
	if err := w.RevokeAccount(admin, "ann", "x"); err == nil {
		t.Error("an account was revoked")
	}
	if _, err := w.AddToken(admin, operator.AddToken{Name: "x", Role: operator.RoleViewer, TTL: 60}); err == nil {
		t.Error("a token was made")
	}
	if _, err := w.NewLink(admin, ""); err == nil {
		t.Error("a link was made")
	}
	c := w.browser()
	if got := c.status("POST", "/auth/link", linkBody(link)); got != 503 || c.who().Name != "" {
		t.Errorf("a login: status %d", got)
	}
	if got := b.status("DELETE", "/auth/passkey/"+b64(a.id), ""); got != 503 {
		t.Errorf("a passkey was removed: status %d", got)
	}
	w.full = false
	as, err := w.Accounts.Accounts(admin)
	if err != nil || len(as) != 2 || as[1].Role != operator.RoleViewer || !as[1].Revoked.IsZero() {
		t.Errorf("accounts %+v, %v", as, err)
	}
	if ts, _ := w.Tokens(admin); len(ts) != 0 {
		t.Errorf("tokens %+v", ts)
	}
}
