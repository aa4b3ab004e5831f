package agent

import (
	"crypto/tls"
	"time"

	"holdfast/identity"
	"holdfast/posture"
)

// Phase is how far a device has come.
type Phase string

// The phases of a device's life.
const (
	Provisioned Phase = "provisioned" // knows its hub, has no identity
	Refused     Phase = "refused"     // the hub will not have it
	Born        Phase = "born"        // has its birth certificate
	Attested    Phase = "attested"    // the hub has verified its evidence of this boot
	Certificate Phase = "certificate" // has an operational certificate
	Connected   Phase = "connected"   // has a full session
	Quarantined Phase = "quarantined" // may only attest, listen, ship logs and take updates
)

// Status is what a device knows of itself.
type Status struct {
	Phase       Phase           `json:"phase"`
	Reason      string          `json:"reason,omitempty"` // of a refusal, quarantine or failing step
	Device      identity.Device `json:"device,omitempty"`
	Group       identity.Group  `json:"group,omitempty"`
	Certificate *Lifetime       `json:"certificate,omitempty"` // the operational certificate
	Posture     *posture.Report `json:"posture,omitempty"`     // the newest that the hub told
}

// Lifetime is how long a certificate lives.
type Lifetime struct {
	NotAfter time.Time `json:"not_after"`
	Seconds  int64     `json:"lifetime_seconds"`
}

// Status returns what the device knows of itself now.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// change alters the status and has it kept. A status that cannot be kept is
// logged: it is for people, and no step depends on it.
func (a *Agent) change(f func(*Status)) {
	a.mu.Lock()
	f(&a.status)
	s := a.status
	a.mu.Unlock()
	if err := a.cfg.Report(s); err != nil {
		a.cfg.Log.Warn("status not kept", "err", err)
	}
}

// enter notes and logs a new phase. Its name is the log's constant phrase.
func (a *Agent) enter(p Phase, args ...any) {
	a.change(func(s *Status) { s.Phase, s.Reason = p, "" })
	a.cfg.Log.Info(string(p), args...)
}

// trouble notes why the device cannot go on, in a phase, and logs it when it
// is news.
func (a *Agent) trouble(p Phase, phrase string, err error) {
	before := a.Status()
	a.change(func(s *Status) { s.Phase, s.Reason = p, err.Error() })
	if before.Phase != p || before.Reason != err.Error() {
		a.cfg.Log.Warn(phrase, "reason", err.Error())
	}
}

// failing notes why a step failed that will be tried again.
func (a *Agent) failing(phrase string, err error) {
	a.change(func(s *Status) { s.Reason = err.Error() })
	a.cfg.Log.Warn(phrase, "err", err)
}

// lifetime returns how long a certificate lives.
func lifetime(cert *tls.Certificate) *Lifetime {
	leaf := cert.Leaf
	return &Lifetime{NotAfter: leaf.NotAfter.UTC(), Seconds: int64(leaf.NotAfter.Sub(leaf.NotBefore) / time.Second)}
}
