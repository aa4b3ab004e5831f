package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// stageOf is a stage on which the hub answers with what fleet holds.
func stageOf(t *testing.T, fleet *[]operator.Device) (*stage, *bytes.Buffer) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(*fleet)
	}))
	t.Cleanup(srv.Close)
	var talk bytes.Buffer
	s := &stage{
		Config: Config{State: t.TempDir(), Talk: &talk, Timeout: time.Minute},
		client: client.New(client.Config{URL: srv.URL, HTTP: srv.Client()}),
		voice:  &voice{out: &talk},
		hub:    &process{done: make(chan struct{})},
	}
	for _, r := range roles() {
		s.players = append(s.players, &player{role: r})
	}
	return s, &talk
}

func device(id string, status posture.Status, edit ...func(*operator.Device)) operator.Device {
	d := operator.Device{ID: identity.Device(id), Status: status, Connected: status == posture.Trusted}
	for _, e := range edit {
		e(&d)
	}
	return d
}

func withCertificate(serial string, life time.Duration) func(*operator.Device) {
	return func(d *operator.Device) {
		d.Certificate = &operator.Certificate{Serial: serial, Lifetime: int64(life / time.Second)}
	}
}

func attested(v measure.Verdict, reason string) func(*operator.Device) {
	return func(d *operator.Device) {
		d.Posture = append(d.Posture, measure.Row{Measure: measure.IdentityAttestation, Verdict: v, Reason: reason})
	}
}

func TestNewsTellsEachChangeOnce(t *testing.T) {
	var fleet []operator.Device
	s, talk := stageOf(t, &fleet)
	for _, step := range []struct {
		fleet []operator.Device
		want  string
	}{
		{nil, ""},
		{[]operator.Device{device("stranger", posture.Trusted)}, ""},
		{[]operator.Device{device("pump-01", posture.Offline)}, ""},
		{[]operator.Device{device("pump-01", posture.Offline, withCertificate("a", time.Hour), attested(measure.Pass, "known"))},
			"pump-01    attested: pass (known)\npump-01    certificate for 1h0m0s\n"},
		{[]operator.Device{device("pump-01", posture.Trusted, withCertificate("a", time.Hour), attested(measure.Pass, "known"))},
			"pump-01    connected\npump-01    is trusted\n"},
		{[]operator.Device{device("pump-01", posture.Trusted, withCertificate("b", 24*time.Hour), attested(measure.Pass, "known"))},
			"pump-01    certificate for 24h0m0s\n"},
		{[]operator.Device{device("pump-01", posture.Offline, withCertificate("b", 24*time.Hour), attested(measure.Pass, "known"))},
			"pump-01    is offline\n"},
		{[]operator.Device{device("pump-01", posture.Revoked, func(d *operator.Device) { d.Reason = "revoked by admin: test" })},
			"pump-01    is revoked: revoked by admin: test\n"},
	} {
		fleet = step.fleet
		for range 2 { // the second look has nothing new
			if err := s.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := talk.String(); got != step.want {
			t.Errorf("said:\n%swant:\n%s", got, step.want)
		}
		talk.Reset()
	}
}

func TestRecallMakesOnlyTheStatusNews(t *testing.T) {
	fleet := []operator.Device{device("pump-03", posture.Quarantined, withCertificate("a", time.Hour), attested(measure.Fail, "unknown measurement"),
		func(d *operator.Device) { d.Born = time.Now() })}
	s, talk := stageOf(t, &fleet)
	if err := s.recall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := talk.String(); got != "pump-03    is quarantined\n" {
		t.Errorf("said:\n%s", got)
	}
}

func TestAwaitDoesNotWaitForWhatAnOperatorPutAside(t *testing.T) {
	fleet := []operator.Device{device("pump-01", posture.Revoked)}
	s, talk := stageOf(t, &fleet)
	p := s.players[0]
	if arrived, err := s.await(t.Context(), p, p.end); arrived || err != nil {
		t.Errorf("arrived %v, error %v", arrived, err)
	}
	if !strings.Contains(talk.String(), "holdfast fleet restore pump-01") {
		t.Errorf("said %q, which does not say how to go on", talk)
	}
	s.Once = true
	close(s.hub.done)
	if arrived, err := s.await(t.Context(), p, p.end); arrived || !errors.Is(err, ErrNotArrived) {
		t.Errorf("with --once: arrived %v, error %v", arrived, err)
	}
}

func TestAside(t *testing.T) {
	for _, tt := range []struct {
		status posture.Status
		reason string
		want   bool
	}{
		{posture.Revoked, "revoked by admin: test", true},
		{posture.Quarantined, "quarantined by admin: test", true},
		{posture.Quarantined, "identity.attestation: fails: unknown measurement", false},
		{posture.Offline, "", false},
		{posture.Refused, "its group does not allow keys in files", false},
	} {
		if got := aside(operator.Device{Status: tt.status, Reason: tt.reason}); got != tt.want {
			t.Errorf("%s, %q: %v", tt.status, tt.reason, got)
		}
	}
}

func TestEndsRefuseNearMisses(t *testing.T) {
	healthy := []func(*operator.Device){withCertificate("a", 24*time.Hour), attested(measure.Pass, "known")}
	booted := func(reason string) func(*operator.Device) {
		return func(d *operator.Device) {
			d.Posture = append(d.Posture, measure.Row{Measure: measure.FirmwareSecureBoot, Verdict: measure.Pass, Reason: reason})
		}
	}
	why := func(reason string) func(*operator.Device) { return func(d *operator.Device) { d.Reason = reason } }
	for _, tt := range []struct {
		end  func(operator.Device) error
		d    operator.Device
		want string // part of what is missing; empty: arrived
	}{
		{trustedForLong, device("a", posture.Trusted, healthy...), ""},
		{trustedForLong, device("a", posture.Degraded, healthy...), "is degraded"},
		{trustedForLong, device("a", posture.Trusted), "short one"},
		{trustedForLong, device("a", posture.Trusted, withCertificate("a", time.Hour)), "short one"},
		{unknownMeasurement, device("a", posture.Quarantined, attested(measure.Fail, "unknown")), ""},
		{unknownMeasurement, device("a", posture.Quarantined, attested(measure.Pass, "known")), "identity.attestation is pass"},
		{unknownMeasurement, device("a", posture.Offline, attested(measure.Fail, "unknown")), "is offline"},
		{refusedSlot, device("a", posture.Trusted, append(slices.Clone(healthy), booted("refused slot A"))...), ""},
		{refusedSlot, device("a", posture.Trusted, append(slices.Clone(healthy), booted("verified"))...), "not reported"},
		{refusedWithReason, device("a", posture.Refused, why("a key in a file")), ""},
		{refusedWithReason, device("a", posture.Refused), "with a reason"},
		{refusedWithReason, device("a", posture.Pending, why("x")), "is pending"},
		{connectedUnproven, device("a", posture.Connected), ""},
		{connectedUnproven, device("a", posture.Connected, attested(measure.Pass, "known")), "cannot prove"},
		{connectedUnproven, device("a", posture.Trusted), "is trusted"},
	} {
		err := tt.end(tt.d)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s with %q: error %v, want %q", tt.d.Status, tt.d.Reason, err, tt.want)
		}
	}
}

func TestStoryOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "story.json")
	s, err := loadStory(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Registered["pump-01"], s.Tampered["pump-03"], s.Ports = true, true, ports{1, 2, 3}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	again, err := loadStory(path)
	if err != nil || !again.Registered["pump-01"] || !again.Tampered["pump-03"] || again.Tampered["pump-01"] || again.Ports != s.Ports {
		t.Errorf("story %+v, error %v", again, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadStory(path); err == nil || !strings.Contains(err.Error(), "start afresh") {
		t.Errorf("a broken story: %v, want what to do", err)
	}
}

func TestVoiceRemembersTheLastWhileMuted(t *testing.T) {
	var out bytes.Buffer
	v := &voice{out: &out}
	v.say("aloud")
	v.mute(true)
	for range remembered + 3 {
		v.say("old")
	}
	v.say("new")
	if out.String() != "aloud\n" {
		t.Errorf("while muted it said %q", &out)
	}
	lines := v.last()
	if len(lines) != remembered || !strings.HasSuffix(lines[remembered-1], "  new") {
		t.Errorf("remembers %q", lines)
	}
	v.mute(false)
	v.say("again")
	if !strings.HasSuffix(out.String(), "again\n") {
		t.Errorf("after it: %q", &out)
	}
}

func TestChosenPortsAreFreeAndDiffer(t *testing.T) {
	p, err := choosePorts()
	if err != nil {
		t.Fatal(err)
	}
	if p.MQTT == p.HTTPS || p.HTTPS == p.Operator || p.MQTT == p.Operator || p.MQTT*p.HTTPS*p.Operator == 0 {
		t.Errorf("ports %+v", p)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := ports{l.Addr().(*net.TCPAddr).Port, p.HTTPS, p.Operator}
	if taken.free() {
		t.Error("a taken port counts as free")
	}
}

func TestNearby(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for path, want := range map[string]string{
		filepath.Join(dir, "bin", "holdfast"): "bin/holdfast",
		"/usr/bin/holdfast":                   "/usr/bin/holdfast",
	} {
		if got := nearby(path); got != want {
			t.Errorf("%s is called %s, want %s", path, got, want)
		}
	}
}

func TestInvitationHasTheLinkWhileItIsGood(t *testing.T) {
	s, _ := stageOf(t, new([]operator.Device))
	now := time.Now()
	s.link = operator.Link{URL: "https://localhost:9443/login#secret", Expires: now.Add(time.Minute)}
	if got := s.consoleAt(now); !strings.Contains(got, "at https://localhost:9443 ") || !strings.Contains(got, "/login#secret") {
		t.Errorf("says %q", got)
	}
	if got := s.consoleAt(now.Add(time.Hour)); strings.Contains(got, "#secret") || !strings.Contains(got, " login'") {
		t.Errorf("after its time it says %q", got)
	}
}
