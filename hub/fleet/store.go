package fleet

import (
	"context"
	"time"

	"holdfast/birth"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
	"holdfast/release"
)

// Store keeps the registry. Each Save is one transaction: the thing and the
// events that its change makes are durable together, or neither is. What is
// not there is a fault of kind NotFound; a digest that another device has
// already is a Conflict.
type Store interface {
	GroupStore
	DeviceStore
	OutlineStore
	ArrivalStore
	ReleaseStore
	Outbox
}

// GroupStore keeps groups and registered authorities.
type GroupStore interface {
	Groups(ctx context.Context) ([]operator.Group, error)
	SaveGroup(ctx context.Context, g operator.Group, es []Event) error
	CAs(ctx context.Context) ([]operator.CA, error)
	SaveCA(ctx context.Context, ca operator.CA, es []Event) error
}

// DeviceStore keeps devices.
type DeviceStore interface {
	Device(ctx context.Context, id identity.Device) (Record, error)
	DeviceByEK(ctx context.Context, ek identity.Digest) (Record, error)
	DeviceByToken(ctx context.Context, hash identity.Digest) (Record, error)
	Devices(ctx context.Context, g identity.Group) ([]Record, error) // all groups when g is empty; by id
	AddDevice(ctx context.Context, r Record, es []Event) error       // Conflict when the id is taken
	SaveDevice(ctx context.Context, r Record, es []Event) error
}

// OutlineStore keeps the outline of each device. AddDevice, SaveDevice and
// AcceptArrival write it with the record.
type OutlineStore interface {
	// Outlines calls each with every device; the outline is nil where there is none
	// that this version of the program can read.
	Outlines(ctx context.Context, each func(identity.Device, *Outline) error) error
	// FillOutlines writes outlines for devices that have none.
	FillOutlines(ctx context.Context, os []Outline) error
}

// ArrivalStore keeps devices that nothing admits.
type ArrivalStore interface {
	Arrivals(ctx context.Context) ([]Arrival, error) // newest first
	Arrival(ctx context.Context, ek identity.Digest) (Arrival, error)
	SaveArrival(ctx context.Context, a Arrival, es []Event) error
	// AcceptArrival adds the device and marks its arrival in one transaction.
	AcceptArrival(ctx context.Context, a Arrival, r Record, es []Event) error
}

// ReleaseStore keeps what was seen of published releases.
type ReleaseStore interface {
	// Seen returns what was seen of a product's releases, by version.
	Seen(ctx context.Context, p release.Product) ([]Seen, error)
	// SaveSeen replaces what was seen of a product's releases.
	SaveSeen(ctx context.Context, p release.Product, all []Seen) error
	// Products returns the products of which something was seen, by name.
	Products(ctx context.Context) ([]release.Product, error)

	// JudgedAudits returns the epoch of the audits by which devices were last
	// decided on, or the zero digest.
	JudgedAudits(ctx context.Context) (identity.Digest, error)
	SaveJudgedAudits(ctx context.Context, epoch identity.Digest) error
}

// Outbox keeps events until the ledger has them.
type Outbox interface {
	Events(ctx context.Context, limit int) ([]Event, error) // oldest first
	DropEvents(ctx context.Context, upTo int64) error
	SaveEvents(ctx context.Context, es []Event) error
}

// Event is something the ledger has to record. It is stored with the change
// that made it and handed on after: a crash in between loses nothing, at worst
// the ledger has it twice, with the same number.
type Event struct {
	Number  int64 // given by the store
	Kind    string
	Device  identity.Device // empty where no device is concerned
	Details map[string]any
}

// Record is a device as it is stored.
type Record struct {
	ID      identity.Device `json:"id"`
	Group   identity.Group  `json:"group"`
	By      string          `json:"by"` // who registered it
	Added   time.Time       `json:"added"`
	Admits  Admission       `json:"admits"`
	MakerCA string          `json:"maker_ca"` // the one maker's CA that may certify it; empty: any of its group
	EK      identity.Digest `json:"ek"`       // zero: none
	Token   identity.Digest `json:"token"`    // SHA-256 of the claim token; zero: none
	Expires time.Time       `json:"expires"`  // of the claim token
	Spent   bool            `json:"spent"`    // the token has been used

	Class    birth.Class     `json:"class"` // empty until it is born or first connects
	Key      identity.Digest `json:"key"`   // of the birth key
	AK       []byte          `json:"ak"`
	Born     time.Time       `json:"born"`
	Birth    string          `json:"birth"`   // serial number of the IDevID in force
	Refused  string          `json:"refused"` // why its last birth was refused
	Revoked  *Mark           `json:"revoked"` // nil: it is not
	Held     *Mark           `json:"held"`    // put in quarantine by an operator; nil: it is not
	LastSeen time.Time       `json:"last_seen"`

	// Certificates are its operational certificates that have not expired, the
	// newest first: no other is its own any more.
	Certificates []Certificate `json:"certificates"`
	// Provisional is when the time ends in which the device need not have proved
	// what only a session can prove: the end of its first certificate, or when it
	// has proved everything. Zero: it had neither certificate nor session yet.
	Provisional time.Time `json:"provisional"`

	// Release is name and version of the firmware that its last evidence showed,
	// as its group's Reference Values call it; empty: none that is known.
	Release string `json:"release,omitempty"`
	// Firmware is what its verified evidence showed of it; nil: it showed none.
	Firmware *Firmware `json:"firmware,omitempty"`

	Rows     map[posture.Source][]measure.Row `json:"rows"`
	Decision posture.Decision                 `json:"decision"` // the last that was acted on
	Status   posture.Status                   `json:"status"`   // the last that was recorded, never offline
	Version  int64                            `json:"version"`  // of the last posture report
}

// Admission says how a device may be born.
type Admission string

// The ways in.
const (
	ByEK         Admission = "ek"
	ByToken      Admission = "token"
	ByMaker      Admission = "maker"
	BySelfSigned Admission = "self-signed"
)

// Mark is an operator's act that is in force.
type Mark struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// Certificate is an operational certificate that was issued to a device.
type Certificate struct {
	Serial    string    `json:"serial"` // hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Lifetime is how long it was granted to live. NotBefore lies a little
	// before the issue.
	Lifetime time.Duration `json:"lifetime"`
}

// Arrival is a device that nothing admits, as it showed itself.
type Arrival struct {
	EK       identity.Digest `json:"ek"`
	Class    birth.Class     `json:"class"`
	Subject  string          `json:"subject"`
	Issuer   string          `json:"issuer"`
	Remote   string          `json:"remote"`
	First    time.Time       `json:"first"`
	Last     time.Time       `json:"last"`
	Times    int             `json:"times"`
	Refused  string          `json:"refused"`  // why an operator refused it
	Accepted identity.Device `json:"accepted"` // the id it was given
}
