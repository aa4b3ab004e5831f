package hub_test

import (
	"crypto/tls"
	"net/http"
	"testing"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

// TestCertificateWithoutItsKeyChangesNothing: certificates are public. Whoever
// shows one without its key is refused, and enters no device: crypto/tls asks
// for our verdict before the peer has proved that it has the key.
func TestCertificateWithoutItsKeyChangesNothing(t *testing.T) {
	w := newWorld(t)
	m := newMaker(t, w)
	g := operator.SetGroup{PolicyName: "lenient", TLS12: true}
	for _, have := range must(w.api.Groups(t.Context()))(t) {
		if have.ID == "sensors" {
			g.MakerCAs, g.IDs = have.MakerCAs, have.IDs
		}
	}
	w.group("sensors", g)
	for name, v := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			id := identity.Device("sensor-seen-" + name[len(name)-1:])
			stolen := m.leaf(string(id), nil, asItShouldBe)
			stolen.PrivateKey = must(pki.NewKey())(t)
			if s, err := w.mqttWith(w.version(stolen, v)); err == nil {
				defer s.close()
				if err := s.open(string(id)); err == nil {
					t.Error("MQTT lets it in")
				}
			}
			if x, err := w.httpsWith(w.version(stolen, v)); err == nil {
				defer x.close()
				if status, _, err := x.do("GET", "/healthz", "", nil); err == nil && status == http.StatusOK {
					t.Error("HTTPS lets it in")
				}
			}
			w.logged(t, "TLS handshake error", "invalid signature")
			for _, d := range must(w.api.Devices(t.Context(), "", ""))(t) {
				if d.ID == id {
					t.Errorf("entered: %+v", d)
				}
			}
			w.goesOn(t)
		})
	}
}
