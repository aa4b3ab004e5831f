package fleet

import (
	"context"
	"fmt"
	"maps"
	"reflect"
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

// act changes a record, knowing its group, and says what the ledger has to
// record of it. It replaces maps and slices of the record, never their
// elements.
type act func(r *Record, g operator.Group) ([]Event, error)

// change is the one way in which a device's record changes: it acts on it (a
// nil act only decides again), decides, writes both in one transaction with
// the events they make, and brings the live session in line.
func (f *Fleet) change(ctx context.Context, id identity.Device, do act) (posture.Report, error) {
	defer f.locks.lock(id)()
	return f.changeLocked(ctx, id, do)
}

// changeLocked is change for who holds the device's lock.
func (f *Fleet) changeLocked(ctx context.Context, id identity.Device, do act) (posture.Report, error) {
	r, g, err := f.load(ctx, id)
	if err != nil {
		return posture.Report{}, err
	}
	return f.changeLoaded(ctx, r, g, do)
}

// changeLoaded is changeLocked for who has read the device and its group.
func (f *Fleet) changeLoaded(ctx context.Context, r Record, g operator.Group, do act) (posture.Report, error) {
	before := r
	var err error
	r.Rows = maps.Clone(r.Rows)
	if r.Rows == nil {
		r.Rows = make(map[posture.Source][]measure.Row)
	}
	var es []Event
	if do != nil {
		if es, err = do(&r, g); err != nil {
			return posture.Report{}, err
		}
	}
	return f.settle(ctx, g, before, r, es)
}

// load reads a device and its group, for who holds the device's lock.
func (f *Fleet) load(ctx context.Context, id identity.Device) (Record, operator.Group, error) {
	r, err := f.read(ctx, id)
	if err != nil {
		return Record{}, operator.Group{}, err
	}
	g, err := f.group(ctx, r.Group)
	return r, g, err
}

// settle decides on r, which was before, writes it and acts. What tightens is
// done even when writing fails; what loosens only after it was written.
func (f *Fleet) settle(ctx context.Context, g operator.Group, before, r Record, es []Event) (posture.Report, error) {
	now := f.now()
	known := r.Born
	if known.IsZero() {
		known = r.Added
	}
	if rows := birth.Rows(r.Class, g, known); rows != nil {
		r.Rows[posture.Birth] = rows // the group's rules say how a birth counts
	}
	firmware, err := f.judgeFirmware(ctx, g, &r)
	if err != nil {
		return posture.Report{}, err
	}
	es = append(es, firmware...)
	f.judgeAudits(&r)
	rows := posture.Combine(r.Rows)
	s, isLive := f.session(r.ID)
	d := decide(g.Policy, r, rows, now)
	if d.Standing == posture.Met && provisional(r, now) && !r.Provisional.IsZero() {
		r.Provisional = now // its sessions have proved everything: nothing is excused any more
	}
	status := posture.StatusOf(facts(r, g.Policy, rows, d, s, isLive))

	var verdicts []posture.Change
	if !sameRows(before.Rows, r.Rows) {
		verdicts = posture.Changed(posture.Combine(before.Rows), rows)
	}
	es = append(es, verdictEvents(r.ID, verdicts)...)
	stands := status != posture.Offline && status != r.Status
	if stands {
		es = append(es, Event{Kind: KindStatus, Device: r.ID, Details: map[string]any{
			"from": r.Status, "to": status, "reasons": reasons(r, d, s, isLive)}})
		r.Status = status
	}
	changed := stands || len(verdicts) > 0 || !sameDecision(r.Decision, d) || renew(before, before.Decision) != renew(r, d)
	if changed {
		r.Decision = d
		r.Version++
	}
	report := posture.Report{Version: r.Version, Status: status, Decision: d, Renew: renew(r, d), Rows: posture.AsOf(rows, now), Time: now}

	mode := wanted(r, d, s.class)
	ends := ending(before, r, s, isLive, now)
	switch {
	case ends != "":
		f.end(ctx, r.ID, ends)
	case isLive && mode == access.Quarantine:
		f.enforce(ctx, r.ID, mode, reasons(r, d, s, isLive))
	}
	if changed || len(es) > 0 || !reflect.DeepEqual(before, r) {
		if err := f.write(ctx, r, es); err != nil {
			return posture.Report{}, fmt.Errorf("save device %s: %w", r.ID, err)
		}
	}
	if isLive && ends == "" && mode == access.Full {
		f.enforce(ctx, r.ID, mode, nil)
	}
	if len(es) > 0 {
		f.handOver(ctx)
	}
	if changed && isLive && ends == "" {
		if err := f.cfg.Sessions.Publish(ctx, r.ID, report); err != nil {
			f.log.WarnContext(ctx, "publish posture", "device", r.ID, "err", err)
		}
	}
	return report, nil
}

// decide takes the decision on a device: the first decision until its first
// certificate ends, or everything has been proved once.
func decide(p posture.Policy, r Record, rows []measure.Row, now time.Time) posture.Decision {
	d := posture.Decide(p, subject(r), rows, now, provisional(r, now))
	if d.Standing == posture.Met {
		return posture.Decide(p, subject(r), rows, now, false)
	}
	return d
}

// subject is a device as conditions of policies see it.
func subject(r Record) posture.Subject {
	return posture.Subject{Device: r.ID, Group: r.Group, Release: r.Release}
}

func provisional(r Record, now time.Time) bool {
	return r.Provisional.IsZero() || now.Before(r.Provisional)
}

// facts collects what the status follows from.
func facts(r Record, p posture.Policy, rows []measure.Row, d posture.Decision, s live, isLive bool) posture.Facts {
	return posture.Facts{
		Revoked: r.Revoked != nil, Held: r.Held != nil,
		Refused:  r.Refused != "" && r.Born.IsZero(),
		Standing: d.Standing, Failed: failed(p, rows), Demands: !p.Empty(),
		Seen: !r.Provisional.IsZero(), Live: isLive, Confined: isLive && s.class == pki.Birth,
	}
}

// failed reports whether a measure that p demands fails.
func failed(p posture.Policy, rows []measure.Row) bool {
	return slices.ContainsFunc(rows, func(r measure.Row) bool {
		return r.Verdict == measure.Fail && p.Demands(r.Measure)
	})
}

// wanted is how far a device's session may be open.
func wanted(r Record, d posture.Decision, class pki.Class) access.Mode {
	if r.Held != nil || d.Standing == posture.Unmet || class == pki.Birth {
		return access.Quarantine
	}
	return access.Full
}

// ending says why the device's session has to end, or nothing. A revocation
// ends what there is even where no session is known of here.
func ending(before, r Record, s live, isLive bool, now time.Time) string {
	switch {
	case r.Revoked != nil && (isLive || before.Revoked == nil):
		return "revoked"
	case isLive && outlived(r, s.peer, now):
		return "its certificate has ended or been superseded"
	}
	return ""
}

// end ends the device's sessions.
func (f *Fleet) end(ctx context.Context, id identity.Device, why string) {
	if err := f.cfg.Sessions.Revoke(ctx, id, why); err != nil {
		f.log.ErrorContext(ctx, "end session", "device", id, "why", why, "err", err)
	}
}

// enforce brings the device's sessions into mode.
func (f *Fleet) enforce(ctx context.Context, id identity.Device, mode access.Mode, why []string) {
	if !f.differs(id, mode) {
		return
	}
	if err := f.cfg.Sessions.SetMode(ctx, id, mode, strings.Join(why, "; ")); err != nil {
		f.log.ErrorContext(ctx, "act on session", "device", id, "mode", mode, "err", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.live[id] {
		f.live[id][i].mode = mode
	}
}

// reasons says why the device's status is what it is, the weightiest first.
func reasons(r Record, d posture.Decision, s live, isLive bool) []string {
	switch {
	case r.Revoked != nil:
		return []string{"revoked by " + r.Revoked.By + ": " + r.Revoked.Reason}
	case r.Refused != "" && r.Born.IsZero():
		return []string{r.Refused}
	case r.Held != nil:
		return []string{"quarantined by " + r.Held.By + ": " + r.Held.Reason}
	}
	why := d.Reasons()
	if isLive && s.class == pki.Birth {
		why = append(why, "its session was opened with the birth certificate")
	}
	return why
}

func sameRows(a, b map[posture.Source][]measure.Row) bool {
	return maps.EqualFunc(a, b, slices.Equal[[]measure.Row])
}

// sameDecision compares what two decisions say, not their words: reasons tell
// the age of evidence, which changes with every look.
func sameDecision(a, b posture.Decision) bool {
	return a.Standing == b.Standing && a.Lifetime == b.Lifetime &&
		slices.EqualFunc(a.Outcomes, b.Outcomes, func(x, y posture.Outcome) bool {
			return x.Measure == y.Measure && x.When == y.When && x.Standing == y.Standing
		})
}

// renew reports whether a better certificate than the current one waits.
func renew(r Record, d posture.Decision) bool {
	if len(r.Certificates) == 0 {
		return false
	}
	return time.Duration(d.Lifetime) > r.Certificates[0].Lifetime
}

// unmet is the refusal that names the demands that are not met.
func unmet(d posture.Decision) error {
	return fault.New(fault.Denied, "posture: %s", strings.Join(d.Reasons(), "; "))
}
