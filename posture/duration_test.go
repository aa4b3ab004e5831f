package posture_test

import (
	"encoding/json"
	"testing"
	"time"

	"holdfast/posture"
)

func TestDurationInJSON(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`"24h"`: 24 * time.Hour, `"90s"`: 90 * time.Second, `"1h30m0s"`: 90 * time.Minute, `"0s"`: 0, `"0"`: 0,
	} {
		var d posture.Duration
		if err := json.Unmarshal([]byte(text), &d); err != nil || time.Duration(d) != want {
			t.Errorf("%s = %v, %v, want %v", text, time.Duration(d), err, want)
		}
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back posture.Duration
		if err := json.Unmarshal(b, &back); err != nil || back != d {
			t.Errorf("%s comes back as %v, %v", b, time.Duration(back), err)
		}
	}
}

func TestDurationRefuses(t *testing.T) {
	for why, text := range map[string]string{
		"negative": `"-1s"`, "no unit": `"24"`, "days": `"1d"`, "empty": `""`, "a number": `86400`, "too large": `"9999999h"`,
	} {
		d := posture.Duration(time.Minute)
		if err := json.Unmarshal([]byte(text), &d); err == nil || time.Duration(d) != time.Minute {
			t.Errorf("%s: %s = %v, %v, want an error and no change", why, text, time.Duration(d), err)
		}
	}
}
