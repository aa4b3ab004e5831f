package monitor

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// The kinds of alerts, and how much each matters.
const (
	Quarantined = "quarantined" // a demand of its policy is unmet, or an operator holds it
	Degraded    = "degraded"    // a demand is met only weakly
	Revoked     = "revoked"
	Refused     = "refused"   // its birth was refused
	Pending     = "pending"   // somebody has to decide whether it may come in
	Offline     = "offline"   // it was well, and has been away for too long
	Expiring    = "expiring"  // it is here, and its certificate ends without being renewed
	Cloned      = "cloned"    // it showed a key that is another device's
	Halted      = "halted"    // of a rollout: too much failed, or its release was withdrawn
	Withdrawn   = "withdrawn" // it runs a release that its signers have taken back
	Ending      = "ending"    // what release keys have signed ends soon: nobody else can renew it
	Rollback    = "rollback"  // its counter does not keep out what is older than what it runs
)

const (
	info     = "info"
	warning  = "warning"
	critical = "critical"
)

var severities = map[string]string{
	Quarantined: critical, Cloned: critical, Halted: critical, Rollback: critical,
	Degraded: warning, Withdrawn: warning, Refused: warning, Offline: warning, Expiring: warning, Ending: warning,
	Revoked: info, Pending: info,
}

// Kinds are the kinds of alerts.
func Kinds() []string {
	return []string{Quarantined, Degraded, Revoked, Refused, Pending, Offline, Expiring, Cloned, Halted, Withdrawn, Rollback, Ending}
}

// The kinds of the ledger's records that say something here, beside those of
// package ledger.
const (
	kindStatus   = "device.status"
	kindTurnAway = "device.turn-away"
	kindFirmware = "device.firmware"
)

// flapping is within which time an alert that comes back is the same one.
const flapping = time.Hour

// follow takes in what the ledger has recorded since.
func (m *Monitor) follow(ctx context.Context) error {
	p, err := m.cfg.Store.Place(ctx)
	for err == nil {
		m.place.Store(p.Seq)
		var rs []ledger.Record
		if rs, err = m.cfg.Ledger.LedgerRecords(ctx, p.Seq+1, followBatch); err != nil || len(rs) == 0 {
			return err
		}
		err = m.take(ctx, &p, rs)
	}
	return err
}

// take stores what follows from some records, and that they were looked at.
func (m *Monitor) take(ctx context.Context, p *Place, rs []ledger.Record) error {
	var cs []Change
	for _, r := range rs {
		p.Seq = r.Seq
		d := parse(r)
		if d.Event > 0 && d.Event <= p.Event {
			continue // the registry handed it over a second time, after a crash
		}
		p.Event = max(p.Event, d.Event)
		cs = append(cs, changes(r, d)...)
	}
	raised, err := m.complete(ctx, cs)
	if err != nil {
		return err
	}
	if err := m.cfg.Store.Apply(ctx, p, cs); err != nil {
		return err
	}
	for _, r := range rs {
		m.records.Of(string(r.Kind)).Add(1)
	}
	if raised {
		m.wakeHook()
	}
	return nil
}

// complete puts the groups of devices into the alerts that are to be raised.
func (m *Monitor) complete(ctx context.Context, cs []Change) (raised bool, err error) {
	for i, c := range cs {
		r, ok := c.(Raise)
		if !ok {
			continue
		}
		raised = true
		if r.Device == "" || r.Group != "" {
			continue
		}
		d, err := m.cfg.Registry.Device(ctx, r.Device)
		if err != nil && fault.Of(err) != fault.NotFound {
			return raised, err
		}
		r.Group = d.Group
		cs[i] = r
	}
	return raised, nil
}

// details are the members of a record's details that matter here.
type details struct {
	Event   int64          `json:"event"`
	From    posture.Status `json:"from"`
	To      posture.Status `json:"to"`
	Reasons []string       `json:"reasons"`
	EK      string         `json:"ek"`
	Subject string         `json:"subject"`
	Remote  string         `json:"remote"`
	Class   pki.Class      `json:"class"`
	End     time.Time      `json:"not_after"`
	Foreign bool           `json:"key_of_another"`
	Rollout string         `json:"rollout"`
	Role    string         `json:"role"`
	Change  struct {
		Measure measure.ID      `json:"measure"`
		From    measure.Verdict `json:"from"`
		To      measure.Verdict `json:"to"`
		Reason  string          `json:"reason"`
	} `json:"change"`
	Firmware struct {
		Release   string `json:"release"`
		Withdrawn string `json:"withdrawn"`
	} `json:"firmware"`
}

