package evidence

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"holdfast/identity"
	"holdfast/measure"
)

// NonceSize is the size of an attestation nonce in bytes.
const NonceSize = 32

// ExporterLabel and ExporterSize are RFC 9266's tls-exporter channel binding.
const (
	ExporterLabel = "EXPORTER-Channel-Binding"
	ExporterSize  = 32
)

// Nonce answers POST /attest/nonce and $hub/attest/nonce: single use, bound to
// the authenticated device and to this TLS session.
type Nonce struct {
	Nonce   []byte    `json:"nonce"`
	Expires time.Time `json:"expires"`
}

// Attestation is the Evidence of one appraisal: POST /attest/evidence and
// $hub/attest/evidence. Everything signed in it has Binding as its qualifying
// data.
type Attestation struct {
	Nonce    []byte          `json:"nonce"`
	Quote    Certification   `json:"quote"` // TPMS_ATTEST of type QUOTE
	PCRs     []PCR           `json:"pcrs"`  // the quoted registers, SHA-256 bank
	EventLog []byte          `json:"event_log"`
	Counters []Counter       `json:"counters,omitempty"`
	NextKey  *CertifiedKey   `json:"next_key,omitempty"`
	Claims   json.RawMessage `json:"claims"` // Claims, the exact bytes that Binding covers
}

// PCR is the value of one platform configuration register.
type PCR struct {
	Index  int             `json:"index"`
	SHA256 identity.Digest `json:"sha256"`
}

// Counter is an NV counter certified by TPM2_NV_Certify.
type Counter struct {
	Public  []byte        `json:"public"` // TPMS_NV_PUBLIC
	Certify Certification `json:"certify"`
}

// CertifiedKey is a key that the AK says lives in the same TPM.
type CertifiedKey struct {
	Public  []byte        `json:"public"` // TPMT_PUBLIC
	Certify Certification `json:"certify"`
}

// Binding is the qualifying data of every signature in an Attestation: it ties
// the evidence to the nonce, the device, the TLS session (RFC 9266 exporter)
// and the claims, so that it can be neither replayed nor relayed. nonce and
// exporter have 32 bytes each, so the concatenation is unambiguous.
func Binding(nonce []byte, id identity.Device, exporter []byte, claims []byte) identity.Digest {
	h := sha256.New()
	h.Write([]byte("holdfast-attest-1"))
	h.Write(nonce)
	h.Write([]byte(id))
	h.Write(exporter)
	c := sha256.Sum256(claims)
	h.Write(c[:])
	return identity.Digest(h.Sum(nil))
}

// Result is the Attestation Result that answers an Attestation. Rows are what
// this appraisal alone established; the device's whole posture arrives on
// $hub/posture.
type Result struct {
	Time     time.Time     `json:"time"`
	Verified bool          `json:"verified"` // signature, binding and log hold
	Reason   string        `json:"reason,omitempty"`
	Rows     []measure.Row `json:"rows"`
}

// Claims are what a device says of itself: nobody has verified them.
type Claims struct {
	Runtime      string     `json:"runtime"`       // version of the device runtime
	Clock        string     `json:"clock"`         // unknown, floor or rtc
	Time         *time.Time `json:"time"`          // the device's clock, null when unknown
	Entropy      Entropy    `json:"entropy"`       // health of the raw source
	Acceleration []string   `json:"acceleration"`  // features detected and used, such as aes, sha, tpm
	Watchdog     Watchdog   `json:"watchdog"`      // the watchdog and the checks that gate its feeding
	Reset        string     `json:"reset_cause"`   // power-on, watchdog, requested, unknown
	Firmware     Firmware   `json:"firmware"`      // what the runtime believes runs
	LogsDropped  uint64     `json:"logs_dropped"`  // records the bounded spool had to drop
	MemoryRWX    bool       `json:"memory_rwx"`    // a writable-and-executable mapping exists
	DebuggerSeen bool       `json:"debugger_seen"` // something traces the runtime
}

// Entropy reports the SP 800-90B health tests on the raw source.
type Entropy struct {
	Source             string `json:"source"`
	Samples            int    `json:"samples"`
	RepetitionCount    bool   `json:"repetition_count"`    // section 4.4.1 passed
	AdaptiveProportion bool   `json:"adaptive_proportion"` // section 4.4.2 passed
}

// Watchdog reports the watchdog.
type Watchdog struct {
	Armed   bool            `json:"armed"`
	Timeout int             `json:"timeout_seconds"`
	Checks  map[string]bool `json:"checks"` // the named checks of the last round
}

// Firmware reports what the runtime believes runs.
type Firmware struct {
	Digest  string   `json:"digest"` // hexadecimal SHA-256 of the booted image
	Slot    string   `json:"slot"`
	Version string   `json:"version"`
	Refused []string `json:"refused,omitempty"` // slots the boot ROM refused, with the reason
}
