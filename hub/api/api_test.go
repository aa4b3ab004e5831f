package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/hub/api"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/ledger"
	"holdfast/operator"
)

// services answer every call of the API with err, or say what was asked.
type services struct {
	err   error
	asked []string
}

func (s *services) ask(words ...string) error {
	s.asked = append(s.asked, strings.Join(words, " "))
	return s.err
}

func (s *services) SetGroup(_ context.Context, by string, id identity.Group, g operator.SetGroup) (operator.Group, error) {
	return operator.Group{ID: id}, s.ask(by, "set", string(id), g.PolicyName)
}
func (s *services) Groups(context.Context) ([]operator.Group, error) {
	return []operator.Group{}, s.ask("groups")
}
func (s *services) AddCA(_ context.Context, by string, ca operator.CA) (operator.CA, error) {
	return ca, s.ask(by, "add", ca.Name)
}
func (s *services) CAs(context.Context) ([]operator.CA, error) {
	return []operator.CA{}, s.ask("cas")
}
func (s *services) AddDevice(_ context.Context, by string, d operator.AddDevice) (operator.AddedDevice, error) {
	return operator.AddedDevice{ID: d.ID}, s.ask(by, "add", string(d.ID))
}
func (s *services) Devices(_ context.Context, f api.Filter) ([]operator.Device, error) {
	return []operator.Device{}, s.ask("devices", string(f.Group), string(f.Status), string(f.After), fmt.Sprint(f.Limit), fmt.Sprint(f.Groups))
}
func (s *services) Device(_ context.Context, id identity.Device) (operator.Device, error) {
	return operator.Device{ID: id}, s.ask("device", string(id))
}
func (s *services) Act(_ context.Context, by string, id identity.Device, verb, reason string) (operator.Device, error) {
	return operator.Device{ID: id}, s.ask(by, verb, string(id), reason)
}
func (s *services) Pending(context.Context) ([]operator.Pending, error) {
	return []operator.Pending{}, s.ask("pending")
}
func (s *services) Accept(_ context.Context, by, id string, a operator.Accept) error {
	return s.ask(by, "accept", id, string(a.Device))
}
func (s *services) Refuse(_ context.Context, by, id, reason string) error {
	return s.ask(by, "refuse", id, reason)
}
func (s *services) AddReference(_ context.Context, by string, r operator.Reference) error {
	return s.ask(by, "add", r.Name)
}
func (s *services) References(_ context.Context, g identity.Group) ([]operator.Reference, error) {
	return []operator.Reference{}, s.ask("references", string(g))
}
func (s *services) RemoveReference(_ context.Context, by string, g identity.Group, d identity.Digest) error {
	return s.ask(by, "remove", string(g))
}
func (s *services) VerifyCA(_ context.Context, by, name string, _ operator.Proof) (operator.CA, error) {
	return operator.CA{}, s.ask(by, "verify", name)
}
func (s *services) Check(context.Context, operator.EventQuery) error { return nil }
func (s *services) Read(_ context.Context, q operator.EventQuery, each func(string, iothub.Message) error) error {
	for _, body := range []string{"text", "\xff\x00"} {
		if err := each("1-0", iothub.Message{Device: "pump-01", Kind: "telemetry", Body: []byte(body)}); err != nil {
			return err
		}
	}
	return s.ask("events", string(q.Device))
}
func (s *services) Records(_ context.Context, q operator.LedgerQuery) ([]ledger.Record, error) {
	return []ledger.Record{}, s.ask("ledger", fmt.Sprint(q.From, q.Limit, q.Newest), string(q.Device), q.Kind)
}
func (s *services) DeviceGroup(_ context.Context, id identity.Device) (identity.Group, error) {
	return "pumps", nil
}
func (s *services) Head(context.Context) (ledger.Head, error) { return ledger.Head{Seq: 42}, nil }

// world is the API behind the certificate of an operator called ops.
type world struct {
	*services
	handler http.Handler
	log     bytes.Buffer
}

func newWorld() *world {
	w := &world{services: &services{}}
	w.handler = api.New(api.Config{Version: "1", Hub: func(context.Context) (operator.Hub, error) { return operator.Hub{}, w.ask("hub") },
		Groups: w, CAs: w, Devices: w, Arrivals: w, References: w, Events: w, Ledger: w, Log: slog.New(slog.NewTextHandler(&w.log, nil))})
	return w
}

func (w *world) call(method, path, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return w.serve(req.WithContext(operator.With(req.Context(), ops())))
}

func (w *world) serve(req *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	return rec
}