// parse reads the details of a record. What does not fit says nothing here: a
// member of another kind's details may have the same name.
func parse(r ledger.Record) details {
	var d details
	if len(r.Details) == 0 || json.Unmarshal(r.Details, &d) == nil {
		return d
	}
	var only struct {
		Event int64 `json:"event"`
	}
	_ = json.Unmarshal(r.Details, &only)
	return details{Event: only.Event}
}

// changes is the one table from records to what follows.
func changes(r ledger.Record, d details) []Change {
	device := string(r.Device)
	switch r.Kind {
	case kindStatus:
		return ofStatus(r, d)
	case ledger.Verdict:
		return append(ofVerdict(r, d), VerdictChange{d.Change.Measure, d.Change.From, d.Change.To})
	case kindFirmware:
		if d.Firmware.Withdrawn == "" {
			return []Change{Clear{device, []string{Withdrawn}, r.Time}}
		}
		return []Change{raise(r, Withdrawn, device, limited("it runs "+d.Firmware.Release+", which was withdrawn: "+d.Firmware.Withdrawn))}
	case ledger.ReleaseExpiring:
		return []Change{raise(r, Ending, ofReleases(d), reason(r, d))}
	case ledger.ReleaseRoot, ledger.ReleaseMetadata:
		return []Change{Clear{ofReleases(d), []string{Ending}, r.Time}}
	case ledger.Issue:
		if d.Class != pki.Operational || r.Device == "" || d.End.IsZero() {
			return nil
		}
		return []Change{Expiry{r.Device, warnAt(r.Time, d.End), d.End}, Clear{device, []string{Expiring}, r.Time}}
	case ledger.Born:
		return []Change{Clear{device, []string{Refused}, r.Time}}
	case ledger.Refuse:
		return []Change{raise(r, Refused, subject(r, d), reason(r, d))}
	case ledger.Pending:
		return []Change{raise(r, Pending, d.EK, "a device waits for somebody to accept it: "+shown(d))}
	case ledger.RolloutHalt:
		return []Change{raise(r, Halted, ofRollout(d), "rollout "+d.Rollout+" is halted: "+reason(r, d))}
	case ledger.RolloutResume, ledger.RolloutFinish:
		return []Change{Clear{ofRollout(d), []string{Halted}, r.Time}}
	case ledger.Accept, kindTurnAway:
		return []Change{Clear{d.EK, []string{Pending, Refused}, r.Time}}
	}
	if d.Foreign && r.Device != "" {
		return []Change{raise(r, Cloned, device, reason(r, d))}
	}
	return nil
}

// ofVerdict is what follows from a new verdict. That a device proves nothing any
// more makes nothing good that it has shown.
func ofVerdict(r ledger.Record, d details) []Change {
	switch {
	case d.Change.Measure != measure.FirmwareDowngrade:
	case d.Change.To == measure.Fail:
		return []Change{raise(r, Rollback, string(r.Device), limited(d.Change.Reason))}
	case d.Change.To == measure.Pass:
		return []Change{Clear{string(r.Device), []string{Rollback}, r.Time}}
	}
	return nil
}

// ofStatus is what follows from a new status.
func ofStatus(r ledger.Record, d details) []Change {
	device := string(r.Device)
	cs := []Change{Recorded{r.Device, d.To}}
	over := map[posture.Status][]string{
		posture.Quarantined: {Degraded, Revoked},
		posture.Degraded:    {Quarantined, Revoked, Refused},
		posture.Trusted:     {Quarantined, Degraded, Revoked, Refused},
		posture.Connected:   {Quarantined, Degraded, Revoked, Refused},
		posture.Revoked:     {Quarantined, Degraded, Refused, Offline, Expiring, Withdrawn, Rollback},
	}[d.To]
	if len(over) > 0 {
		cs = append(cs, Clear{device, over, r.Time})
	}
	kinds := map[posture.Status]string{posture.Quarantined: Quarantined, posture.Degraded: Degraded, posture.Revoked: Revoked}
	if kind := kinds[d.To]; kind != "" {
		a := raise(r, kind, device, reason(r, d))
		a.From, a.To = d.From, d.To
		cs = append(cs, a)
	}
	if d.To == posture.Revoked {
		cs = append(cs, Expiry{Device: r.Device})
	}
	return cs
}

