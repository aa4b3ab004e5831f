package fleet

import (
	"time"

	"holdfast/identity"
	"holdfast/posture"
)

// Outline is of a device's record what is asked of all devices at once: what
// its status follows from, and what lists are sorted by. It is stored with the
// record, in the same transaction.
type Outline struct {
	ID          identity.Device
	Group       identity.Group
	Release     string
	Revoked     bool
	Held        bool // put in quarantine by an operator
	Refused     bool // it asked to be born, was refused, and was not born since
	Provisional time.Time
	LastSeen    time.Time
	Marks       posture.Marks
}

// OutlineOf returns the outline of a record.
func OutlineOf(r Record) Outline {
	return Outline{ID: r.ID, Group: r.Group, Release: r.Release, Revoked: r.Revoked != nil, Held: r.Held != nil,
		Refused: r.Refused != "" && r.Born.IsZero(), Provisional: r.Provisional.UTC(), LastSeen: r.LastSeen.UTC(),
		Marks: posture.MarksOf(posture.Combine(r.Rows))}
}

// view is what conditions of policies look at.
func (o Outline) view(now time.Time) posture.View {
	return posture.View{Subject: posture.Subject{Device: o.ID, Group: o.Group, Release: o.Release}, Marks: o.Marks, Now: now}
}

// first reports whether the device is still excused from what only a session
// can prove.
func (o Outline) first(now time.Time) bool {
	return o.Provisional.IsZero() || now.Before(o.Provisional)
}
