package appraise

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/measure"
)

// minSamples is the start-up test's least number of samples of the raw source
// (SP 800-90B, section 4.3).
const minSamples = 1024

// lockedLifecycles are the states in which a device is deployed and closed.
func lockedLifecycles() []string { return []string{"secured", "deployed"} }

// rowsOf returns the measures that an appraisal speaks about.
func rowsOf() []measure.ID {
	return []measure.ID{measure.IdentityAttestation, measure.FirmwareSecureBoot, measure.AppDebug,
		measure.CryptoEntropy, measure.CryptoAcceleration, measure.AppWatchdog}
}

// failedRows: the hub saw evidence that does not hold; nothing it says counts.
func failedRows(f *Failure, now time.Time) []measure.Row {
	var rows []measure.Row
	for _, id := range rowsOf() {
		rows = append(rows, measure.Row{Measure: id, Verdict: measure.Unknown, Grade: measure.None,
			Reason: "the evidence did not verify", Time: now})
	}
	rows[0].Verdict, rows[0].Grade, rows[0].Reason = measure.Fail, measure.Observed, f.Error()
	return rows
}

// rows turns verified evidence into verdicts.
func (a *appraisal) rows(now time.Time) []measure.Row {
	judge := []func() (measure.Verdict, measure.Grade, string){
		a.attestation, a.secureBoot, a.debug, a.entropy, a.acceleration, a.watchdog,
	}
	var rows []measure.Row
	for i, id := range rowsOf() {
		v, g, reason := judge[i]()
		rows = append(rows, measure.Row{Measure: id, Verdict: v, Grade: g, Reason: reason, Time: now})
	}
	return rows
}

// grade of what the TPM signed. A software TPM proves no more than its owner's
// word, except where the group is made of such.
func (a *appraisal) grade() measure.Grade {
	if a.in.Endorsement == Hardware || a.in.Endorsement == Software && a.in.Simulation {
		return measure.Attested
	}
	return measure.Claimed
}

// attestation passes when everything measured is known and whole, and the
// runtime does not believe to be something else. Without a log it fails, so
// that a device gains nothing by withholding one.
func (a *appraisal) attestation() (measure.Verdict, measure.Grade, string) {
	f := a.facts
	switch {
	case a.logless():
		return measure.Fail, a.grade(), "the quote is verified, but the device has no event log: what it booted is not known"
	case len(f.Unknown) > 0:
		return measure.Fail, a.grade(), unknownText(f.Unknown)
	case len(f.Missing) > 0:
		return measure.Fail, a.grade(), "the boot log lacks " + strings.Join(f.Missing, ", ")
	}
	if text := a.contradiction(); text != "" {
		return measure.Fail, a.grade(), text
	}
	reason := "quote verified, the event log leads to it, every measurement is known"
	if a.in.Endorsement == Software {
		reason += " (software TPM)"
	}
	return measure.Pass, a.grade(), reason
}

func unknownText(unknown []Measurement) string {
	text := fmt.Sprintf("unknown measurement %s in PCR %d", unknown[0].Digest, unknown[0].PCR)
	if len(unknown) > 1 {
		text += " and others"
	}
	return text
}

// contradiction compares the firmware that the runtime believes it is with the
// images that were measured: a runtime that is wrong about itself is not the
// measured one, or lies.
func (a *appraisal) contradiction() string {
	text := a.claims.Firmware.Digest
	if text == "" {
		return ""
	}
	claimed, err := identity.ParseDigest(text)
	if err != nil {
		return "the runtime claims firmware " + clean(text)
	}
	if slices.ContainsFunc(a.facts.Booted, func(c Component) bool { return c.Digest == claimed }) {
		return ""
	}
	return fmt.Sprintf("the runtime claims firmware %s, which was not measured", claimed)
}

