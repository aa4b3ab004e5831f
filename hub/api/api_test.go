package api_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/hub/api"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

// ops may do everything, and has just proved who they are.
func ops() operator.Principal {
	return operator.Principal{Name: "ops", Role: operator.RoleAdministrator, Via: operator.ViaCertificate, Remote: "192.0.2.7", Proved: time.Now()}
}

func (p *plane) call(method, path, body string) *httptest.ResponseRecorder {
	return p.as(ops(), method, path, body)
}

func TestEveryRouteAsksForWhatItSays(t *testing.T) {
	w, digest := newPlane(), identity.Sum([]byte("x")).String()
	for _, tt := range []struct{ method, path, body, want string }{
		{"GET", "/v1/hub", "", "hub"},
		{"GET", "/v1/groups", "", "groups"},
		{"PUT", "/v1/groups/pumps", `{"policy_name":"bench"}`, "ops set pumps"},
		{"POST", "/v1/cas/maker/verify", `{"pem":"x"}`, "ops verify maker"},
		{"GET", "/v1/cas", "", "cas"},
		{"POST", "/v1/cas", `{"name":"maker","kind":"maker","pem":"x"}`, "ops add maker"},
		{"GET", "/v1/devices?group=pumps&status=trusted", "", "devices pumps trusted  1000 []"},
		{"POST", "/v1/devices", `{"id":"new-01","group":"pumps","token":true}`, "ops add new-01"},
		{"GET", "/v1/devices/pump-01", "", "device pump-01"},
		{"POST", "/v1/devices/pump-01/revoke", `{"reason":"stolen"}`, "ops revoke pump-01 stolen"},
		{"GET", "/v1/pending", "", "pending"},
		{"POST", "/v1/pending/r1/accept", `{"device":"pump-01","group":"pumps"}`, "ops accept r1 pump-01"},
		{"POST", "/v1/pending/r1/refuse", `{"reason":"not ours"}`, "ops refuse r1 not ours"},
		{"GET", "/v1/references?group=pumps", "", "references pumps"},
		{"POST", "/v1/references", `{"group":"pumps","kind":"firmware","pcr":4,"digest":"` + digest + `","name":"fw"}`, "ops add fw"},
		{"DELETE", "/v1/references/pumps/" + digest, "", "ops remove pumps"},
		{"GET", "/v1/auditors", "", "auditors"},
		{"POST", "/v1/auditors", `{"name":"lab","key":"x"}`, "ops add auditor lab"},
		{"DELETE", "/v1/auditors/lab", "", "ops remove auditor lab"},
		{"GET", "/v1/audits", "", "audits 0000"},
		{"GET", "/v1/audits?measured=" + digest, "", "audits " + digest[:4]},
		{"GET", "/v1/audits/" + digest, "", "audit " + digest[:4]},
		{"POST", "/v1/audits", `{"envelope":"` + strings.Repeat("eHh4", 1<<20) + `"}`, "ops add audit 3145728"},
		{"DELETE", "/v1/audits/" + digest, "", "ops remove audit " + digest[:4]},
		{"GET", "/v1/ledger?from=1&newest=true&device=pump-01&kind=k", "", "ledger 1 1000 true pump-01 k"},
		{"GET", "/v1/events?device=pump-01", "", "events pump-01 "},
		{"GET", "/v1/repository", "", "repository"},
		{"GET", "/v1/repository/metadata", "", "metadata"},
		{"POST", "/v1/repository/metadata", `{"files":{"1.root.json":"e30=","1.pump.json":"e30="}}`, "ops publish 2"},
		{"GET", "/v1/repository/blobs/" + digest, "", "blob " + digest[:4]},
		{"HEAD", "/v1/repository/blobs/" + digest, "", "blob " + digest[:4]},
		{"PUT", "/v1/repository/blobs/" + digest, strings.Repeat("x", 3<<20), "put " + digest[:4] + " 3145728 3145728"},
		{"GET", "/v1/releases?product=pump", "", "releases pump"},
		{"GET", "/v1/releases/pump/1.4.0+7", "", "release pump 1.4.0+7"},
		{"GET", "/v1/rollouts?product=pump&stage=halted", "", "rollouts pump halted"},
		{"POST", "/v1/rollouts", `{"product":"pump","version":"1.4.0+7","groups":["pumps"],"soak_seconds":0,"halt_on_percent":2}`, "ops start pump 1.4.0+7"},
		{"POST", "/v1/rollouts/pump-x/halt", `{"reason":"odd"}`, "ops halt pump-x odd "},
		{"GET", "/v1/devices/pump-01/rollouts", "", "rollouts of pump-01"},
		{"GET", "/v1/rollouts/pump-x/devices?state=failed&after=a", "", "devices of pump-x failed a"},
	} {
		rec := w.call(tt.method, tt.path, tt.body)
		if asked := w.took(); rec.Code >= 300 || len(asked) != 1 || asked[0] != tt.want {
			t.Errorf("%s %s: status %d, asked %q, want %q; %s", tt.method, tt.path, rec.Code, asked, tt.want, rec.Body)
		}
	}
}

