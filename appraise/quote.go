package appraise

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"

	"holdfast/evidence"
)

// maxPCR is the last register of the static boot chain: 16 can be reset at
// will, 17 and up belong to a dynamic launch.
const maxPCR = 15

// required returns the registers that every quote has to cover.
func required() []int {
	return []int{evidence.PCRBootROM, evidence.PCRFirmware, evidence.PCRPolicy, evidence.PCRManifests}
}

// checkQuote runs the steps from the quote's signature to the required
// registers.
func (a *appraisal) checkQuote() *Failure {
	q, err := a.ak.open(a.in.Evidence.Quote, typeQuote)
	switch {
	case errors.Is(err, errBank):
		return fail(StepPCRs, "%v", err)
	case err != nil:
		return fail(StepSignature, "%v", err)
	case !bytes.Equal(q.extraData, a.in.Binding[:]):
		return fail(StepBinding, "%v", errBinding)
	}
	a.clock = q.clock
	if f := checkPCRs(q.quote, a.in.Evidence.PCRs); f != nil {
		return f
	}
	for _, want := range required() {
		if !slices.ContainsFunc(a.in.Evidence.PCRs, func(p evidence.PCR) bool { return p.Index == want }) {
			return fail(StepRequired, "PCR %d is not in the quote", want)
		}
	}
	return nil
}

// checkPCRs compares the submitted registers with what the quote covers: the
// same registers, and the same values.
func checkPCRs(info quoteInfo, pcrs []evidence.PCR) *Failure {
	h, last := sha256.New(), -1
	for _, p := range pcrs {
		if p.Index <= last || p.Index > maxPCR {
			return fail(StepPCRs, "PCR %d is out of order or beyond %d", p.Index, maxPCR)
		}
		last = p.Index
		h.Write(p.SHA256[:])
	}
	if !bytes.Equal(bitmap(pcrs), bytes.TrimRight(info.selected, "\x00")) {
		return fail(StepPCRs, "the registers sent are not those that were quoted")
	}
	if !bytes.Equal(info.digest, h.Sum(nil)) {
		return fail(StepPCRs, "the values sent are not those that were quoted")
	}
	return nil
}

// bitmap is the TPMS_PCR_SELECT of pcrs without trailing zero bytes.
func bitmap(pcrs []evidence.PCR) []byte {
	var b [maxPCR/8 + 1]byte
	for _, p := range pcrs {
		b[p.Index/8] |= 1 << (p.Index % 8)
	}
	return bytes.TrimRight(b[:], "\x00")
}
