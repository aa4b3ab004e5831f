package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/posture"
)

// connecting opens a full session with the operational certificate.
func (a *Agent) connecting(ctx context.Context) state {
	cert := a.identity()
	if cert == a.birth || !time.Now().Before(a.renewAt) {
		return a.renewing
	}
	s, err := a.cfg.Open(ctx, a.id, cert)
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return a.session(s, true)
	case fault.Of(err) == fault.Denied:
		a.use(nil)
		return a.quarantined(err)
	}
	a.failing("connection failed", err)
	return a.again(a.retry.Next(), a.connecting)
}

// quarantined opens a session that may only attest, listen, ship logs and take
// updates, with the birth certificate.
func (a *Agent) quarantined(why error) state {
	return func(ctx context.Context) state {
		s, err := a.cfg.Open(ctx, a.id, a.birth)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			a.trouble(Quarantined, string(Quarantined), why)
			return a.session(s, false)
		case fault.Of(err) == fault.Denied:
			a.trouble(Refused, string(Refused), err)
			return a.again(a.recovery.Next(), a.reborn)
		default:
			a.failing("connection failed", err)
		}
		return a.again(a.recovery.Next(), a.renewing)
	}
}

// session joins the parts of an open session: the loop below, telemetry and
// the shipping of logs.
func (a *Agent) session(s Session, full bool) state {
	return func(ctx context.Context) state {
		ctx, cancel := context.WithCancel(ctx)
		v := &visit{Agent: a, session: s, opened: time.Now(), full: full, operational: full, may: make(chan bool, 1)}
		var parts sync.WaitGroup
		parts.Go(func() { a.ship(ctx, s) })
		parts.Go(func() { a.measure(ctx, s, v.may) })
		if a.cfg.Update != nil {
			parts.Go(func() { a.cfg.Update(ctx, s) })
		}
		a.open(true)
		if full {
			a.enter(Connected)
		}
		v.permit()
		next := v.loop(ctx)
		a.open(false)
		cancel()
		_ = s.Close() // it has no error that matters now
		parts.Wait()
		return next
	}
}

// visit is one open session.
type visit struct {
	*Agent
	session     Session
	opened      time.Time
	operational bool      // opened with the operational certificate
	full        bool      // telemetry is allowed
	may         chan bool // tells telemetry
	hurried     bool      // the renewal that the hub asks for is planned
}

// loop serves the session until it ends or has to be replaced, and returns
// what comes then.
func (v *visit) loop(ctx context.Context) state {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	renew := time.NewTimer(v.nextRenewal())
	defer renew.Stop()
	reattest := time.NewTicker(v.cfg.Reattest)
	defer reattest.Stop()
	for {
		v.cfg.Beat()
		var next state
		select {
		case <-ctx.Done():
			return nil
		case <-v.session.Done():
			return v.lost()
		case <-beat.C:
		case <-renew.C:
			next = v.replace(ctx, renew)
		case <-reattest.C:
			v.prove(ctx)
		case r := <-v.session.Postures():
			v.told(r, renew)
		}
		if next != nil {
			return next
		}
	}
}

// nextRenewal is the time until the next attempt to get a better certificate:
// the planned renewal, or in quarantine the next attempt to leave it.
func (v *visit) nextRenewal() time.Duration {
	if !v.full {
		return v.recovery.Next()
	}
	return time.Until(v.renewAt)
}

// replace gets a new certificate while the session stays open; the session is
// then made anew with it.
func (v *visit) replace(ctx context.Context, timer *time.Timer) state {
	if !v.full && v.cfg.Attester == nil && v.operational {
		timer.Reset(v.recovery.Next()) // nothing to prove: an operator has to decide
		return nil
	}
	err := v.renew(ctx)
	switch {
	case err == nil:
		return v.connecting
	case ctx.Err() != nil:
		return nil
	case v.full:
		v.failing("renewal failed", err)
	default:
		v.trouble(Quarantined, string(Quarantined), err)
	}
	timer.Reset(v.recovery.Next())
	return nil
}

// prove attests once more, in a session of a device that can.
func (v *visit) prove(ctx context.Context) {
	if v.cfg.Attester == nil {
		return
	}
	if err := v.reattest(ctx, v.session); err != nil && ctx.Err() == nil {
		v.cfg.Log.Warn("attestation failed", "err", err)
	}
}

// told acts on what the hub says of the device.
func (v *visit) told(r posture.Report, renew *time.Timer) {
	known := v.Status().Posture
	v.change(func(s *Status) { s.Posture = &r })
	v.appraised(&r)
	if known == nil || known.Status != r.Status {
		v.cfg.Log.Info("posture", "status", r.Status, "standing", r.Decision.Standing)
	}
	switch {
	case r.Status == posture.Quarantined:
		v.confine(r, renew)
	case good(r.Status) && !v.full && v.operational:
		v.freed()
		renew.Reset(v.nextRenewal())
	case (r.Renew || good(r.Status) && !v.operational) && !v.hurried:
		v.hurried = true
		renew.Reset(v.eager())
	case v.full && !r.Renew:
		v.renewals.Reset()
		v.recovery.Reset()
	}
}

// good reports whether a device of this status may have a full session.
func good(s posture.Status) bool {
	return s == posture.Trusted || s == posture.Degraded || s == posture.Connected
}

// eager is the delay before a renewal that the hub has a reason for: none at
// first, longer when that does not change what the hub says.
func (v *visit) eager() time.Duration {
	if !v.asked {
		v.asked = true
		return 0
	}
	return v.renewals.Next()
}

// confine cuts a session down to quarantine.
func (v *visit) confine(r posture.Report, renew *time.Timer) {
	if why := unmet(r); why != "" {
		v.trouble(Quarantined, string(Quarantined), errors.New(why))
	} else if v.full {
		v.trouble(Quarantined, string(Quarantined), errors.New("quarantined by the hub"))
	}
	if v.full {
		v.full = false
		v.permit()
		renew.Reset(v.recovery.Next())
	}
}

// unmet says in a line what the policy misses.
func unmet(r posture.Report) string {
	var reasons []string
	for _, o := range r.Decision.Outcomes {
		if o.Standing == posture.Unmet {
			reasons = append(reasons, o.String())
		}
	}
	return strings.Join(reasons, "; ")
}

// freed leaves quarantine in a session whose certificate opens more. Without
// one, a renewal is what leads out.
func (v *visit) freed() {
	v.recovery.Reset()
	v.full = true
	v.permit()
	v.enter(Connected)
}

// permit tells telemetry whether it may go on.
func (v *visit) permit() {
	select {
	case <-v.may:
	default:
	}
	v.may <- v.full
}

// lost decides what follows a session that the other side ended.
func (v *visit) lost() state {
	err := v.session.Err()
	v.change(func(s *Status) {
		if s.Phase == Connected {
			s.Phase = Certificate
		}
	})
	v.failing("connection lost", err)
	if time.Since(v.opened) > retry.Cap {
		v.retry.Reset() // it was a good session
	}
	if fault.Of(err) == fault.Denied && v.operational {
		v.use(nil)
		return v.again(v.retry.Next(), v.renewing)
	}
	if !v.operational {
		return v.again(v.recovery.Next(), v.renewing)
	}
	return v.again(v.retry.Next(), v.connecting)
}
