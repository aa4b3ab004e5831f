package posture

import (
	"fmt"
	"time"

	"holdfast/measure"
)

// Skew is how far in the future evidence may lie, as clocks of hubs differ.
// What lies further ahead was taken by a clock that was wrong, and is stale.
const Skew = 5 * time.Minute

// afterFirst has the measures that nothing can prove before a device's first
// session, each with what will prove it. While a device has not had one yet,
// they may be unknown (never failed): they count as weak, not as unmet.
var afterFirst = map[measure.ID]string{
	measure.IdentityCertificates: "its first operational certificate",
	measure.CredentialsRenewable: "its first operational certificate",
	measure.CryptoAlgorithms:     "the handshake of its first session",
	measure.ProtocolTLS:          "the handshake of its first session",
	measure.ProtocolX509:         "the handshake of its first session",
	measure.ProtocolCipherSuites: "the handshake of its first session",
	measure.ProtocolMutualTLS:    "the handshake of its first session",
	measure.ProtocolMQTTTLS:      "its first MQTT session",
	measure.AppErrorLogging:      "the first logs it ships in a session",
}

// Decide says what follows from rows, the posture of s, under p at now.
//
// Each requirement is met (passes at the demanded grade and age), weak (passes
// at a lower grade, or stale, or unknown with grace) or unmet; each condition is
// met unless it holds. Together they are as good as the worst. All met: the full
// lifetime. Any weak: the short one. Any unmet: none.
//
// first is the decision on a device that has not had a session with an
// operational certificate yet: what only such a session can prove counts as
// weak while it is unknown, and the lifetime is short however well it stands.
func Decide(p Policy, s Subject, rows []measure.Row, now time.Time, first bool) Decision {
	have := make(map[measure.ID]measure.Row, len(rows))
	for _, r := range rows {
		have[r.Measure] = r
	}
	d := Decision{Standing: Met, Outcomes: make([]Outcome, 0, len(p.Require)+len(p.Conditions))}
	for _, q := range p.Require {
		d.Outcomes = append(d.Outcomes, judge(q, have[q.Measure], now, first))
	}
	if len(p.Conditions) > 0 {
		v := viewOf(s, rows, now)
		for i := range p.Conditions {
			d.Outcomes = append(d.Outcomes, p.condition(i, v))
		}
	}
	for _, o := range d.Outcomes {
		d.Standing = worse(d.Standing, o.Standing)
	}
	switch {
	case d.Standing == Unmet:
		d.Lifetime = 0
	case d.Standing == Weak || first:
		d.Lifetime = Duration(p.Short())
	default:
		d.Lifetime = Duration(p.Full())
	}
	return d
}

// judge holds one requirement against its row; the zero row is unknown.
func judge(q Requirement, r measure.Row, now time.Time, first bool) Outcome {
	r.Measure = q.Measure // also of the zero row
	r = normal(r)
	m := markOf(r)
	d := demandOf(q)
	c := d.weigh(m, nanos(now), first)
	return Outcome{Measure: q.Measure, Standing: c.standing(), Reason: c.reason(q, r, time.Duration(since(nanos(now), m.at)))}
}

// reason says in words why a requirement came out as it did.
func (c cause) reason(q Requirement, r measure.Row, age time.Duration) string {
	switch c {
	case isFailing:
		return "fails: " + r.Reason
	case isDeferred:
		return "will be proved by " + afterFirst[q.Measure]
	case isGraced:
		return "unknown, for which the policy has grace: " + r.Reason
	case isUnknown:
		return "unknown: " + r.Reason
	case isLow:
		return fmt.Sprintf("only %s, the policy demands %s: %s", r.Grade, q.Grade, r.Reason)
	case isStale:
		return fmt.Sprintf("stale: the evidence is %s old, the policy demands %s: %s", age.Round(time.Second), time.Duration(q.MaxAge), r.Reason)
	case isAhead:
		return fmt.Sprintf("stale: the evidence is from %s ahead of the hub's clock: %s", (-age).Round(time.Second), r.Reason)
	}
	return r.Reason
}

// worse returns the lower of two standings.
func worse(a, b Standing) Standing {
	if a == Unmet || b == Unmet {
		return Unmet
	}
	if a == Weak || b == Weak {
		return Weak
	}
	return Met
}

// String is "measure: reason", of a condition its reason alone.
func (o Outcome) String() string {
	if o.Measure == "" {
		return o.Reason
	}
	return string(o.Measure) + ": " + o.Reason
}

// Reasons returns the outcomes that are not met, worst first, each as String.
func (d Decision) Reasons() []string {
	var unmet, weak []string
	for _, o := range d.Outcomes {
		switch o.Standing {
		case Unmet:
			unmet = append(unmet, o.String())
		case Weak:
			weak = append(weak, o.String())
		}
	}
	return append(unmet, weak...)
}
