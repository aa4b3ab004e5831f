package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"unicode/utf16"

	"holdfast/identity"
)

// Event types of the TCG PC Client Platform Firmware Profile, version 1.06,
// section 10.4.1, as far as a virtual board's log has them.
const (
	EventPostCode       uint32 = 0x00000001          // EV_POST_CODE
	EventNoAction       uint32 = 0x00000003          // EV_NO_ACTION
	EventSeparator      uint32 = 0x00000004          // EV_SEPARATOR
	EventAction         uint32 = 0x00000005          // EV_ACTION
	EventTag            uint32 = 0x00000006          // EV_EVENT_TAG
	EventCRTMVersion    uint32 = 0x00000008          // EV_S_CRTM_VERSION
	EventIPL            uint32 = 0x0000000D          // EV_IPL
	EventVariableConfig uint32 = efiEventBase + 0x01 // EV_EFI_VARIABLE_DRIVER_CONFIG

	efiEventBase uint32 = 0x80000000
)

// The registers that a virtual board measures into.
const (
	PCRBootROM   = 0  // the boot ROM
	PCRFirmware  = 4  // refused slots and the firmware image that runs
	PCRPolicy    = 7  // the fuses
	PCRManifests = 11 // workload manifests
)

// The variables that a virtual board measures into PCRPolicy.
const (
	VariableVerification = "Verification" // one byte: 1 when the boot ROM verifies images
	VariableDebugLock    = "DebugLock"    // one byte: 1 when the debug port is closed
	VariableLifecycle    = "Lifecycle"    // text, as "deployed"
	VariableKeyHash      = "KeyHash"      // SHA-256 of the public key that signs images

	// A board whose minimum security version is in its TPM measures both of
	// these, one of a board without a TPM neither. The minimum is what the
	// counter has grown since the board was made: counter - base.
	VariableCounterIndex = "SecurityCounterIndex" // four bytes, big-endian: NV index of the counter
	VariableCounterBase  = "SecurityCounterBase"  // eight bytes, big-endian: the counter's value at security version 0
)

// BoardGUID is the vendor GUID of the variables above,
// 7f5c1f6e-2b0a-4d52-9a53-68f1a7d0c4b1, in its UEFI (mixed-endian) encoding.
var BoardGUID = [16]byte{
	0x6e, 0x1f, 0x5c, 0x7f, 0x0a, 0x2b, 0x52, 0x4d,
	0x9a, 0x53, 0x68, 0xf1, 0xa7, 0xd0, 0xc4, 0xb1,
}

// IPL is the data of a virtual board's EV_IPL event, as JSON. The digest of
// that event is the image's, so nothing vouches for these two.
type IPL struct {
	Slot    string `json:"slot"`
	Version string `json:"version"`
}

// EventLog writes a TCG crypto-agile event log with one SHA-256 digest per
// event (TCG PC Client Platform Firmware Profile, section 10.2). The zero
// value is an empty log.
type EventLog struct {
	buf bytes.Buffer
}

// specID is the Spec ID event (section 10.4.5.1), which comes first, in the
// old form, and says which digests follow: a signature, platform class 0,
// version 2.0 errata 0, UINTN of 64 bits, one algorithm: SHA-256 of 32 bytes,
// no vendor data.
const specID = "Spec ID Event03\x00" + "\x00\x00\x00\x00" + "\x00\x02\x00\x02" +
	"\x01\x00\x00\x00" + "\x0b\x00\x20\x00" + "\x00"

const algSHA256 = 0x000B

// header writes a TCG_PCR_EVENT with a zero SHA-1 digest.
func (l *EventLog) header() {
	l.u32(0) // PCR
	l.u32(EventNoAction)
	l.buf.Write(make([]byte, 20))
	l.u32(uint32(len(specID)))
	l.buf.WriteString(specID)
}

// Append adds an event whose digest is the SHA-256 of its data, and returns
// the digest, which the caller extends into the register.
func (l *EventLog) Append(pcr int, kind uint32, data []byte) identity.Digest {
	d := identity.Digest(sha256.Sum256(data))
	l.AppendDigest(pcr, kind, d, data)
	return d
}

// AppendDigest adds an event whose digest is of something else than its data
// (TCG_PCR_EVENT2).
func (l *EventLog) AppendDigest(pcr int, kind uint32, digest identity.Digest, data []byte) {
	if l.buf.Len() == 0 {
		l.header()
	}
	l.u32(uint32(pcr))
	l.u32(kind)
	l.u32(1) // digests
	l.buf.Write(binary.LittleEndian.AppendUint16(nil, algSHA256))
	l.buf.Write(digest[:])
	l.u32(uint32(len(data)))
	l.buf.Write(data)
}

// Bytes returns the log, which later events do not change.
func (l *EventLog) Bytes() []byte { return bytes.Clone(l.buf.Bytes()) }

func (l *EventLog) u32(v uint32) {
	l.buf.Write(binary.LittleEndian.AppendUint32(nil, v))
}

// UTF16 returns s as little-endian UTF-16 with a terminating zero, the form
// of EV_S_CRTM_VERSION.
func UTF16(s string) []byte {
	return append(utf16LE(s), 0, 0)
}

func utf16LE(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

// Variable returns the data of an EV_EFI_VARIABLE_DRIVER_CONFIG event for a
// variable of the board: UEFI_VARIABLE_DATA under BoardGUID (section 10.2.6).
func Variable(name string, value []byte) []byte {
	u := utf16LE(name)
	out := bytes.Clone(BoardGUID[:])
	out = binary.LittleEndian.AppendUint64(out, uint64(len(u)/2))
	out = binary.LittleEndian.AppendUint64(out, uint64(len(value)))
	out = append(out, u...)
	return append(out, value...)
}
