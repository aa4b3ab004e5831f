package agent

import (
	"crypto/tls"

	"holdfast/posture"
)

// Health is what a device can show of how it does since its runtime began.
type Health struct {
	Session bool // one is open, be it in quarantine
	Proven  bool // the hub has verified evidence of this boot
	// Posture is the newest that the hub has told since then; nil: none.
	Posture *posture.Report
}

// Health returns how the device does now.
func (a *Agent) Health() Health {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.health
}

// Certificate returns the certificate that the device shows now: the
// operational one, or that of its birth; nil before that.
func (a *Agent) Certificate() *tls.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.shown
}

// use makes cert the operational certificate; nil: there is none.
func (a *Agent) use(cert *tls.Certificate) {
	a.current = cert
	if cert == nil {
		cert = a.birth
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shown = cert
}

func (a *Agent) open(session bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.health.Session = session
}

func (a *Agent) proven() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.health.Proven = true
}

// appraised takes what the hub tells. What it told before it had the evidence
// of this boot was about another one.
func (a *Agent) appraised(r *posture.Report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.health.Proven {
		a.health.Posture = r
	}
}
