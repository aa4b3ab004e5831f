package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/hub/api"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/ledger"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
)

// fleet is services that have things of two groups: pump-01 is of pumps, fan-01
// of fans, and everything else that they answer is of both.
type fleet struct {
	mu    sync.Mutex
	asked []string            // what was asked of it
	wait  chan struct{}       // if there is one, an act waits for it
	block chan operator.Event // of who follows
	err   error               // what Device and Read answer; nil: they do
}

func (f *fleet) note(words ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.Join(words, " "))
}

// took returns what was noted since it was last asked.
func (f *fleet) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.asked
	f.asked = nil
	return taken
}

func (f *fleet) DeviceGroup(_ context.Context, d identity.Device) (identity.Group, error) {
	switch d {
	case "pump-01", "pump-02":
		return "pumps", nil
	case "fan-01":
		return "fans", nil
	}
	return "", fault.New(fault.NotFound, "there is no device %q", d)
}

// both answers for each group that a query may see.
func both[T any](groups []identity.Group, make func(identity.Group, identity.Device) T) []T {
	p := operator.Principal{Groups: groups}
	var out []T
	for g, d := range map[identity.Group]identity.Device{"pumps": "pump-01", "fans": "fan-01"} {
		if p.Sees(g) {
			out = append(out, make(g, d))
		}
	}
	return out
}

func (f *fleet) hub(context.Context) (operator.Hub, error) {
	f.note("hub")
	return operator.Hub{}, nil
}
func (f *fleet) Groups(context.Context) ([]operator.Group, error) {
	f.note("groups")
	return both(nil, func(g identity.Group, _ identity.Device) operator.Group {
		return operator.Group{ID: g, MakerCAs: []string{string(g) + "-ca"}}
	}), nil
}
func (f *fleet) SetGroup(_ context.Context, by string, g identity.Group, _ operator.SetGroup) (operator.Group, error) {
	f.note(by, "set", string(g))
	return operator.Group{ID: g, FileKeys: true}, nil
}
func (f *fleet) CAs(context.Context) ([]operator.CA, error) {
	f.note("cas")
	return both(nil, func(g identity.Group, _ identity.Device) operator.CA {
		return operator.CA{Name: string(g) + "-ca", Kind: "maker"}
	}), nil
}
func (f *fleet) AddCA(_ context.Context, by string, ca operator.CA) (operator.CA, error) {
	f.note(by, "add", ca.Name)
	return ca, nil
}
func (f *fleet) VerifyCA(_ context.Context, by, name string, _ operator.Proof) (operator.CA, error) {
	f.note(by, "verify", name)
	return operator.CA{}, nil
}
func (f *fleet) AddDevice(_ context.Context, by string, d operator.AddDevice) (operator.AddedDevice, error) {
	f.note(by, "add", string(d.ID))
	if len(d.EK) > 0 {
		return operator.AddedDevice{}, fault.New(fault.Conflict, "the EK is registered already, as fan-01")
	}
	return operator.AddedDevice{ID: d.ID}, nil
}
func (f *fleet) Devices(_ context.Context, q api.Filter) ([]operator.Device, error) {
	f.note("devices", string(q.Group), string(q.Status), string(q.After), fmt.Sprint(q.Limit), fmt.Sprint(q.Groups))
	ds := both(q.Groups, func(g identity.Group, d identity.Device) operator.Device { return operator.Device{ID: d, Group: g} })
	return slices.DeleteFunc(ds, func(d operator.Device) bool { return q.Group != "" && d.Group != q.Group }), nil
}
func (f *fleet) Device(_ context.Context, d identity.Device) (operator.Device, error) {
	f.note("device", string(d))
	return operator.Device{ID: d}, f.err
}
func (f *fleet) Act(_ context.Context, by string, d identity.Device, verb, reason string) (operator.Device, error) {
	f.note(by, verb, string(d), reason)
	if f.wait != nil {
		<-f.wait
	}
	if d == "pump-02" {
		return operator.Device{}, fault.New(fault.Conflict, "pump-02 is revoked already")
	}
	return operator.Device{ID: d}, nil
}
func (f *fleet) Pending(context.Context) ([]operator.Pending, error) {
	f.note("pending")
	return nil, nil
}
func (f *fleet) Accept(_ context.Context, by, id string, a operator.Accept) error {
	f.note(by, "accept", id, string(a.Device))
	return nil
}
func (f *fleet) Refuse(_ context.Context, by, id, reason string) error {
	f.note(by, "refuse", id, reason)
	return nil
}
func (f *fleet) References(_ context.Context, g identity.Group) ([]operator.Reference, error) {
	f.note("references", string(g))
	return []operator.Reference{{Group: g}}, nil
}
func (f *fleet) AddReference(_ context.Context, by string, r operator.Reference) error {
	f.note(by, "add", r.Name)
	return nil
}
func (f *fleet) RemoveReference(_ context.Context, by string, g identity.Group, _ identity.Digest) error {
	f.note(by, "remove", string(g))
	return nil
}

