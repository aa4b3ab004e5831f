package fleet

import (
	"context"
	"time"

	"holdfast/appraise"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// MaxRenewable is the longest lifetime of a certificate that counts as
// renewable credentials.
const MaxRenewable = 7 * 24 * time.Hour

// maxCertificates is how many unexpired certificates a device may hold: more than one
// only when answers to renewals were lost.
const maxCertificates = 16

// Report takes in what a source has seen of a device: rows replace what that
// source said before. It decides anew, has the ledger record what changed, cuts
// the live session down or opens it again, and tells the device. A device that
// is revoked is refused.
func (f *Fleet) Report(ctx context.Context, id identity.Device, s posture.Source, rows []measure.Row) (posture.Decision, error) {
	if err := checkRows(rows); err != nil {
		return posture.Decision{}, err
	}
	return f.report(ctx, id, func(r *Record) { replace(r, s, rows) })
}

// Appraised is Report of an appraisal, with name and version of the firmware
// that it found (empty where there is none that a Reference Value names) and
// what it proves of that firmware: nil where it proves nothing, or the evidence
// did not verify.
func (f *Fleet) Appraised(ctx context.Context, id identity.Device, release string, runs *appraise.Running, rows []measure.Row) (posture.Decision, error) {
	if err := checkRows(rows); err != nil {
		return posture.Decision{}, err
	}
	return f.report(ctx, id, func(r *Record) {
		r.Release, r.Firmware = release, r.Firmware.shown(runs)
		replace(r, posture.Attestation, rows)
	})
}

func (f *Fleet) report(ctx context.Context, id identity.Device, take func(*Record)) (posture.Decision, error) {
	report, err := f.change(ctx, id, func(r *Record, _ operator.Group) ([]Event, error) {
		if r.Revoked != nil {
			return nil, fault.New(fault.Denied, "device %s is revoked", id)
		}
		take(r)
		return nil, nil
	})
	return report.Decision, err
}

// Current returns how a device stands, in the form in which it is told.
func (f *Fleet) Current(ctx context.Context, id identity.Device) (posture.Report, error) {
	defer f.locks.lock(id)()
	r, g, err := f.load(ctx, id)
	if err != nil {
		return posture.Report{}, err
	}
	now := f.now()
	rows := posture.Combine(r.Rows)
	s, isLive := f.session(id)
	d := decide(g.Policy, r, rows, now)
	return posture.Report{Version: r.Version, Status: posture.StatusOf(facts(r, g.Policy, rows, d, s, isLive)),
		Decision: d, Renew: renew(r, d), Rows: posture.AsOf(rows, now), Time: now}, nil
}

// Grant says how long the next operational certificate of a device may live,
// or denies it with the reasons. class is that of the certificate it asks with,
// which Admit has let in: with a birth certificate or a maker's it gets a short
// one, its first, or its first after a long absence.
func (f *Fleet) Grant(ctx context.Context, id identity.Device, class pki.Class) (time.Duration, error) {
	defer f.locks.lock(id)()
	r, g, err := f.load(ctx, id)
	switch {
	case err != nil:
		return 0, err
	case r.Revoked != nil:
		return 0, fault.New(fault.Denied, "device %s is revoked", id)
	case r.Held != nil:
		return 0, fault.New(fault.Denied, "device %s is in quarantine: %s", id, r.Held.Reason)
	case class == pki.Maker && g.Policy.Demands(measure.IdentityHardwareRoot):
		return 0, fault.New(fault.Denied, "group %s demands %s, which a maker's certificate does not show", g.ID, measure.IdentityHardwareRoot)
	}
	d := decide(g.Policy, r, posture.Combine(r.Rows), f.now())
	switch {
	case d.Standing == posture.Unmet:
		return 0, unmet(d)
	case class != pki.Operational:
		return min(g.Policy.Short(), time.Duration(d.Lifetime)), nil
	}
	return time.Duration(d.Lifetime), nil
}

// Certificate takes in that an operational certificate was issued to a device
// for a new key. Only certificates that it knows open anything.
func (f *Fleet) Certificate(ctx context.Context, id identity.Device, c Certificate) error {
	_, err := f.change(ctx, id, func(r *Record, _ operator.Group) ([]Event, error) {
		if r.Revoked != nil {
			return nil, fault.New(fault.Denied, "device %s is revoked", id)
		}
		now := f.now()
		c.NotBefore, c.NotAfter = c.NotBefore.UTC(), c.NotAfter.UTC()
		r.Certificates = append([]Certificate{c}, unexpired(r.Certificates, now)...)
		r.Certificates = r.Certificates[:min(len(r.Certificates), maxCertificates)]
		if r.Provisional.IsZero() {
			r.Provisional = c.NotAfter
		}
		replace(r, posture.Certificate, issued(c, now))
		return nil, nil
	})
	return err
}

func unexpired(cs []Certificate, now time.Time) []Certificate {
	var out []Certificate
	for _, c := range cs {
		if now.Before(c.NotAfter) {
			out = append(out, c)
		}
	}
	return out
}

// issued is what an issue proves.
func issued(c Certificate, now time.Time) []measure.Row {
	renewable := measure.Row{Measure: measure.CredentialsRenewable, Verdict: measure.Pass, Grade: measure.Observed, Time: now,
		Reason: "certificate for " + c.Lifetime.String() + ", for a new key; renewal follows the posture"}
	if c.Lifetime > MaxRenewable {
		renewable.Verdict, renewable.Reason = measure.Fail, "certificate for "+c.Lifetime.String()+", longer than "+MaxRenewable.String()
	}
	return []measure.Row{
		{Measure: measure.IdentityCertificates, Verdict: measure.Pass, Grade: measure.Observed, Time: now,
			Reason: "request and key from the device, certificate by the hub, on its revocation list when revoked"},
		renewable,
	}
}
