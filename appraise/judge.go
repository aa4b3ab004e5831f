package appraise

import (
	"fmt"

	"holdfast/evidence"
	"holdfast/identity"
)

// judged reports whether every event of a register has to be known: those of
// code, of its policy and of workloads. The others (1, 3, 5, 6: configuration
// and partitions; 8 and up but 11: the system's own) are proven to replay and
// not read.
func judged(pcr int) bool {
	switch pcr {
	case 0, 2, 4, 7, 11:
		return true
	}
	return false
}

// judge reads proven events against the reference values of the group.
func judge(events []Event, references []Reference) Facts {
	j := &judgement{
		references: make(map[Measurement]Reference, len(references)),
		variables:  make(map[string]bool),
	}
	for _, r := range references {
		j.references[Measurement{r.PCR, r.Digest}] = r
	}
	for _, e := range events {
		if judged(e.PCR) {
			j.event(e)
		}
	}
	j.complete()
	return j.facts
}

// judgement is the state of one reading of a log.
type judgement struct {
	references map[Measurement]Reference
	separated  [maxPCR + 1]bool // the register's separator has come
	variables  map[string]bool  // policy variables seen, by vendor and name
	authority  bool             // UEFI: an image was verified against a key of db
	facts      Facts
}

// event takes one event: by a rule where the event proves its own content, by
// reference value otherwise.
func (j *judgement) event(e Event) {
	if identity.Sum(e.Data) == e.Digest && j.rule(e) {
		return
	}
	m := Measurement{e.PCR, e.Digest}
	r, known := j.references[m]
	if !known || j.full() {
		j.unknown(m)
	}
	if j.full() {
		return
	}
	c := Component{Digest: e.Digest, Name: r.Name, Version: r.Version}
	switch {
	case r.Kind == BootROM:
		j.facts.BootROM = append(j.facts.BootROM, c)
	case r.Kind == Manifest:
		j.facts.Manifests = append(j.facts.Manifests, c)
	case r.Kind == Firmware, !known && e.PCR == evidence.PCRFirmware:
		j.facts.Booted = append(j.facts.Booted, c)
	}
}

// maxListed bounds each list of facts: no boot has more stages, and a hostile
// log must not fill the hub's storage.
const maxListed = 32

// full reports whether some list of facts has no room left.
func (j *judgement) full() bool {
	f := &j.facts
	return max(len(f.BootROM), len(f.Booted), len(f.Manifests), len(f.Refused)) >= maxListed
}

// unknown notes a measurement that nothing explains; the first ones say enough.
func (j *judgement) unknown(m Measurement) {
	if len(j.facts.Unknown) < maxListed {
		j.facts.Unknown = append(j.facts.Unknown, m)
	}
}

// complete says what a log has to have and this one has not: a boot stage that
// measured nothing would otherwise pass unseen.
func (j *judgement) complete() {
	f := &j.facts
	board, uefi := j.variables[boardVerification], j.variables[uefiSecureBoot]
	switch {
	case board == uefi:
		f.Missing = append(f.Missing, "a boot policy")
	case uefi:
		f.Platform = UEFI
	default:
		f.Platform = Board
		for _, v := range boardVariables() {
			if !j.variables[v] {
				f.Missing = append(f.Missing, "policy variable "+v)
			}
		}
	}
	if j.variables[boardCounterIndex] != j.variables[boardCounterBase] {
		f.Missing = append(f.Missing, "one half of its security counter")
		f.Policy.Counter = nil
	}
	if len(f.BootROM) == 0 {
		f.Missing = append(f.Missing, "a known boot ROM")
	}
	if len(f.Booted) == 0 {
		f.Missing = append(f.Missing, "a booted image")
	}
	for _, pcr := range j.closed() {
		if !j.separated[pcr] {
			f.Missing = append(f.Missing, fmt.Sprintf("the separator of PCR %d", pcr))
		}
	}
	if on(f.Policy.SecureBoot) && !j.authority {
		f.Missing = append(f.Missing, "the key that Secure Boot verified an image with")
	}
}

// closed returns the registers whose boot code has to be seen to end. UEFI runs
// the drivers of add-on cards too, which only PCR 2 tells.
func (j *judgement) closed() []int {
	if j.facts.Platform == UEFI {
		return []int{0, 2, 4, 7}
	}
	return []int{0, 4, 7}
}