func TestEveryAnswerCarriesTheHead(t *testing.T) {
	for _, path := range []string{"/v1/hub", "/v1/devices/!", "/v1/nothing", "/openapi.json"} {
		rec := newPlane().call("GET", path, "")
		b, err := base64.StdEncoding.DecodeString(rec.Header().Get(operator.HeadHeader))
		var h ledger.Head
		if err != nil || json.Unmarshal(b, &h) != nil || h.Seq != 42 {
			t.Errorf("%s: head %q", path, rec.Header().Get(operator.HeadHeader))
		}
	}
}

func TestWrongRequestsAreRefusedBeforeAnybodyIsAsked(t *testing.T) {
	w := newPlane()
	for name, tt := range map[string]struct{ method, path, body string }{
		"an unknown member":        {"POST", "/v1/devices", `{"id":"a","group":"g","admin":true}`},
		"a missing member":         {"POST", "/v1/devices", `{"id":"a"}`},
		"an unknown parameter":     {"GET", "/v1/devices?grop=pumps", ""},
		"no JSON":                  {"POST", "/v1/devices", `id=a`},
		"no body":                  {"POST", "/v1/devices", ""},
		"a device id that is none": {"GET", "/v1/devices/%2e%2e%2fetc", ""},
		"a group that is none":     {"PUT", "/v1/groups/a%20b", `{"policy_name":"bench"}`},
		"an unknown verb":          {"POST", "/v1/devices/pump-01/explode", `{"reason":"x"}`},
		"no reason":                {"POST", "/v1/devices/pump-01/revoke", `{"reason":""}`},
		"a long reason":            {"POST", "/v1/devices/pump-01/revoke", `{"reason":"` + strings.Repeat("x", 401) + `"}`},
		"an unknown kind of CA":    {"POST", "/v1/cas", `{"name":"m","kind":"root","pem":"x"}`},
		"a digest that is none":    {"DELETE", "/v1/references/pumps/xyz", ""},
		"a record before all":      {"GET", "/v1/ledger?from=0", ""},
		"a status that is none":    {"GET", "/v1/devices?status=fine", ""},
		"too many records":         {"GET", "/v1/ledger?limit=100000", ""},
		"events of no device":      {"GET", "/v1/events?device=a%2fb", ""},
		"events since yesterday":   {"GET", "/v1/events?since=yesterday", ""},
		"a body without end":       {"PUT", "/v1/groups/pumps", `{"policy_name":"` + strings.Repeat("x", 1<<20) + `"}`},
		"a version that is none":   {"POST", "/v1/rollouts", `{"product":"pump","version":"1.4","groups":["pumps"],"soak_seconds":0,"halt_on_percent":2}`},
		"a product that is none":   {"POST", "/v1/rollouts", `{"product":"Pump","version":"1.4.0","groups":["pumps"],"soak_seconds":0,"halt_on_percent":2}`},
		"a rollout without a rate": {"POST", "/v1/rollouts", `{"product":"pump","version":"1.4.0","groups":["pumps"],"soak_seconds":0}`},
		"more than all":            {"POST", "/v1/rollouts", `{"product":"pump","version":"1.4.0","groups":["pumps"],"soak_seconds":0,"halt_on_percent":2,"canary_percent":101}`},
		"an unknown verb of one":   {"POST", "/v1/rollouts/pump-x/explode", `{}`},
		"a rollout's id":           {"GET", "/v1/rollouts/..%2fhub", ""},
		"a publication too long":   {"POST", "/v1/repository/metadata", `{"files":{"1.pump.json":"` + strings.Repeat("a", 5<<20) + `"}}`},
		"a digest in capitals":     {"PUT", "/v1/repository/blobs/" + strings.Repeat("AB", 32), "x"},
		"a version of a release":   {"GET", "/v1/releases/pump/latest", ""},
		"a statement too long":     {"POST", "/v1/audits", `{"envelope":"` + strings.Repeat("eHh4", 2<<20) + `"}`},
		"statements of what":       {"GET", "/v1/audits?measured=latest", ""},
		"an auditor with a role":   {"POST", "/v1/auditors", `{"name":"lab","key":"x","role":"viewer"}`},
		"an unknown path":          {"GET", "/v1/secrets", ""},
		"an unknown method":        {"DELETE", "/v1/devices/pump-01", ""},
	} {
		rec := w.call(tt.method, tt.path, tt.body)
		if asked := w.took(); rec.Code < 400 || rec.Code >= 500 || len(asked) != 0 {
			t.Errorf("%s: status %d, asked %q; %s", name, rec.Code, asked, rec.Body)
		}
	}
}

