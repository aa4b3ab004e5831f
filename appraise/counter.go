package appraise

import (
	"bytes"
	"encoding/binary"

	"holdfast/evidence"
)

// Counter is a certified NV counter: it only ever grows, even across its own
// deletion, after which it goes on above every value the TPM ever counted (TPM
// 2.0 Library, Part 1, "NV Counters").
type Counter struct {
	Index uint32 `json:"index"` // TPM NV index
	Value uint64 `json:"value"`
}

// checkCounters verifies the certified counters, and that each one seen before
// is there and no lower.
func (a *appraisal) checkCounters() *Failure {
	for _, c := range a.in.Evidence.Counters {
		v, f := a.checkCounter(c)
		if f != nil {
			return f
		}
		if _, twice := find(a.counters, v.Index); twice {
			return fail(StepCounter, "counter %#x comes twice", v.Index)
		}
		a.counters = append(a.counters, v)
	}
	if a.in.Previous == nil {
		return nil
	}
	for _, old := range a.in.Previous.Counters {
		now, ok := find(a.counters, old.Index)
		if !ok {
			return fail(StepCounter, "counter %#x is missing", old.Index)
		}
		if now < old.Value {
			return fail(StepCounter, "counter %#x went back from %d to %d", old.Index, old.Value, now)
		}
	}
	return nil
}

func find(counters []Counter, index uint32) (uint64, bool) {
	for _, c := range counters {
		if c.Index == index {
			return c.Value, true
		}
	}
	return 0, false
}

func (a *appraisal) checkCounter(c evidence.Counter) (Counter, *Failure) {
	p, err := parseNVPublic(c.Public)
	if err != nil {
		return Counter{}, fail(StepCounter, "public area: %v", err)
	}
	if !p.isCounter() || p.nameAlg != algSHA256 {
		return Counter{}, fail(StepCounter, "index %#x is not a counter that has counted", p.index)
	}
	s, err := a.ak.openBound(c.Certify, typeNV, a.in.Binding)
	switch {
	case err != nil:
		return Counter{}, fail(StepCounter, "index %#x: %v", p.index, err)
	case !bytes.Equal(s.nv.name, name(c.Public)):
		return Counter{}, fail(StepCounter, "index %#x: another index was certified", p.index)
	case s.nv.offset != 0 || len(s.nv.contents) != 8:
		return Counter{}, fail(StepCounter, "index %#x: not the whole counter was certified", p.index)
	}
	return Counter{Index: p.index, Value: binary.BigEndian.Uint64(s.nv.contents)}, nil
}
