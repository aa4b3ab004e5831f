package operator_test

import (
	"testing"
	"time"

	"holdfast/mcuboot"
	"holdfast/operator"
)

func TestLate(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	behind := func(d time.Duration) *operator.Firmware {
		return &operator.Firmware{Behind: mcuboot.Version{Major: 1, Minor: 4}, BehindSince: now.Add(-d)}
	}
	for _, c := range []struct {
		f    *operator.Firmware
		want string
	}{
		{nil, ""},
		{&operator.Firmware{}, ""},
		{behind(0), "less than a day behind 1.4.0"},
		{behind(-time.Hour), "less than a day behind 1.4.0"}, // clocks differ
		{behind(-100 * time.Hour), "less than a day behind 1.4.0"},
		{behind(24*time.Hour - 1), "less than a day behind 1.4.0"},
		{behind(24 * time.Hour), "1 day behind 1.4.0"},
		{behind(48 * time.Hour), "2 days behind 1.4.0"},
		{behind(1000 * time.Hour), "41 days behind 1.4.0"},
	} {
		if got := c.f.Late(now); got != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}
}
