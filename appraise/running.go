package appraise

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/measure"
)

// Running is what verified evidence proves of the firmware that runs, and of
// the counter that keeps older firmware out. It is kept with the device, so
// that releases which are published or withdrawn later can be held against it.
type Running struct {
	Digest identity.Digest `json:"digest"` // as it was measured
	Grade  measure.Grade   `json:"grade"`  // of what the TPM signed
	Time   time.Time       `json:"time"`   // of the appraisal
	// Doubt is why the digest proves little: something in the boot is not known.
	Doubt string `json:"doubt,omitempty"`
	// Reference is name and version of an operator's own Reference Value for it.
	Reference string `json:"reference,omitempty"`

	// Minimum is the least security version that the boot ROM starts, as the TPM
	// certified it. It is nil where the boot ROM measured no counter, and where
	// CounterFault says why the one it measured proves nothing.
	Minimum      *uint64 `json:"minimum,omitempty"`
	CounterFault string  `json:"counter_fault,omitempty"`
}

// running returns what the evidence proves of the firmware, or nil where it does
// not show which runs.
func (a *appraisal) running() *Running {
	c, ok := a.facts.Firmware()
	if !ok {
		return nil
	}
	r := &Running{Digest: c.Digest, Grade: a.grade(), Doubt: a.doubt(c.Digest)}
	for _, ref := range a.in.References {
		if ref.Kind == Firmware && ref.Digest == c.Digest && !ref.Released {
			r.Reference = strings.TrimSpace(ref.Name + " " + ref.Version)
		}
	}
	r.Minimum, r.CounterFault = a.minimum()
	return r
}

// doubt says why a measured digest proves little: whoever measured it is not
// known, or something else ran beside it. That the image itself is not known is
// no doubt: it is what runs.
func (a *appraisal) doubt(image identity.Digest) string {
	f := a.facts
	other := slices.DeleteFunc(slices.Clone(f.Unknown), func(m Measurement) bool {
		return m.PCR == evidence.PCRFirmware && m.Digest == image
	})
	switch {
	case len(other) > 0:
		return unknownText(other)
	case len(f.Missing) > 0:
		return "the boot log lacks " + strings.Join(f.Missing, ", ")
	}
	return ""
}

// minimum holds the certified counter against the measured base. Where the
// counter is and began is burnt into a board: what changes of it is no counter.
func (a *appraisal) minimum() (minimum *uint64, fault string) {
	c, first := a.facts.Policy.Counter, a.origin()
	switch {
	case first == nil:
		return nil, ""
	case c == nil:
		return nil, fmt.Sprintf("its boot ROM counted security versions at %#x, and measures no counter any more", first.Index)
	case *c != *first:
		return nil, fmt.Sprintf("its security counter began at %d in %#x, and now claims %d in %#x", first.Base, first.Index, c.Base, c.Index)
	}
	value, certified := find(a.counters, c.Index)
	switch {
	case !certified:
		return nil, fmt.Sprintf("its boot ROM counts security versions at %#x, which is not among the certified counters", c.Index)
	case value < c.Base:
		return nil, fmt.Sprintf("its counter stands at %d, below the %d that it began with", value, c.Base)
	}
	value -= c.Base
	return &value, ""
}

// origin returns the counter that the boot ROM measured first under this AK.
func (a *appraisal) origin() *SecurityCounter {
	if a.in.Previous != nil && a.in.Previous.Origin != nil {
		return a.in.Previous.Origin
	}
	return a.facts.Policy.Counter
}
