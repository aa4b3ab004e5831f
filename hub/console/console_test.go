package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"holdfast/identity"
	"holdfast/operator"
)

func TestEveryPageIsMade(t *testing.T) {
	w := newWorld(t)
	for _, path := range pages() {
		rec := w.get(path)
		if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "</html>") {
			t.Errorf("%s: status %d: %.2000s", path, rec.Code, rec.Body)
		}
	}
}

// TestEveryAnswerHasTheHeaders: pages, files, redirects and errors alike.
func TestEveryAnswerHasTheHeaders(t *testing.T) {
	w := newWorld(t)
	for _, path := range append(pages(), "/login", "/", "/nothing", "/assets/nothing.css", asset(t, w, "console.css")) {
		h := w.get(path).Header()
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: policy %q lacks %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" ||
			h.Get("Cross-Origin-Opener-Policy") != "same-origin" || h.Get("Cross-Origin-Resource-Policy") != "same-origin" || h.Get("Permissions-Policy") == "" {
			t.Errorf("%s: headers %v", path, h)
		}
		if cache := h.Get("Cache-Control"); strings.HasPrefix(path, "/assets/console") != strings.Contains(cache, "immutable") {
			t.Errorf("%s: Cache-Control %q", path, cache)
		}
	}
}

// asset finds the public path of a file on the login page.
func asset(t *testing.T, w *world, name string) string {
	t.Helper()
	stem, ext, _ := strings.Cut(name, ".")
	m := regexp.MustCompile(`"(/assets/` + stem + `\.[0-9a-f]{12}\.` + ext + `)"`).FindStringSubmatch(w.get("/login").Body.String())
	if m == nil {
		t.Fatalf("the login page has no %s", name)
	}
	return m[1]
}

// TestPagesHaveNothingInline: neither scripts nor styles, so that the policy
// can forbid them.
func TestPagesHaveNothingInline(t *testing.T) {
	inline := regexp.MustCompile(`(?i)<script(?:[^>]*>[^<])|<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:`)
	w := newWorld(t)
	for _, path := range append(pages(), "/login") {
		if found := inline.FindString(w.get(path).Body.String()); found != "" {
			t.Errorf("%s has %q", path, found)
		}
	}
}

func TestStrangersSeeTheLoginAlone(t *testing.T) {
	w := newWorld(t)
	w.who = operator.Principal{}
	for _, path := range pages() {
		rec := w.get(path)
		to, err := url.Parse(rec.Header().Get("Location"))
		if rec.Code != http.StatusSeeOther || err != nil || to.Path != "/login" || to.Query().Get("next") != path {
			t.Errorf("%s: %d to %q", path, rec.Code, rec.Header().Get("Location"))
		}
	}
	if rec := w.post("/devices/pump-01/revoke", url.Values{"reason": {"x"}}); rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != "/login" {
		t.Errorf("an act: %d to %q", rec.Code, rec.Header().Get("Location"))
	}
	if len(w.asked) != 0 {
		t.Errorf("the API was asked %v", w.asked)
	}
	if rec := w.get("/login"); rec.Code != http.StatusOK {
		t.Errorf("login: %d", rec.Code)
	}
}

// TestLoginLeadsNowhereElse: what follows a login is a page of this console.
func TestLoginLeadsNowhereElse(t *testing.T) {
	w := newWorld(t)
	for next, want := range map[string]string{
		"/devices/pump-01?x=1": "/devices/pump-01?x=1", "": "/", "//evil.example": "/", "https://evil.example/": "/", "/\\evil.example": "/", "\\\\evil.example": "/",
		"javascript:alert(1)": "/", "/\t/evil.example": "/", "/%09/evil.example": "/%09/evil.example", "evil": "/",
	} {
		body := w.get("/login?next=" + url.QueryEscape(next)).Body.String()
		if !strings.Contains(body, `data-next="`+strings.ReplaceAll(want, "&", "&amp;")+`"`) {
			t.Errorf("next %q is not made %q: %.300s", next, want, regexp.MustCompile(`data-next="[^"]*"`).FindString(body))
		}
	}
}

