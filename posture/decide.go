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

// Decide says what follows from rows, a device's posture, under p at now.
//
// Each requirement is met (passes at the demanded grade and age), weak (passes
// at a lower grade, or stale, or unknown with grace) or unmet. Together they
// are as good as the worst. All met: the full lifetime. Any weak: the short
// one. Any unmet: none.
//
// first is the decision on a device that has not had a session with an
// operational certificate yet: what only such a session can prove counts as
// weak while it is unknown, and the lifetime is short however well it stands.
func Decide(p Policy, rows []measure.Row, now time.Time, first bool) Decision {
	have := make(map[measure.ID]measure.Row, len(rows))
	for _, r := range rows {
		have[r.Measure] = r
	}
	d := Decision{Standing: Met, Outcomes: make([]Outcome, 0, len(p.Require))}
	for _, q := range p.Require {
		o := judge(q, have[q.Measure], now, first)
		d.Outcomes = append(d.Outcomes, o)
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
	o := func(s Standing, format string, args ...any) Outcome {
		return Outcome{Measure: q.Measure, Standing: s, Reason: fmt.Sprintf(format, args...)}
	}
	r.Measure = q.Measure // also of the zero row
	r = normal(r)
	age := now.Sub(r.Time)
	later, deferred := afterFirst[q.Measure]
	switch {
	case r.Verdict == measure.Fail:
		return o(Unmet, "fails: %s", r.Reason)
	case r.Verdict == measure.Unknown && first && deferred:
		return o(Weak, "will be proved by %s", later)
	case r.Verdict == measure.Unknown && q.GraceUnknown:
		return o(Weak, "unknown, for which the policy has grace: %s", r.Reason)
	case r.Verdict == measure.Unknown:
		return o(Unmet, "unknown: %s", r.Reason)
	case !r.Grade.Meets(q.Grade):
		return o(Weak, "only %s, the policy demands %s: %s", r.Grade, q.Grade, r.Reason)
	case q.MaxAge > 0 && age > time.Duration(q.MaxAge):
		return o(Weak, "stale: the evidence is %s old, the policy demands %s: %s", age.Round(time.Second), time.Duration(q.MaxAge), r.Reason)
	case age < -Skew:
		return o(Weak, "stale: the evidence is from %s ahead of the hub's clock: %s", (-age).Round(time.Second), r.Reason)
	}
	return Outcome{Measure: q.Measure, Standing: Met, Reason: r.Reason}
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

// Reasons returns the outcomes that are not met, worst first, each as
// "measure: reason".
func (d Decision) Reasons() []string {
	var unmet, weak []string
	for _, o := range d.Outcomes {
		text := string(o.Measure) + ": " + o.Reason
		switch o.Standing {
		case Unmet:
			unmet = append(unmet, text)
		case Weak:
			weak = append(weak, text)
		}
	}
	return append(unmet, weak...)
}
