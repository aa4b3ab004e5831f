// Package logs has the form of the log records and crash reports that a device
// ships to its hub on $hub/logs.
package logs

import (
	"encoding/json"
	"fmt"
	"time"
)

// Limits of one shipment. A record is cut to MaxMessage by the device; the hub
// refuses what exceeds the limits.
const (
	MaxRecords = 256
	MaxMessage = 4 << 10 // bytes of Message
	MaxBatch   = 128 << 10
)

// Record is one log line or crash of a device. Seq grows by one for each
// record the device ever wrote, over restarts; a gap says what its bounded
// spool had to drop. Time is the device's clock and may be zero (unknown).
type Record struct {
	Seq     uint64            `json:"seq"`
	Time    time.Time         `json:"time,omitzero"`
	Boot    uint64            `json:"boot"`  // counts the device's boots
	Level   string            `json:"level"` // debug, info, warn, error, crash
	Message string            `json:"message"`
	Attrs   map[string]string `json:"attrs,omitempty"`
}

// Parse reads a shipment and checks its limits and that its sequence numbers
// ascend.
func Parse(b []byte) ([]Record, error) {
	if len(b) > MaxBatch {
		return nil, fmt.Errorf("log batch has %d bytes, at most %d are allowed", len(b), MaxBatch)
	}
	var rs []Record
	if err := json.Unmarshal(b, &rs); err != nil {
		return nil, fmt.Errorf("log batch: %w", err)
	}
	if len(rs) == 0 || len(rs) > MaxRecords {
		return nil, fmt.Errorf("log batch has %d records, want 1 to %d", len(rs), MaxRecords)
	}
	for i, r := range rs {
		if len(r.Message) > MaxMessage {
			return nil, fmt.Errorf("log record %d: message has %d bytes, at most %d are allowed", i, len(r.Message), MaxMessage)
		}
		if i > 0 && r.Seq <= rs[i-1].Seq {
			return nil, fmt.Errorf("log record %d: sequence number %d does not follow %d", i, r.Seq, rs[i-1].Seq)
		}
	}
	return rs, nil
}
