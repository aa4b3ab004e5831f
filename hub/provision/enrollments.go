package provision

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"holdfast/dps"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/twin"
)

// The limits of enrolments.
const (
	maxForGroup = 256  // enrolments for many
	maxIDs      = 1024 // ids and patterns of one
	maxCerts    = 2
	maxPayload  = 4 << 10 // bytes
)

// Enrollments lists enrolments of a kind, or of both when it is empty.
func (s *Service) Enrollments(ctx context.Context, kind string) ([]operator.Enrollment, error) {
	if kind != "" {
		if err := checkKind(kind); err != nil {
			return nil, err
		}
	}
	return s.cfg.Store.Enrollments(ctx, kind)
}

// Enrollment shows an enrolment.
func (s *Service) Enrollment(ctx context.Context, kind, id string) (operator.Enrollment, error) {
	key, err := keyOf(kind, id)
	if err != nil {
		return operator.Enrollment{}, err
	}
	return s.cfg.Store.Enrollment(ctx, kind, key)
}

// AddEnrollment adds an enrolment; one that exists is a fault of kind Conflict.
func (s *Service) AddEnrollment(ctx context.Context, by string, e operator.Enrollment) (operator.Enrollment, error) {
	key, err := keyOf(e.Kind, e.ID)
	if err != nil {
		return e, err
	}
	s.edits.Lock()
	defer s.edits.Unlock()
	_, err = s.cfg.Store.Enrollment(ctx, e.Kind, key)
	switch {
	case err == nil:
		return e, fault.New(fault.Conflict, "there is an enrolment %q already", e.ID)
	case fault.Of(err) != fault.NotFound:
		return e, err
	}
	if e.Reprovision == "" {
		e.Reprovision = operator.Keep
	}
	if string(e.Device) == e.ID {
		e.Device = ""
	}
	if err := s.check(ctx, e); err != nil {
		return e, err
	}
	e.Created = s.now()
	return s.save(ctx, by, key, e)
}

// DisableEnrollment disables an enrolment or enables it again.
func (s *Service) DisableEnrollment(ctx context.Context, by, kind, id string, disabled bool) (operator.Enrollment, error) {
	s.edits.Lock()
	defer s.edits.Unlock()
	e, err := s.Enrollment(ctx, kind, id)
	if err != nil || e.Disabled == disabled {
		return e, err
	}
	e.Disabled = disabled
	key, err := keyOf(kind, id)
	if err != nil {
		return e, err
	}
	return s.save(ctx, by, key, e)
}

// RemoveEnrollment removes an enrolment. Devices that came by it stay.
func (s *Service) RemoveEnrollment(ctx context.Context, by, kind, id string) error {
	key, err := keyOf(kind, id)
	if err != nil {
		return err
	}
	s.edits.Lock()
	defer s.edits.Unlock()
	e, err := s.cfg.Store.Enrollment(ctx, kind, key)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.RemoveEnrollment(ctx, kind, key); err != nil {
		return err
	}
	if kind == operator.Individual {
		s.names.remove(id)
	}
	return s.cfg.Ledger.Record(ctx, KindRemove, "", map[string]any{"by": by, "group": e.Group, "kind": kind, "id": id})
}

func (s *Service) save(ctx context.Context, by, key string, e operator.Enrollment) (operator.Enrollment, error) {
	e.Updated = s.now()
	if err := s.cfg.Store.SaveEnrollment(ctx, key, e); err != nil {
		return e, err
	}
	s.names.set(e)
	return e, s.cfg.Ledger.Record(ctx, KindEnrollment, "", map[string]any{"by": by, "group": e.Group, "enrollment": e})
}

func checkKind(kind string) error {
	if kind != operator.Individual && kind != operator.ForGroup {
		return fault.New(fault.Invalid, "kind %q: want individual or group", kind)
	}
	return nil
}

// keyOf is what an enrolment is kept under: the case of its id means nothing.
func keyOf(kind, id string) (string, error) {
	if err := checkKind(kind); err != nil {
		return "", err
	}
	r, err := dps.ParseRegistration(id)
	if err != nil {
		return "", fault.New(fault.Invalid, "%w", err)
	}
	return string(r.Fold()), nil
}

