package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

func TestStrangeInputIsRefused(t *testing.T) {
	p := newPlane()
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
	}{
		"a body that is too large":       {"POST", "/v1/devices/pump-01/messages", `{"body":"` + strings.Repeat("x", 1<<20) + `"}`, 413},
		"a body without a type":          {"POST", "/v1/devices", `{"id":7,"group":"pumps"}`, 422},
		"an unknown member":              {"PUT", "/v1/groups/pumps", `{"policy_nam":"bench"}`, 422},
		"a member within a member":       {"PUT", "/v1/groups/pumps", `{"limits":{"message_per_second":1}}`, 422},
		"a member in other letters":      {"PUT", "/v1/groups/pumps", `{"Policy_Name":"bench"}`, 422},
		"a member twice":                 {"POST", "/v1/devices", `{"id":"a","id":"b","group":"pumps"}`, 400},
		"text that is none":              {"POST", "/v1/devices/pump-01/revoke", "{\"reason\":\"\xff\"}", 400},
		"what is only read":              {"POST", "/v1/accounts", `{"name":"bob","role":"viewer","by":7}`, 422},
		"a role that is none":            {"POST", "/v1/accounts", `{"name":"bob","role":"root"}`, 422},
		"a sort that is none":            {"GET", "/v1/fleet?sort=id;drop", "", 422},
		"a page that is too long":        {"GET", "/v1/fleet?limit=501", "", 422},
		"a step that is too short":       {"GET", "/v1/series?step=1", "", 422},
		"a series that is too long":      {"GET", "/v1/series?step=10&since=2020-01-01T00:00:00Z", "", 400},
		"HTML in a device's id":          {"POST", "/v1/devices", `{"id":"<script>alert(1)</script>","group":"pumps","token":true}`, 422},
		"HTML in a path":                 {"GET", "/v1/devices/%3Cimg%20src%3Dx%3E", "", 422},
		"a line break in a path":         {"GET", "/v1/devices/a%0d%0aSet-Cookie:%20x=1", "", 422},
		"a line break in a group's name": {"GET", "/v1/groups/a%0d%0aX:1", "", 422},
		"an ETag without quotes":         {"PUT", "/v1/groups/pumps", `{}`, 400},
	} {
		var header []string
		if strings.Contains(name, "ETag") {
			header = []string{"If-Match", "abc"}
		}
		rec := p.as(ops(), tt.method, tt.path, tt.body, header...)
		if asked := p.took(); rec.Code != tt.status || len(asked) != 0 {
			t.Errorf("%s: %d %s, asked %q", name, rec.Code, rec.Body, asked)
		}
		if h := rec.Header(); h.Get("Content-Type") != "application/problem+json" || h.Get("Set-Cookie") != "" || h.Get("X") != "" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: header %v", name, h)
		}
	}
}

// A reason is text: it is kept as it is, and what answers with it is never HTML.
func TestReasonsAreText(t *testing.T) {
	p := newPlane()
	rec := p.as(ops(), "POST", "/v1/devices/pump-01/quarantine", `{"reason":"<b>odd</b> & \"loud\""}`)
	if asked := p.took(); rec.Code != 200 || len(asked) != 1 || asked[0] != `ops quarantine pump-01 <b>odd</b> & "loud"` {
		t.Errorf("%d %s, asked %q", rec.Code, rec.Body, asked)
	}
	if ct := rec.Header().Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q", ct)
	}
}

