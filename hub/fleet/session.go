package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/access"
	"holdfast/birth"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// Admitted is what a peer may open.
type Admitted struct {
	Group  operator.Group
	Mode   access.Mode
	Reason string // why the mode is quarantine, for the log and the device
}

// Admit says what the peer with that verified certificate may open now, or
// refuses it with a fault of kind Denied: a device that does not exist, is
// revoked, shows a certificate that has been superseded, or a maker's
// certificate for an id that is not that maker's. The first time a device
// comes with a certificate of its maker it is entered into the registry.
//
// A session is registered after Admit and before SessionOpened, which decides
// once more: so nothing that happens in between is lost.
func (f *Fleet) Admit(ctx context.Context, p pki.Peer) (Admitted, error) {
	defer f.locks.lock(p.Device)()
	r, g, err := f.admit(ctx, p)
	if err != nil {
		return Admitted{}, err
	}
	d := decide(g.Policy, r, posture.Combine(r.Rows), f.now())
	a := Admitted{Group: g, Mode: wanted(r, d, p.Class)}
	if a.Mode == access.Quarantine {
		a.Reason = strings.Join(reasons(r, d, live{class: p.Class}, true), "; ")
	}
	return a, nil
}

// admit is Admit without the decision, for who holds the device's lock.
func (f *Fleet) admit(ctx context.Context, p pki.Peer) (Record, operator.Group, error) {
	r, g, err := f.load(ctx, p.Device)
	if fault.Of(err) == fault.NotFound && (p.Class == pki.Maker || p.Class == pki.SelfSigned) {
		r, g, err = f.first(ctx, p)
	}
	switch {
	case fault.Of(err) == fault.NotFound:
		return r, g, fault.New(fault.Denied, "device %s is not registered", p.Device)
	case err != nil:
		return r, g, err
	case r.Revoked != nil:
		return r, g, fault.New(fault.Denied, "device %s is revoked", p.Device)
	}
	return r, g, f.owns(ctx, p, r, g)
}

// owns refuses a certificate that is not, or no longer, the device's own.
func (f *Fleet) owns(ctx context.Context, p pki.Peer, r Record, g operator.Group) error {
	switch p.Class {
	case pki.Birth:
		if r.Birth == "" || p.Serial != r.Birth {
			return fault.New(fault.Denied, "the birth certificate of %s has been superseded", r.ID)
		}
		return nil
	case pki.Operational:
		if certificate(r, p) < 0 {
			return fault.New(fault.Denied, "the certificate of %s has been superseded", r.ID)
		}
		return nil
	case pki.Maker, pki.SelfSigned:
		if r.Admits != admission(p) {
			return fault.New(fault.Denied, "a certificate of class %q does not own %s", p.Class, r.ID)
		}
		return f.speaksFor(ctx, p, r, g)
	}
	return fault.New(fault.Denied, "a certificate of class %q opens nothing", p.Class)
}

// admission is the way in of a device that was not born here.
func admission(p pki.Peer) Admission {
	if p.Class == pki.SelfSigned {
		return BySelfSigned
	}
	return ByMaker
}

// speaksFor refuses a certificate whose authority has no say in g. That a
// self-signed one is this device's own was found when it was verified.
func (f *Fleet) speaksFor(ctx context.Context, p pki.Peer, r Record, g operator.Group) error {
	if p.Class == pki.SelfSigned {
		if !g.SelfSigned {
			return fault.New(fault.Denied, "group %s takes no self-signed certificates", g.ID)
		}
		return nil
	}
	name, err := f.makerCA(ctx, p.Anchor)
	if err != nil {
		return err
	}
	if !slices.Contains(g.MakerCAs, name) || r.MakerCA != "" && r.MakerCA != name {
		return fault.New(fault.Denied, "CA %s does not own %s", name, p.Device)
	}
	return nil
}

// certificate returns which of the device's operational certificates p shows;
// none is negative.
func certificate(r Record, p pki.Peer) int {
	if p.Class != pki.Operational {
		return -1
	}
	return slices.IndexFunc(r.Certificates, func(c Certificate) bool { return c.Serial == p.Serial })
}

// outlived reports whether the certificate that p showed is worthless by now.
// Of a maker's certificate only its end is known without asking the registry.
func outlived(r Record, p pki.Peer, now time.Time) bool {
	switch {
	case !p.NotAfter.IsZero() && now.After(p.NotAfter):
		return true
	case p.Class == pki.Birth:
		return p.Serial != r.Birth
	case p.Class == pki.Operational:
		return certificate(r, p) < 0
	}
	return false
}

