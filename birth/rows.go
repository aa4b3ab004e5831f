package birth

import (
	"fmt"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/measure"
	"holdfast/operator"
)

// Rows returns what a birth says of a device of class in group g, born at t.
// A device of class Maker was not born here: its rows say so.
func Rows(class Class, g operator.Group, t time.Time) []measure.Row {
	root := measure.Row{Measure: measure.IdentityHardwareRoot, Time: t}
	id := measure.Row{Measure: measure.IdentityDeviceID, Time: t}
	set := func(r *measure.Row, v measure.Verdict, grade measure.Grade, reason string) {
		r.Verdict, r.Grade, r.Reason = v, grade, reason
	}
	const ids = "birth certificate for a key of the TPM, apart from the operational one"
	switch class {
	case Hardware:
		set(&root, measure.Pass, measure.Attested, "keys of a hardware TPM, proved by credential activation")
		set(&id, measure.Pass, measure.Attested, ids)
	case Software:
		set(&id, measure.Pass, measure.Attested, ids)
		if g.Simulation {
			set(&root, measure.Pass, measure.Attested, "software TPM, which counts in a simulation; keys proved by credential activation")
		} else {
			set(&root, measure.Fail, measure.Attested, "software TPM: its keys are in a file of the machine that runs it")
		}
	case File:
		set(&root, measure.Fail, measure.Observed, noHardware)
		set(&id, measure.Fail, measure.Observed, "the birth certificate's key is in a file: whoever copies it is the device")
	case Maker:
		set(&root, measure.Unknown, measure.None, "a maker's certificate does not show where its key lives")
		set(&id, measure.Unknown, measure.None, "the maker's certificate is birth and operational certificate in one")
	case SelfSigned:
		set(&root, measure.Fail, measure.Observed, "a self-signed certificate does not show where its key lives, and nobody answers for it")
		set(&id, measure.Fail, measure.Observed, "known by the digest of a self-signed certificate: no authority gave it its id")
		certs := measure.Row{Measure: measure.IdentityCertificates, Time: t}
		set(&certs, measure.Fail, measure.Observed, "self-signed certificate: it can be neither renewed nor revoked by an authority")
		return []measure.Row{root, id, certs}
	default:
		return nil
	}
	return []measure.Row{root, id}
}

const noHardware = "the key is in a file, not in a TPM: nothing keeps it from being copied"

// Welcome refuses a device of class that g does not let be born, with a reason
// that the device and its operator may read. A group that demands
// identity.hardware-root lets in nothing that fails it from the start.
func Welcome(class Class, g operator.Group) error {
	if class == File && !g.FileKeys {
		return fault.New(fault.Denied, "group %s does not allow keys in files%s", g.ID, demanded(g))
	}
	if !g.Policy.Demands(measure.IdentityHardwareRoot) {
		return nil
	}
	for _, r := range Rows(class, g, time.Time{}) {
		if r.Measure == measure.IdentityHardwareRoot && r.Verdict == measure.Fail {
			return fault.New(fault.Denied, "group %s demands %s: %s", g.ID, r.Measure, r.Reason)
		}
	}
	return nil
}

// demanded says what the group's policy demands of a key in a file, if it does.
func demanded(g operator.Group) string {
	if !g.Policy.Demands(measure.IdentityHardwareRoot) {
		return ""
	}
	return fmt.Sprintf(" and demands %s: %s", measure.IdentityHardwareRoot, noHardware)
}

// Matches reports whether id is one of ids, each a device id or a pattern: the
// beginning of ids, followed by "*".
func Matches(ids []string, id string) bool {
	for _, p := range ids {
		prefix, pattern := strings.CutSuffix(p, "*")
		if p == id || pattern && strings.HasPrefix(id, prefix) && len(id) > len(prefix) {
			return true
		}
	}
	return false
}
