package provision

import (
	"context"
	"slices"

	"holdfast/birth"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/pki"
)

// find returns the enrolment that speaks of a device, or a fault of kind
// NotFound. One for the device alone beats one for many. A certificate that is
// not the enrolment's is refused: then nothing else speaks of the device.
func (s *Service) find(ctx context.Context, p pki.Peer) (operator.Enrollment, error) {
	e, err := s.cfg.Store.Enrollment(ctx, operator.Individual, string(s.RegistrationOf(p).Fold()))
	if err == nil {
		return e, s.owns(ctx, e, p)
	}
	if fault.Of(err) != fault.NotFound || p.Class != pki.Maker {
		return e, err
	}
	ca, err := s.cfg.Registry.MakerCA(ctx, p.Anchor)
	if err != nil {
		return e, err
	}
	all, err := s.cfg.Store.Enrollments(ctx, operator.ForGroup)
	if err != nil {
		return e, err
	}
	i := slices.IndexFunc(all, func(e operator.Enrollment) bool {
		return e.MakerCA == ca && birth.Matches(e.IDs, string(p.Device))
	})
	if i < 0 {
		return e, fault.New(fault.NotFound, "no enrolment speaks of %s", p.Device)
	}
	return all[i], nil
}

// owns refuses a certificate that is not of the device of an individual
// enrolment. What the hub itself issued to the device is its own.
func (s *Service) owns(ctx context.Context, e operator.Enrollment, p pki.Peer) error {
	if id := s.RegistrationOf(p); string(id) != e.ID {
		return fault.New(fault.Denied, "the enrolment is of %s, the certificate of %s", e.ID, id)
	}
	if p.Class != pki.Maker && p.Class != pki.SelfSigned {
		return nil
	}
	if len(e.Certificates) > 0 && !slices.Contains(e.Certificates, p.Certificate) {
		return fault.New(fault.Denied, "the certificate is not the one that is enrolled for %s", p.Device)
	}
	if e.MakerCA == "" || p.Class == pki.SelfSigned {
		return nil
	}
	ca, err := s.cfg.Registry.MakerCA(ctx, p.Anchor)
	if err == nil && ca != e.MakerCA {
		err = fault.New(fault.Denied, "%s is enrolled with the maker's CA %s, not %s", p.Device, e.MakerCA, ca)
	}
	return err
}

// errDisabled refuses a device whose enrolment is disabled.
func errDisabled(e operator.Enrollment) error {
	return iothub.Fail(iothub.CodeDisabled, "the enrolment %s is disabled", e.ID)
}

// Enrolled says into which group a device comes that the registry does not
// know, and by what. It implements the fleet's question.
func (s *Service) Enrolled(ctx context.Context, p pki.Peer) (identity.Group, string, error) {
	e, err := s.find(ctx, p)
	switch {
	case err != nil:
		return "", "", err
	case e.Disabled:
		return "", "", errDisabled(e)
	}
	return e.Group, by(e), nil
}

// by names an enrolment in the registry and the ledger.
func by(e operator.Enrollment) string { return "enrolment " + e.Kind + "/" + e.ID }

// Pinned returns the name that a self-signed certificate with that digest has to
// have, or a fault of kind NotFound. Whether its device may come in its group
// decides.
func (s *Service) Pinned(ctx context.Context, certificate identity.Digest) (identity.Device, error) {
	e, err := s.cfg.Store.Pinned(ctx, certificate)
	if err != nil {
		return "", err
	}
	return identity.ParseDevice(e.ID)
}
