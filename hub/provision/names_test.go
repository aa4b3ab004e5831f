package provision_test

import (
	"testing"

	"holdfast/dps"
	"holdfast/fault"
	"holdfast/hub/provision"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/pki"
)

// named is a device as TLS lets it in: with the id that its enrolment gives it.
func (w *world) named(c provision.Caller) (provision.Caller, error) {
	var err error
	c.Peer.Device, err = w.Name(w.t.Context(), c.Peer)
	return c, err
}

func TestDeviceWithAnotherID(t *testing.T) {
	w := newWorld(t)
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "serial-7", Device: "pump-7", Group: "meters", MakerCA: "acme"})
	c, err := w.named(w.of("acme", "serial-7"))
	w.must(err)
	if c.Peer.Device != "pump-7" || w.RegistrationOf(c.Peer) != "serial-7" {
		t.Fatalf("%+v", c.Peer)
	}
	text, _ := csr(t, "serial-7")
	p := w.register(c, body(t, map[string]any{"registrationId": "serial-7", "csr": text}))
	if p.State.Device != "pump-7" || p.State.Registration != "serial-7" || p.Status != dps.Assigned || len(p.State.Chain) == 0 {
		t.Errorf("%+v", p.State)
	}
	if w.group("pump-7") != "meters" || w.group("serial-7") != "" {
		t.Errorf("groups %q and %q", w.group("pump-7"), w.group("serial-7"))
	}
	// With the certificate that the hub issued it is the same registration.
	own := c
	own.Peer = pki.Peer{Class: pki.Operational, Name: "pump-7", Device: "pump-7"}
	if w.RegistrationOf(own.Peer) != "serial-7" {
		t.Error("the hub's certificate has another registration id")
	}
	w.restart()
	if c, err := w.named(w.of("acme", "serial-7")); err != nil || c.Peer.Device != "pump-7" {
		t.Errorf("after a restart: %+v, %v", c.Peer, err)
	}
	for name, c := range map[string]provision.Caller{
		"another CA's certificate of that name": w.of("other", "serial-7"),
		"other letters":                         w.of("acme", "SERIAL-7"),
		"a certificate of the device's id":      w.of("acme", "pump-7"),
		"self-signed":                           self("pump-7"),
	} {
		if got, err := w.named(c); fault.Of(err) != fault.Denied || err == nil {
			t.Errorf("%s: %+v, %v", name, got.Peer, err)
		}
	}
	w.refused(func() error {
		_, err := w.Register(t.Context(), provision.Caller{Scope: string(scope), ID: "pump-7", Peer: c.Peer}, nil)
		return err
	}(), iothub.CodeUnauthorized)
	if _, err := w.Register(t.Context(), c, []byte(`{"csr":"`+func() string { s, _ := csr(t, "serial-8"); return s }()+`"}`)); iothub.CodeOf(err) != dps.CodeCSR {
		t.Errorf("a request for another: %v", err)
	}
	w.must(w.RemoveEnrollment(t.Context(), "admin", operator.Individual, "SERIAL-7"))
	if c, err := w.named(w.of("acme", "serial-7")); err != nil || c.Peer.Device != "serial-7" {
		t.Errorf("without its enrolment: %+v, %v", c.Peer, err)
	}
	if c, err := w.named(w.of("acme", "pump-7")); err != nil || c.Peer.Device != "pump-7" {
		t.Errorf("the id is free again: %+v, %v", c.Peer, err)
	}
}

func TestEnrolledByItsCertificate(t *testing.T) {
	w := newWorld(t)
	c := w.of("acme", "serial-7")
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "serial-7", Device: "pump-7", Group: "meters", Certificates: []identity.Digest{c.Peer.Certificate}})
	if c, err := w.named(c); err != nil || c.Peer.Device != "pump-7" {
		t.Errorf("%+v, %v", c.Peer, err)
	}
	c.Peer.Certificate = identity.Sum([]byte("another"))
	if _, err := w.named(c); fault.Of(err) != fault.Denied {
		t.Errorf("another certificate of the same name: %v", err)
	}
}

// Two enrolments cannot lead to one device.
func TestDeviceIDsOfEnrolmentsAreTheirOwn(t *testing.T) {
	w := newWorld(t)
	one := operator.Enrollment{Kind: operator.Individual, ID: "serial-1", Device: "pump-1", Group: "meters", MakerCA: "acme"}
	w.enroll(one)
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "pump-2", Group: "meters"})
	if same := w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "pump-3", Device: "pump-3", Group: "meters"}); same.Device != "" {
		t.Errorf("%+v", same)
	}
	for name, c := range map[string]struct {
		change func(*operator.Enrollment)
		want   fault.Kind
	}{
		"a device that is enrolled so already": {func(e *operator.Enrollment) { e.Device = "pump-1" }, fault.Conflict},
		"a device that is enrolled itself":     {func(e *operator.Enrollment) { e.Device = "pump-2" }, fault.Conflict},
		"enrolled as another's device":         {func(e *operator.Enrollment) { e.ID, e.Device = "pump-1", "" }, fault.Conflict},
		"no CA and no certificate":             {func(e *operator.Enrollment) { e.MakerCA = "" }, fault.Invalid},
		"no device's id":                       {func(e *operator.Enrollment) { e.Device = "a/b" }, fault.Invalid},
		"for many": {func(e *operator.Enrollment) {
			e.Kind, e.IDs = operator.ForGroup, []string{"x-*"}
		}, fault.Invalid},
	} {
		e := one
		e.ID, e.Device = "serial-9", "pump-9"
		c.change(&e)
		if _, err := w.AddEnrollment(t.Context(), "admin", e); fault.Of(err) != c.want || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.must1(w.DisableEnrollment(t.Context(), "admin", operator.Individual, "serial-1", true))
	if c, err := w.named(w.of("acme", "serial-1")); err != nil || c.Peer.Device != "pump-1" {
		t.Errorf("disabled: %+v, %v", c.Peer, err)
	}
	if _, _, err := w.Enrolled(t.Context(), pki.Peer{Class: pki.Maker, Name: "serial-1", Device: "pump-1", Anchor: identity.Sum(w.maker["acme"].Raw)}); fault.Of(err) != fault.Denied {
		t.Errorf("disabled: %v", err)
	}
}
