package monitor

import (
	"context"
	"time"

	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// Store keeps what the monitor knows. Each write is one transaction.
type Store interface {
	Follower
	AlertStore
	SampleStore
}

// Follower keeps how far the ledger was followed, and what followed from it.
type Follower interface {
	Place(ctx context.Context) (Place, error)
	// Apply makes changes, in their order, and notes the place after them unless
	// it is nil.
	Apply(ctx context.Context, p *Place, cs []Change) error
	// Recorded returns the last status of a device that the ledger has, empty
	// where it has none.
	Recorded(ctx context.Context, id identity.Device) (posture.Status, error)
	// Expiring returns devices for whose certificate it is time to warn.
	Expiring(ctx context.Context, now time.Time, limit int) ([]Expiry, error)
	// Verdicts returns how many devices have each verdict; unknown is left out.
	Verdicts(ctx context.Context) ([]VerdictCount, error)
}

// AlertStore reads alerts and takes acknowledgements.
type AlertStore interface {
	Alerts(ctx context.Context, q operator.AlertQuery) ([]operator.Alert, error)
	// Alert returns the alert with an ID; a fault of kind NotFound without.
	Alert(ctx context.Context, id string) (operator.Alert, error)
	// Acknowledge notes who knows of an alert; of one that somebody has
	// acknowledged already it changes nothing.
	Acknowledge(ctx context.Context, id, by string, now time.Time) error
	// Uncleared returns the devices that have an alert of a kind that is not cleared.
	Uncleared(ctx context.Context, kind string) ([]identity.Device, error)
	// OpenAlerts returns how many alerts of each kind and severity are neither
	// cleared nor acknowledged.
	OpenAlerts(ctx context.Context) ([]AlertCount, error)
	// PruneAlerts drops alerts that were done with before a time, and the oldest
	// of more than keep, those that are done with first.
	PruneAlerts(ctx context.Context, before time.Time, keep int) error
	// Unposted returns the oldest alert that was not posted; a fault of kind
	// NotFound where all were. The first time of all, those before do not count.
	Unposted(ctx context.Context) (operator.Alert, error)
	// Posted notes that the alert with an ID, and all before, were posted.
	Posted(ctx context.Context, id string) error
}

// SampleStore keeps quantities over time: of each minute, and means of longer
// steps.
type SampleStore interface {
	SaveSamples(ctx context.Context, at time.Time, values map[string]float64) error
	// Condense makes means of step out of minutes, of the steps that ended until
	// a time and have none.
	Condense(ctx context.Context, step time.Duration, until time.Time) error
	// DropSamples drops the samples of step that began before a time.
	DropSamples(ctx context.Context, step time.Duration, before time.Time) error
	// Samples returns those of a name and a step that began from..to, in order.
	Samples(ctx context.Context, name string, step time.Duration, from, to time.Time) ([]Sample, error)
}

// Place is how far the ledger was followed.
type Place struct {
	Seq   uint64 // number of its last record
	Event int64  // of the last of the registry's events in it
}

// Change is one of Raise, Clear, Recorded, Expiry and VerdictChange.
type Change any

// Raise opens an alert, or counts once more on the one that is open. One that
// was cleared less than Again ago is opened again.
type Raise struct {
	Subject  string // a device, or what is known of one without id
	Kind     string
	Severity string
	Device   identity.Device
	Group    identity.Group
	From, To posture.Status
	Reason   string
	Time     time.Time
	Again    time.Duration
	Once     bool // an alert that is open is left as it is
}

// Clear ends alerts.
type Clear struct {
	Subject string
	Kinds   []string
	Time    time.Time
}

// Recorded is the status of a device that the ledger has.
type Recorded struct {
	Device identity.Device
	Status posture.Status
}

// Expiry says when a device's newest certificate ends, and when it is time to
// warn of that; zero: not, or no more.
type Expiry struct {
	Device         identity.Device
	Warn, NotAfter time.Time
}

// VerdictChange is a verdict of a device that became another.
type VerdictChange struct {
	Measure  measure.ID
	From, To measure.Verdict
}

// VerdictCount is how many devices have a verdict.
type VerdictCount struct {
	Measure measure.ID
	Verdict measure.Verdict
	Devices int
}

// AlertCount is how many alerts there are of a kind and a severity.
type AlertCount struct {
	Kind, Severity string
	Alerts         int
}

// Sample is the mean of a quantity over the step that begins at At.
type Sample struct {
	At    time.Time
	Value float64
}