func TestGroupsHaveVersions(t *testing.T) {
	p := newPlane()
	tag := p.as(ops(), "GET", "/v1/groups/pumps", "").Header().Get("ETag")
	if len(tag) != 34 {
		t.Fatalf("ETag %q", tag)
	}
	for _, tt := range []struct {
		name, path, match string
		status            int
	}{
		{"as it is", "pumps", tag, 200},
		{"any", "pumps", "*", 200},
		{"none asked for", "new", "", 200},
		{"another version", "pumps", `"0123456789abcdef0123456789abcdef"`, 412},
		{"another group's version", "fans", tag, 412},
		{"of a group that is not", "new", "*", 412},
		{"a weak one", "pumps", "W/" + tag, 400},
		{"two", "pumps", tag + ", " + tag, 400},
		{"without quotes", "pumps", strings.Trim(tag, `"`), 400},
		{"half of its quotes", "pumps", `"`, 400},
	} {
		var header []string
		if tt.match != "" {
			header = []string{"If-Match", tt.match}
		}
		rec := p.as(ops(), "PUT", "/v1/groups/"+tt.path, `{"file_keys":true}`, header...)
		if asked := only(p.took(), " set "); rec.Code != tt.status || (len(asked) == 1) != (tt.status == 200) {
			t.Errorf("%s: %d %s, asked %q", tt.name, rec.Code, rec.Body, asked)
		}
		if now := rec.Header().Get("ETag"); tt.status == 200 && (now == "" || now == tag) {
			t.Errorf("%s: ETag %q of the changed group, %q before", tt.name, now, tag)
		}
	}
}

func TestTwinsHaveVersions(t *testing.T) {
	p := newPlane()
	if tag := p.as(ops(), "GET", "/v1/devices/pump-01/twin", "").Header().Get("ETag"); tag != `"abc"` {
		t.Errorf("ETag %q", tag)
	}
	p.took()
	for match, want := range map[string]string{"": "ops set twin pump-01 ", "*": "ops set twin pump-01 *", `"abc"`: "ops set twin pump-01 abc"} {
		rec := p.as(ops(), "PATCH", "/v1/devices/pump-01/twin", `{"tags":{}}`, "If-Match", match)
		if asked := p.took(); rec.Code != 200 || len(asked) != 1 || asked[0] != want {
			t.Errorf("%q: %d, asked %q", match, rec.Code, asked)
		}
	}
	if rec := p.as(ops(), "PUT", "/v1/devices/pump-01/twin", `{"tags":{}}`, "If-Match", "abc"); rec.Code != 400 || len(p.took()) != 0 {
		t.Errorf("without quotes: %d", rec.Code)
	}
}

func TestRolloutsHaveVersions(t *testing.T) {
	p := newPlane()
	if tag := p.as(ops(), "GET", "/v1/rollouts/pump-x", "").Header().Get("ETag"); tag != `"abc"` {
		t.Errorf("ETag %q", tag)
	}
	for match, want := range map[string]string{"": "ops pause pump-x  ", "*": "ops pause pump-x  *", `"abc"`: "ops pause pump-x  abc"} {
		rec := p.as(ops(), "POST", "/v1/rollouts/pump-x/pause", `{}`, "If-Match", match)
		if asked := p.took(); rec.Code != 200 || len(asked) != 1 || asked[0] != want || rec.Header().Get("ETag") != `"abd"` {
			t.Errorf("%q: %d, asked %q", match, rec.Code, asked)
		}
	}
	if rec := p.as(ops(), "POST", "/v1/rollouts/pump-x/pause", `{}`, "If-Match", "abc"); rec.Code != 400 || len(p.took()) != 0 {
		t.Errorf("without quotes: %d", rec.Code)
	}
}

// A rollout is there for who is for all of its groups.
func TestAnotherGroupsRolloutIsNotThere(t *testing.T) {
	p, who := newPlane(), operator.Principal{Name: "ada", Role: operator.RoleOperator, Groups: []identity.Group{"pumps"}, Via: operator.ViaPasskey, Proved: time.Now()}
	for _, id := range []string{"fan-x", "all-x", "gone-x", "pump-x"} {
		for _, r := range []struct{ method, path, body string }{{"GET", "", ""}, {"GET", "/devices", ""}, {"POST", "/halt", "{}"}, {"POST", "/retry", "{}"}} {
			rec := p.as(who, r.method, "/v1/rollouts/"+id+r.path, r.body)
			mine := id == "pump-x"
			if asked := p.took(); (rec.Code == 200) != mine || !mine && (rec.Code != 404 || len(asked) != 0 || !strings.Contains(rec.Body.String(), "there is no rollout")) {
				t.Errorf("%s %s%s: %d %s, asked %q", r.method, id, r.path, rec.Code, rec.Body, asked)
			}
		}
	}
	for body, status := range map[string]int{`"groups":["pumps"]`: 200, `"groups":["pumps","fans"]`: 404, `"devices":["pump-01"]`: 200, `"devices":["pump-01","fan-01"]`: 404, `"devices":["gone"]`: 404} {
		rec := p.as(who, "POST", "/v1/rollouts", `{"product":"pump","version":"1.4.0","soak_seconds":0,"halt_on_percent":2,`+body+`}`)
		if asked := p.took(); rec.Code != status || (len(asked) == 1) != (status == 200) {
			t.Errorf("%s: %d %s, asked %q", body, rec.Code, rec.Body, asked)
		}
	}
}

