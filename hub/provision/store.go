package provision

import (
	"context"
	"encoding/json"
	"time"

	"holdfast/dps"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
)

// Store keeps enrolments and registrations. What a method without error has
// written is on stable storage. What is not there is a fault of kind NotFound.
type Store interface {
	Enrollments(ctx context.Context, kind string) ([]operator.Enrollment, error) // of both kinds when empty; by kind and key
	Enrollment(ctx context.Context, kind, key string) (operator.Enrollment, error)
	// SaveEnrollment makes or replaces an enrolment under a key. A certificate
	// that another enrolment has is a fault of kind Conflict.
	SaveEnrollment(ctx context.Context, key string, e operator.Enrollment) error
	RemoveEnrollment(ctx context.Context, kind, key string) error
	// Pinned returns the individual enrolment that has a certificate.
	Pinned(ctx context.Context, certificate identity.Digest) (operator.Enrollment, error)

	Registration(ctx context.Context, id identity.Device) (Registration, error)
	SaveRegistration(ctx context.Context, r Registration) error
}

// Registration is what became of a device's last registration.
type Registration struct {
	Device    identity.Device  `json:"device"`
	ID        dps.Registration `json:"id"`        // as the device wrote it
	Enrolment string           `json:"enrolment"` // name of one for many that it fell under
	Leaf      dps.Certificate  `json:"leaf"`
	Created   time.Time        `json:"created"`
	Updated   time.Time        `json:"updated"`
	Version   int64            `json:"version"`
	Assigned  bool             `json:"assigned"` // it was, once

	Operation dps.Operation   `json:"operation"`
	Status    dps.Status      `json:"status"`
	Substatus dps.Substatus   `json:"substatus"`
	Code      iothub.Code     `json:"code"`
	Message   string          `json:"message"`
	Payload   json.RawMessage `json:"payload,omitempty"`
	Chain     [][]byte        `json:"chain"` // DER, the leaf first
}
