package provision_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/dps"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/hub/provision"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

func TestRegisterRefuses(t *testing.T) {
	w := newWorld(t)
	good := w.of("acme", "meter-1")
	with := func(change func(*provision.Caller)) provision.Caller {
		c := good
		change(&c)
		return c
	}
	foreign, _ := csr(t, "meter-2")
	own, _ := csr(t, "meter-1")
	for name, tc := range map[string]struct {
		c    provision.Caller
		body string
		want iothub.Code
	}{
		"another scope":                  {with(func(c *provision.Caller) { c.Scope = "0ne99999999" }), "", iothub.CodeUnauthorized},
		"no scope":                       {with(func(c *provision.Caller) { c.Scope = "" }), "", iothub.CodeUnauthorized},
		"another's id":                   {with(func(c *provision.Caller) { c.ID = "meter-2" }), "", iothub.CodeUnauthorized},
		"no id":                          {with(func(c *provision.Caller) { c.ID = "" }), "", iothub.CodeArgument},
		"an id that is none":             {with(func(c *provision.Caller) { c.ID = "meter-1/../meter-2" }), "", iothub.CodeArgument},
		"no certificate":                 {provision.Caller{Scope: string(scope), ID: "meter-1"}, "", iothub.CodeUnauthorized},
		"another's id in the body":       {good, `{"registrationId":"meter-2"}`, iothub.CodeArgument},
		"no JSON":                        {good, `registrationId=meter-1`, iothub.CodeFormat},
		"attestation by TPM":             {good, `{"registrationId":"meter-1","tpm":{"endorsementKey":"AA=="}}`, iothub.CodeUnauthorized},
		"CSR that is none":               {good, `{"csr":"ZGVy"}`, dps.CodeCSR},
		"CSR of another":                 {good, body(t, map[string]any{"csr": foreign}), dps.CodeCSR},
		"CSR where none is taken":        {with(func(c *provision.Caller) { c.Bare = true }), body(t, map[string]any{"csr": own}), iothub.CodeForbidden},
		"an id of nobody's":              {w.of("acme", "valve-1"), "", iothub.CodeUnauthorized},
		"an id of another maker's":       {w.of("other", "meter-1"), "", iothub.CodeUnauthorized},
		"self-signed, without enrolment": {self("meter-1"), "", iothub.CodeUnauthorized},
	} {
		p, err := w.Register(t.Context(), tc.c, []byte(tc.body))
		if err == nil || iothub.CodeOf(err) != tc.want {
			t.Errorf("%s: %+v, %v has code %d, want %d", name, p, err, iothub.CodeOf(err), tc.want)
		}
		if iothub.CodeOf(err).Status() == 401 && strings.Contains(fault.Public(err), "acme") {
			t.Errorf("%s: the peer learns %q", name, fault.Public(err))
		}
	}
	for _, id := range []identity.Device{"meter-1", "meter-2", "valve-1"} {
		if g := w.group(id); g != "" {
			t.Errorf("%s was entered into %s", id, g)
		}
	}
	if _, err := w.Registration(t.Context(), good); iothub.CodeOf(err) != iothub.CodeDeviceNotFound {
		t.Errorf("something was kept: %v", err)
	}
}

func TestRegisterByTheGroupsOwnIDs(t *testing.T) {
	w := newWorld(t)
	for _, b := range []string{"", `{"registrationId" : "METER-1", "payload" : {"model":1}}`} {
		c := w.of("acme", "meter-1")
		c.ID, c.Scope = "Meter-1", strings.ToLower(string(scope))
		p := w.register(c, b)
		want := &dps.State{Registration: "Meter-1", Hub: "hub.example", Device: "meter-1", Status: dps.Assigned}
		got := *p.State
		if got.Created.IsZero() || got.Updated.IsZero() || got.ETag == "" || got.X509.Leaf.SHA256 != c.Peer.Certificate {
			t.Errorf("%+v", got)
		}
		want.Substatus = dps.InitialAssignment
		if b != "" {
			want.Substatus = dps.DataMigrated
		}
		got.Created, got.Updated, got.ETag, got.X509 = dps.Time{}, dps.Time{}, "", nil
		if diff := cmp.Diff(want, &got, cmp.AllowUnexported(dps.Time{})); p.Status != dps.Assigned || diff != "" {
			t.Errorf("%s\n%s", p.Status, diff)
		}
	}
	if w.group("meter-1") != "meters" || w.count("device.provision meter-1") != 1 || w.count("device.add meter-1") != 1 {
		t.Errorf("group %q, ledger %q", w.group("meter-1"), w.ledger)
	}
}

