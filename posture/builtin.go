package posture

import (
	"fmt"
	"slices"
	"time"

	"holdfast/measure"
)

// daily is how old what an appraisal established may become: a device attests
// once a day, with an hour to spare.
const daily = Duration(25 * time.Hour)

// The names of the built-in policies.
const (
	Standard = "standard" // everything that can be proved of a healthy board, and nothing against its firmware
	Bench    = "bench"    // the same but for secure boot and releases, for boards under development
	Lenient  = "lenient"  // demands nothing
)

// Builtin returns the built-in policy of that name, or an error that says
// which there are.
func Builtin(name string) (Policy, error) {
	p := Policy{Name: name, Version: 1, FullLifetime: Duration(DefaultFull), ShortLifetime: Duration(DefaultShort)}
	switch name {
	case Standard:
		p.Require = standard()
		for _, b := range onReleases() {
			p.Conditions, p.tests = append(p.Conditions, b.Condition), append(p.tests, b.test)
		}
	case Bench:
		p.Require = slices.DeleteFunc(standard(), func(q Requirement) bool { return q.Measure == measure.FirmwareSecureBoot })
	case Lenient:
		p.Require = []Requirement{}
	default:
		return Policy{}, fmt.Errorf("built-in policy %q: want %s, %s or %s", name, Standard, Bench, Lenient)
	}
	return p, nil
}

// standard demands each measure at the best grade that can be reached. What a
// birth proved once stays proved; what an appraisal proved has to be fresh.
func standard() []Requirement {
	return []Requirement{
		{Measure: measure.IdentityHardwareRoot, Grade: measure.Attested},
		{Measure: measure.IdentityDeviceID, Grade: measure.Attested},
		{Measure: measure.IdentityCertificates, Grade: measure.Observed},
		{Measure: measure.IdentityAttestation, Grade: measure.Attested, MaxAge: daily},
		{Measure: measure.CredentialsRenewable, Grade: measure.Observed},
		{Measure: measure.CryptoEntropy, Grade: measure.Claimed},
		{Measure: measure.CryptoAlgorithms, Grade: measure.Observed},
		{Measure: measure.CryptoAcceleration, Grade: measure.Claimed},
		{Measure: measure.FirmwareSecureBoot, Grade: measure.Attested, MaxAge: daily},
		{Measure: measure.ProtocolTLS, Grade: measure.Observed},
		{Measure: measure.ProtocolX509, Grade: measure.Observed},
		{Measure: measure.ProtocolCipherSuites, Grade: measure.Observed},
		{Measure: measure.ProtocolMutualTLS, Grade: measure.Observed},
		{Measure: measure.ProtocolMQTTTLS, Grade: measure.Observed},
		{Measure: measure.AppDebug, Grade: measure.Attested, MaxAge: daily},
		{Measure: measure.AppWatchdog, Grade: measure.Claimed},
		{Measure: measure.AppErrorLogging, Grade: measure.Observed},
	}
}

// BehindGrace is how long a device may be behind the newest release before the
// standard policy calls it weak.
const BehindGrace = 30 * 24 * time.Hour

// builtin is a condition of a built-in policy with its compiled form: the
// program that has no compiler knows built-in policies too.
type builtin struct {
	Condition
	test Test
}

// onReleases are the conditions on signed releases. They are no demands, because
// a fleet whose firmware is known by an operator's references alone has nothing
// to prove them with. What contradicts its own counter gets nothing; what runs a
// withdrawn release, or has long been behind, is to be renewed and stays able to
// work until it is.
func onReleases() []builtin {
	return []builtin{
		{Condition{When: `rows["firmware.signing"].verdict == "fail"`, Then: Weak,
			Reason: "its firmware is no signed release of its product, or one that was withdrawn"}, failing(measure.FirmwareSigning)},
		{Condition{When: `rows["firmware.downgrade"].verdict == "fail"`, Then: Unmet,
			Reason: "its counter does not keep out firmware that is older than what it runs"}, failing(measure.FirmwareDowngrade)},
		{Condition{When: `rows["firmware.update"].verdict == "fail" && rows["firmware.update"].age > duration("720h")`, Then: Weak,
			Reason: "it has been behind the newest release for more than 30 days"}, failingFor(measure.FirmwareUpdate, BehindGrace)},
	}
}

// builtinTest finds the compiled form of an expression of a built-in policy.
func builtinTest(expression string) (Test, bool) {
	for _, b := range onReleases() {
		if b.When == expression {
			return b.test, true
		}
	}
	return Test{}, false
}

// failing is rows[id].verdict == "fail".
func failing(id measure.ID) Test {
	at := ordinals[id]
	return Test{Holds: func(v View) (bool, error) { return v.Marks.mark(at).verdict == markFail, nil }}
}

// failingFor is rows[id].verdict == "fail" && rows[id].age > long.
func failingFor(id measure.ID, long time.Duration) Test {
	at := ordinals[id]
	return Test{
		Timed: true,
		Holds: func(v View) (bool, error) {
			m := v.Marks.mark(at)
			return m.verdict == markFail && since(nanos(v.Now), m.at) > int64(long), nil
		},
		Turns: func(v View) time.Time {
			m := v.Marks.mark(at)
			if turns := time.Unix(0, m.at).Add(long + 1); m.verdict == markFail && v.Now.Before(turns) {
				return turns
			}
			return time.Time{}
		},
	}
}