// secureBoot passes when the measured policy is to verify and every image that
// booted is known.
func (a *appraisal) secureBoot() (measure.Verdict, measure.Grade, string) {
	f := a.facts
	switch {
	case a.logless():
		return measure.Unknown, measure.None, "the device has no event log: what it booted is not known"
	case len(f.Unknown) > 0:
		return measure.Fail, a.grade(), unknownText(f.Unknown)
	case f.Platform == Board && !on(f.Policy.Verification):
		return measure.Fail, a.grade(), "the boot ROM does not verify what it boots"
	case f.Platform == UEFI && !on(f.Policy.SecureBoot):
		return measure.Fail, a.grade(), "UEFI Secure Boot is off"
	case len(f.Missing) > 0:
		return measure.Fail, a.grade(), "the boot log lacks " + strings.Join(f.Missing, ", ")
	}
	reason := "verification is on; booted " + bootedText(f.Booted)
	if n := len(f.Refused); n > 0 {
		reason += "; " + strings.Join(f.Refused[:min(n, 4)], "; ")
	}
	return measure.Pass, a.grade(), reason
}

func bootedText(booted []Component) string {
	var names []string
	for _, c := range booted[:min(len(booted), 4)] {
		names = append(names, strings.TrimSpace(c.Name+" "+c.Version))
	}
	return strings.Join(names, ", ")
}

// debug passes when a known boot ROM measured a closed port and a deployed
// life cycle. UEFI measures nothing that would prove it.
func (a *appraisal) debug() (measure.Verdict, measure.Grade, string) {
	f := a.facts
	romUnknown := slices.ContainsFunc(f.Unknown, func(m Measurement) bool { return m.PCR == 0 || m.PCR == 7 })
	switch {
	case a.claims.DebuggerSeen:
		return measure.Fail, measure.Claimed, "the runtime is being traced"
	case f.Platform != Board:
		return measure.Unknown, measure.None, "the platform measures no debug state"
	case romUnknown || len(f.BootROM) == 0:
		return measure.Unknown, measure.None, "the boot ROM that measured the debug state is not known"
	case !on(f.Policy.DebugLock):
		return measure.Fail, a.grade(), "the debug port is open"
	case !slices.Contains(lockedLifecycles(), f.Policy.Lifecycle):
		return measure.Fail, a.grade(), "life cycle is " + clean(f.Policy.Lifecycle)
	}
	return measure.Pass, a.grade(), "the debug port is closed, life cycle is " + f.Policy.Lifecycle
}

func (a *appraisal) entropy() (measure.Verdict, measure.Grade, string) {
	e := a.claims.Entropy
	switch {
	case e.Samples < minSamples:
		return measure.Fail, measure.Claimed, fmt.Sprintf("health tests saw %d samples, want %d", e.Samples, minSamples)
	case !e.RepetitionCount:
		return measure.Fail, measure.Claimed, "repetition count test failed"
	case !e.AdaptiveProportion:
		return measure.Fail, measure.Claimed, "adaptive proportion test failed"
	}
	return measure.Pass, measure.Claimed, fmt.Sprintf("both health tests passed on %d samples of %s", e.Samples, clean(e.Source))
}

func (a *appraisal) acceleration() (measure.Verdict, measure.Grade, string) {
	features := a.claims.Acceleration
	if len(features) == 0 {
		return measure.Fail, measure.Claimed, "no acceleration is used"
	}
	return measure.Pass, measure.Claimed, "used: " + clean(strings.Join(features, ", "))
}

func (a *appraisal) watchdog() (measure.Verdict, measure.Grade, string) {
	w := a.claims.Watchdog
	reset := "; reset cause: " + clean(a.claims.Reset)
	if !w.Armed {
		return measure.Fail, measure.Claimed, "the watchdog is not armed" + reset
	}
	if len(w.Checks) == 0 {
		return measure.Fail, measure.Claimed, "the watchdog is fed without checks" + reset
	}
	var failed []string
	for _, name := range slices.Sorted(maps.Keys(w.Checks)) {
		if !w.Checks[name] {
			failed = append(failed, name)
		}
	}
	if len(failed) > 0 {
		return measure.Fail, measure.Claimed, "checks failed: " + clean(strings.Join(failed, ", ")) + reset
	}
	return measure.Pass, measure.Claimed, fmt.Sprintf("armed, fed after %d checks", len(w.Checks)) + reset
}

// maxText bounds what a reason repeats of the device's own words.
const maxText = 120

// clean makes a device's text safe to show: short, printable, never empty.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), maxText)])
	if s == "" {
		return "not given"
	}
	return s
}
