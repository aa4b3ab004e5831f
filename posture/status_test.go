package posture_test

import (
	"testing"

	"holdfast/posture"
)

func TestStatusOf(t *testing.T) {
	live := posture.Facts{Live: true, Seen: true, Demands: true, Standing: posture.Met}
	with := func(f func(*posture.Facts)) posture.Facts { x := live; f(&x); return x }
	tests := []struct {
		name string
		in   posture.Facts
		want posture.Status
	}{
		{"all met", live, posture.Trusted},
		{"some weak", with(func(f *posture.Facts) { f.Standing = posture.Weak }), posture.Degraded},
		{"some unmet", with(func(f *posture.Facts) { f.Standing = posture.Unmet }), posture.Quarantined},
		{"no standing at all", with(func(f *posture.Facts) { f.Standing = "" }), posture.Quarantined},
		{"no demands", with(func(f *posture.Facts) { f.Demands = false }), posture.Connected},
		{"no session", with(func(f *posture.Facts) { f.Live = false }), posture.Offline},
		{"weak and no session", with(func(f *posture.Facts) { f.Live, f.Standing = false, posture.Weak }), posture.Offline},
		{"no demands and no session", with(func(f *posture.Facts) { f.Live, f.Demands = false, false }), posture.Offline},
		{"unmet and no session any more", with(func(f *posture.Facts) { f.Live, f.Standing = false, posture.Unmet }), posture.Quarantined},
		{"unmet, was never here", with(func(f *posture.Facts) { f.Live, f.Seen, f.Standing = false, false, posture.Unmet }), posture.Offline},
		{"failed, was never here", with(func(f *posture.Facts) { f.Live, f.Seen, f.Failed, f.Standing = false, false, true, posture.Unmet }), posture.Quarantined},
		{"unmet in a first session", with(func(f *posture.Facts) { f.Seen, f.Standing = false, posture.Unmet }), posture.Quarantined},
		{"met in a quarantine session", with(func(f *posture.Facts) { f.Confined = true }), posture.Quarantined},
		{"no demands in a quarantine session", with(func(f *posture.Facts) { f.Confined, f.Demands = true, false }), posture.Quarantined},
		{"a quarantine session that ended", with(func(f *posture.Facts) { f.Confined, f.Live = true, false }), posture.Offline},
		{"held", with(func(f *posture.Facts) { f.Held = true }), posture.Quarantined},
		{"held and away", with(func(f *posture.Facts) { f.Held, f.Live = true, false }), posture.Quarantined},
		{"held without demands", with(func(f *posture.Facts) { f.Held, f.Demands = true, false }), posture.Quarantined},
		{"pending", with(func(f *posture.Facts) { f.Pending = true }), posture.Pending},
		{"pending and held", with(func(f *posture.Facts) { f.Pending, f.Held = true, true }), posture.Pending},
		{"refused", with(func(f *posture.Facts) { f.Refused = true }), posture.Refused},
		{"refused and pending", with(func(f *posture.Facts) { f.Refused, f.Pending = true, true }), posture.Refused},
		{"refused and held", with(func(f *posture.Facts) { f.Refused, f.Held = true, true }), posture.Refused},
		{"revoked", with(func(f *posture.Facts) { f.Revoked = true }), posture.Revoked},
		{"revoked and everything else", posture.Facts{Revoked: true, Refused: true, Pending: true, Held: true, Failed: true, Live: true, Confined: true}, posture.Revoked},
		{"nothing known", posture.Facts{}, posture.Offline},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := posture.StatusOf(tt.in); got != tt.want {
				t.Errorf("%+v is %s, want %s", tt.in, got, tt.want)
			}
		})
	}
}
