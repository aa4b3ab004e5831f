package azure_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"holdfast/dps"
	"holdfast/mqtt"
	"holdfast/operator"
)

// TestDeviceWithAnotherRegistrationID: the certificate has the registration id,
// and an enrolment gives the device another one, which it has on the hub.
func TestDeviceWithAnotherRegistrationID(t *testing.T) {
	w := newWorld(t)
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "serial-7", Device: "pump-7", Group: "meters", MakerCA: "maker"})
	cert := w.certificate("serial-7")
	registrar := w.registrar("SERIAL-7", cert)
	csr, key := request(t, "serial-7")
	p := registrar.register(`{"registrationId":"serial-7","csr":"` + csr + `"}`)
	if p.Status != dps.Assigned || p.State.Device != "pump-7" || p.State.Registration != "SERIAL-7" {
		t.Fatalf("%+v", p.State)
	}
	registrar.leave()
	w.restart()

	issued := chainOf(t, p.State.Chain, key)
	for what, c := range map[string]tls.Certificate{"its maker's certificate": cert, "the hub's": issued} {
		d := w.connect(t, "pump-7", c, "$iothub/twin/res/#")
		d.publish("$iothub/twin/GET/?$rid=7", "")
		if got := d.receive().Topic; got != "$iothub/twin/res/200/?$rid=7" {
			t.Errorf("%s: %s", what, got)
		}
		d.leave()
	}
	if p := w.registrar("serial-7", issued).register(""); p.State.Device != "pump-7" || p.State.Substatus != dps.DataMigrated {
		t.Errorf("with the hub's certificate: %+v", p.State)
	}
	const query = "/?api-version=2021-04-12"
	scope := w.scope()
	for what, c := range map[string]struct {
		id, name string
		cert     tls.Certificate
	}{
		"its registration id on the hub":         {"serial-7", "localhost/serial-7" + query, cert},
		"its registration id in the user name":   {"pump-7", "localhost/serial-7" + query, cert},
		"a certificate of the device's id":       {"pump-7", "localhost/pump-7" + query, w.certificate("pump-7")},
		"another's certificate":                  {"pump-7", "localhost/pump-7" + query, w.certificate("meter-7")},
		"the name in other letters":              {"pump-7", "localhost/pump-7" + query, w.certificate("SERIAL-7")},
		"the device's id as its registration id": {"pump-7", scope + "/registrations/pump-7/api-version=2019-03-31", cert},
	} {
		if _, code, err := w.dial(c.id, c.name, c.cert, nil); err == nil && code == mqtt.Accepted {
			t.Errorf("%s was let in", what)
		}
	}
	if _, err := w.operator.AddEnrollment(t.Context(), operator.Enrollment{Kind: operator.Individual, ID: "serial-8", Device: "pump-7", Group: "meters", MakerCA: "maker"}); err == nil || !strings.Contains(err.Error(), "serial-7") {
		t.Errorf("a second enrolment of the device: %v", err)
	}
	// With another id the certificate that was seen under one opens nothing.
	if err := w.operator.RemoveEnrollment(t.Context(), operator.Individual, "serial-7"); err != nil {
		t.Fatal(err)
	}
	w.enroll(operator.Enrollment{Kind: operator.Individual, ID: "serial-7", Device: "pump-8", Group: "meters", MakerCA: "maker"})
	if _, code, err := w.dial("pump-8", "localhost/pump-8"+query, cert, nil); err == nil && code == mqtt.Accepted {
		t.Error("one certificate was let in as two devices")
	}
}