const revokePump = `{"reason":"stolen"}`

func TestARequestSentTwiceIsDoneOnce(t *testing.T) {
	p := newPlane()
	const path = "/v1/devices/pump-01/revoke"
	first := p.as(ops(), "POST", path, revokePump, "Idempotency-Key", "k1")
	again := p.as(ops(), "POST", path, revokePump, "Idempotency-Key", "k1")
	if asked := p.took(); len(asked) != 1 || first.Code != 200 || again.Code != 200 || first.Body.String() != again.Body.String() {
		t.Errorf("asked %q; %d %s, then %d %s", asked, first.Code, first.Body, again.Code, again.Body)
	}
	if a, b := first.Header().Get("Content-Type"), again.Header().Get("Content-Type"); a != b || again.Header().Get(operator.HeadHeader) == "" {
		t.Errorf("header %v, then %v", first.Header(), again.Header())
	}
	other, token := ops(), ops()
	other.Name, token.Via, token.Credential = "bob", operator.ViaToken, "t1"
	for _, tt := range []struct {
		name       string
		who        operator.Principal
		path, body string
		key        string
		status     int
		asked      int
	}{
		{"another body", ops(), path, `{"reason":"lost"}`, "k1", 422, 0},
		{"another path", ops(), "/v1/devices/pump-01/quarantine", revokePump, "k1", 422, 0},
		{"another name", ops(), path, revokePump, "k2", 200, 1},
		{"another operator", other, path, revokePump, "k1", 200, 1},
		{"another credential", token, path, revokePump, "k1", 200, 1},
		{"no name", ops(), path, revokePump, "", 400, 0},
		{"a name of two words", ops(), path, revokePump, "a b", 400, 0},
		{"a name that is too long", ops(), path, revokePump, strings.Repeat("k", 129), 400, 0},
		{"a refused request", ops(), "/v1/devices/pump-02/revoke", revokePump, "k3", 409, 1},
		{"a refused request again", ops(), "/v1/devices/pump-02/revoke", revokePump, "k3", 409, 0},
	} {
		rec := p.as(tt.who, "POST", tt.path, tt.body, "Idempotency-Key", tt.key)
		if asked := p.took(); rec.Code != tt.status || len(asked) != tt.asked {
			t.Errorf("%s: %d %s, asked %q", tt.name, rec.Code, rec.Body, asked)
		}
	}
	if rec := p.as(ops(), "POST", path, revokePump, "Idempotency-Key", "a", "Idempotency-Key", "b"); rec.Code != 400 {
		t.Errorf("two names: %d", rec.Code)
	}
}

// The second waits for the first, and has its answer.
func TestARequestSentTwiceAtOnce(t *testing.T) {
	p := newPlane()
	p.wait = make(chan struct{})
	var both sync.WaitGroup
	codes := make([]int, 8)
	for i := range codes {
		both.Go(func() {
			codes[i] = p.as(ops(), "POST", "/v1/devices/pump-01/revoke", revokePump, "Idempotency-Key", "k").Code
		})
	}
	p.wait <- struct{}{} // the first one is let go: there is no other
	both.Wait()
	if asked := p.took(); len(asked) != 1 {
		t.Errorf("asked %q", asked)
	}
	for _, code := range codes {
		if code != 200 {
			t.Errorf("answered %v", codes)
		}
	}
}

