package hub_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/hub"
	"holdfast/internal/testkit"
	"holdfast/operator"
)

// operatorPath asks the operator listener for a path, with the first operator's
// certificate or without any.
func (w *world) operatorPath(path string, known bool) (int, []byte) {
	w.t.Helper()
	cfg := w.tls(nil)
	if known {
		cfg = w.tls(w.operatorCertificate())
	}
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
	res, err := c.Get("https://" + w.at.Operator + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, b
}

// connect opens a session of the healthy device.
func (w *world) connect() *session {
	w.t.Helper()
	s := must(w.mqtt(w.healthy.ldevid))(w.t)
	if err := s.open("healthy-01"); err != nil {
		w.t.Fatal(err)
	}
	if err := s.publish("devices/healthy-01/messages/events/", "here"); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// scraped returns what the hub shows to Prometheus, once the first look at
// everything was taken.
func (w *world) scraped() []byte {
	w.t.Helper()
	var text []byte
	ok := w.until(func() bool {
		var status int
		status, text = w.operatorPath("/metrics", true)
		return status == http.StatusOK && bytes.Contains(text, []byte("holdfast_devices{"))
	})
	if !ok {
		w.t.Fatalf("no metrics:\n%s", text)
	}
	return text
}

// file reads a file of the repository.
func file(t testing.TB, path string) string {
	t.Helper()
	return string(must(os.ReadFile(filepath.Join("..", "..", path)))(t))
}

var metricName = regexp.MustCompile(`\bholdfast_[a-z0-9_]+`)

// base is the name of a family, of a name in a query or in the text format.
func base(name string, families map[string]bool) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if b := strings.TrimSuffix(name, suffix); families[b] {
			return b
		}
	}
	return name
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	defer w.connect().close()
	if _, err := w.api.Hub(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := w.scraped()

	known := map[string]bool{}
	for _, f := range hub.Metrics() {
		known["holdfast_"+f.Name] = true
	}
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllSubmatch(text, -1) {
		shown[string(m[1])] = true
	}
	t.Run("shows what it says", func(t *testing.T) {
		// These have nothing to show where nothing is wrong, and where nothing was
		// stored yet when the hub last looked, which it does each minute; or where
		// nothing is published.
		absent := map[string]bool{"holdfast_alerts_open": true, "holdfast_release_metadata_expiry_timestamp_seconds": true, "holdfast_stream_oldest_timestamp_seconds": true}
		for name := range known {
			if !shown[name] && !absent[name] {
				t.Errorf("%s is not shown", name)
			}
		}
		for name := range shown {
			if strings.HasPrefix(name, "holdfast_") && !known[name] {
				t.Errorf("%s is shown and not among hub.Metrics", name)
			}
		}
		for _, want := range []string{`holdfast_sessions{mode="full"} 1`, `holdfast_connections_total{result="session"} `, `holdfast_api_requests_total{operation="show-hub",status="200"}`,
			`holdfast_verdicts{measure="protocol.tls",verdict="pass"}`, `holdfast_ready 1`, "go_goroutines", "process_resident_memory_bytes"} {
			if !bytes.Contains(text, []byte(want)) {
				t.Errorf("%s is not shown", want)
			}
		}
		if bytes.Contains(text, []byte("healthy-01")) {
			t.Error("a device's id is among the metrics")
		}
	})
	t.Run("promtool", func(t *testing.T) {
		cmd := exec.Command(testkit.Need(t, "promtool"), "check", "metrics")
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	})
	for _, f := range []string{"deploy/grafana/holdfast.json", "deploy/prometheus/holdfast-alerts.yml", "deploy/prometheus/holdfast-alerts-test.yml"} {
		t.Run(f, func(t *testing.T) {
			names := metricName.FindAllString(file(t, f), -1)
			if len(names) == 0 {
				t.Fatal("it names no metric")
			}
			for _, name := range names {
				if !known[base(name, known)] {
					t.Errorf("%s is no metric of the hub", name)
				}
			}
		})
	}
	t.Run("who may see them", func(t *testing.T) {
		if status, body := w.operatorPath("/metrics", false); status != http.StatusUnauthorized || bytes.Contains(body, []byte("holdfast_")) {
			t.Errorf("a stranger gets %d %s", status, body)
		}
	})
}

// TestDashboardShowsEveryFamily holds the dashboard to the hub: what is
// counted can be seen.
func TestDashboardShowsEveryFamily(t *testing.T) {
	dashboard := file(t, "deploy/grafana/holdfast.json")
	used := map[string]bool{}
	known := map[string]bool{}
	for _, f := range hub.Metrics() {
		known["holdfast_"+f.Name] = true
	}
	for _, name := range metricName.FindAllString(dashboard, -1) {
		used[base(name, known)] = true
	}
	for name := range known {
		if !used[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
	var d struct {
		UID, Title    string
		SchemaVersion int
		Templating    struct{ List []struct{ Name, Type string } }
		Panels        []struct {
			ID         int
			Type       string
			Datasource struct{ UID string }
			GridPos    struct{ H, W, X, Y int }
			Targets    []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(dashboard), &d); err != nil {
		t.Fatal(err)
	}
	if d.SchemaVersion < 36 || d.Title == "" || len(d.Templating.List) == 0 || d.Templating.List[0].Type != "datasource" {
		t.Errorf("schema %d, title %q, variables %+v", d.SchemaVersion, d.Title, d.Templating.List)
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.W == 0 || p.GridPos.H == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d stands twice or nowhere: %+v", p.ID, p.GridPos)
		}
		ids[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${"+d.Templating.List[0].Name+"}") {
			t.Errorf("panel %d asks nothing, or of %q", p.ID, p.Datasource.UID)
		}
	}
}

func TestAlertRules(t *testing.T) {
	promtool := testkit.Need(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "holdfast-alerts.yml"},
		{"test", "rules", "holdfast-alerts-test.yml"},
		{"check", "config", "--syntax-only", "scrape.yml"},
	} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = filepath.Join("..", "..", "deploy", "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestMetricsAreDocumented(t *testing.T) {
	doc := file(t, "docs/METRICS.md")
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(holdfast_[a-z_]+)` ").FindAllStringSubmatch(doc, -1) {
		documented[m[1]] = true
	}
	for _, f := range hub.Metrics() {
		name := "holdfast_" + f.Name
		if !documented[name] {
			t.Errorf("docs/METRICS.md does not have %s", name)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/METRICS.md has %s, which the hub does not", name)
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if !w.until(func() bool { status, _ := w.operatorPath(path, false); return status == http.StatusOK }) {
			_, body := w.operatorPath(path, true)
			t.Fatalf("%s: %s", path, body)
		}
		if _, body := w.operatorPath(path, false); string(body) != "ok\n" {
			t.Errorf("%s tells a stranger %q", path, body)
		}
		status, body := w.operatorPath(path, true)
		var rep struct {
			OK     bool
			Checks []struct {
				Name string
				OK   bool
			}
		}
		if err := json.Unmarshal(body, &rep); err != nil || status != http.StatusOK || !rep.OK || len(rep.Checks) == 0 {
			t.Errorf("%s tells an operator %d %s", path, status, body)
		}
	}
}

func TestAlertFromQuarantineToAcknowledgement(t *testing.T) {
	w := newWorld(t)
	id := w.healthy.id
	if _, err := w.api.Act(t.Context(), id, "quarantine", "odd traffic"); err != nil {
		t.Fatal(err)
	}
	var got []operator.Alert
	if !w.until(func() bool {
		_, body := w.operatorPath("/v1/alerts?open=true&device="+string(id), true)
		got = nil
		return json.Unmarshal(body, &got) == nil && len(got) == 1
	}) {
		t.Fatalf("alerts %+v", got)
	}
	a := got[0]
	if a.Kind != "quarantined" || a.Severity != "critical" || a.Group != "lab" || !strings.Contains(a.Reason, "odd traffic") || a.Count != 1 {
		t.Errorf("alert %+v", a)
	}
	if _, err := w.api.Act(t.Context(), id, "restore", "fine"); err != nil {
		t.Fatal(err)
	}
	defer w.connect().close()
	if !w.until(func() bool {
		_, body := w.operatorPath("/v1/alerts?open=true&device="+string(id), true)
		return string(bytes.TrimSpace(body)) == "[]"
	}) {
		t.Error("the alert stays open on a device that is well")
	}
	var sessions []operator.Session
	if !w.until(func() bool {
		_, body := w.operatorPath("/v1/devices/"+string(id)+"/sessions", true)
		return json.Unmarshal(body, &sessions) == nil && len(sessions) > 0 && sessions[0].Mode == "full"
	}) {
		t.Errorf("sessions %+v", sessions)
	}
	if n := sessions[0]; !n.Ended.IsZero() || !strings.Contains(n.TLS, "TLS 1.3") || !strings.Contains(n.TLS, "X25519") || time.Since(n.Began) > time.Minute {
		t.Errorf("session %+v", n)
	}
}
