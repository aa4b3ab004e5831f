package hub_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fault"
	"holdfast/hub/api"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// ask sends a request to the operators' listener, showing cert.
func (w *world) ask(cert *tls.Certificate, method, path, body string) (*http.Response, []byte, error) {
	w.t.Helper()
	transport := &http.Transport{TLSClientConfig: w.tls(cert, "http/1.1"), DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(method, "https://"+w.at.Operator+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

// TestAPIRefusesBadRequests with a problem (RFC 9457) that says what was wrong.
func TestAPIRefusesBadRequests(t *testing.T) {
	w := newWorld(t)
	cert := w.operatorCertificate()
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"an unknown member", "POST", "/v1/devices", `{"id":"lamp-02","group":"lab","token":true,"admin":true}`, 422, "admin"},
		{"a member of the wrong type", "POST", "/v1/devices", `{"id":7,"group":"lab"}`, 422, "id"},
		{"a member that is missing", "POST", "/v1/devices", `{"id":"lamp-02"}`, 422, "group"},
		{"no JSON", "POST", "/v1/devices", `{`, 400, ""},
		{"no body", "POST", "/v1/devices", "", 400, ""},
		{"two values", "POST", "/v1/devices", `{"id":"lamp-02","group":"lab","token":true}{}`, 400, ""},
		{"too long", "PUT", "/v1/groups/lab", `{"policy_name":"` + strings.Repeat("x", 2<<20) + `"}`, 413, ""},
		{"a bad id", "POST", "/v1/devices", `{"id":"../etc","group":"lab","token":true}`, 422, "id"},
		{"an id that is too long", "POST", "/v1/devices", `{"id":"` + strings.Repeat("a", 200) + `","group":"lab","token":true}`, 422, ""},
		{"a group that is not", "POST", "/v1/devices", `{"id":"lamp-02","group":"nowhere","token":true}`, 404, "nowhere"},
		{"an EK and a token", "POST", "/v1/devices", `{"id":"lamp-02","group":"lab","token":true,"ek":"AAAA"}`, 400, "not both"},
		{"an EK that is none", "POST", "/v1/devices", `{"id":"lamp-02","group":"lab","ek":"AAAA"}`, 400, "EK"},
		{"a token for longer than a year", "POST", "/v1/devices", `{"id":"lamp-02","group":"lab","token":true,"token_ttl_seconds":99999999999}`, 400, "lifetime"},
		{"a device that exists", "POST", "/v1/devices", `{"id":"healthy-01","group":"lab","token":true}`, 409, "healthy-01"},
		{"a device that is not", "GET", "/v1/devices/lamp-77", "", 404, "lamp-77"},
		{"a bad id in a path", "GET", "/v1/devices/a%2Fb", "", 422, ""},
		{"an unknown verb", "POST", "/v1/devices/healthy-01/explode", `{"reason":"x"}`, 422, "verb"},
		{"an act without a reason", "POST", "/v1/devices/healthy-01/revoke", `{}`, 422, "reason"},
		{"an act with an empty reason", "POST", "/v1/devices/healthy-01/revoke", `{"reason":""}`, 422, "reason"},
		{"restoring what is not held", "POST", "/v1/devices/healthy-01/restore", `{"reason":"x"}`, 409, "neither"},
		{"a bad group name", "PUT", "/v1/groups/UP%20DOWN", `{}`, 422, "group"},
		{"an unknown policy", "PUT", "/v1/groups/lab", `{"policy_name":"strict"}`, 400, "strict"},
		{"a policy and a name", "PUT", "/v1/groups/lab", `{"policy_name":"bench","policy":{"name":"x"}}`, 400, "not both"},
		{"a policy with an unknown measure", "PUT", "/v1/groups/lab", `{"policy":{"name":"x","version":1,"require":[{"measure":"no.such","grade":"observed"}]}}`, 400, "no.such"},
		{"a policy with an unknown grade", "PUT", "/v1/groups/lab", `{"policy":{"name":"x","version":1,"require":[{"measure":"app.debug","grade":"sure"}]}}`, 400, "grade"},
		{"a policy with an unknown member", "PUT", "/v1/groups/lab", `{"policy":{"name":"x","version":1,"demand":[]}}`, 400, "demand"},
		{"a maker's CA that is not", "PUT", "/v1/groups/lab", `{"policy_name":"bench","maker_cas":["nobody"]}`, 404, "nobody"},
		{"garbage for a CA", "POST", "/v1/cas", `{"name":"m","kind":"maker","pem":"garbage"}`, 400, "PEM"},
		{"a leaf for a CA", "POST", "/v1/cas", ``, 400, ""},
		{"an endorsement root without a class", "POST", "/v1/cas", `{"name":"m","kind":"endorsement","pem":"x"}`, 400, "class"},
		{"an unknown kind of CA", "POST", "/v1/cas", `{"name":"m","kind":"root","pem":"x"}`, 422, "kind"},
		{"an unknown query parameter", "GET", "/v1/devices?colour=red", "", 422, "colour"},
		{"a query of the wrong type", "GET", "/v1/ledger?from=x", "", 422, "from"},
		{"a query out of range", "GET", "/v1/ledger?limit=1000000", "", 422, "limit"},
		{"a time that is none", "GET", "/v1/events?since=yesterday", "", 422, "since"},
		{"events of a bad id", "GET", "/v1/events?device=a/b", "", 422, ""},
		{"references of no group", "GET", "/v1/references", "", 422, "group"},
		{"a reference of a bad digest", "POST", "/v1/references", `{"group":"lab","kind":"event","pcr":4,"digest":"xyz","name":"n"}`, 422, ""},
		{"a reference of a register that is not", "POST", "/v1/references", `{"group":"lab","kind":"event","pcr":99,"digest":"` + strings.Repeat("ab", 32) + `","name":"n"}`, 400, ""},
		{"a request that waits nowhere", "POST", "/v1/pending/zz/refuse", `{"reason":"x"}`, 404, ""},
		{"a path that is not", "GET", "/v1/secrets", "", 404, ""},
		{"another method", "DELETE", "/v1/hub", "", 405, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := tc.body
			if tc.name == "a leaf for a CA" {
				b, _ := json.Marshal(operator.CA{Name: "m", Kind: "maker", PEM: string(pki.EncodeCerts(w.healthy.ldevid.Leaf))}) // always marshals
				body = string(b)
			}
			resp, answer, err := w.ask(cert, tc.method, tc.path, body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.status || !strings.Contains(string(answer), tc.says) {
				t.Errorf("%s %s, want %d with %q", resp.Status, answer, tc.status, tc.says)
			}
			if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 404 && resp.StatusCode != 405 && kind != "application/problem+json" {
				t.Errorf("content type %s", kind)
			}
			if resp.Header.Get(operator.HeadHeader) == "" {
				t.Error("without the ledger's head")
			}
		})
	}
	if d := w.device("healthy-01"); d.Status == posture.Revoked {
		t.Error("a refused request had an effect")
	}
	w.goesOn(t)
}

// TestOpenAPIDescribesTheHub: what is served is what the code says, every
// operation has an id of its own, and every reference leads somewhere.
func TestOpenAPIDescribesTheHub(t *testing.T) {
	w := newWorld(t)
	resp, body, err := w.ask(w.operatorCertificate(), "GET", "/openapi.json", "")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	var served, said map[string]any
	if err := json.Unmarshal(body, &served); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(must(api.OpenAPI("test"))(t), &said); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(said, served); diff != "" {
		t.Errorf("served differs from api.OpenAPI (-said +served):\n%s", diff)
	}
	if v, _ := served["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		t.Errorf("openapi is %q", v)
	}
	var doc struct {
		Info  struct{ Title, Version string }
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Summary     string
			Responses   map[string]any
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			if op.OperationID == "" || seen[op.OperationID] || op.Summary == "" || len(op.Responses) < 2 {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			seen[op.OperationID] = true
		}
	}
	if len(seen) < 15 || doc.Info.Title == "" || doc.Info.Version != "test" {
		t.Errorf("%d operations, %+v", len(seen), doc.Info)
	}
	for _, ref := range regexp.MustCompile(`"#/components/schemas/([^"]+)"`).FindAllSubmatch(body, -1) {
		if _, ok := doc.Components.Schemas[string(ref[1])]; !ok {
			t.Errorf("a reference leads nowhere: %s", ref[1])
		}
	}
}

// TestEvents reads what was stored: all, of one device, since a time, and on
// and on.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.fileDevice("lamp-01", "lab")
	s := must(w.mqtt(w.healthy.ldevid))(t)
	defer s.close()
	if err := errors.Join(s.open("healthy-01"), s.publish("devices/healthy-01/messages/events/k=v", "one"), s.publish("devices/healthy-01/messages/events/", "\xff\xfe")); err != nil {
		t.Fatal(err)
	}
	stored := w.events("")
	if len(stored) != 2 || stored[0].Body != "one" || stored[0].Properties["k"] != "v" || stored[0].Device != "healthy-01" || string(stored[1].Base64) != "\xff\xfe" {
		t.Fatalf("stored: %+v", stored)
	}
	if other := w.events("lamp-01"); len(other) != 0 {
		t.Errorf("of another device: %+v", other)
	}
	read := func(since time.Time) (n int) {
		err := w.api.Events(t.Context(), operator.EventQuery{Device: "healthy-01", Kind: "telemetry", Since: since}, func(operator.Event) error { n++; return nil })
		if err != nil {
			t.Error(err)
		}
		return n
	}
	if n := read(stored[1].Time); n != 1 {
		t.Errorf("since the second: %d, want 1", n)
	}
	if n := read(time.Now().Add(time.Hour)); n != 0 {
		t.Errorf("since later: %d", n)
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, ended := make(chan operator.Event, 10), make(chan error, 1)
	go func() {
		ended <- w.api.Events(ctx, operator.EventQuery{Device: "healthy-01", Kind: "telemetry", Since: stored[1].Time, Follow: true}, func(e operator.Event) error { got <- e; return nil })
	}()
	<-got // the stored one
	if err := s.publish("devices/healthy-01/messages/events/", "three"); err != nil {
		t.Fatal(err)
	}
	if e := <-got; e.Body != "three" {
		t.Errorf("followed: %+v", e)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("follow ended: %v", err)
	}
	if err := w.api.Events(t.Context(), operator.EventQuery{Device: "no/device"}, nil); fault.Of(err) != fault.Invalid {
		t.Errorf("of a bad id: %v", err)
	}
	w.goesOn(t)
}