// ops may do everything, and has just proved who they are.
func ops() operator.Principal {
	return operator.Principal{Name: "ops", Role: operator.RoleAdministrator, Via: operator.ViaCertificate, Remote: "192.0.2.7", Proved: time.Now()}
}

func TestEveryRouteAsksForWhatItSays(t *testing.T) {
	digest := identity.Sum([]byte("x")).String()
	for _, tt := range []struct{ method, path, body, want string }{
		{"GET", "/v1/hub", "", "hub"},
		{"GET", "/v1/groups", "", "groups"},
		{"PUT", "/v1/groups/pumps", `{"policy_name":"bench"}`, "ops set pumps bench"},
		{"POST", "/v1/cas/maker/verify", `{"pem":"x"}`, "ops verify maker"},
		{"GET", "/v1/cas", "", "cas"},
		{"POST", "/v1/cas", `{"name":"maker","kind":"maker","pem":"x"}`, "ops add maker"},
		{"GET", "/v1/devices?group=pumps&status=trusted", "", "devices pumps trusted  1000 []"},
		{"POST", "/v1/devices", `{"id":"pump-01","group":"pumps","token":true}`, "ops add pump-01"},
		{"GET", "/v1/devices/pump-01", "", "device pump-01"},
		{"POST", "/v1/devices/pump-01/revoke", `{"reason":"stolen"}`, "ops revoke pump-01 stolen"},
		{"GET", "/v1/pending", "", "pending"},
		{"POST", "/v1/pending/r1/accept", `{"device":"pump-01","group":"pumps"}`, "ops accept r1 pump-01"},
		{"POST", "/v1/pending/r1/refuse", `{"reason":"not ours"}`, "ops refuse r1 not ours"},
		{"GET", "/v1/references?group=pumps", "", "references pumps"},
		{"POST", "/v1/references", `{"group":"pumps","kind":"firmware","pcr":4,"digest":"` + digest + `","name":"fw"}`, "ops add fw"},
		{"DELETE", "/v1/references/pumps/" + digest, "", "ops remove pumps"},
		{"GET", "/v1/ledger?from=1&newest=true&device=pump-01&kind=k", "", "ledger 1 1000 true pump-01 k"},
		{"GET", "/v1/events?device=pump-01", "", "events pump-01"},
	} {
		w := newWorld()
		rec := w.call(tt.method, tt.path, tt.body)
		if rec.Code >= 300 || len(w.asked) != 1 || w.asked[0] != tt.want {
			t.Errorf("%s %s: status %d, asked %q, want %q; %s", tt.method, tt.path, rec.Code, w.asked, tt.want, rec.Body)
		}
	}
}

func TestEveryAnswerCarriesTheHead(t *testing.T) {
	for _, path := range []string{"/v1/hub", "/v1/devices/!", "/v1/nothing", "/openapi.json"} {
		rec := newWorld().call("GET", path, "")
		b, err := base64.StdEncoding.DecodeString(rec.Header().Get(operator.HeadHeader))
		var h ledger.Head
		if err != nil || json.Unmarshal(b, &h) != nil || h.Seq != 42 {
			t.Errorf("%s: head %q", path, rec.Header().Get(operator.HeadHeader))
		}
	}
}

func TestWrongRequestsAreRefusedBeforeAnybodyIsAsked(t *testing.T) {
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
		"an unknown path":          {"GET", "/v1/secrets", ""},
		"an unknown method":        {"DELETE", "/v1/devices/pump-01", ""},
	} {
		w := newWorld()
		rec := w.call(tt.method, tt.path, tt.body)
		if rec.Code < 400 || rec.Code >= 500 || len(w.asked) != 0 {
			t.Errorf("%s: status %d, asked %q; %s", name, rec.Code, w.asked, rec.Body)
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
		w := newWorld()
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
	rec := newWorld().call("GET", "/v1/events", "")
	var bodies []string
	for _, line := range strings.Split(strings.TrimSpace(rec.Body.String()), "\n") {
		var e operator.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, e.Body+"|"+string(e.Base64))
	}
	if d := cmp.Diff([]string{"text|", "|\xff\x00"}, bodies); d != "" {
		t.Error(d)
	}
}

// A stream that breaks is cut off: its reader must not take a part for all.
func TestEventsThatBreakAreCutOff(t *testing.T) {
	w := newWorld()
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
	if rec := newWorld().call("GET", "/openapi.json", ""); rec.Code != 200 {
		t.Errorf("/openapi.json: %d", rec.Code)
	}
}
