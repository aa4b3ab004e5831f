package operator

import (
	"encoding/json"
	"time"

	"holdfast/identity"
	"holdfast/posture"
)

// FleetQuery asks for a page of devices. Empty fields select all.
type FleetQuery struct {
	Group  identity.Group
	Status posture.Status
	Search string // part of the id, in any case
	Sort   string // id (default), group, status, release, seen; a "-" in front turns it round
	After  string // FleetPage.Next of the page before
	Limit  int    // default 50, at most 500
	// Groups limits what is seen at all; nil: nothing is hidden.
	Groups []identity.Group
}

// FleetPage is some of the devices that a query selects.
type FleetPage struct {
	Devices []Summary              `json:"devices"`
	Next    string                 `json:"next,omitempty" doc:"asks for the page after this; absent: this is the last"`
	Total   int                    `json:"total" doc:"how many the query selects"`
	Counts  map[posture.Status]int `json:"counts" doc:"how many the query selects of each status, whatever status it asks for"`
}

// Summary is a device in a list.
type Summary struct {
	ID        identity.Device `json:"id"`
	Group     identity.Group  `json:"group"`
	Status    posture.Status  `json:"status"`
	Reason    string          `json:"reason,omitempty"`
	Release   string          `json:"release,omitempty" doc:"name and version of the firmware that it attested"`
	Firmware  *Firmware       `json:"firmware,omitempty" doc:"that firmware, held against signed releases"`
	Met       int             `json:"met" doc:"demands of its policy that are met"`
	Weak      int             `json:"weak"`
	Unmet     int             `json:"unmet"`
	Pass      int             `json:"pass" doc:"measures that pass"`
	Fail      int             `json:"fail"`
	Unknown   int             `json:"unknown"`
	LastSeen  time.Time       `json:"last_seen,omitzero"`
	Connected bool            `json:"connected"`
	NotAfter  time.Time       `json:"not_after,omitzero" doc:"when its newest operational certificate expires"`
}

// Issued is a certificate in a device's history.
type Issued struct {
	Serial    string    `json:"serial"`
	Class     string    `json:"class" doc:"birth or operational"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Revoked   time.Time `json:"revoked,omitzero"`
	Reason    string    `json:"reason,omitempty"`
}

// Session is a connection that a device has, or had.
type Session struct {
	ID     string    `json:"id"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended,omitzero" doc:"absent: it is open"`
	Remote string    `json:"remote"`
	TLS    string    `json:"tls" doc:"version, suite and key exchange"`
	Mode   string    `json:"mode"`
	Reason string    `json:"reason,omitempty" doc:"why it ended"`
}

// PolicyCheck asks what a policy would do to a group, without setting it.
type PolicyCheck struct {
	Group  identity.Group  `json:"group,omitempty" doc:"absent: all groups"`
	Policy json.RawMessage `json:"policy,omitempty" doc:"a policy in JSON"`
	Text   string          `json:"text,omitempty" doc:"a policy in its text form"`
}

// PolicyEffect says what a policy would do. Changes lists at most some of them.
type PolicyEffect struct {
	Policy      posture.Policy `json:"policy"`
	Devices     int            `json:"devices" doc:"how many were looked at"`
	Gain        int            `json:"gain" doc:"would be better off: renewal, or its full lifetime"`
	Shorter     int            `json:"shorter" doc:"would renew for the short lifetime alone"`
	Lose        int            `json:"lose" doc:"would lose renewal"`
	Quarantined int            `json:"quarantined" doc:"have a session now and would be quarantined at once"`
	Unchanged   int            `json:"unchanged"`
	Changes     []PolicyChange `json:"changes" doc:"the worst first"`
	Left        int            `json:"left,omitempty" doc:"changes that are not listed"`
}

// PolicyChange is what a policy would do to one device, and why.
type PolicyChange struct {
	Device  identity.Device  `json:"device"`
	Group   identity.Group   `json:"group"`
	From    posture.Standing `json:"from"`
	To      posture.Standing `json:"to"`
	Status  posture.Status   `json:"status" doc:"its status now"`
	Becomes posture.Status   `json:"becomes"`
	Reasons []string         `json:"reasons"`
}

// Alert says that a device's status changed in a way that somebody should know.
type Alert struct {
	ID           string          `json:"id"`
	Time         time.Time       `json:"time"`
	Device       identity.Device `json:"device,omitempty" doc:"absent: one that has no id yet"`
	Group        identity.Group  `json:"group,omitempty"`
	Kind         string          `json:"kind" enum:"quarantined,degraded,revoked,refused,pending,offline,expiring,cloned,halted,withdrawn,rollback,ending" doc:"what it is about; a device has one open alert of each, halted is of a rollout, ending of signed metadata"`
	Severity     string          `json:"severity" enum:"info,warning,critical"`
	From         posture.Status  `json:"from,omitempty"`
	To           posture.Status  `json:"to,omitempty"`
	Reason       string          `json:"reason"`
	Count        int             `json:"count" doc:"how often it came up"`
	Last         time.Time       `json:"last" doc:"when it last came up"`
	Cleared      time.Time       `json:"cleared,omitzero" doc:"when the device was well again"`
	Acknowledged time.Time       `json:"acknowledged,omitzero"`
	By           string          `json:"by,omitempty" doc:"who acknowledged it"`
}

// AlertQuery asks for alerts, the newest first.
type AlertQuery struct {
	Group  identity.Group
	Device identity.Device
	Open   bool   // neither cleared nor acknowledged
	After  string // the ID of the last one seen
	Limit  int    // default 50, at most 500
	Groups []identity.Group
}

// Series is a quantity over time: Values[i] is of the Step that begins at
// Start+i*Step. A gap, when the hub was not running, is null.
type Series struct {
	Name   string     `json:"name" doc:"connections, messages, pass, fail, unknown; or messages.KIND, devices.STATUS"`
	Unit   string     `json:"unit"`
	Start  time.Time  `json:"start"`
	Step   int64      `json:"step_seconds"`
	Values []*float64 `json:"values"`
}
