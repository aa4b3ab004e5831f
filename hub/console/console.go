// Package console is the operators' console: pages that the server renders, for
// a browser. It has no way into the hub of its own: whatever a page shows or
// does it asks of the operator API, in the same process and in the name of
// whoever asked for the page, so that there is one place that authorises,
// validates and records. Whatever the console does, the API does.
//
// Pages work without scripts, but for the login. The one script adds what
// plain pages cannot do: passkeys, charts, and showing changes as they happen.
// Nothing is loaded from anywhere but the hub.
package console

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"holdfast/operator"
)

// Refresh is the header of requests by which a page shows itself anew, without
// anybody having asked for it.
const Refresh = "Holdfast-Refresh"

// maxForm bounds a posted form in bytes: the largest has a policy or a CA.
const maxForm = 1 << 20

// Config has what the console serves from. All fields are required.
type Config struct {
	API http.Handler // the operator API; finds in a request's context who asks (operator.From)
	Log *slog.Logger
}

// console serves the pages.
type console struct {
	Config
	pages  pages
	assets assets
}

// New returns the console's handler. It expects in a request's context who
// asks (operator.From); whoever is not logged in sees the login page alone.
func New(cfg Config) (http.Handler, error) {
	as, err := loadAssets()
	if err != nil {
		return nil, err
	}
	ps, err := parsePages(as)
	if err != nil {
		return nil, err
	}
	c := &console{Config: cfg, pages: ps, assets: as}
	return guard(http.MaxBytesHandler(c.routes(), maxForm)), nil
}

// routes joins paths to pages and acts.
func (c *console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /assets/{name}", c.assets)
	mux.HandleFunc("GET /login", c.login)
	in := http.NewServeMux()
	for _, add := range []func(*http.ServeMux){c.fleetRoutes, c.deviceRoutes, c.groupRoutes, c.arrivalRoutes, c.alertRoutes,
		c.ledgerRoutes, c.releaseRoutes, c.rolloutRoutes, c.authorityRoutes, c.referenceRoutes, c.enrollmentRoutes, c.operatorRoutes, c.accountRoutes, c.chartRoutes} {
		add(in)
	}
	in.Handle("GET /{$}", http.RedirectHandler("/fleet", http.StatusSeeOther))
	in.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c.fail(w, r, &problem{Status: http.StatusNotFound, Detail: "There is no such page."})
	})
	mux.Handle("/", c.loggedIn(in))
	return mux
}

// loggedIn sends whoever is not logged in to the login page.
func (c *console) loggedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if operator.From(r.Context()).Name != "" {
			next.ServeHTTP(w, r)
			return
		}
		to := "/login"
		if r.Method == http.MethodGet && r.URL.Path != "/" {
			to += "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	})
}

// login is the one page for whoever is not logged in.
func (c *console) login(w http.ResponseWriter, r *http.Request) {
	c.render(w, r, "login", http.StatusOK, page{Data: local(r.URL.Query().Get("next"))})
}

// local returns a path of this console, "/" for whatever is none: a login must
// not end on somebody else's site.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
