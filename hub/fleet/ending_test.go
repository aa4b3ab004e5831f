package fleet_test

import (
	"slices"
	"testing"
	"time"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// TestSessionEndsWithItsRight: an open session ends as soon as its certificate
// would open no new one.
func TestSessionEndsWithItsRight(t *testing.T) {
	for name, c := range map[string]struct {
		open func(*world) pki.Peer
		lose func(*world)
	}{
		"certificate ended": {
			func(w *world) pki.Peer {
				p := w.healthy("device-1", "pumps")
				w.SessionClosed(w.t.Context(), "device-1", "s1")
				p.NotAfter = w.clock().Add(time.Minute)
				return p
			},
			func(w *world) {
				w.pass(2 * time.Minute)
				w.report("device-1", posture.Session, w.handshake())
			},
		},
		"born again": {
			func(w *world) pki.Peer {
				w.addByEK("device-1", "pumps")
				w.born(tpm("device-1"), "b1")
				return peer(pki.Birth, "device-1", "b1")
			},
			func(w *world) {
				again := tpm("device-1")
				again.Key = digest("another key")
				w.born(again, "b2")
			},
		},
		"maker's CA taken from the group": {
			func(w *world) pki.Peer { return w.addMaker("acme", "sensors", "device-*")("device-1") },
			func(w *world) {
				w.must1(w.SetGroup(w.t.Context(), "admin", "sensors", operator.SetGroup{IDs: []string{"device-*"}}))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.connect(c.open(w), "s2")
			w.gate.acts = nil
			c.lose(w)
			if want := []string{"device-1 revoked"}; !slices.Equal(w.gate.acts, want) {
				t.Errorf("acts on the session: %q, want %q", w.gate.acts, want)
			}
		})
	}
}

// TestOldCertificateEndsWithTheFirstSessionOfTheNew: until then an answer that
// was lost may make the device come with the old one.
func TestOldCertificateEndsWithTheFirstSessionOfTheNew(t *testing.T) {
	w := newWorld(t)
	old := w.healthy("pump-01", "pumps")
	w.certify(old, "lost")
	w.certify(old, "next")
	w.connect(old, "s2")
	w.must1(w.Admit(t.Context(), peer(pki.Operational, "pump-01", "next")))
	w.connect(peer(pki.Operational, "pump-01", "next"), "s3")
	for _, serial := range []string{old.Serial, "lost"} {
		_, err := w.Admit(t.Context(), peer(pki.Operational, "pump-01", serial))
		w.refused(err, fault.Denied)
	}
	w.must1(w.Admit(t.Context(), peer(pki.Operational, "pump-01", "next")))
	w.restart()
	_, err := w.Admit(t.Context(), old)
	w.refused(err, fault.Denied)
}

// TestSessionsToldOutOfOrder: a device that opens two sessions at once can have
// their beginnings and ends told in an order in which the one that is left was
// told of first. It has to be found all the same.
func TestSessionsToldOutOfOrder(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(*world)
		want string
	}{
		"revoked":     {func(w *world) { w.must1(w.Act(w.t.Context(), "admin", "pump-01", fleet.Revoke, "stolen")) }, "pump-01 revoked"},
		"quarantined": {func(w *world) { w.must1(w.Act(w.t.Context(), "admin", "pump-01", fleet.Quarantine, "odd")) }, "pump-01 quarantine"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.healthy("pump-01", "pumps")
			w.connect(p, "newer")
			w.connect(p, "older") // it was slow to tell, and has been replaced
			w.SessionClosed(t.Context(), "pump-01", "s1")
			w.SessionClosed(t.Context(), "pump-01", "older")
			w.status("pump-01", posture.Trusted)
			w.gate.acts = nil
			c.act(w)
			if want := []string{c.want}; !slices.Equal(w.gate.acts, want) {
				t.Errorf("acts on the session: %q, want %q", w.gate.acts, want)
			}
		})
	}
}

// TestRevokeReachesSessionsThatNobodyToldOf: whatever the registry knows of
// sessions, a revocation is sent to them.
func TestRevokeReachesSessionsThatNobodyToldOf(t *testing.T) {
	w := newWorld(t)
	w.healthy("pump-01", "pumps")
	w.SessionClosed(t.Context(), "pump-01", "s1")
	w.gate.acts, w.gate.modes["pump-01"] = nil, access.Full
	w.must1(w.Act(t.Context(), "admin", "pump-01", fleet.Revoke, "stolen"))
	if want := []string{"pump-01 revoked"}; !slices.Equal(w.gate.acts, want) {
		t.Errorf("acts on the session: %q, want %q", w.gate.acts, want)
	}
}
