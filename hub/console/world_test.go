package console_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/hub/console"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/mcuboot"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
	"holdfast/release"
)

// asked is a request that the API had.
type asked struct {
	method, path, query, body string
	who                       operator.Principal
	header                    http.Header
}

// api stands for the operator API: it answers with what it has under a path, or
// refuses.
type api struct {
	answers map[string]any      // by "METHOD /path"
	refuse  map[string]*refusal // by the same
	asked   []asked
}

// refusal is a problem of the API.
type refusal struct {
	Type   string `json:"type,omitempty"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.asked = append(a.asked, asked{r.Method, r.URL.Path, r.URL.RawQuery, string(body), operator.From(r.Context()), r.Header})
	key := r.Method + " " + r.URL.Path
	if p := a.refuse[key]; p != nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(p.Status)
		_ = json.NewEncoder(w).Encode(p)
		return
	}
	v, ok := a.answers[key]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(refusal{Status: 404, Detail: "there is no " + key})
		return
	}
	w.Header().Set("ETag", `"tag-1"`)
	if text, ok := v.(string); ok {
		_, _ = io.WriteString(w, text)
		return
	}
	_ = json.NewEncoder(w).Encode(v)
}

// last returns the last request of a kind.
func (a *api) last(t *testing.T, method, path string) asked {
	t.Helper()
	for i := len(a.asked) - 1; i >= 0; i-- {
		if a.asked[i].method == method && a.asked[i].path == path {
			return a.asked[i]
		}
	}
	t.Fatalf("the API was not asked %s %s", method, path)
	return asked{}
}

// world is a console before an API, used by somebody.
type world struct {
	*api
	handler http.Handler
	who     operator.Principal
}

var now = time.Now().UTC().Truncate(time.Second)

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{api: newAPI(), who: operator.Principal{Name: "ada", Role: operator.RoleAdministrator, Via: operator.ViaLink}}
	h, err := console.New(console.Config{API: w.api, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	w.handler = h
	return w
}

// get asks for a page.
func (w *world) get(path string) *httptest.ResponseRecorder {
	return w.do(httptest.NewRequest(http.MethodGet, path, nil))
}

// post posts a form as a browser does from a page of the console.
func (w *world) post(path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return w.do(r)
}

func (w *world) do(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r.WithContext(operator.With(r.Context(), w.who)))
	return rec
}

// pages are where every page of the console is.
func pages() []string {
	return []string{"/fleet", "/fleet?group=pumps&status=trusted&search=p&sort=-seen", "/devices/pump-01", "/devices/pump-01/events", "/groups", "/groups/pumps",
		"/pending", "/alerts", "/alerts?show=all", "/ledger", "/ledger?device=pump-01&kind=device.revoke", "/authorities", "/references",
		"/releases", "/releases?product=pump", "/releases/pump/1.4.0", "/rollouts", "/rollouts?group=pumps&show=live&release=pump/1.4.0", "/rollouts/pump-x", "/rollouts/pump-x?state=failed&after=pump-01",
		"/enrollments", "/operators", "/account", "/charts", "/charts?range=24h"}
}

func rows() []measure.Row {
	var out []measure.Row
	for i, id := range measure.IDs() {
		r := measure.Row{Measure: id, Verdict: measure.Pass, Grade: measure.Observed, Reason: "seen in the handshake of this session", Time: now.Add(-time.Duration(i) * time.Minute)}
		switch {
		case id == measure.FirmwareSecureBoot:
			r.Verdict, r.Grade, r.Reason = measure.Fail, measure.Attested, "PCR 4 has a measurement that is no reference value of group pumps"
		case i%4 == 3:
			r.Verdict, r.Grade, r.Reason = measure.Unknown, measure.None, "nothing attests it"
		}
		out = append(out, r)
	}
	return out
}

func newAPI() *api {
	policy, _ := posture.Builtin(posture.Standard)
	group := operator.Group{ID: "pumps", Policy: policy, FileKeys: true, Product: "pump"}
	minimum := uint64(6)
	firmware := &operator.Firmware{Digest: identity.Sum([]byte("fw")), Since: now.Add(-72 * time.Hour), Time: now.Add(-time.Hour), Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 3},
		SecurityVersion: 6, Minimum: &minimum, Withdrawn: "it leaks", Behind: mcuboot.Version{Major: 1, Minor: 4}, BehindSince: time.Now().Add(-12*24*time.Hour - time.Hour)}
	decision := posture.Decide(policy, posture.Subject{Device: "pump-01", Group: "pumps"}, rows(), now, false)
	status := []posture.Status{posture.Trusted, posture.Degraded, posture.Quarantined, posture.Connected, posture.Offline, posture.Pending, posture.Refused, posture.Revoked}
	page := operator.FleetPage{Next: "cursor", Total: 1234, Counts: map[posture.Status]int{}}
	for i, s := range status {
		page.Counts[s] = 10 * (i + 1)
		page.Devices = append(page.Devices, operator.Summary{ID: identity.Device("pump-0" + string(rune('1'+i))), Group: "pumps", Status: s, Firmware: []*operator.Firmware{firmware, nil}[i%2],
			Reason: "firmware.secure-boot: fails: PCR 4 has a measurement that is not known", Release: "pump-fw 1.2.0", Met: 17 - i, Weak: i % 3, Unmet: i % 2,
			Pass: 20 - i, Fail: i % 3, Unknown: 12, LastSeen: now.Add(-time.Duration(i) * time.Hour), Connected: i < 4, NotAfter: now.Add(time.Duration(8-2*i) * time.Hour)})
	}
	records := []ledger.Record{
		{Seq: 2, Entry: ledger.Entry{Time: now, Kind: "device.revoke", Device: "pump-01", Actor: "ada", Reason: "stolen", Details: json.RawMessage(`{"certificates":2}`)}, Prev: identity.Sum([]byte("1")), Hash: identity.Sum([]byte("2"))},
		{Seq: 1, Entry: ledger.Entry{Time: now, Kind: "hub.init", Actor: "hub"}, Hash: identity.Sum([]byte("1"))},
	}
	values := func(f func(i int) float64) []*float64 {
		out := make([]*float64, 60)
		for i := range out {
			if v := f(i); i != 20 {
				out[i] = &v
			}
		}
		return out
	}
	series := []operator.Series{{Name: "pass", Unit: "measures", Start: now.Add(-time.Hour), Step: 60, Values: values(func(i int) float64 { return float64(200 + i) })},
		{Name: "fail", Unit: "measures", Start: now.Add(-time.Hour), Step: 60, Values: values(func(i int) float64 { return float64(40 - i%10) })},
		{Name: "unknown", Unit: "measures", Start: now.Add(-time.Hour), Step: 60, Values: values(func(i int) float64 { return float64(120 - i) })}}
	v14 := mcuboot.Version{Major: 1, Minor: 4}
	signed := func(id string, kind string, signed bool) operator.RepositoryKey {
		return operator.RepositoryKey{ID: identity.Sum([]byte(id)).String(), Kind: kind, Signed: signed}
	}
	keys := []operator.RepositoryKey{signed("a", "classical", true), signed("b", "classical", true), signed("c", "classical", false),
		signed("d", "ml-dsa-65", true), signed("e", "ml-dsa-65", true), signed("f", "ml-dsa-65", false)}
	published := func(v mcuboot.Version, withdrawn string) operator.Release {
		return operator.Release{Newest: withdrawn == "", Release: release.Release{Image: release.Blob{Length: 17 << 20, SHA256: identity.Sum([]byte("image" + v.String()))},
			Target: release.Target{Product: "pump", Version: v, SecurityVersion: 7, Measured: identity.Sum([]byte("fw" + v.String())), Hardware: []string{"rev-c"},
				Requires: []release.Requirement{{Product: "boot", Version: v}}, Health: release.Health{Checks: []string{release.CheckHub}, Seconds: 600},
				SBOM: &release.Blob{Length: 2048, SHA256: identity.Sum([]byte("sbom"))}, Audit: &release.Blob{Length: 700, SHA256: identity.Sum([]byte("audit"))}, Withdrawn: withdrawn}}}
	}
	going := operator.Rollout{ID: "pump-x", Product: "pump", Version: v14, Groups: []identity.Group{"pumps"}, Stage: "running", Reason: "the canary is well", By: "ada", Started: now.Add(-time.Hour), Changed: now,
		Wave: 2, Waves: 5, Limit: 30, Soaked: now.Add(time.Minute), RolloutPlan: operator.RolloutPlan{Canary: 5, Step: 25, Soak: 600, HaltOn: 2, Deadline: 72 * 3600, SilentAfter: 1800, Windows: []release.Window{{From: "22:00", To: "04:00"}}},
		Counts: operator.RolloutCounts{Waiting: 60, Offered: 5, Updating: 10, Committed: 5, Done: 19, Failed: 1, Excluded: 3, Superseded: 2}, Causes: map[string]int{"reverted": 1, "newer": 3}, ETag: "tag-7"}
	over := operator.Rollout{ID: "pump-w", Product: "pump", Version: v14, Groups: []identity.Group{"pumps", "valves"}, Devices: []identity.Device{"pump-01"}, Stage: "halted", Reason: "1 of 1 devices failed", By: "ada", Started: now.Add(-48 * time.Hour), Changed: now, Wave: 1, Waves: 5, Causes: map[string]int{}}
	moving := []operator.RolloutDevice{{Device: "pump-01", Group: "pumps", State: "failed", Cause: "reverted", Reason: "the hub was not reached", Attempt: 1, Offered: now, Changed: now},
		{Device: "pump-02", Group: "pumps", State: "updating", Step: "downloading", Bytes: 1 << 20, Length: 4 << 20, Offered: now, Changed: now},
		{Device: "pump-03", Group: "pumps", State: "excluded", Cause: "newer", Reason: "it runs 1.5.0, which is newer", Changed: now}}
	login := operator.Login{ID: "l1", Account: "ada", Via: operator.ViaLink, Remote: "192.0.2.7", Agent: "Mozilla/5.0 (X11; Linux x86_64) Chromium", Created: now, Expires: now.Add(12 * time.Hour), Current: true}
	other := login
	other.ID, other.Current, other.Remote = "l2", false, "192.0.2.8"
	return &api{refuse: map[string]*refusal{}, answers: map[string]any{
		"GET /v1/me":     operator.Me{Name: "ada", Role: operator.RoleAdministrator, Via: operator.ViaLink, Until: now.Add(12 * time.Hour)},
		"GET /v1/hub":    operator.Hub{Version: "1", Root: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", Scope: "0ne00000001"},
		"GET /v1/fleet":  page,
		"GET /v1/groups": []operator.Group{group, {ID: "valves", Policy: posture.Policy{Name: "lenient", Version: 1}}}, "GET /v1/groups/pumps": group,
		"PUT /v1/groups/pumps": group, "PUT /v1/groups/sensors": group,
		"GET /v1/devices/pump-01": operator.Device{ID: "pump-01", Group: "pumps", Status: posture.Quarantined, Reason: "firmware.secure-boot: fails: PCR 4 has a measurement that is not known",
			Certificate: &operator.Certificate{NotAfter: now.Add(time.Hour), Lifetime: 3600, Serial: "0a0b"}, Born: now.Add(-72 * time.Hour), LastSeen: now, Connected: true, Posture: rows(), Decision: &decision,
			Release: "pump 1.3.0", Firmware: firmware},
		"GET /v1/devices/pump-01/certificates": []operator.Issued{
			{Serial: "5f3a99aa77bb00112233445566778899", Class: "operational", NotBefore: now.Add(-time.Hour), NotAfter: now.Add(23 * time.Hour)},
			{Serial: "4f3a99aa77bb00112233445566778899", Class: "operational", NotBefore: now.Add(-20 * time.Hour), NotAfter: now.Add(4 * time.Hour), Revoked: now, Reason: "superseded"},
			{Serial: "3f3a99aa77bb00112233445566778899", Class: "operational", NotBefore: now.Add(-30 * time.Hour), NotAfter: now.Add(-6 * time.Hour)},
			{Serial: "1f", Class: "birth", NotBefore: now.Add(-72 * time.Hour), NotAfter: now.AddDate(100, 0, 0)}},
		"GET /v1/devices/pump-01/sessions": []operator.Session{{ID: "s2", Began: now.Add(-time.Hour), Remote: "198.51.100.4:49200", TLS: "TLS 1.3, AES-128-GCM, X25519MLKEM768", Mode: "quarantine"},
			{ID: "s1", Began: now.Add(-3 * time.Hour), Ended: now.Add(-2 * time.Hour), Remote: "198.51.100.4:49100", TLS: "TLS 1.3, AES-128-GCM, X25519MLKEM768", Mode: "full", Reason: "the device closed it"}},
		"GET /v1/devices/pump-01/twin":     operator.Twin{Device: "pump-01", ETag: "7", Tags: json.RawMessage(`{"site":"Hall 3"}`), Desired: json.RawMessage(`{"interval":30,"$version":4}`), Reported: json.RawMessage(`{"interval":30,"temperature":61.5,"$version":9}`)},
		"GET /v1/devices/pump-01/messages": []operator.Message{{SendMessage: operator.SendMessage{ID: "m1", Body: `{"blink":3}`}, Enqueued: now, Until: now.Add(time.Hour), Deliveries: 1, Bytes: 11}},
		"GET /v1/events": `{"id":"1-0","device":"pump-01","kind":"telemetry","time":"2026-01-02T03:04:05Z","body":"{\"t\":61.5}"}` + "\n" +
			`{"id":"2-0","device":"pump-01","kind":"log","time":"2026-01-02T03:04:06Z","body":"[{\"seq\":1,\"time\":\"2026-01-02T03:04:05Z\",\"boot\":1,\"level\":\"error\",\"message\":\"TLS alert 48\",\"attrs\":{\"op\":\"dial\"}}]"}` + "\n",
		"GET /v1/ledger": records, "GET /v1/ledger/head": ledger.Head{Seq: 2, Hash: identity.Sum([]byte("2")), Time: now},
		"GET /v1/pending": []operator.Pending{{ID: "p1", EK: identity.Sum([]byte("ek")).String(), Shown: "TPM with an endorsement key that is on no list", Remote: "203.0.113.9", Time: now}},
		"GET /v1/alerts": []operator.Alert{{ID: "a1", Time: now, Device: "pump-01", Group: "pumps", Kind: "quarantined", Severity: "critical", From: posture.Trusted, To: posture.Quarantined, Reason: "firmware.secure-boot fails", Count: 2, Last: now},
			{ID: "a2", Time: now.Add(-time.Hour), Device: "pump-02", Group: "pumps", Kind: "degraded", Severity: "warning", From: posture.Trusted, To: posture.Degraded, Reason: "evidence is stale", Acknowledged: now, By: "ada"}},
		"GET /v1/cas": []operator.CA{{Name: "acme", Kind: "maker", Subject: "CN=Acme device CA", NotAfter: now.AddDate(5, 0, 0), Challenge: "c0ffee", PEM: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
			{Name: "tpm-root", Kind: "endorsement", Class: "hardware", Subject: "CN=TPM root", NotAfter: now.AddDate(20, 0, 0), PEM: "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"}},
		"GET /v1/references": []operator.Reference{{Group: "pumps", Kind: "firmware", PCR: 4, Digest: identity.Sum([]byte("fw")), Name: "pump-fw", Version: "1.2.0-rc1"},
			{Group: "pumps", Kind: "firmware", PCR: 4, Digest: identity.Sum([]byte("fw 1.3")), Name: "pump", Version: "1.3.0", Released: true}},
		"GET /v1/enrollments": []operator.Enrollment{{Kind: "individual", ID: "sensor-01", Group: "pumps", MakerCA: "acme"}, {Kind: "group", ID: "line-3", Group: "valves", MakerCA: "acme", IDs: []string{"valve-*"}, Disabled: true}},
		"GET /v1/accounts": []operator.Account{{Name: "ada", Role: operator.RoleAdministrator, Passkeys: []operator.Passkey{{ID: "k1", Name: "Office laptop", Created: now, LastUsed: now}}, Created: now, LastSeen: now},
			{Name: "night-shift", Role: operator.RoleOperator, Groups: []identity.Group{"pumps"}, Created: now}, {Name: "gone", Role: operator.RoleViewer, Created: now, Revoked: now}},
		"GET /v1/releases": []operator.Release{published(mcuboot.Version{Major: 1, Minor: 3}, "it leaks"), published(v14, "")}, "GET /v1/releases/pump/1.4.0": published(v14, ""),
		"GET /v1/releases/pump/1.3.0": published(mcuboot.Version{Major: 1, Minor: 3}, "it leaks"),
		"GET /v1/repository": operator.Repository{SnapshotKey: identity.Sum([]byte("s")).String(), TimestampKey: identity.Sum([]byte("t")).String(), Files: map[string]identity.Digest{"1.root.json": identity.Sum([]byte("r"))},
			Roles: map[string]operator.RepositoryRole{"root": {Version: 1, Expires: time.Now().AddDate(1, 0, 0), Threshold: 2, Keys: keys}, "targets": {Version: 3, Expires: time.Now().AddDate(0, 0, 12), Threshold: 2, Keys: keys},
				"pump": {Version: 9, Expires: time.Now().AddDate(0, 0, -1), Threshold: 2, Keys: keys}, "snapshot": {Version: 1763, Expires: time.Now().AddDate(0, 0, 6)}, "timestamp": {Version: 1764, Expires: time.Now().Add(20 * time.Hour)}}},
		"GET /v1/rollouts": []operator.Rollout{going, over}, "GET /v1/rollouts/pump-x": going, "GET /v1/rollouts/pump-x/devices": moving,
		"GET /v1/devices/pump-01/rollouts": []operator.DeviceRollout{{Rollout: "pump-x", Product: "pump", Version: v14, Stage: "running", RolloutDevice: moving[0]}},
		"GET /v1/logins":                   []operator.Login{login, other},
		"GET /v1/tokens":                   []operator.Token{{ID: "t1", Name: "nightly report", Account: "ada", Role: operator.RoleViewer, Created: now, Expires: now.AddDate(0, 1, 0)}},
		"GET /v1/series":                   series,
		"POST /v1/policies/check": operator.PolicyEffect{Policy: posture.Policy{Name: "tight", Version: 2}, Devices: 1234, Gain: 1, Shorter: 2, Lose: 3, Quarantined: 2, Unchanged: 1228,
			Changes: []operator.PolicyChange{{Device: "pump-01", Group: "pumps", From: posture.Met, To: posture.Unmet, Status: posture.Trusted, Becomes: posture.Quarantined, Reasons: []string{"app.debug: unknown"}}}, Left: 4},
	}}
}

// spoil puts evil before each text of an answer that is not what a program
// reads: times, versions, statuses and JSON within JSON.
func spoil(t *testing.T, v any, evil string) any {
	t.Helper()
	if text, ok := v.(string); ok {
		var out strings.Builder
		for line := range strings.Lines(text) {
			var e any
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			b, _ := json.Marshal(spoiled(e, "", evil))
			out.Write(append(b, '\n'))
		}
		return out.String()
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var e any
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	return spoiled(e, "", evil)
}

func spoiled(v any, name, evil string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = spoiled(x, k, evil)
		}
		return out
	case []any:
		for i := range v {
			v[i] = spoiled(v[i], name, evil)
		}
		return v
	case string:
		if _, err := time.Parse(time.RFC3339, v); err == nil || v == "" {
			return v
		}
		if _, err := mcuboot.ParseVersion(v); err == nil {
			return v
		}
		switch name {
		case "measure", "grade", "hash", "prev", "digest", "sha256", "measured", "1.root.json", "key", "full_lifetime", "short_lifetime", "max_age", "lifetime", "ek":
			return v
		}
		return evil + v
	}
	return v
}
