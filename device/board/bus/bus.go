// Package bus is how firmware reaches the devices of a virtual board: the
// host's side of it is board/virtual. It is a Unix socket, named by the
// environment variable HOLDFAST_BOARD, with one JSON object per line in each
// direction: a Request and its Reply. The TPM is a socket of its own, which
// speaks the TPM's own language.
package bus

import (
	"time"

	"holdfast/device/board"
	"holdfast/identity"
)

// Variable is the environment variable with the socket's path.
const Variable = "HOLDFAST_BOARD"

// MaxLine is the longest line in bytes, in both directions.
const MaxLine = 1 << 20

// MaxEntropy is the most noise one request may ask for, in bytes.
const MaxEntropy = 4096

// The operations.
const (
	OpHello   = "hello"         // -> Hello
	OpRTCNow  = "rtc-now"       // -> Time
	OpRTCSet  = "rtc-set"       // Time ->
	OpArm     = "watchdog-arm"  // Timeout ->
	OpFeed    = "watchdog-feed" // ->
	OpEntropy = "entropy"       // Size -> Noise
	OpReset   = "reset"         // Reason ->
	OpFuses   = "fuses"         // -> SecurityVersion
	OpBurn    = "fuses-burn"    // ->
)

// Request is what the firmware asks of the board.
type Request struct {
	Op      string        `json:"op"`
	Time    time.Time     `json:"time,omitzero"`
	Timeout time.Duration `json:"timeout,omitempty"` // nanoseconds
	Size    int           `json:"size,omitempty"`
	Reason  string        `json:"reason,omitempty"`
}

// Reply is the board's answer. Error is empty when the request was done.
type Reply struct {
	Error string    `json:"error,omitempty"`
	Hello *Hello    `json:"hello,omitempty"`
	Time  time.Time `json:"time,omitzero"`
	Noise []byte    `json:"noise,omitempty"`

	SecurityVersion uint32 `json:"security_version,omitempty"`
}

// Hello says what the board has.
type Hello struct {
	Boot          board.Boot        `json:"boot"`
	TPM           string            `json:"tpm,omitempty"` // path of its socket
	Counters      []uint32          `json:"counters,omitempty"`
	EntropySource string            `json:"entropy_source"`
	Missing       map[string]string `json:"missing,omitempty"`
	Hardware      string            `json:"hardware,omitempty"`
	Slots         *Slots            `json:"slots,omitempty"`
}

// Slots says where the flash is: files that flash.Open opens.
type Slots struct {
	A            string          `json:"a"`
	B            string          `json:"b"`
	Record       string          `json:"record"`
	Size         int64           `json:"size"`        // of a slot, in bytes
	RecordSize   int64           `json:"record_size"` // in bytes
	Sector       int64           `json:"sector"`      // in bytes
	KeyHash      identity.Digest `json:"key_hash"`
	CounterIndex uint32          `json:"counter_index,omitempty"` // NV index; 0: the fuses count
	CounterBase  uint64          `json:"counter_base,omitempty"`
}