func raise(r ledger.Record, kind, subject, reason string) Raise {
	a := Raise{Subject: subject, Kind: kind, Severity: severities[kind], Device: r.Device, Group: r.Group, Reason: reason, Time: r.Time, Again: flapping}
	switch kind {
	case Pending:
		a.To = posture.Pending
	case Refused:
		a.To = posture.Refused
	}
	return a
}

// ofReleases is what alerts on signed metadata are about.
func ofReleases(d details) string { return "metadata " + d.Role }

// ofRollout is what alerts on a rollout are about; no device has a space in its id.
func ofRollout(d details) string { return "rollout " + d.Rollout }

// subject is what the alert on a refused birth is about. All that come without
// id and TPM are one.
func subject(r ledger.Record, d details) string {
	if r.Device != "" {
		return string(r.Device)
	}
	return d.EK
}

// maxReason bounds what an alert says, in bytes.
const maxReason = 1000

func reason(r ledger.Record, d details) string {
	said := slices.DeleteFunc([]string{r.Reason, strings.Join(d.Reasons, "; ")}, func(s string) bool { return s == "" })
	s := strings.Join(said, "; ")
	if s == "" {
		s = string(r.Kind)
	}
	if d.Remote != "" {
		s += " (from " + d.Remote + ")"
	}
	return limited(s)
}

func limited(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxReason)], "") }

func shown(d details) string {
	s := "EK " + d.EK
	if d.Subject != "" {
		s += ", " + d.Subject
	}
	return s[:min(len(s), maxReason)]
}

// warnAt is when to warn that a certificate was not renewed: when a sixth of
// its life is left. Devices renew long before.
func warnAt(issued, end time.Time) time.Time { return end.Add(-end.Sub(issued) / 6) }

// Alerts returns alerts, the newest first.
func (m *Monitor) Alerts(ctx context.Context, q operator.AlertQuery) ([]operator.Alert, error) {
	if q.Limit <= 0 {
		q.Limit = 50
	}
	q.Limit = min(q.Limit, 500)
	return m.cfg.Store.Alerts(ctx, q)
}

// kindAcknowledge is the ledger's record of an acknowledgement.
const kindAcknowledge = "alert.acknowledge"

// Acknowledge notes that whoever asks (operator.From) knows of an alert. One of
// a group that they are not for is not there for them. An alert that somebody
// has acknowledged stays as it is.
func (m *Monitor) Acknowledge(ctx context.Context, id string) (operator.Alert, error) {
	who := operator.From(ctx)
	a, err := m.cfg.Store.Alert(ctx, id)
	if err == nil && !who.Sees(a.Group) {
		err = fault.New(fault.NotFound, "there is no alert %q", id)
	}
	if err != nil || !a.Acknowledged.IsZero() {
		return a, err
	}
	err = m.cfg.Journal.Record(ctx, kindAcknowledge, a.Device, map[string]any{"by": who.Name, "via": who.Via, "remote": who.Remote, "alert": a.ID, "kind": a.Kind})
	if err != nil {
		return operator.Alert{}, err
	}
	if err := m.cfg.Store.Acknowledge(ctx, id, who.Name, m.cfg.Now()); err != nil {
		return operator.Alert{}, err
	}
	return m.cfg.Store.Alert(ctx, id)
}

// deviceAlert is an alert on a device that no record of the ledger stands for.
func deviceAlert(id identity.Device, kind, reason string, now time.Time) Raise {
	return Raise{Subject: string(id), Device: id, Kind: kind, Severity: severities[kind], Reason: reason, Time: now, Again: flapping, Once: true}
}
