package provision

import (
	"context"
	"sync"

	"holdfast/dps"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
)

// names has the enrolments that give a device another id than its registration
// id. Every handshake of a maker's device asks for them, so they are in memory.
type names struct {
	mu       sync.RWMutex
	byID     map[dps.Registration]operator.Enrollment // by folded registration id
	byDevice map[identity.Device]dps.Registration     // as it is enrolled
}

func newNames() *names {
	return &names{byID: map[dps.Registration]operator.Enrollment{}, byDevice: map[identity.Device]dps.Registration{}}
}

// set takes in an enrolment as it is now.
func (n *names) set(e operator.Enrollment) {
	if e.Kind != operator.Individual {
		return
	}
	n.remove(e.ID)
	if e.Device == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.byID[dps.Registration(e.ID).Fold()] = e
	n.byDevice[e.Device] = dps.Registration(e.ID)
}

// remove forgets the individual enrolment of a registration id.
func (n *names) remove(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := dps.Registration(id).Fold()
	if e, ok := n.byID[key]; ok {
		delete(n.byID, key)
		delete(n.byDevice, e.Device)
	}
}

// of returns the enrolment of a registration id, if it names another device.
func (n *names) of(id dps.Registration) (operator.Enrollment, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	e, ok := n.byID[id.Fold()]
	return e, ok
}

// owner returns the registration id of a device whose own is another.
func (n *names) owner(d identity.Device) (dps.Registration, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	id, ok := n.byDevice[d]
	return id, ok
}

// Load reads what the Service has in memory. Call it before anything else.
func (s *Service) Load(ctx context.Context) error {
	es, err := s.cfg.Store.Enrollments(ctx, operator.Individual)
	for _, e := range es {
		s.names.set(e)
	}
	return err
}

// Name says which device a maker's or a self-signed certificate is of: the one
// that an enrolment of its common name gives it, or the one of that name. The id
// of a device that has another registration id is nobody's own name. It is a
// pki.Naming, but for the context.
func (s *Service) Name(ctx context.Context, p pki.Peer) (identity.Device, error) {
	if e, ok := s.names.of(dps.Registration(p.Name)); ok {
		return e.Device, s.owns(ctx, e, p)
	}
	if id, ok := s.names.owner(p.Device); ok {
		return "", fault.New(fault.Denied, "the id %s is of the device that is enrolled as %s", p.Device, id)
	}
	return p.Device, nil
}

// RegistrationOf returns the registration id of a peer: the common name of its
// certificate, or what the device is enrolled as where the hub itself issued it.
func (s *Service) RegistrationOf(p pki.Peer) dps.Registration {
	if p.Class == pki.Maker || p.Class == pki.SelfSigned {
		return dps.Registration(p.Name)
	}
	if id, ok := s.names.owner(p.Device); ok {
		return id
	}
	return dps.Registration(p.Device)
}

// checkDevice refuses an enrolment whose device could be another's too, or
// whose certificate could be anybody's. It changes nothing.
func (s *Service) checkDevice(ctx context.Context, e operator.Enrollment) error {
	if id, ok := s.names.owner(identity.Device(e.ID)); ok && e.Kind == operator.Individual && e.Device == "" && string(id) != e.ID {
		return fault.New(fault.Conflict, "%s is the id of the device that is enrolled as %s", e.ID, id)
	}
	if e.Device == "" {
		return nil
	}
	if _, err := identity.ParseDevice(string(e.Device)); err != nil {
		return fault.New(fault.Invalid, "device: %w", err)
	}
	switch {
	case e.Kind != operator.Individual:
		return fault.New(fault.Invalid, "an enrolment for many names no device")
	case e.MakerCA == "" && len(e.Certificates) == 0:
		return fault.New(fault.Invalid, "a device with another id than its registration id needs the maker's CA or its certificates")
	}
	if id, ok := s.names.owner(e.Device); ok && string(id) != e.ID {
		return fault.New(fault.Conflict, "%s is the id of the device that is enrolled as %s", e.Device, id)
	}
	other, err := s.cfg.Store.Enrollment(ctx, operator.Individual, string(dps.Registration(e.Device).Fold()))
	switch {
	case fault.Of(err) == fault.NotFound && err != nil:
		return nil
	case err == nil && other.Device == "" && other.ID == string(e.Device):
		return fault.New(fault.Conflict, "%s is enrolled itself", e.Device)
	}
	return err
}