// What is remembered is bounded: the oldest is forgotten, and then done again.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	p := newPlane()
	send := func(i int) {
		p.as(ops(), "POST", "/v1/alerts/a/acknowledge", "", "Idempotency-Key", strconv.Itoa(i))
	}
	for i := range 4097 {
		send(i)
	}
	p.took()
	send(4096)
	if asked := p.took(); len(asked) != 0 {
		t.Errorf("the newest was forgotten: %q", asked)
	}
	send(0)
	if asked := p.took(); len(asked) != 1 {
		t.Errorf("the oldest was not forgotten: %q", asked)
	}
}

func TestLedgerOfAGroup(t *testing.T) {
	p := newPlane()
	who := operator.Principal{Name: "ada", Role: operator.RoleViewer, Groups: []identity.Group{"pumps"}}
	for _, tt := range []struct {
		query string
		want  []uint64
	}{{"", []uint64{2, 4}}, {"?limit=1", []uint64{2}}} {
		rs := decode[[]ledger.Record](t, p.as(who, "GET", "/v1/ledger"+tt.query, ""))
		if len(rs) != len(tt.want) {
			t.Fatalf("%q: %+v", tt.query, rs)
		}
		for i, r := range rs {
			if r.Seq != tt.want[i] {
				t.Errorf("%q: record %d, want %d", tt.query, r.Seq, tt.want[i])
			}
		}
	}
}

func decode[T any](t *testing.T, rec *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, rec.Body)
	}
	return v
}

// listen opens the stream of events as a browser does.
func listen(t *testing.T, p *plane, who operator.Principal, query string, header ...string) (lines chan string, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, stop := context.WithCancel(operator.With(r.Context(), who))
		defer stop()
		defer context.AfterFunc(t.Context(), stop)()
		p.handler.ServeHTTP(w, r.WithContext(ctx))
	}))
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" || resp.StatusCode != 200 {
		t.Fatalf("%s, %q", resp.Status, ct)
	}
	lines = make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines, func() { cancel(); resp.Body.Close(); srv.Close() }
}

// Server-sent events: an id and a line of data each, whatever a device sent;
// of the groups that whoever asks sees; from the last one on.
func TestServerSentEvents(t *testing.T) {
	p := newPlane()
	who := operator.Principal{Name: "ada", Role: operator.RoleViewer, Groups: []identity.Group{"pumps"}}
	lines, end := listen(t, p, who, "", "Accept", "text/event-stream", "Last-Event-ID", "1-0")
	defer end()
	want := []string{"id: 1-pump-01", `data: {"id":"1-pump-01","device":"pump-01","kind":"telemetry","time":"0001-01-01T00:00:00Z","body":"\u003cb\u003e\npump-01"}`, ""}
	for _, w := range want {
		if got := <-lines; got != w {
			t.Errorf("line %q, want %q", got, w)
		}
	}
	p.block <- operator.Event{ID: "2", Device: "fan-01"}
	p.block <- operator.Event{ID: "3", Device: "pump-01"}
	if got := <-lines; got != "id: 3" {
		t.Errorf("then %q", got)
	}
	if asked := p.took(); len(asked) != 1 || asked[0] != "events  1-0" {
		t.Errorf("asked %q", asked)
	}
}

func TestDocs(t *testing.T) {
	p := newPlane()
	rec := p.as(ops(), "GET", "/docs", "")
	page := rec.Body.String()
	if rec.Code != 200 || strings.Contains(page, "<script") || !strings.HasPrefix(rec.Header().Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") {
		t.Errorf("%d, header %v", rec.Code, rec.Header())
	}
	for _, o := range describedAPI(t).Operations() {
		if !strings.Contains(page, `id="`+o.ID+`"`) || !strings.Contains(page, o.Path) {
			t.Errorf("%s is not on the page", o.ID)
		}
	}
	for _, text := range []string{"Takes the role administrator.", "Dangerous", "#schema-SetGroup", "If-Match"} {
		if !strings.Contains(page, text) {
			t.Errorf("the page does not have %q", text)
		}
	}
	for _, path := range []string{"/openapi.json", "/openapi-3.0.json"} {
		if rec := p.as(ops(), "GET", path, ""); rec.Code != 200 || rec.Header().Get("Content-Type") != "application/openapi+json" {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	if rec := p.as(operator.Principal{}, "GET", "/docs", ""); rec.Code != 401 {
		t.Errorf("for nobody: %d", rec.Code)
	}
}