// check refuses an enrolment that could not let in anybody, or not one device
// alone.
func (s *Service) check(ctx context.Context, e operator.Enrollment) error {
	g, err := s.cfg.Registry.Group(ctx, e.Group)
	if err != nil {
		return err
	}
	switch {
	case e.MakerCA != "" && !slices.Contains(g.MakerCAs, e.MakerCA):
		return fault.New(fault.Invalid, "group %s does not list the maker's CA %q", g.ID, e.MakerCA)
	case e.Reprovision != operator.Keep && e.Reprovision != operator.Reset:
		return fault.New(fault.Invalid, "re-provisioning %q: want keep or reset", e.Reprovision)
	case len(e.Payload) > maxPayload || len(e.Payload) > 0 && !json.Valid(e.Payload):
		return fault.New(fault.Invalid, "payload: want at most %d bytes of JSON", maxPayload)
	}
	if e.Twin != nil {
		if err := checkTwin(*e.Twin); err != nil {
			return err
		}
	}
	if err := s.checkDevice(ctx, e); err != nil {
		return err
	}
	if e.Kind == operator.Individual {
		return checkIndividual(e, g)
	}
	return s.checkForGroup(ctx, e)
}

func checkIndividual(e operator.Enrollment, g operator.Group) error {
	selfSigned := g.SelfSigned && len(e.Certificates) > 0
	switch {
	case len(e.IDs) > 0:
		return fault.New(fault.Invalid, "an individual enrolment has no ids beside its own")
	case len(e.Certificates) > maxCerts || slices.Contains(e.Certificates, identity.Digest{}):
		return fault.New(fault.Invalid, "certificates: want at most %d SHA-256 digests", maxCerts)
	case len(g.MakerCAs) == 0 && !selfSigned:
		return fault.New(fault.Invalid, "group %s has no maker's CA, and takes no self-signed certificates: nothing could come by this enrolment", g.ID)
	}
	return nil
}

// checkForGroup refuses an enrolment for many whose ids could be another's of
// the same CA: a device has to fall under one.
func (s *Service) checkForGroup(ctx context.Context, e operator.Enrollment) error {
	switch {
	case e.MakerCA == "" || len(e.IDs) == 0:
		return fault.New(fault.Invalid, "an enrolment for many needs a maker's CA and ids")
	case len(e.Certificates) > 0:
		return fault.New(fault.Invalid, "an enrolment for many has no certificates of devices")
	case len(e.IDs) > maxIDs:
		return fault.New(fault.Invalid, "%d ids, at most %d are allowed", len(e.IDs), maxIDs)
	}
	for _, p := range e.IDs {
		if _, err := identity.ParseDevice(strings.TrimSuffix(p, "*")); err != nil {
			return fault.New(fault.Invalid, "id pattern %q: want a device id, or its beginning and \"*\": %w", p, err)
		}
	}
	all, err := s.cfg.Store.Enrollments(ctx, operator.ForGroup)
	if err != nil {
		return err
	}
	if len(all) >= maxForGroup {
		return fault.New(fault.Invalid, "there are %d enrolments for many, no more are allowed", len(all))
	}
	for _, other := range all {
		if p, q, ok := overlap(e.IDs, other.IDs); ok && other.MakerCA == e.MakerCA {
			return fault.New(fault.Conflict, "id pattern %q overlaps %q of enrolment %s", p, q, other.ID)
		}
	}
	return nil
}

// overlap finds a pattern of each list that some id matches both of.
func overlap(as, bs []string) (a, b string, ok bool) {
	for _, a := range as {
		for _, b := range bs {
			pa, wildA := strings.CutSuffix(a, "*")
			pb, wildB := strings.CutSuffix(b, "*")
			if a == b || wildA && strings.HasPrefix(pb, pa) || wildB && strings.HasPrefix(pa, pb) {
				return a, b, true
			}
		}
	}
	return "", "", false
}

// checkTwin refuses an initial twin that no twin could be.
func checkTwin(t operator.SetTwin) error {
	for _, part := range []struct {
		section twin.Section
		json    json.RawMessage
	}{{twin.Tags, t.Tags}, {twin.Desired, t.Desired}} {
		if len(part.json) == 0 {
			continue
		}
		o, err := twin.Parse(part.json)
		if err == nil {
			_, err = twin.New().Apply(twin.Change{Section: part.section, Patch: o, Replace: true})
		}
		if e, ok := errors.AsType[*twin.Error](err); ok {
			return fault.New(fault.Invalid, "initial twin, %s: %w", part.section, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
