package appraise

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"holdfast/evidence"
	"holdfast/identity"
)

// Event is a measurement of the SHA-256 bank. Type and Data are only as good
// as what is made of them: the register covers the Digest.
type Event struct {
	PCR    int
	Type   uint32
	Digest identity.Digest
	Data   []byte
}

// Limits of an event log's header.
const (
	maxAlgorithms = 5
	maxDigest     = 64 // bytes
	algSHA256     = 0x000B
	noPCR         = 24 // one above the last register
)

// signature of the Spec ID event of a crypto-agile log.
const specSignature = "Spec ID Event03\x00"

// ParseEventLog reads a TCG crypto-agile event log that has SHA-256 digests
// (TCG PC Client Platform Firmware Profile, section 10.2): at most MaxEventLog
// bytes and MaxEvents events. Nothing proves the events until they are replayed.
func ParseEventLog(b []byte) ([]Event, error) {
	if len(b) > MaxEventLog {
		return nil, fmt.Errorf("%d bytes, limit %d", len(b), MaxEventLog)
	}
	r := &reader{b: b}
	sizes, err := r.header()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	var events []Event
	for len(r.b) > 0 {
		if len(events) == MaxEvents {
			return nil, fmt.Errorf("more than %d events", MaxEvents)
		}
		e, err := r.event(sizes)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", len(events)+1, err)
		}
		events = append(events, e)
	}
	return events, nil
}

// reader takes little-endian values from the front of b.
type reader struct{ b []byte }

var errShort = errors.New("ends early")

func (r *reader) take(n uint32) ([]byte, error) {
	if uint64(n) > uint64(len(r.b)) {
		return nil, errShort
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v, nil
}

func (r *reader) u16() (uint16, error) {
	v, err := r.take(2)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint16(v), nil
}

func (r *reader) u32() (uint32, error) {
	v, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(v), nil
}

// header reads the Spec ID event, a TCG_PCR_EVENT of the old form, and returns
// the digest size of each algorithm.
func (r *reader) header() (map[uint16]uint32, error) {
	head, err := r.take(4 + 4 + 20)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(head[4:]) != evidence.EventNoAction {
		return nil, errors.New("not a crypto-agile log")
	}
	size, err := r.u32()
	if err != nil {
		return nil, err
	}
	data, err := r.take(size)
	if err != nil {
		return nil, err
	}
	return specID(data)
}

// specID reads TCG_EfiSpecIDEvent (section 10.4.5.1).
func specID(data []byte) (map[uint16]uint32, error) {
	r := &reader{b: data}
	head, err := r.take(24) // signature, platform class, version, errata, size of UINTN
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, []byte(specSignature)) || head[21] != 2 {
		return nil, errors.New("not a crypto-agile log of version 2")
	}
	n, err := r.u32()
	if err != nil {
		return nil, err
	}
	if n > maxAlgorithms {
		return nil, fmt.Errorf("%d algorithms, limit %d", n, maxAlgorithms)
	}
	sizes := make(map[uint16]uint32, n)
	for range n {
		alg, err := r.u16()
		if err != nil {
			return nil, err
		}
		size, err := r.u16()
		if err != nil {
			return nil, err
		}
		if _, twice := sizes[alg]; twice || size == 0 || size > maxDigest {
			return nil, fmt.Errorf("algorithm %#x with %d bytes", alg, size)
		}
		sizes[alg] = uint32(size)
	}
	if sizes[algSHA256] != sha256.Size {
		return nil, errors.New("no SHA-256 digests")
	}
	vendor, err := r.take(1)
	if err != nil {
		return nil, err
	}
	if len(r.b) != int(vendor[0]) {
		return nil, errors.New("vendor data has another length than it says")
	}
	return sizes, nil
}

