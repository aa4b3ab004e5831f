package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/operator"
)

func (c *console) operatorRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /operators", c.show("operators", c.operators))
	mux.HandleFunc("POST /operators", c.act("operators", "add", c.operators, c.addAccount))
	mux.HandleFunc("POST /operators/link", c.act("operators", "link", c.operators, c.newLink))
	mux.HandleFunc("POST /operators/{name}/change", c.act("operators", "change", c.operators, c.changeAccount))
	mux.HandleFunc("POST /operators/{name}/revoke", c.act("operators", "revoke", c.operators, c.revokeAccount))
	mux.HandleFunc("POST /logins/{id}/end", c.act("operators", "end", c.operators, c.endLogin("/operators")))
	mux.HandleFunc("POST /tokens/{id}/revoke", c.act("operators", "token", c.operators, c.removeToken("/operators")))
}

func (c *console) accountRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /account", c.show("account", c.account))
	mux.HandleFunc("POST /account/tokens", c.act("account", "token", c.account, c.addToken))
	mux.HandleFunc("POST /account/tokens/{id}/revoke", c.act("account", "revoke", c.account, c.removeToken("/account")))
	mux.HandleFunc("POST /account/logins/{id}/end", c.act("account", "end", c.account, c.endLogin("/account")))
}

// operatorsView is who may do what here, and what of theirs is open.
type operatorsView struct {
	Accounts []operator.Account
	Logins   part[[]operator.Login]
	Tokens   part[[]operator.Token]
	Groups   []operator.Group
}

func (c *console) operators(r *http.Request) (page, error) {
	as, err := get[[]operator.Account](c, r, "/v1/accounts")
	if err != nil {
		return page{}, err
	}
	gs, err := get[[]operator.Group](c, r, "/v1/groups")
	return page{Data: operatorsView{as, partOf[[]operator.Login](c, r, "/v1/logins"), partOf[[]operator.Token](c, r, "/v1/tokens"), gs}, Live: changes}, err
}

// accountView is who asks, and its sessions and tokens. Passkeys are with the
// login (/auth), where the script finds them.
type accountView struct {
	Me     operator.Me
	Logins part[[]operator.Login]
	Tokens part[[]operator.Token]
}

func (c *console) account(r *http.Request) (page, error) {
	me, err := get[operator.Me](c, r, "/v1/me")
	if err != nil {
		return page{}, err
	}
	v := accountView{Me: me,
		Logins: partOf[[]operator.Login](c, r, "/v1/logins"), Tokens: partOf[[]operator.Token](c, r, "/v1/tokens")}
	v.Logins.Value = own(v.Logins.Value, me.Name, func(l operator.Login) string { return l.Account })
	v.Tokens.Value = own(v.Tokens.Value, me.Name, func(t operator.Token) string { return t.Account })
	return page{Data: v}, nil
}

// own returns those that are of one account: an administrator is told of all.
func own[T any](all []T, name string, of func(T) string) []T {
	var mine []T
	for _, v := range all {
		if of(v) == name {
			mine = append(mine, v)
		}
	}
	return mine
}

// chosen reads the groups that a form names; none means all.
func chosen(r *http.Request) []identity.Group {
	var gs []identity.Group
	for _, g := range strings.Fields(r.PostForm.Get("groups")) {
		gs = append(gs, identity.Group(g))
	}
	return gs
}

func (c *console) addAccount(r *http.Request) (outcome, error) {
	f := r.PostForm
	a := operator.Account{Name: strings.TrimSpace(f.Get("name")), Role: operator.Role(f.Get("role")), Groups: chosen(r), Subject: strings.TrimSpace(f.Get("subject"))}
	err := c.ask(r, request{method: http.MethodPost, path: "/v1/accounts", body: a}, nil)
	return outcome{to: "/operators", done: "account"}, err
}

func (c *console) changeAccount(r *http.Request) (outcome, error) {
	f := r.PostForm
	a := operator.Account{Name: r.PathValue("name"), Role: operator.Role(f.Get("role")), Groups: chosen(r), Subject: strings.TrimSpace(f.Get("subject"))}
	err := c.ask(r, request{method: http.MethodPut, path: "/v1/accounts/" + url.PathEscape(a.Name), body: a}, nil)
	return outcome{to: "/operators", done: "saved"}, err
}

func (c *console) revokeAccount(r *http.Request) (outcome, error) {
	err := c.ask(r, request{method: http.MethodPost, path: "/v1/accounts/" + url.PathEscape(r.PathValue("name")) + "/revoke",
		body: operator.Act{Reason: strings.TrimSpace(r.PostForm.Get("reason"))}}, nil)
	return outcome{to: "/operators", done: "removed"}, err
}

func (c *console) newLink(r *http.Request) (outcome, error) {
	var link operator.Link
	err := c.ask(r, request{method: http.MethodPost, path: "/v1/logins/link", body: operator.LinkFor{Account: r.PostForm.Get("account")}}, &link)
	return outcome{result: notice{Said: "This link logs in once, until " + link.Expires.UTC().Format(time.RFC1123) + ":", Secret: link.URL}}, err
}

func (c *console) endLogin(to string) func(*http.Request) (outcome, error) {
	return func(r *http.Request) (outcome, error) {
		err := c.ask(r, request{method: http.MethodDelete, path: "/v1/logins/" + url.PathEscape(r.PathValue("id"))}, nil)
		return outcome{to: to, done: "ended"}, err
	}
}

func (c *console) addToken(r *http.Request) (outcome, error) {
	f := r.PostForm
	days, err := strconv.Atoi(strings.TrimSpace(f.Get("days")))
	if err != nil || days < 1 || days > 366 {
		return outcome{}, mistyped("A token is good for 1 to 366 days.")
	}
	in := operator.AddToken{Name: strings.TrimSpace(f.Get("name")), Role: operator.Role(f.Get("role")), Groups: chosen(r), TTL: int64(days) * 24 * 3600}
	var out operator.Token
	err = c.ask(r, request{method: http.MethodPost, path: "/v1/tokens", body: in}, &out)
	return outcome{result: notice{Said: "This token is shown this once. It is good until " + out.Expires.UTC().Format(time.RFC1123) + ":", Secret: out.Secret}}, err
}

func (c *console) removeToken(to string) func(*http.Request) (outcome, error) {
	return func(r *http.Request) (outcome, error) {
		err := c.ask(r, request{method: http.MethodDelete, path: "/v1/tokens/" + url.PathEscape(r.PathValue("id"))}, nil)
		return outcome{to: to, done: "token-revoked"}, err
	}
}