func TestOperations(t *testing.T) {
	w := newWorld(t)
	c, other := w.of("acme", "meter-1"), w.of("acme", "meter-2")
	first, err := w.Register(t.Context(), c, nil)
	w.must(err)
	w.register(other, "")
	w.restart()
	if p, err := w.Operation(t.Context(), c, string(first.Operation)); err != nil || p.Status != dps.Assigned {
		t.Errorf("after a restart: %+v, %v", p, err)
	}
	_, err = w.Operation(t.Context(), other, string(first.Operation))
	w.refused(err, iothub.CodeDeviceNotFound)
	_, err = w.Operation(t.Context(), c, string(dps.NewOperation()))
	w.refused(err, iothub.CodeDeviceNotFound)
	_, err = w.Operation(t.Context(), c, "1")
	w.refused(err, iothub.CodeArgument)
	c.ID = "meter-2"
	_, err = w.Operation(t.Context(), c, string(first.Operation))
	w.refused(err, iothub.CodeUnauthorized)
	if s, err := w.Registration(t.Context(), other); err != nil || s.Device != "meter-2" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestIndividualEnrolmentBeatsTheOthers(t *testing.T) {
	w := newWorld(t)
	w.enroll(operator.Enrollment{Kind: operator.ForGroup, ID: "spare-parts", Group: "spares", MakerCA: "acme", IDs: []string{"meter-9*", "spare-*"}})
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "meter-99", Group: "meters", Payload: json.RawMessage(`{"a":1}`)})
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "Meter-90", Group: "spares", Disabled: true})
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "meter-5", Group: "spares", MakerCA: "other"})
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "lone-1", Group: "spares", Certificates: []identity.Digest{w.of("other", "lone-1").Peer.Certificate}})

	for id, want := range map[identity.Device]identity.Group{"meter-1": "meters", "meter-98": "spares", "meter-99": "meters", "spare-1": "spares"} {
		p := w.register(w.of("acme", id), "")
		if p.Status != dps.Assigned || w.group(id) != want {
			t.Errorf("%s: %+v in %q, want %s", id, p, w.group(id), want)
		}
	}
	if p := w.register(w.of("acme", "meter-99"), ""); string(p.State.Payload) != `{"a":1}` || p.State.X509.Group != "" {
		t.Errorf("%+v", p.State)
	}
	if p := w.register(w.of("acme", "meter-98"), ""); p.State.X509.Group != "spare-parts" {
		t.Errorf("%+v", p.State)
	}
	// The enrolment of another spelling is another device's.
	_, err := w.Register(t.Context(), w.of("acme", "meter-90"), nil)
	w.refused(err, iothub.CodeUnauthorized)
	// A disabled one says so, and keeps the device out everywhere.
	p := w.register(w.of("acme", "Meter-90"), "")
	if p.Status != dps.Failed || p.State.Status != dps.Disabled || p.State.ErrorCode != iothub.CodeDisabled || p.State.Hub != "" {
		t.Errorf("disabled: %+v", p.State)
	}
	if _, err := w.fleet.Admit(t.Context(), w.of("acme", "Meter-90").Peer); fault.Of(err) != fault.Denied {
		t.Errorf("a disabled device comes in by the front door: %v", err)
	}
	// The CA or certificate of an individual enrolment is the only one.
	for _, c := range []provision.Caller{w.of("acme", "meter-5"), w.of("acme", "lone-1")} {
		_, err := w.Register(t.Context(), c, nil)
		w.refused(err, iothub.CodeUnauthorized)
		if w.group(c.Peer.Device) != "" {
			t.Errorf("%s was entered", c.Peer.Device)
		}
	}
	for _, c := range []provision.Caller{w.of("other", "meter-5"), w.of("other", "lone-1")} {
		if p := w.register(c, ""); p.Status != dps.Assigned || w.group(c.Peer.Device) != "spares" {
			t.Errorf("%s: %+v", c.Peer.Device, p)
		}
	}
}

func TestDisabledAndEnabledAgain(t *testing.T) {
	w := newWorld(t)
	w.enroll(operator.Enrollment{Kind: operator.ForGroup, ID: "some", Group: "spares", MakerCA: "acme", IDs: []string{"meter-*"}})
	w.must1(w.DisableEnrollment(t.Context(), "admin", operator.ForGroup, "SOME", true))
	if p := w.register(w.of("acme", "meter-1"), ""); p.Status != dps.Failed || w.group("meter-1") != "" {
		t.Errorf("%+v", p.State)
	}
	w.must1(w.DisableEnrollment(t.Context(), "admin", operator.ForGroup, "some", false))
	if p := w.register(w.of("acme", "meter-1"), ""); p.Status != dps.Assigned || p.State.Substatus != dps.InitialAssignment || w.group("meter-1") != "spares" {
		t.Errorf("%+v", p.State)
	}
	// Without the enrolment the group's own ids decide, and the device stays.
	w.must(w.RemoveEnrollment(t.Context(), "admin", operator.ForGroup, "some"))
	if p := w.register(w.of("acme", "meter-1"), ""); p.Status != dps.Assigned || w.group("meter-1") != "spares" {
		t.Errorf("%+v in %s", p.State, w.group("meter-1"))
	}
}