// GroupOf returns the group of the device that p names, or will enter with its
// certificate. It changes nothing: in the middle of a handshake the peer has
// shown a certificate, but not yet that it has the key.
func (f *Fleet) GroupOf(ctx context.Context, p pki.Peer) (operator.Group, error) {
	defer f.locks.lock(p.Device)()
	_, g, err := f.load(ctx, p.Device)
	if fault.Of(err) == fault.NotFound && (p.Class == pki.Maker || p.Class == pki.SelfSigned) {
		g, _, err = f.groupOfFirst(ctx, p)
	}
	if fault.Of(err) == fault.NotFound {
		err = fault.New(fault.Denied, "device %s is not registered", p.Device)
	}
	return g, err
}

// SessionOpened takes in that a session of p is open in the mode that Admit
// gave, and what it showed: rows of source Session. The session has to be
// registered already. It decides once more, and acts on the session where it
// is open too far. An error means that the session has to be closed.
func (f *Fleet) SessionOpened(ctx context.Context, p pki.Peer, session string, mode access.Mode, rows []measure.Row) (posture.Report, error) {
	if err := checkRows(rows); err != nil {
		return posture.Report{}, err
	}
	defer f.locks.lock(p.Device)()
	r, g, err := f.admit(ctx, p)
	if err != nil {
		return posture.Report{}, err
	}
	f.enter(p.Device, live{session: session, class: p.Class, mode: mode, peer: p})
	report, err := f.changeLoaded(ctx, r, g, func(r *Record, g operator.Group) ([]Event, error) {
		now := f.now()
		if r.Class == "" && (p.Class == pki.Maker || p.Class == pki.SelfSigned) {
			r.Class = birth.Class(p.Class)
		}
		if r.Provisional.IsZero() && p.Class != pki.Birth {
			r.Provisional = now.Add(g.Policy.Short())
		}
		if i := certificate(*r, p); i >= 0 {
			r.Certificates = slices.Clone(r.Certificates[:i+1]) // it has this one: those before it are worthless now
		}
		seen(r, now)
		replace(r, posture.Session, rows)
		return nil, nil
	})
	if err != nil {
		f.forget(p.Device, session)
	}
	return report, err
}

// SessionClosed takes in that a session has ended.
func (f *Fleet) SessionClosed(ctx context.Context, id identity.Device, session string) {
	if !f.forget(id, session) {
		return
	}
	defer f.locks.lock(id)()
	ctx = context.WithoutCancel(ctx)
	r, g, err := f.load(ctx, id)
	if err == nil && f.now().Sub(r.LastSeen) < fine {
		return // it was decided on a moment ago, and that a device is away is not kept
	}
	if err == nil {
		_, err = f.changeLoaded(ctx, r, g, func(r *Record, _ operator.Group) ([]Event, error) {
			seen(r, f.now())
			return nil, nil
		})
	}
	if err != nil {
		f.log.ErrorContext(ctx, "end of session", "device", id, "err", err)
	}
}

// forget drops a session and says whether it was the device's.
func (f *Fleet) forget(id identity.Device, session string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.live[id], func(s live) bool { return s.session == session })
	if i < 0 {
		return false
	}
	if f.live[id] = slices.Delete(f.live[id], i, i+1); len(f.live[id]) == 0 {
		delete(f.live, id)
	}
	f.index.sessions(id, f.live[id])
	return true
}

// fine is how exactly times are kept that move with every act of a device, so
// that a healthy device that says the same again costs no write.
const fine = time.Minute

func seen(r *Record, now time.Time) {
	if now.Sub(r.LastSeen) >= fine {
		r.LastSeen = now
	}
}

// replace puts a source's new rows in place of its old ones, unless they only
// say the same a moment later.
func replace(r *Record, s posture.Source, rows []measure.Row) {
	same := slices.EqualFunc(r.Rows[s], rows, func(a, b measure.Row) bool {
		age := b.Time.Sub(a.Time)
		a.Time, b.Time = time.Time{}, time.Time{}
		return a == b && age >= 0 && age < fine
	})
	if !same {
		r.Rows[s] = slices.Clone(rows)
	}
}

// checkRows refuses rows that are not of the catalogue: a mistake of ours.
func checkRows(rows []measure.Row) error {
	for _, r := range rows {
		if _, err := measure.Parse(string(r.Measure)); err != nil {
			return fmt.Errorf("row of posture: %w", err)
		}
		if _, err := measure.ParseGrade(string(r.Grade)); err != nil {
			return fmt.Errorf("row of %s: %w", r.Measure, err)
		}
	}
	return nil
}