// TestOtherSitesAreRefused: no form of another site acts, and nothing is read
// but by following a link.
func TestOtherSitesAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		method string
		header map[string]string
		want   bool // refused
	}{
		"a form of the console":            {"POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, false},
		"a form of another site":           {"POST", map[string]string{"Sec-Fetch-Site": "cross-site"}, true},
		"a form of another host":           {"POST", map[string]string{"Sec-Fetch-Site": "same-site"}, true},
		"a form of nobody":                 {"POST", map[string]string{"Sec-Fetch-Site": "none"}, true},
		"an old browser's form":            {"POST", map[string]string{"Origin": "https://example.com"}, false},
		"an old browser's foreign form":    {"POST", map[string]string{"Origin": "https://evil.example"}, true},
		"a form that hides where it is of": {"POST", map[string]string{"Origin": "null"}, true},
		"a form that does not say":         {"POST", nil, true},
		"a link from another site":         {"GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, false},
		"a script of another site":         {"GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, true},
		"a typed address":                  {"GET", map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, false},
	} {
		w.asked = nil
		path := "/fleet"
		if tt.method == "POST" {
			path = "/devices/pump-01/revoke"
		}
		r := httptest.NewRequest(tt.method, "https://example.com"+path, strings.NewReader("reason=x"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for k, v := range tt.header {
			r.Header.Set(k, v)
		}
		rec := w.do(r)
		if refused := rec.Code == http.StatusForbidden && len(w.asked) == 0; refused != tt.want {
			t.Errorf("%s: status %d, the API was asked %d times", name, rec.Code, len(w.asked))
		}
	}
}

// act is what a form does.
type act struct {
	at           string // where it is posted
	form         url.Values
	method, path string // what the API is asked
	body         string // with this in it
}

func acts() []act {
	reason := url.Values{"reason": {"stolen"}, "once": {"k"}}
	form := func(pairs ...string) url.Values {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		return v
	}
	digest := strings.Repeat("ab", 32)
	return []act{
		{"/devices/pump-01/revoke", reason, "POST", "/v1/devices/pump-01/revoke", `"reason":"stolen"`},
		{"/devices/pump-01/quarantine", reason, "POST", "/v1/devices/pump-01/quarantine", `"reason":"stolen"`},
		{"/devices/pump-01/restore", reason, "POST", "/v1/devices/pump-01/restore", `"reason":"stolen"`},
		{"/devices/pump-01/method", form("method", "re boot", "payload", `{"delay":1}`, "timeout", "7"), "POST", "/v1/devices/pump-01/methods/re boot", `{"payload":{"delay":1},"timeout_seconds":7}`},
		{"/devices/pump-01/message", form("body", "hello", "expires", "60"), "POST", "/v1/devices/pump-01/messages", `"body":"hello","expires_seconds":60`},
		{"/devices/pump-01/purge", form(), "DELETE", "/v1/devices/pump-01/messages", ""},
		{"/devices/pump-01/twin", form("desired", `{"a":1}`, "tags", `{}`, "etag", "7"), "PUT", "/v1/devices/pump-01/twin", `{"tags":{},"desired":{"a":1}}`},
		{"/fleet/add", form("id", "pump-09", "group", "pumps", "token", "1"), "POST", "/v1/devices", `"id":"pump-09"`},
		{"/fleet/revoke", form("device", "pump-01", "device", "pump-02", "reason", "recall"), "POST", "/v1/devices/revoke", `"devices":["pump-01","pump-02"]`},
		{"/groups", form("id", "sensors", "policy_name", "lenient", "file_keys", "1"), "PUT", "/v1/groups/sensors", `"policy_name":"lenient"`},
		{"/groups/pumps/check", form("policy", "policy tight\n"), "POST", "/v1/policies/check", `{"group":"pumps","text":"policy tight\n"}`},
		{"/groups/pumps/policy", form("policy", "policy tight\n", "etag", "tag-1"), "PUT", "/v1/groups/pumps", `{"policy_text":"policy tight\n","file_keys":true}`},
		{"/groups/pumps/settings", form("tls12", "1", "maker_cas", "acme", "ids", "a-*\nb-*", "in_flight", "8"), "PUT", "/v1/groups/pumps", `"tls12":true,"maker_cas":["acme"],"ids":["a-*","b-*"],"limits":{"in_flight":8}`},
		{"/pending/p1/accept", form("device", "pump-09", "group", "pumps"), "POST", "/v1/pending/p1/accept", `{"device":"pump-09","group":"pumps"}`},
		{"/pending/p1/refuse", reason, "POST", "/v1/pending/p1/refuse", `"reason":"stolen"`},
		{"/alerts/a1/acknowledge", form(), "POST", "/v1/alerts/a1/acknowledge", ""},
		{"/authorities", form("name", "acme2", "kind", "maker", "class", "hardware", "pem", "PEM"), "POST", "/v1/cas", `{"name":"acme2","kind":"maker","pem":"PEM"}`},
		{"/authorities/acme/verify", form("pem", "PEM"), "POST", "/v1/cas/acme/verify", `{"pem":"PEM"}`},
		{"/references", form("group", "pumps", "kind", "firmware", "pcr", "4", "digest", digest, "name", "fw", "version", "2"), "POST", "/v1/references", `"digest":"` + digest + `"`},
		{"/references/pumps/" + digest + "/remove", form(), "DELETE", "/v1/references/pumps/" + digest, ""},
		{"/enrollments", form("kind", "group", "id", "line-4", "group", "pumps", "maker_ca", "acme", "ids", "pump-*"), "POST", "/v1/enrollments", `"ids":["pump-*"]`},
		{"/enrollments/group/line-3/enable", form(), "POST", "/v1/enrollments/group/line-3/enable", ""},
		{"/enrollments/group/line-3/disable", form(), "POST", "/v1/enrollments/group/line-3/disable", ""},
		{"/enrollments/group/line-3/remove", form(), "DELETE", "/v1/enrollments/group/line-3", ""},
		{"/rollouts", form("release", "pump/1.4.0", "group", "pumps", "group", "valves", "canary", "5%", "step", "25", "soak", "10m", "halt_on", "2.5%", "deadline", "72h", "silent_after", "30m", "windows", "22:00-04:00 12:00-13:00"), "POST", "/v1/rollouts",
			`{"product":"pump","version":"1.4.0","groups":["pumps","valves"],"canary_percent":5,"step_percent":25,"soak_seconds":600,"halt_on_percent":2.5,"deadline_seconds":259200,"silent_after_seconds":1800,"windows":[{"from":"22:00","to":"04:00"},{"from":"12:00","to":"13:00"}]}`},
		{"/rollouts", form("release", "pump/1.4.0+7", "devices", "pump-01\n pump-02", "canary", "100", "step", "100", "soak", "0s", "halt_on", "0", "deadline", "1m", "silent_after", "10s"), "POST", "/v1/rollouts",
			`"version":"1.4.0+7","devices":["pump-01","pump-02"],"canary_percent":100,"step_percent":100,"soak_seconds":0,"halt_on_percent":0,`},
		{"/rollouts/pump-x/pause", reason, "POST", "/v1/rollouts/pump-x/pause", `{"reason":"stolen"}`},
		{"/rollouts/pump-x/resume", form("etag", "tag-7"), "POST", "/v1/rollouts/pump-x/resume", `{}`},
		{"/rollouts/pump-x/halt", reason, "POST", "/v1/rollouts/pump-x/halt", `{"reason":"stolen"}`},
		{"/rollouts/pump-x/retry", form("device", "pump-01", "device", "pump-02"), "POST", "/v1/rollouts/pump-x/retry", `{"devices":["pump-01","pump-02"]}`},
		{"/operators", form("name", "eve", "role", "viewer", "groups", "pumps valves"), "POST", "/v1/accounts", `{"name":"eve","role":"viewer","groups":["pumps","valves"]}`},
		{"/operators/eve/change", form("role", "operator"), "PUT", "/v1/accounts/eve", `{"name":"eve","role":"operator"}`},
		{"/operators/eve/revoke", reason, "POST", "/v1/accounts/eve/revoke", `"reason":"stolen"`},
		{"/operators/link", form("account", "eve"), "POST", "/v1/logins/link", `{"account":"eve"}`},
		{"/logins/l2/end", form(), "DELETE", "/v1/logins/l2", ""},
		{"/tokens/t1/revoke", form(), "DELETE", "/v1/tokens/t1", ""},
		{"/account/tokens", form("name", "report", "role", "viewer", "days", "30"), "POST", "/v1/tokens", `{"name":"report","role":"viewer","ttl_seconds":2592000}`},
		{"/account/tokens/t1/revoke", form(), "DELETE", "/v1/tokens/t1", ""},
		{"/account/logins/l2/end", form(), "DELETE", "/v1/logins/l2", ""},
	}
}

// TestEveryActAsksTheAPI in the name of who is logged in, and says so.
func TestEveryActAsksTheAPI(t *testing.T) {
	for _, a := range acts() {
		w := newWorld(t)
		w.answers[a.method+" "+a.path] = map[string]any{}
		delete(w.answers, "GET /v1/groups/sensors")
		if a.at == "/groups/pumps/check" {
			w.answers[a.method+" "+a.path] = newAPI().answers["POST /v1/policies/check"]
		}
		rec := w.post(a.at, a.form)
		if rec.Code != http.StatusSeeOther && rec.Code != http.StatusOK {
			t.Errorf("%s: status %d: %s", a.at, rec.Code, refusedText(rec))
			continue
		}
		got := w.last(t, a.method, a.path)
		if !strings.Contains(got.body, a.body) || got.who.Name != "ada" {
			t.Errorf("%s: the API was asked by %q: %s; want %s", a.at, got.who.Name, got.body, a.body)
		}
		if once := got.header.Get("Idempotency-Key"); a.method == "POST" && once != a.form.Get("once") {
			t.Errorf("%s: the request's name is %q", a.at, once)
		}
		if to := rec.Header().Get("Location"); rec.Code == http.StatusSeeOther && (!strings.HasPrefix(to, "/") || !strings.Contains(to, "done=")) {
			t.Errorf("%s: leads to %q", a.at, to)
		}
	}
}

func refusedText(rec *httptest.ResponseRecorder) string {
	return strings.Join(regexp.MustCompile(`class="refused"[^<]*<`).FindAllString(rec.Body.String(), -1), " ")
}

// TestRefusalsAreShownWithWhatWasTyped: and with the status of the API.
func TestRefusalsAreShownWithWhatWasTyped(t *testing.T) {
	for _, a := range acts() {
		w := newWorld(t)
		w.refuse[a.method+" "+a.path] = &refusal{Status: 409, Detail: "no, for <reasons>"}
		rec := w.post(a.at, a.form)
		body := rec.Body.String()
		if rec.Code != http.StatusConflict || !strings.Contains(body, "no, for &lt;reasons&gt;") {
			t.Errorf("%s: status %d, shown %q", a.at, rec.Code, refusedText(rec))
		}
	}
	w := newWorld(t)
	w.refuse["POST /v1/devices/pump-01/revoke"] = &refusal{Status: 400, Detail: "odd"}
	if body := w.post("/devices/pump-01/revoke", url.Values{"reason": {`so "typed"`}}).Body.String(); !strings.Contains(body, `value="so &#34;typed&#34;"`) ||
		!strings.Contains(body, `<details id="revoke" open>`) {
		t.Error("what was typed is lost")
	}
}

// TestMistypedFormsAskNothing: what cannot be right is said before the API is
// asked to do it.
func TestMistypedFormsAskNothing(t *testing.T) {
	for at, form := range map[string]url.Values{
		"/devices/pump-01/method":  {"method": {"x"}, "payload": {"{"}},
		"/devices/pump-01/message": {"expires": {"soon"}},
		"/devices/pump-01/twin":    {"desired": {"nope"}},
		"/fleet/revoke":            {"reason": {"x"}},
		"/groups/pumps/check":      {"policy": {""}},
		"/groups/pumps/settings":   {"in_flight": {"many"}},
		"/references":              {"digest": {"xyz"}},
		"/account/tokens":          {"name": {"x"}, "days": {"4000"}},
		"/rollouts":                {"release": {"pump/1.4.0"}},
	} {
		w := newWorld(t)
		rec := w.post(at, form)
		if rec.Code != http.StatusUnprocessableEntity || refusedText(rec) == "" {
			t.Errorf("%s: status %d", at, rec.Code)
		}
		for _, a := range w.asked {
			if a.method != "GET" {
				t.Errorf("%s asked %s %s", at, a.method, a.path)
			}
		}
	}
}

// TestStepUpKeepsTheForm: what needs a fresh proof is asked again after it, with
// what was typed.
func TestStepUpKeepsTheForm(t *testing.T) {
	w := newWorld(t)
	w.refuse["PUT /v1/groups/pumps"] = &refusal{Type: "https://holdfast.invalid/problems/step-up", Status: 403, Detail: "prove once more who you are"}
	rec := w.post("/groups/pumps/policy", url.Values{"policy": {`{"name":"<b>"}`}, "etag": {"tag-1"}, "once": {"k"}})
	body := rec.Body.String()
	for _, want := range []string{`action="/groups/pumps/policy"`, "data-step-up", `name="policy" value="{&#34;name&#34;:&#34;&lt;b&gt;&#34;}"`, `name="etag" value="tag-1"`} {
		if rec.Code != http.StatusForbidden || !strings.Contains(body, want) {
			t.Errorf("status %d, no %s in the page", rec.Code, want)
		}
	}
	if strings.Contains(body, `name="once" value="k"`) {
		t.Error("the request keeps the name under which it was refused")
	}
}

// TestHostileTextStaysText stuffs markup into everything that the API answers
// with.
func TestHostileTextStaysText(t *testing.T) {
	const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1)>`
	w := newWorld(t)
	for key, v := range w.answers {
		w.answers[key] = spoil(t, v, evil)
	}
	for _, path := range pages() {
		rec := w.get(path)
		if rec.Code != http.StatusOK {
			t.Errorf("%s: status %d: %s", path, rec.Code, refusedText(rec))
		}
		if body := rec.Body.String(); strings.Contains(body, "<script>") || strings.Contains(body, "<img src=x") || !strings.Contains(body, "&lt;script&gt;") {
			t.Errorf("%s: markup is not made text", path)
		}
	}
}

// TestNobodySeesWhatTheyMayNotDo: a viewer has no forms but the one to log out
// and those of its own account.
func TestNobodySeesWhatTheyMayNotDo(t *testing.T) {
	w := newWorld(t)
	w.who.Role = operator.RoleViewer
	post := regexp.MustCompile(`<form [^>]*method="post"[^>]*action="([^"]*)"`)
	for _, path := range pages() {
		if path == "/account" || path == "/operators" {
			continue
		}
		for _, m := range post.FindAllStringSubmatch(w.get(path).Body.String(), -1) {
			if m[1] != "/auth/logout" && m[1] != "/devices/pump-01/twin" && m[1] != "/groups/pumps/check" {
				t.Errorf("%s has a form to %s", path, m[1])
			}
		}
	}
}

// TestReleasesAreShown: what runs, how long it has been behind, and that what
// signers said is not for operators to remove.
func TestReleasesAreShown(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string][]string{
		"/fleet":           {"pump-fw 1.2.0", "12 days behind 1.4.0", `title="it leaks">withdrawn<`},
		"/devices/pump-01": {"pump 1.3.0", "12 days behind 1.4.0", `title="it leaks">withdrawn<`, identity.Sum([]byte("fw")).String(), "security version 6, counter at 6"},
		"/groups":          {"product pump"},
		"/groups/pumps":    {"product pump", `<input name="product" maxlength="32" autocomplete="off" spellcheck="false" placeholder="none" value="pump">`},
		"/references":      {"published release", "its signers withdraw it", "Remove pump-fw"},
	} {
		body := w.get(path).Body.String()
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("%s: no %q", path, text)
			}
		}
	}
	if body := w.get("/references").Body.String(); strings.Contains(body, "Remove pump<") {
		t.Error("a published release can be removed")
	}
}

// TestProductIsSet: an empty field takes the product away.
func TestProductIsSet(t *testing.T) {
	for typed, want := range map[string]string{"": operator.NoProduct, " pump ": "pump"} {
		w := newWorld(t)
		w.post("/groups/pumps/settings", url.Values{"once": {"x"}, "product": {typed}})
		if got := w.last(t, http.MethodPut, "/v1/groups/pumps").body; !strings.Contains(got, `"product":"`+want+`"`) {
			t.Errorf("%q: set to %s", typed, got)
		}
	}
}

// TestSettingsHaveEveryLimit: what a form leaves out it would take away.
func TestSettingsHaveEveryLimit(t *testing.T) {
	body := newWorld(t).get("/groups/pumps").Body.String()
	for f := range reflect.TypeFor[operator.Limits]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.Contains(body, `<input name="`+name+`"`) {
			t.Errorf("the form has no field %s", name)
		}
	}
	for f := range reflect.TypeFor[operator.SetGroup]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.HasPrefix(name, "policy") && name != "limits" && !strings.Contains(body, ` name="`+name+`"`) {
			t.Errorf("the form has no field %s", name)
		}
	}
}