func TestReprovisioning(t *testing.T) {
	w := newWorld(t)
	twin := &operator.SetTwin{Tags: json.RawMessage(`{"site":"A"}`), Desired: json.RawMessage(`{"interval":5}`)}
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "meter-1", Group: "meters", Twin: twin})
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "meter-2", Group: "meters", Twin: twin, Reprovision: operator.Reset})
	for id, again := range map[identity.Device]dps.Substatus{"meter-1": dps.DataMigrated, "meter-2": dps.DataReset} {
		if p := w.register(w.of("acme", id), ""); p.State.Substatus != dps.InitialAssignment || w.twins[id].times != 1 || w.twins[id].reset {
			t.Errorf("%s: %+v, %+v", id, p.State, w.twins[id])
		}
		if p := w.register(w.of("acme", id), ""); p.State.Substatus != again {
			t.Errorf("%s again: %+v", id, p.State)
		}
	}
	if w.twins["meter-1"].times != 1 || w.twins["meter-2"].times != 2 || !w.twins["meter-2"].reset {
		t.Errorf("%+v", w.twins)
	}
	// Into another group, with the next registration.
	w.must(w.RemoveEnrollment(t.Context(), "admin", operator.Individual, "meter-1"))
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "meter-1", Group: "spares"})
	if w.register(w.of("acme", "meter-1"), ""); w.group("meter-1") != "spares" {
		t.Errorf("still in %s", w.group("meter-1"))
	}
}

func TestRevokedDevicesAreNotAssigned(t *testing.T) {
	w := newWorld(t)
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "meter-2", Group: "meters"})
	for _, id := range []identity.Device{"meter-1", "meter-2"} {
		w.register(w.of("acme", id), "")
		w.must1(w.fleet.Act(t.Context(), "admin", id, fleet.Revoke, "lost"))
	}
	_, err := w.Register(t.Context(), w.of("acme", "meter-1"), nil)
	w.refused(err, iothub.CodeUnauthorized)
	if p := w.register(w.of("acme", "meter-2"), ""); p.Status != dps.Failed || p.State.ErrorCode != iothub.CodeForbidden || p.State.Hub != "" {
		t.Errorf("%+v", p.State)
	}
}

func TestSelfSignedEnrolment(t *testing.T) {
	w := newWorld(t)
	c := self("gadget-1")
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "gadget-1", Group: "old", Certificates: []identity.Digest{c.Peer.Certificate}})
	if id, err := w.Pinned(t.Context(), c.Peer.Certificate); err != nil || id != "gadget-1" {
		t.Fatalf("%q, %v", id, err)
	}
	if p := w.register(c, ""); p.Status != dps.Assigned || w.group("gadget-1") != "old" {
		t.Errorf("%+v", p.State)
	}
	_, err := w.Pinned(t.Context(), identity.Sum(nil))
	if fault.Of(err) != fault.NotFound {
		t.Errorf("an unknown certificate: %v", err)
	}
	w.must(w.RemoveEnrollment(t.Context(), "admin", operator.Individual, "gadget-1"))
	if _, err := w.Pinned(t.Context(), c.Peer.Certificate); fault.Of(err) != fault.NotFound {
		t.Errorf("a removed enrolment: %v", err)
	}
}

func TestCertificateByCSR(t *testing.T) {
	w := newWorld(t)
	c := w.of("acme", "meter-1")
	request, key := csr(t, "meter-1")
	p := w.register(c, body(t, map[string]any{"registrationId": "meter-1", "csr": request}))
	chain := p.State.Chain
	if len(chain) != 2 || w.issuer.made != 1 {
		t.Fatalf("%+v", p.State)
	}
	// The answer was lost: a new request with the same key gets the same.
	again := w.register(c, body(t, map[string]any{"csr": csrOf(t, "meter-1", key)}))
	if diff := cmp.Diff(chain, again.State.Chain); diff != "" || w.issuer.made != 1 {
		t.Error(diff)
	}
	// Without one it gets none, and none of before.
	if p := w.register(c, ""); len(p.State.Chain) != 0 || p.Status != dps.Assigned {
		t.Errorf("%+v", p.State)
	}
	fresh, _ := csr(t, "meter-1")
	w.issuer.err = fault.New(fault.Denied, "posture: identity.hardware-root is unknown")
	if p := w.register(c, body(t, map[string]any{"csr": fresh})); p.Status != dps.Failed || p.State.ErrorCode != iothub.CodeForbidden ||
		!strings.Contains(p.State.ErrorMessage, "identity.hardware-root") || len(p.State.Chain) != 0 {
		t.Errorf("%+v", p.State)
	}
	w.issuer.err = fault.New(fault.Unavailable, "full")
	_, err := w.Register(t.Context(), c, []byte(body(t, map[string]any{"csr": fresh})))
	w.refused(err, iothub.CodeUnavailable)
}

func TestRegistrationsOfADeviceAreLimited(t *testing.T) {
	w := newWorld(t)
	c := w.of("acme", "meter-1")
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = w.Register(t.Context(), c, nil)
	}
	w.refused(err, iothub.CodeThrottled)
	w.register(w.of("acme", "meter-2"), "")
	w.now = w.now.Add(time.Minute)
	w.register(c, "")
}