func TestErrorsBecomeProblems(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		detail string
	}{
		{fault.New(fault.Invalid, "odd"), 400, "odd"},
		{fault.New(fault.Denied, "no"), 403, "no"},
		{fault.New(fault.NotFound, "there is no device %q", "a"), 404, `there is no device "a"`},
		{fault.New(fault.Conflict, "exists"), 409, "exists"},
		{fault.New(fault.Unavailable, "disk full"), 503, "disk full"},
		{fault.Hide(fault.Integrity, "does not verify", errors.New("r is 0")), 422, "does not verify"},
		{errors.New("SELECT secret"), 500, "internal error"},
	} {
		w := newPlane()
		w.err = tt.err
		rec := w.call("GET", "/v1/devices/a", "")
		var p struct {
			Status int    `json:"status"`
			Detail string `json:"detail"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Code != tt.status || p.Status != tt.status || p.Detail != tt.detail {
			t.Errorf("%v: %d %s", tt.err, rec.Code, rec.Body)
		}
		if ct := rec.Header().Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%v: content type %q", tt.err, ct)
		}
		if internal := tt.status == 500; strings.Contains(w.log.String(), "SELECT") != internal {
			t.Errorf("%v: the log has %q", tt.err, &w.log)
		}
	}
}

func TestEventsAreALineEach(t *testing.T) {
	rec := newPlane().call("GET", "/v1/events", "")
	var bodies []string
	for _, line := range strings.Split(strings.TrimSpace(rec.Body.String()), "\n") {
		var e operator.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, e.Body+"|"+string(e.Base64))
	}
	if d := cmp.Diff([]string{"<b>\npump-01|", "<b>\nfan-01|", "<b>\n|", "|\xff\x00"}, bodies); d != "" {
		t.Error(d)
	}
}

// A stream that breaks is cut off: its reader must not take a part for all.
func TestEventsThatBreakAreCutOff(t *testing.T) {
	w := newPlane()
	w.err = errors.New("disk")
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("the handler ended with %v", p)
		}
	}()
	w.call("GET", "/v1/events", "")
}

func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	b, err := api.OpenAPI("1")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, methods := range doc.Paths {
		n += len(methods)
	}
	want := 0
	for id := range api.Rights() {
		if !strings.Contains(id, ":") {
			want++
		}
	}
	if n != want {
		t.Errorf("%d operations are described, want %d", n, want)
	}
	if rec := newPlane().call("GET", "/openapi.json", ""); rec.Code != 200 {
		t.Errorf("/openapi.json: %d", rec.Code)
	}
}
