package posture

import (
	"fmt"
	"time"
)

// Duration is a time.Duration whose text form is Go's ("24h", "90s").
type Duration time.Duration

// MarshalText returns the duration as "24h0m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads "24h", refusing negative durations.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("duration %q: want a form like 24h or 90s", b)
	}
	*d = Duration(v)
	return nil
}
