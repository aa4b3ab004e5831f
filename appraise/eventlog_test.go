package appraise_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"holdfast/appraise"
	"holdfast/appraise/appraisetest"
	"holdfast/evidence"
	"holdfast/identity"
)

// le writes little-endian values: uint8, uint16, uint32 and bytes.
func le(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		if s, ok := v.(string); ok {
			v = []byte(s)
		}
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// header is a log's first event around a Spec ID event.
func header(spec []byte) []byte {
	return le(uint32(0), evidence.EventNoAction, make([]byte, 20), uint32(len(spec)), spec)
}

// spec is a Spec ID event with algorithms and their sizes.
func spec(algorithms ...uint16) []byte {
	return le("Spec ID Event03\x00", uint32(0), []byte{0, 2, 0, 2}, uint32(len(algorithms)/2), algorithms, uint8(0))
}

// TestEventLogRefuses has one malformed log for each rule of the parser.
func TestEventLogRefuses(t *testing.T) {
	sha256, sha1 := []uint16{0x000B, 32}, []uint16{0x0004, 20}
	both := append(sha1, sha256...)
	digest := make([]byte, 32)
	event := func(algorithms []uint16, rest ...any) []byte {
		return append(header(spec(algorithms...)), le(append([]any{uint32(4), evidence.EventIPL}, rest...)...)...)
	}
	for name, c := range map[string]struct {
		log    []byte
		reason string
	}{
		"empty":                 {nil, "ends early"},
		"header alone, cut":     {header(spec(sha256...))[:31], "ends early"},
		"old form":              {le(uint32(0), evidence.EventIPL, make([]byte, 20), uint32(0)), "not a crypto-agile log"},
		"another signature":     {header(le("Spec ID Event02\x00", uint32(0), []byte{0, 2, 0, 2}, uint32(0), uint8(0))), "not a crypto-agile log"},
		"another version":       {header(le("Spec ID Event03\x00", uint32(0), []byte{0, 3, 0, 2}, uint32(0), uint8(0))), "of version 2"},
		"header cut":            {header(spec(sha256...)[:26]), "ends early"},
		"no SHA-256":            {header(spec(sha1...)), "no SHA-256"},
		"SHA-256 of 20 bytes":   {header(spec(0x000B, 20)), "no SHA-256"},
		"too many algorithms":   {header(spec(0x000B, 32, 1, 1, 2, 1, 3, 1, 4, 1, 5, 1)), "limit 5"},
		"endless algorithms":    {header(le("Spec ID Event03\x00", uint32(0), []byte{0, 2, 0, 2}, uint32(1<<32-1))), "limit 5"},
		"algorithm twice":       {header(spec(0x000B, 32, 0x000B, 32)), "algorithm 0xb"},
		"algorithm of no bytes": {header(spec(0x000B, 32, 0x000C, 0)), "0 bytes"},
		"digest too long":       {header(spec(0x000B, 32, 0x000C, 65)), "65 bytes"},
		"vendor data too long":  {header(append(spec(sha256...), 1)), "vendor data"},
		"event cut":             {event(sha256), "ends early"},
		"PCR 24":                {append(header(spec(sha256...)), le(uint32(24), evidence.EventIPL, uint32(1), uint16(0x000B), digest, uint32(0))...), "PCR 24"},
		"no digest":             {event(sha256, uint32(0), uint32(0)), "0 digests"},
		"endless digests":       {event(sha256, uint32(1<<32-1)), "digests for 1"},
		"unknown algorithm":     {event(sha256, uint32(1), uint16(0x000C), digest, uint32(0)), "unknown algorithm"},
		"two SHA-256 digests":   {event(both, uint32(2), uint16(0x000B), digest, uint16(0x000B), digest, uint32(0)), "two SHA-256"},
		"no SHA-256 digest":     {event(both, uint32(2), uint16(0x0004), digest[:20], uint16(0x0004), digest[:20], uint32(0)), "no SHA-256"},
		"digest cut":            {event(sha256, uint32(1), uint16(0x000B), digest[:31]), "ends early"},
		"data cut":              {event(sha256, uint32(1), uint16(0x000B), digest, uint32(2), uint8(0)), "ends early"},
		"endless data":          {event(sha256, uint32(1), uint16(0x000B), digest, uint32(1<<32-1)), "ends early"},
		"too many events":       {appraisetest.Encode(make([]appraise.Event, appraise.MaxEvents+1)), "more than 2048"},
		"too long":              {make([]byte, appraise.MaxEventLog+1), "limit"},
	} {
		events, err := appraise.ParseEventLog(c.log)
		if err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %d events, error %v, want %q", name, len(events), err, c.reason)
		}
	}
	good := event(both, uint32(2), uint16(0x0004), digest[:20], uint16(0x000B), digest, uint32(1), uint8(7))
	if events, err := appraise.ParseEventLog(good); err != nil || len(events) != 1 || events[0].PCR != 4 || !bytes.Equal(events[0].Data, []byte{7}) {
		t.Errorf("%v, %v", events, err)
	}
}

// PCR 0 begins with the locality that started the TPM, if the log says so
// before anything was measured.
func TestStartupLocality(t *testing.T) {
	b := appraisetest.New(t)
	in := inputOf(b, b.Attest(t, nonce, device, exporter))
	locality := appraise.Event{Type: evidence.EventNoAction, Data: []byte("StartupLocality\x00\x03")}
	in.Evidence.EventLog = appraisetest.Encode(append([]appraise.Event{locality}, b.Events...))
	if o := appraise.Appraise(in, now); o.Failure == nil || o.Failure.Step != appraise.StepReplay {
		t.Errorf("locality 3 leads to the registers of locality 0: %v", o.Failure)
	}
	in.Evidence.EventLog = appraisetest.Encode(append(b.Events, locality))
	if o := appraise.Appraise(in, now); o.Failure != nil {
		t.Errorf("a late locality: %v", o.Failure)
	}

	var value identity.Digest
	value[31] = 3
	for _, e := range b.Events {
		if e.PCR == 0 {
			value = identity.Sum(append(value[:], e.Digest[:]...))
		}
	}
	b.Events = append([]appraise.Event{locality}, b.Events...)
	b.Values = map[int]identity.Digest{0: value}
	if o := appraise.Appraise(inputOf(b, b.Attest(t, nonce, device, exporter)), now); o.Failure != nil {
		t.Errorf("started at locality 3: %v", o.Failure)
	}
}
