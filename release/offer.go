package release

import (
	"time"

	"holdfast/mcuboot"
)

// Offer is what the hub wants a device to run: $hub/update. It is a hint and
// proves nothing: the device installs only what signed metadata says, and
// never goes back. The zero Offer means: stay as you are.
type Offer struct {
	Rollout  string          `json:"rollout,omitempty"` // id of the rollout
	Product  Product         `json:"product,omitempty"`
	Version  mcuboot.Version `json:"version,omitzero"`
	Deadline time.Time       `json:"deadline,omitzero"`  // the device starts its trial by then or not at all
	Windows  []Window        `json:"windows,omitempty"`  // when a trial may start; empty: at any time
	Attempt  int             `json:"attempt,omitempty"`  // grows when an operator has a failed device try again
	Unpaused bool            `json:"unpaused,omitempty"` // false: download nothing and start no trial now
}

// Window is a maintenance window: each day between two times of day, UTC.
type Window struct {
	From string `json:"from"` // "22:00"
	To   string `json:"to"`   // "04:00"; the next day when it is not after From
}

// State is where a device's updater stands.
type State string

// The states of an updater, in the order of an update.
const (
	Idle        State = "idle"
	Downloading State = "downloading"
	Verifying   State = "verifying"
	Staged      State = "staged"     // verified in the inactive slot; waits for its window
	Trying      State = "trying"     // the trial has been asked for or boots
	Confirming  State = "confirming" // the trial runs and its health is checked
	Committed   State = "committed"
	Reverting   State = "reverting" // the trial failed; the old image boots or has booted
)

// Progress is what a device reports of an update: $hub/update/progress. The
// hub takes it as a claim: success is what is attested.
type Progress struct {
	Rollout string          `json:"rollout,omitempty"` // of the offer
	Attempt int             `json:"attempt,omitempty"` // of the offer
	Product Product         `json:"product"`
	Version mcuboot.Version `json:"version"` // of the update
	State   State           `json:"state"`
	Bytes   int64           `json:"bytes,omitempty"`  // downloaded so far
	Length  int64           `json:"length,omitempty"` // to download: of the delta, where one is used
	Delta   bool            `json:"delta,omitempty"`
	Reason  string          `json:"reason,omitempty"` // why it was refused or reverted
	Attack  Attack          `json:"attack,omitempty"` // what the refusal defends against, where it has a name
	Reset   string          `json:"reset,omitempty"`  // the cause of the reset that ended a trial
	Final   bool            `json:"final,omitempty"`  // nothing more comes of this attempt
}

// MaxProgress is the longest report in bytes.
const MaxProgress = 8 << 10