// auditors is fleet as the API asks it of auditors.
type auditors struct{ *fleet }

func (f auditors) List(context.Context) ([]operator.Auditor, error) {
	f.note("auditors")
	return nil, nil
}
func (f auditors) AddAuditor(_ context.Context, by string, a operator.Auditor) (operator.Auditor, error) {
	f.note(by, "add auditor", a.Name)
	return a, nil
}
func (f auditors) RemoveAuditor(_ context.Context, by, name string) error {
	f.note(by, "remove auditor", name)
	return nil
}
func (f auditors) Audits(_ context.Context, d identity.Digest) ([]operator.Audit, error) {
	f.note("audits", d.String()[:4])
	return nil, nil
}
func (f auditors) Audit(_ context.Context, d identity.Digest) (operator.Audit, error) {
	f.note("audit", d.String()[:4])
	return operator.Audit{}, nil
}
func (f auditors) AddAudit(_ context.Context, by string, envelope []byte) (operator.Audit, error) {
	f.note(by, "add audit", fmt.Sprint(len(envelope)))
	return operator.Audit{}, nil
}
func (f auditors) RemoveAudit(_ context.Context, by string, d identity.Digest) error {
	f.note(by, "remove audit", d.String()[:4])
	return nil
}

func (f *fleet) Twin(_ context.Context, d identity.Device) (operator.Twin, error) {
	f.note("twin", string(d))
	return operator.Twin{Device: d, ETag: "abc", Tags: []byte("{}"), Desired: []byte("{}"), Reported: []byte("{}")}, nil
}
func (f *fleet) SetTwin(_ context.Context, by string, d identity.Device, _ operator.SetTwin, _ bool, etag string) (operator.Twin, error) {
	f.note(by, "set twin", string(d), etag)
	return operator.Twin{Device: d, ETag: "abd", Tags: []byte("{}"), Desired: []byte("{}"), Reported: []byte("{}")}, nil
}
func (f *fleet) CallMethod(_ context.Context, by string, d identity.Device, m string, _ operator.CallMethod) (operator.MethodResult, error) {
	f.note(by, "call", string(d), m)
	return operator.MethodResult{}, nil
}
func (f *fleet) Send(_ context.Context, by string, d identity.Device, m operator.SendMessage) (operator.Message, error) {
	f.note(by, "send", string(d))
	return operator.Message{}, nil
}
func (f *fleet) List(_ context.Context, d identity.Device) ([]operator.Message, error) {
	f.note("messages", string(d))
	return nil, nil
}
func (f *fleet) Purge(_ context.Context, by string, d identity.Device) (operator.Purged, error) {
	f.note(by, "purge", string(d))
	return operator.Purged{}, nil
}
func (f *fleet) Enrollments(context.Context, string) ([]operator.Enrollment, error) {
	return both(nil, func(g identity.Group, d identity.Device) operator.Enrollment {
		return operator.Enrollment{Kind: operator.Individual, ID: string(d), Group: g}
	}), nil
}
func (f *fleet) Enrollment(ctx context.Context, kind, id string) (operator.Enrollment, error) {
	g, err := f.DeviceGroup(ctx, identity.Device(id))
	return operator.Enrollment{Kind: kind, ID: id, Group: g}, err
}
func (f *fleet) AddEnrollment(_ context.Context, by string, e operator.Enrollment) (operator.Enrollment, error) {
	f.note(by, "enrol", e.ID)
	return e, nil
}
func (f *fleet) DisableEnrollment(_ context.Context, by, kind, id string, _ bool) (operator.Enrollment, error) {
	f.note(by, "disable", id)
	return operator.Enrollment{}, nil
}
func (f *fleet) RemoveEnrollment(_ context.Context, by, kind, id string) error {
	f.note(by, "remove", id)
	return nil
}
func (f *fleet) Check(context.Context, operator.EventQuery) error { return nil }
func (f *fleet) Read(ctx context.Context, q operator.EventQuery, each func(string, iothub.Message) error) error {
	f.note("events", string(q.Device), q.After)
	if f.err != nil {
		return f.err
	}
	for _, d := range []identity.Device{"pump-01", "fan-01", "", "gone-01"} {
		body := "<b>\n" + string(d)
		if d == "gone-01" {
			body = "\xff\x00"
		}
		if err := each("1-"+string(d), iothub.Message{Device: d, Kind: "telemetry", Body: []byte(body)}); err != nil {
			return err
		}
	}
	for q.Follow {
		select {
		case e := <-f.block:
			if err := each(e.ID, iothub.Message{Device: e.Device}); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
func (f *fleet) Records(_ context.Context, q operator.LedgerQuery) ([]ledger.Record, error) {
	f.note("ledger", fmt.Sprint(q.From, q.Limit, q.Newest), string(q.Device), q.Kind)
	var all []ledger.Record
	for i, e := range []ledger.Entry{{Device: "fan-01"}, {Device: "pump-01"}, {Group: "fans"}, {Group: "pumps"}, {Reason: "fans: of the hub"}, {Device: "fan-01", Group: "pumps"}} {
		all = append(all, ledger.Record{Entry: e, Seq: uint64(i + 1)})
	}
	return all, nil
}
func (f *fleet) Head(context.Context) (ledger.Head, error) { return ledger.Head{Seq: 42}, nil }
func (f *fleet) Page(_ context.Context, q operator.FleetQuery) (operator.FleetPage, error) {
	ds := both(q.Groups, func(g identity.Group, d identity.Device) operator.Summary { return operator.Summary{ID: d, Group: g} })
	return operator.FleetPage{Devices: ds, Total: len(ds)}, nil
}
func (f *fleet) CheckPolicy(_ context.Context, in operator.PolicyCheck) (operator.PolicyEffect, error) {
	f.note("check", string(in.Group))
	return operator.PolicyEffect{Changes: []operator.PolicyChange{{Group: in.Group}}}, nil
}
func (f *fleet) Certificates(_ context.Context, d identity.Device) ([]operator.Issued, error) {
	f.note("certificates", string(d))
	return nil, nil
}
func (f *fleet) Sessions(_ context.Context, d identity.Device, _ int) ([]operator.Session, error) {
	f.note("sessions", string(d))
	return nil, nil
}
func (f *fleet) Alerts(_ context.Context, q operator.AlertQuery) ([]operator.Alert, error) {
	return both(q.Groups, func(g identity.Group, d identity.Device) operator.Alert { return operator.Alert{Device: d, Group: g} }), nil
}
func (f *fleet) Acknowledge(_ context.Context, id string) (operator.Alert, error) {
	f.note("acknowledge", id)
	return operator.Alert{}, nil
}
func (f *fleet) Series(context.Context, []string, time.Time, time.Duration) ([]operator.Series, error) {
	return nil, nil
}

// Of accounts, hub/accounts knows who sees which.
func (f *fleet) Accounts(context.Context) ([]operator.Account, error) { return nil, nil }
func (f *fleet) AddAccount(_ context.Context, a operator.Account) (operator.Account, error) {
	f.note("add account", a.Name)
	return a, nil
}
func (f *fleet) ChangeAccount(_ context.Context, name string, a operator.Account) (operator.Account, error) {
	f.note("change account", name)
	return a, nil
}
func (f *fleet) RevokeAccount(_ context.Context, name, _ string) error {
	f.note("revoke account", name)
	return nil
}
func (f *fleet) NewLink(_ context.Context, account string) (operator.Link, error) {
	f.note("link", account)
	return operator.Link{}, nil
}
func (f *fleet) Logins(context.Context) ([]operator.Login, error) { return nil, nil }
func (f *fleet) EndLogin(_ context.Context, id string) error {
	f.note("end", id)
	return nil
}
func (f *fleet) AddToken(_ context.Context, t operator.AddToken) (operator.Token, error) {
	f.note("token", t.Name)
	return operator.Token{Secret: "s3cret"}, nil
}
func (f *fleet) Tokens(context.Context) ([]operator.Token, error) { return nil, nil }
func (f *fleet) RemoveToken(_ context.Context, id string) error {
	f.note("remove token", id)
	return nil
}
func (f *fleet) CertifyAccount(_ context.Context, name, _ string) (string, error) {
	f.note("certify", name)
	return "pem", nil
}

// A rollout whose id begins with "fan" is of fans, one with "all" of both.
func (f *fleet) Rollout(_ context.Context, id string) (operator.Rollout, error) {
	groups := map[string][]identity.Group{"fan-x": {"fans"}, "all-x": {"fans", "pumps"}}[id]
	if groups == nil {
		groups = []identity.Group{"pumps"}
	}
	if id == "gone-x" {
		return operator.Rollout{}, fault.New(fault.NotFound, "there is no rollout %q", id)
	}
	return operator.Rollout{ID: id, Groups: groups, ETag: "abc"}, nil
}
func (f *fleet) Rollouts(_ context.Context, q operator.RolloutQuery) ([]operator.Rollout, error) {
	f.note("rollouts", string(q.Product), q.Stage)
	return both(q.Groups, func(g identity.Group, _ identity.Device) operator.Rollout {
		return operator.Rollout{Groups: []identity.Group{g}}
	}), nil
}
func (f *fleet) Start(_ context.Context, by string, in operator.StartRollout) (operator.Rollout, error) {
	f.note(by, "start", string(in.Product), in.Version.String())
	return operator.Rollout{ETag: "abc"}, nil
}

// rollouts is fleet as the API asks it of rollouts.
type rollouts struct{ *fleet }

func (f rollouts) Act(_ context.Context, by, id, verb string, in operator.RolloutAct, etag string) (operator.Rollout, error) {
	f.note(by, verb, id, in.Reason, etag)
	return operator.Rollout{ID: id, ETag: "abd"}, nil
}
func (f rollouts) Of(_ context.Context, d identity.Device, groups []identity.Group) ([]operator.DeviceRollout, error) {
	f.note("rollouts of", string(d))
	return both(groups, func(g identity.Group, _ identity.Device) operator.DeviceRollout {
		return operator.DeviceRollout{RolloutDevice: operator.RolloutDevice{Device: d, Group: g}}
	}), nil
}
func (f rollouts) Devices(_ context.Context, id string, q operator.RolloutDeviceQuery) ([]operator.RolloutDevice, error) {
	f.note("devices of", id, q.State, string(q.After))
	return nil, nil
}

func (f *fleet) Describe(context.Context) (operator.Repository, error) {
	f.note("repository")
	return operator.Repository{}, nil
}
func (f *fleet) Metadata(context.Context) (operator.Metadata, error) {
	f.note("metadata")
	return operator.Metadata{Files: map[string][]byte{"1.root.json": []byte("{}")}}, nil
}
func (f *fleet) Publish(_ context.Context, by string, m operator.Metadata, mayRoot func() error) (operator.Repository, error) {
	if m.Files["1.root.json"] != nil {
		if err := mayRoot(); err != nil {
			return operator.Repository{}, err
		}
	}
	f.note(by, "publish", fmt.Sprint(len(m.Files)))
	return operator.Repository{}, nil
}
func (f *fleet) HasBlob(_ context.Context, d identity.Digest) (int64, error) {
	f.note("blob", d.String()[:4])
	return 7, nil
}
func (f *fleet) PutBlob(_ context.Context, d identity.Digest, size int64, in io.Reader) error {
	n, err := io.Copy(io.Discard, in)
	f.note("put", d.String()[:4], fmt.Sprint(size, n))
	return err
}

// catalogue is fleet as the API asks it of releases.
type catalogue struct{ *fleet }

func (f catalogue) List(_ context.Context, p release.Product) ([]operator.Release, error) {
	f.note("releases", string(p))
	return nil, nil
}
func (f catalogue) Release(_ context.Context, p release.Product, v mcuboot.Version) (operator.Release, error) {
	f.note("release", string(p), v.String())
	return operator.Release{}, nil
}

func (f *fleet) backUp(_ context.Context, by string, w io.Writer) error {
	f.note(by, "back up")
	_, err := io.WriteString(w, "an archive")
	return err
}

// plane is the API on a fleet.
type plane struct {
	*fleet
	handler http.Handler
	log     bytes.Buffer
}

func newPlane() *plane {
	p := &plane{fleet: &fleet{block: make(chan operator.Event)}}
	p.handler = api.New(api.Config{Version: "1", Hub: p.hub,
		Groups: p, CAs: p, Devices: p, Arrivals: p, References: p, Auditors: auditors{p.fleet}, Twins: p, Methods: p, Messages: p, Enrollments: p, Events: p, Ledger: p,
		Accounts: p, Logins: p, Tokens: p, Certifier: p, Overview: p, History: p, SessionHistory: p, Alerts: p, Series: p, Rollouts: rollouts{p.fleet}, Repository: catalogue{p.fleet}, Backup: p.backUp,
		Log: slog.New(slog.NewTextHandler(&p.log, nil))})
	return p
}

// as asks as somebody.
func (p *plane) as(who operator.Principal, method, url, body string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, url, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	p.handler.ServeHTTP(rec, req.WithContext(operator.With(req.Context(), who)))
	return rec
}

// kindOf is the type of the problem that was answered.
func kindOf(t *testing.T, rec *httptest.ResponseRecorder) string {
	t.Helper()
	var problem struct{ Type string }
	if err := json.Unmarshal(rec.Body.Bytes(), &problem); err != nil {
		t.Errorf("no problem: %s", rec.Body)
	}
	return problem.Type
}
