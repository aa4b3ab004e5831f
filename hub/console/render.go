package console

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"holdfast/operator"
)

//go:embed templates
var templateFiles embed.FS

// pages are the templates by name. Each is the layout with one page in it.
type pages map[string]*template.Template

// shared are the templates that every page has.
var shared = []string{"templates/layout.html", "templates/parts.html"}

func parsePages(as assets) (pages, error) {
	files, err := templateFiles.ReadDir("templates")
	if err != nil {
		return nil, fmt.Errorf("read templates: %w", err)
	}
	base, err := template.New("").Funcs(functions(as)).Option("missingkey=error").ParseFS(templateFiles, shared...)
	if err != nil {
		return nil, fmt.Errorf("parse templates: %w", err)
	}
	ps := pages{}
	for _, f := range files {
		file := path.Join("templates", f.Name())
		if file == shared[0] || file == shared[1] {
			continue
		}
		t, err := base.Clone()
		if err == nil {
			t, err = t.ParseFS(templateFiles, file)
		}
		if err != nil {
			return nil, fmt.Errorf("parse templates: %w", err)
		}
		ps[strings.TrimSuffix(f.Name(), ".html")] = t
	}
	return ps, nil
}

// page is what a template shows.
type page struct {
	Data   any
	Live   string     // query of the events after which the page is shown anew; empty: none
	Beat   int        // seconds after which it is shown anew without an event; 0: never
	Done   string     // what was done just now
	Result any        // of an act, shown this once
	Act    string     // which act that is of, or which failed
	Failed *problem   // why
	Form   url.Values // what was typed then
	Me     operator.Principal
	Path   string // of the request
	Alerts int    // open ones
}

// Typed returns what was typed into a field of the act that failed.
func (p page) Typed(act, field string) string {
	if p.Act != act {
		return ""
	}
	return p.Form.Get(field)
}

// Chose reports whether a value was among those chosen for a field of the act
// that failed.
func (p page) Chose(act, field, value string) bool {
	return p.Act == act && slices.Contains(p.Form[field], value)
}

// Refusal returns why an act failed, nil when it was another.
func (p page) Refusal(act string) *problem {
	if p.Act != act {
		return nil
	}
	return p.Failed
}

// Got returns what an act is to show, nil when it was another.
func (p page) Got(act string) any {
	if p.Act != act {
		return nil
	}
	return p.Result
}

// Open reports whether the form of an act has to be seen at once.
func (p page) Open(act string) bool { return p.Act == act }

// May reports whether whoever looks has a role. It hides what would be
// refused; who may do what the API decides.
func (p page) May(role operator.Role) bool { return p.Me.Role.Includes(role) }

// Everywhere reports whether whoever looks is for all groups.
func (p page) Everywhere() bool { return p.Me.Groups == nil }

// At reports whether the page is under a path, for the menu.
func (p page) At(prefix string) bool {
	return p.Path == prefix || strings.HasPrefix(p.Path, prefix+"/")
}

// render writes a page.
func (c *console) render(w http.ResponseWriter, r *http.Request, name string, status int, p page) {
	p.Me, p.Path = operator.From(r.Context()), r.URL.Path
	if p.Done == "" {
		p.Done = done[r.URL.Query().Get("done")]
	}
	if p.Me.Name != "" {
		p.Alerts = c.openAlerts(r)
	}
	var body bytes.Buffer
	if err := c.pages[name].ExecuteTemplate(&body, "layout", p); err != nil {
		c.Log.ErrorContext(r.Context(), "render a page", "page", name, "err", err)
		http.Error(w, "The hub could not make this page; its log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // a browser that has left needs no answer
}

// maxBadge is the most that the menu counts.
const maxBadge = 100

// openAlerts counts for the menu; where it cannot, nothing stands there.
func (c *console) openAlerts(r *http.Request) int {
	as, err := get[[]operator.Alert](c, r, "/v1/alerts", "open", "true", "limit", fmt.Sprint(maxBadge))
	if err != nil {
		c.Log.DebugContext(r.Context(), "count alerts for the menu", "err", err)
	}
	return len(as)
}

// fail shows an error on a page of its own.
func (c *console) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := c.asProblem(r.Context(), err)
	c.render(w, r, "problem", p.Status, page{Data: p, Failed: p})
}

// notice is what an act shows this once.
type notice struct {
	Said   string
	Secret string   // shown, and never again
	List   []string // what did not work
}

// view makes a page from a request.
type view func(r *http.Request) (page, error)

// show serves a page.
func (c *console) show(name string, v view) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := v(r)
		if err != nil {
			c.fail(w, r, err)
			return
		}
		c.render(w, r, name, http.StatusOK, p)
	}
}

// outcome of an act: where the browser goes, or what the page shows this once.
type outcome struct {
	to     string // path
	done   string // key of the sentence that says so
	result any
}

// act serves a form: it does what was asked and then shows where that leads. A
// refusal is shown on the page that the form was on, with what was typed; one
// that only needs a fresh proof leads to that, and then on.
func (c *console) act(name, act string, v view, do func(r *http.Request) (outcome, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := r.ParseForm()
		var o outcome
		if err == nil {
			o, err = do(r)
		}
		switch {
		case err != nil:
			c.refused(w, r, name, act, v, c.asProblem(r.Context(), err))
		case o.result != nil:
			c.again(w, r, name, v, http.StatusOK, func(p *page) { p.Act, p.Result, p.Form = act, o.result, r.PostForm })
		default:
			http.Redirect(w, r, o.to+encode([]string{"done", o.done}), http.StatusSeeOther)
		}
	}
}

// refused shows why an act failed.
func (c *console) refused(w http.ResponseWriter, r *http.Request, name, act string, v view, why *problem) {
	if why.stepUp() {
		c.render(w, r, "stepup", http.StatusForbidden, page{Data: r.URL.Path, Form: r.PostForm})
		return
	}
	c.again(w, r, name, v, why.Status, func(p *page) { p.Act, p.Failed, p.Form = act, why, r.PostForm })
}

// again shows the page that a form was on.
func (c *console) again(w http.ResponseWriter, r *http.Request, name string, v view, status int, edit func(*page)) {
	p, err := v(r)
	if err != nil {
		edit(&p)
		if p.Failed != nil { // say what failed first
			err = p.Failed
		}
		c.fail(w, r, err)
		return
	}
	edit(&p)
	c.render(w, r, name, status, p)
}

// done has the sentences that say what was done.
var done = map[string]string{
	"revoked":       "Revoked. Its session has ended and its certificates are on the revocation list.",
	"quarantined":   "In quarantine. Only attestation, posture and logs stay open to it.",
	"restored":      "Restored.",
	"added":         "Added.",
	"removed":       "Removed.",
	"saved":         "Saved.",
	"set":           "The policy is set.",
	"accepted":      "Accepted. The device is admitted when it asks again.",
	"refused":       "Refused.",
	"acknowledged":  "Acknowledged.",
	"sent":          "Queued for the device.",
	"purged":        "The queue is empty.",
	"account":       "Added. Give the account a login link so that it can come in.",
	"ended":         "The session has ended.",
	"started":       "Started. Its devices are being listed, and then the canary is offered the release.",
	"paused":        "Paused. No further device begins; a trial that runs comes to its end.",
	"resumed":       "Resumed.",
	"halted":        "Halted. Its offers are taken back; devices that have not begun their trial drop what they have.",
	"retried":       "The devices are to try again.",
	"token-revoked": "The token opens nothing any more.",
}
