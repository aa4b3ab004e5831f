package store

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/fault"
	"holdfast/hub/provision"
	"holdfast/identity"
	"holdfast/operator"
)

// Provision is the part of the store that keeps enrolments and registrations.
type Provision struct{ s *Store }

var _ provision.Store = Provision{}

// Provision returns the store of hub/provision.
func (s *Store) Provision() Provision { return Provision{s} }

// Enrollments returns the enrolments of a kind, or all, by kind and key.
func (p Provision) Enrollments(ctx context.Context, kind string) ([]operator.Enrollment, error) {
	return documents[operator.Enrollment](ctx, p.s.read,
		`SELECT doc FROM provision_enrollment WHERE kind = ?1 OR ?1 = '' ORDER BY kind, key`, kind)
}

// Enrollment returns an enrolment, or a fault of kind NotFound.
func (p Provision) Enrollment(ctx context.Context, kind, key string) (operator.Enrollment, error) {
	return document[operator.Enrollment](ctx, p.s, fmt.Sprintf("there is no enrolment %q", key),
		`SELECT doc FROM provision_enrollment WHERE kind = ? AND key = ?`, kind, key)
}

// SaveEnrollment makes or replaces an enrolment with its certificates.
func (p Provision) SaveEnrollment(ctx context.Context, key string, e operator.Enrollment) error {
	return p.s.together(ctx, func(ctx context.Context, tx *shared) error {
		if err := put(ctx, tx, "enrolment "+e.ID, e, `INSERT INTO provision_enrollment (doc, kind, key) VALUES (?, ?, ?)
			ON CONFLICT (kind, key) DO UPDATE SET doc = excluded.doc`, e.Kind, key); err != nil {
			return err
		}
		if err := tx.exec(ctx, `DELETE FROM provision_pin WHERE kind = ? AND key = ?`, e.Kind, key); err != nil {
			return fmt.Errorf("save enrolment: %w", err)
		}
		for _, c := range e.Certificates {
			n, err := tx.change(ctx, `INSERT INTO provision_pin (certificate, kind, key) VALUES (?, ?, ?)
				ON CONFLICT (certificate) DO NOTHING`, c.String(), e.Kind, key)
			if err != nil {
				return fmt.Errorf("save enrolment: %w", err)
			}
			if n != 1 {
				return fault.New(fault.Conflict, "the certificate %s is enrolled already", c)
			}
		}
		return nil
	})
}

// RemoveEnrollment removes an enrolment and its certificates.
func (p Provision) RemoveEnrollment(ctx context.Context, kind, key string) error {
	res, err := p.s.write.ExecContext(ctx, `DELETE FROM provision_enrollment WHERE kind = ? AND key = ?`, kind, key)
	if err != nil {
		return fmt.Errorf("remove enrolment: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return fault.New(fault.NotFound, "there is no enrolment %q", key)
	}
	return nil
}

// Pinned returns the individual enrolment that has a certificate, or a fault of
// kind NotFound.
func (p Provision) Pinned(ctx context.Context, certificate identity.Digest) (operator.Enrollment, error) {
	return document[operator.Enrollment](ctx, p.s, "the certificate is not enrolled",
		`SELECT e.doc FROM provision_pin p JOIN provision_enrollment e ON e.kind = p.kind AND e.key = p.key WHERE p.certificate = ?`,
		certificate.String())
}

// Registration returns a device's registration, or a fault of kind NotFound.
func (p Provision) Registration(ctx context.Context, id identity.Device) (provision.Registration, error) {
	return document[provision.Registration](ctx, p.s, fmt.Sprintf("%s is not registered", id),
		`SELECT doc FROM provision_registration WHERE device = ?`, id)
}

// SaveRegistration makes or replaces a device's registration. Devices register
// together after an outage: they share the fsync.
func (p Provision) SaveRegistration(ctx context.Context, r provision.Registration) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("save registration of %s: %w", r.Device, err)
	}
	return p.s.together(ctx, func(ctx context.Context, tx *shared) error {
		err := tx.exec(ctx, `INSERT INTO provision_registration (doc, device) VALUES (?, ?)
			ON CONFLICT (device) DO UPDATE SET doc = excluded.doc`, string(b), r.Device)
		if err != nil {
			return fmt.Errorf("save registration of %s: %w", r.Device, err)
		}
		return nil
	})
}
