// Package rollout decides how a release reaches a fleet: which devices are
// offered it when, what counts as success and as failure, and when to halt.
//
// The devices of a plan stand in an order that follows from the rollout's id
// and theirs. A first few are offered the release (the canary), then more, step
// by step. Only a device that was really offered it counts towards a step, so
// devices that are away hold nothing up, and nothing goes to more devices than
// the step allows. A step follows when every device that was offered the
// release is decided, few enough have failed, and nothing has changed for the
// time of soak.
//
// A device has succeeded when it says that it has committed the release and its
// attestation shows the digest that the signers state. Whatever it says, what
// it installs is what signed metadata states: here is decided who is asked.
//
// It is pure: plan, devices and time come from the caller.
package rollout

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
)

// Percent is a share in hundredths of a percent: 250 is 2.5 %.
type Percent int32

// All is the share of everything.
const All Percent = 100_00

// ParsePercent reads "5%" or "2.5%", from 0 to 100.
func ParsePercent(s string) (Percent, error) {
	number, ok := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || strings.ContainsAny(number, "eExXpPinN_+-") {
		return 0, fmt.Errorf("share %.20q: want a percentage as 5%% or 2.5%%", s)
	}
	return PercentOf(f)
}

// PercentOf rounds a number of percent, from 0 to 100.
func PercentOf(f float64) (Percent, error) {
	if !(f >= 0 && f <= 100) {
		return 0, fmt.Errorf("share of %v %%: want 0 to 100", f)
	}
	return Percent(f*100 + 0.5), nil
}

// Float returns the number of percent.
func (p Percent) Float() float64 { return float64(p) / 100 }

// String returns "2.5%".
func (p Percent) String() string { return strconv.FormatFloat(p.Float(), 'f', -1, 64) + "%" }

// Of returns how many of n the share is, rounded up.
func (p Percent) Of(n int) int {
	return int((int64(p)*int64(n) + int64(All) - 1) / int64(All))
}

// The defaults and bounds of a plan.
const (
	DefaultCanary      Percent = 5_00
	DefaultStep        Percent = 25_00
	DefaultHaltOn      Percent = 2_00
	DefaultSoak                = 10 * time.Minute
	DefaultDeadline            = 72 * time.Hour
	DefaultSilentAfter         = 30 * time.Minute

	MaxSoak     = 30 * 24 * time.Hour
	MinDeadline = time.Minute
	MaxDeadline = 90 * 24 * time.Hour
	MinSilent   = 10 * time.Second
	MaxGroups   = 64
	MaxDevices  = 10_000 // that are named one by one
	MaxWindows  = 16
	MaxReason   = 400 // bytes of what an operator or a device says
)

// MinDecided is how many devices have to be decided before their failures are
// taken as a rate. Fewer can halt a rollout only by being too many for the
// whole step.
const MinDecided = 20

// Plan is what an operator has asked for. It does not change.
type Plan struct {
	ID      string            `json:"id"`
	Product release.Product   `json:"product"`
	Version mcuboot.Version   `json:"version"`
	Groups  []identity.Group  `json:"groups"`            // whose devices; of named devices, those that they are in
	Devices []identity.Device `json:"devices,omitempty"` // these and no others; empty: all of the groups

	Canary Percent       `json:"canary"` // of the devices, at least one
	Step   Percent       `json:"step"`   // by which each wave is larger than the one before
	Soak   time.Duration `json:"soak"`   // for which a wave has to stay well
	HaltOn Percent       `json:"halt_on"`
	// Deadline is how long a device has from its offer on; and how long a wave
	// waits for devices that do not come.
	Deadline time.Duration    `json:"deadline"`
	Windows  []release.Window `json:"windows,omitempty"`
	// SilentAfter is after which time nothing heard of a device that was offered
	// the release is a failure; and how long one that says that it has committed
	// may leave it unproved.
	SilentAfter time.Duration `json:"silent_after"`
	// OlderUnsafe offers the release to devices that run a newer one too. They
	// refuse it: that is what it is for, to see that they do.
	OlderUnsafe bool `json:"older_unsafe,omitempty"`

	Measured identity.Digest `json:"measured"` // what a device that runs the release attests
}