// event reads a TCG_PCR_EVENT2 (section 10.2.2), which has one digest of each
// algorithm.
func (r *reader) event(sizes map[uint16]uint32) (Event, error) {
	var e Event
	head, err := r.take(12)
	if err != nil {
		return e, err
	}
	pcr := binary.LittleEndian.Uint32(head)
	e.Type = binary.LittleEndian.Uint32(head[4:])
	if pcr >= noPCR && e.Type != evidence.EventNoAction {
		return e, fmt.Errorf("PCR %d", pcr)
	}
	e.PCR = int(min(pcr, noPCR)) // informative events may say 0xFFFFFFFF
	if e.Digest, err = r.digests(binary.LittleEndian.Uint32(head[8:]), sizes); err != nil {
		return e, err
	}
	size, err := r.u32()
	if err != nil {
		return e, err
	}
	e.Data, err = r.take(size)
	return e, err
}

// digests reads n digests, each of another algorithm, and returns the SHA-256.
func (r *reader) digests(n uint32, sizes map[uint16]uint32) (identity.Digest, error) {
	var d identity.Digest
	if int64(n) != int64(len(sizes)) {
		return d, fmt.Errorf("%d digests for %d algorithms", n, len(sizes))
	}
	found := false
	for range n {
		alg, err := r.u16()
		if err != nil {
			return d, err
		}
		size, known := sizes[alg]
		if !known {
			return d, fmt.Errorf("unknown algorithm %#x", alg)
		}
		v, err := r.take(size)
		if err != nil {
			return d, err
		}
		if alg == algSHA256 {
			if found {
				return d, errors.New("two SHA-256 digests")
			}
			copy(d[:], v)
			found = true
		}
	}
	if !found {
		return d, errors.New("no SHA-256 digest")
	}
	return d, nil
}

// replay returns the events of the given registers, in their order, if they
// lead to the registers' values. A register without events has to be zero. The
// error names each register that does not come out.
func replay(events []Event, pcrs []evidence.PCR) ([]Event, error) {
	var value [maxPCR + 1]identity.Digest
	var extended [maxPCR + 1]bool
	var buf [2 * sha256.Size]byte
	for _, e := range events {
		switch {
		case e.PCR > maxPCR: // not of the static boot chain
		case e.Type == evidence.EventNoAction:
			if l, ok := locality(e); ok && !extended[0] {
				value[0][sha256.Size-1] = l
			}
		default:
			copy(buf[:], value[e.PCR][:])
			copy(buf[sha256.Size:], e.Digest[:])
			value[e.PCR], extended[e.PCR] = sha256.Sum256(buf[:]), true
		}
	}
	var quoted [maxPCR + 1]bool
	var wrong []int
	for _, p := range pcrs {
		quoted[p.Index] = true
		if value[p.Index] != p.SHA256 {
			wrong = append(wrong, p.Index)
		}
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("the log does not lead to PCR %v", wrong)
	}
	out := make([]Event, 0, len(events))
	for _, e := range events {
		if e.PCR <= maxPCR && quoted[e.PCR] && e.Type != evidence.EventNoAction {
			out = append(out, e)
		}
	}
	return out, nil
}

// locality reads a StartupLocality event: PCR 0 begins with the locality that
// started the TPM (section 10.4.5.3).
func locality(e Event) (byte, bool) {
	const signature = "StartupLocality\x00"
	if e.PCR != 0 || len(e.Data) != len(signature)+1 || !bytes.HasPrefix(e.Data, []byte(signature)) {
		return 0, false
	}
	return e.Data[len(signature)], true
}

// checkLog parses the log and replays it to the quoted registers.
func (a *appraisal) checkLog() *Failure {
	if a.logless() {
		return nil
	}
	events, err := ParseEventLog(a.in.Evidence.EventLog)
	if err != nil {
		return fail(StepEventLog, "%v", err)
	}
	if a.events, err = replay(events, a.in.Evidence.PCRs); err != nil {
		return fail(StepReplay, "%v", err)
	}
	return nil
}

// logless reports whether no log came: the machine's firmware or kernel keeps
// none. The quote still proves the TPM, its clock and its keys; what was booted
// stays unexplained, and the rows say so.
func (a *appraisal) logless() bool { return len(a.in.Evidence.EventLog) == 0 }
