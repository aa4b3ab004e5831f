package operator

import (
	"time"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
)

// Rollout is a release on its way to devices.
type Rollout struct {
	ID      string            `json:"id"`
	Product release.Product   `json:"product"`
	Version mcuboot.Version   `json:"version"`
	Groups  []identity.Group  `json:"groups" doc:"whose devices it is for"`
	Devices []identity.Device `json:"devices,omitempty" doc:"these and no others; absent: all of the groups"`

	Stage   string    `json:"stage" enum:"planning,running,paused,halted,finished,superseded"`
	Reason  string    `json:"reason" doc:"why it is in this stage"`
	By      string    `json:"by" doc:"who started it"`
	Started time.Time `json:"started"`
	Changed time.Time `json:"changed" doc:"when it came into this stage or wave"`
	Ended   time.Time `json:"ended,omitzero"`

	Wave   int       `json:"wave" doc:"1: the canary"`
	Waves  int       `json:"waves"`
	Limit  int       `json:"limit" doc:"to how many devices it may be offered in this wave"`
	Soaked time.Time `json:"soaked,omitzero" doc:"when the wave has been well for long enough; absent: it is not done"`

	RolloutPlan
	Counts RolloutCounts  `json:"counts"`
	Causes map[string]int `json:"causes" doc:"how many devices failed or are excluded, by cause"`
	ETag   string         `json:"etag" doc:"changes with stage and wave, not with the counts"`
}

// RolloutPlan is how a rollout goes on.
type RolloutPlan struct {
	Canary      float64          `json:"canary_percent,omitempty" minimum:"0" maximum:"100" doc:"of the devices that are offered it first, at least one; default 5"`
	Step        float64          `json:"step_percent,omitempty" minimum:"0" maximum:"100" doc:"of the devices by which each wave is larger than the one before; default 25"`
	Soak        int64            `json:"soak_seconds" minimum:"0" maximum:"2592000" doc:"for which a wave has to stay well"`
	HaltOn      float64          `json:"halt_on_percent" minimum:"0" maximum:"99.99" doc:"of failed devices, beyond which it halts"`
	Deadline    int64            `json:"deadline_seconds,omitempty" minimum:"0" maximum:"7776000" doc:"that a device has from its offer on; default 72 h"`
	SilentAfter int64            `json:"silent_after_seconds,omitempty" minimum:"0" maximum:"7776000" doc:"after which a device of which nothing is heard has failed; default 30 min"`
	Windows     []release.Window `json:"windows,omitempty" maxItems:"16" doc:"when devices may start their trial, UTC; absent: at any time"`
	OlderUnsafe bool             `json:"older_unsafe,omitempty" doc:"offer it to devices that run a newer release too: a drill, they refuse it"`
}

// RolloutCounts is how many devices stand where.
type RolloutCounts struct {
	Waiting    int `json:"waiting" doc:"their turn has not come, or they are away"`
	Offered    int `json:"offered"`
	Updating   int `json:"updating"`
	Committed  int `json:"committed" doc:"they say so; their attestation does not show it yet"`
	Done       int `json:"done" doc:"and their attestation shows it"`
	Failed     int `json:"failed"`
	Excluded   int `json:"excluded" doc:"they cannot take it; they hold nothing up"`
	Superseded int `json:"superseded" doc:"another rollout has them"`
}

// StartRollout begins a rollout: of the groups' devices, or of some devices.
type StartRollout struct {
	Product release.Product   `json:"product"`
	Version mcuboot.Version   `json:"version"`
	Groups  []identity.Group  `json:"groups,omitempty" maxItems:"64" doc:"all devices of these groups"`
	Devices []identity.Device `json:"devices,omitempty" maxItems:"10000" doc:"these devices, in place of groups"`
	RolloutPlan
}

// RolloutAct is what an operator does to a rollout: pause, resume, halt, retry.
type RolloutAct struct {
	Reason  string            `json:"reason,omitempty" maxLength:"400" doc:"why, for the ledger"`
	Devices []identity.Device `json:"devices,omitempty" maxItems:"1000" doc:"with retry: these devices; absent: all that failed"`
}

// RolloutQuery asks for rollouts, the newest first.
type RolloutQuery struct {
	Product release.Product
	Stage   string
	Live    bool           // those that are not over
	Group   identity.Group // those for this group
	After   string         // the ID of the last one seen
	Limit   int            // default 50, at most 500
	Groups  []identity.Group
}

// RolloutDevice is where a device stands in a rollout.
type RolloutDevice struct {
	Device  identity.Device `json:"device"`
	Group   identity.Group  `json:"group"`
	State   string          `json:"state" enum:"waiting,offered,updating,committed,done,failed,excluded,superseded"`
	Cause   string          `json:"cause,omitempty" doc:"of a failure: refused, reverted, crashed, silent, overdue, unproved; of an exclusion: revoked, no-attestation, newer, other-product, no-updater"`
	Reason  string          `json:"reason,omitempty"`
	Step    string          `json:"step,omitempty" doc:"of its updater, as it last reported"`
	Bytes   int64           `json:"bytes,omitempty" doc:"downloaded so far"`
	Length  int64           `json:"length,omitempty" doc:"of the download"`
	Attempt int             `json:"attempt,omitempty" doc:"how often an operator had it try again"`
	Offered time.Time       `json:"offered,omitzero"`
	Changed time.Time       `json:"changed"`
}

// DeviceRollout is a rollout that a device is in, and where the device stands.
type DeviceRollout struct {
	Rollout string          `json:"rollout" doc:"its id"`
	Product release.Product `json:"product"`
	Version mcuboot.Version `json:"version"`
	Stage   string          `json:"stage" enum:"planning,running,paused,halted,finished,superseded" doc:"of the rollout"`
	RolloutDevice
}

// RolloutDeviceQuery asks for devices of a rollout, by id.
type RolloutDeviceQuery struct {
	State string
	After identity.Device
	Limit int // default 100, at most 1000
}