// Check says what is wrong with a plan.
func (p Plan) Check() error {
	switch {
	case p.ID == "" || p.Measured == (identity.Digest{}):
		return fmt.Errorf("a rollout needs an id and the digest that its release measures")
	case len(p.Groups) == 0 || len(p.Groups) > MaxGroups:
		return fmt.Errorf("%d groups: want 1 to %d", len(p.Groups), MaxGroups)
	case len(p.Devices) > MaxDevices:
		return fmt.Errorf("%d devices: at most %d can be named; name their group", len(p.Devices), MaxDevices)
	case p.Canary <= 0 || p.Canary > All || p.Step <= 0 || p.Step > All:
		return fmt.Errorf("canary of %s and step of %s: want more than 0%% to 100%%", p.Canary, p.Step)
	case p.HaltOn < 0 || p.HaltOn >= All:
		return fmt.Errorf("halt on %s: want 0%% to less than 100%%", p.HaltOn)
	case p.Soak < 0 || p.Soak > MaxSoak:
		return fmt.Errorf("soak of %s: want 0 to %s", p.Soak, MaxSoak)
	case p.Deadline < MinDeadline || p.Deadline > MaxDeadline:
		return fmt.Errorf("deadline of %s: want %s to %s", p.Deadline, MinDeadline, MaxDeadline)
	case p.SilentAfter < MinSilent || p.SilentAfter > MaxDeadline:
		return fmt.Errorf("silent after %s: want %s to %s", p.SilentAfter, MinSilent, MaxDeadline)
	case len(p.Windows) > MaxWindows:
		return fmt.Errorf("%d maintenance windows: at most %d", len(p.Windows), MaxWindows)
	}
	for _, w := range p.Windows {
		if err := checkWindow(w); err != nil {
			return err
		}
	}
	return nil
}

// ParseWindow reads "22:00-04:00".
func ParseWindow(s string) (release.Window, error) {
	from, to, _ := strings.Cut(s, "-")
	w := release.Window{From: from, To: to}
	return w, checkWindow(w)
}

func checkWindow(w release.Window) error {
	for _, t := range []string{w.From, w.To} {
		if at, err := time.Parse("15:04", t); err != nil || at.Format("15:04") != t {
			return fmt.Errorf("maintenance window %.20q-%.20q: want times of day (UTC) as 22:00-04:00", w.From, w.To)
		}
	}
	if w.From == w.To {
		return fmt.Errorf("maintenance window %s-%s: it has no length", w.From, w.To)
	}
	return nil
}

// Rank is a device's place in the order of a rollout: those with lower numbers
// come first. It is below 1<<63.
func Rank(id string, d identity.Device) int64 {
	h := fnv.New64a()
	h.Write([]byte(id + "\n" + string(d)))
	return int64(mix(h.Sum64()) >> 1)
}

// mix spreads what FNV leaves in the low bits of ids that end alike over all of
// them (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// Waves returns how many waves a plan has.
func (p Plan) Waves() int {
	return 1 + int((All-p.Canary+p.Step-1)/p.Step)
}

// Limit returns to how many of n devices a wave may have offered the release;
// the first wave is 0.
func (p Plan) Limit(wave, n int) int {
	share := min(int64(p.Canary)+int64(wave)*int64(p.Step), int64(All))
	return min(max(Percent(share).Of(n), 1), n)
}

// Covers reports whether a device of a group is one of the plan's.
func (p Plan) Covers(d identity.Device, g identity.Group) bool {
	if len(p.Devices) > 0 {
		return slices.Contains(p.Devices, d)
	}
	return slices.Contains(p.Groups, g)
}
