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
	Standard = "standard" // everything that can be proved of a healthy board
	Bench    = "bench"    // the same but for secure boot, for boards under development
	Lenient  = "lenient"  // demands nothing
)

// Builtin returns the built-in policy of that name, or an error that says
// which there are.
func Builtin(name string) (Policy, error) {
	p := Policy{Name: name, Version: 1, FullLifetime: Duration(DefaultFull), ShortLifetime: Duration(DefaultShort)}
	switch name {
	case Standard:
		p.Require = standard()
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
