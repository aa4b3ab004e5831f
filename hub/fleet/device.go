package fleet

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"holdfast/birth"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// How long a claim token is good.
const (
	defaultTTL = 24 * time.Hour
	maxTTL     = 366 * 24 * time.Hour
)

// maxReason bounds an operator's reason in bytes.
const maxReason = 1000

// AddDevice registers a device before it comes. With an EK or a token it may
// be born; with neither it waits for a certificate of its group's maker. The
// token is returned this once: the hub keeps its digest.
func (f *Fleet) AddDevice(ctx context.Context, by string, d operator.AddDevice) (operator.AddedDevice, error) {
	r, err := f.newRecord(ctx, by, d.ID, d.Group)
	if err != nil {
		return operator.AddedDevice{}, err
	}
	out := operator.AddedDevice{ID: d.ID, Group: d.Group}
	switch {
	case d.MakerCA != "" && (len(d.EK) > 0 || d.Token):
		return out, fault.New(fault.Invalid, "device %s: a device of a maker has neither an EK here nor a token", d.ID)
	case len(d.EK) > 0 && d.Token:
		return out, fault.New(fault.Invalid, "device %s: give an EK or ask for a token, not both", d.ID)
	case len(d.EK) > 0:
		if r.EK, err = birth.ParseEK(d.EK); err != nil {
			return out, fault.New(fault.Invalid, "EK of %s: %w", d.ID, err)
		}
		r.Admits = ByEK
	case d.Token:
		ttl := time.Duration(d.TTL) * time.Second
		if d.TTL == 0 {
			ttl = defaultTTL
		}
		if d.TTL < 0 || d.TTL > int64(maxTTL/time.Second) {
			return out, fault.New(fault.Invalid, "lifetime of the token: want 1 to %d seconds", int64(maxTTL/time.Second))
		}
		r.Admits, r.Expires = ByToken, r.Added.Add(ttl)
		out.Token, out.Expires = newToken(), r.Expires
		r.Token = identity.Sum([]byte(out.Token))
	default:
		if err := f.awaitsMaker(ctx, d.Group, d.MakerCA); err != nil {
			return out, err
		}
		r.Admits, r.MakerCA = ByMaker, d.MakerCA
	}
	return out, f.add(ctx, r)
}

// newToken returns 256 random bits as text.
func newToken() string { return rand.Text() + rand.Text() }

func (f *Fleet) newRecord(ctx context.Context, by string, id identity.Device, group identity.Group) (Record, error) {
	if _, err := identity.ParseDevice(string(id)); err != nil {
		return Record{}, fault.New(fault.Invalid, "%w", err)
	}
	if _, err := f.group(ctx, group); err != nil {
		return Record{}, err
	}
	return Record{ID: id, Group: group, By: by, Added: f.now()}, nil
}

func (f *Fleet) awaitsMaker(ctx context.Context, group identity.Group, ca string) error {
	g, err := f.group(ctx, group)
	switch {
	case err != nil:
		return err
	case len(g.MakerCAs) == 0:
		return fault.New(fault.Invalid, "group %s has no maker's CA: give an EK or ask for a token", group)
	case ca != "" && !slices.Contains(g.MakerCAs, ca):
		return fault.New(fault.Invalid, "group %s does not list the maker's CA %q", group, ca)
	}
	return nil
}

// add stores a new device. An EK that another device has is refused, and that
// somebody tried is recorded.
func (f *Fleet) add(ctx context.Context, r Record) error {
	defer f.locks.lock(r.ID)()
	if err := f.unclaimed(ctx, r.EK, r.ID, r.By); err != nil {
		return err
	}
	err := f.enroll(ctx, r)
	if fault.Of(err) == fault.Conflict && r.Admits == ByToken {
		return f.newClaim(ctx, r, err)
	}
	if err != nil {
		return err
	}
	f.handOver(ctx)
	return nil
}

// enroll writes a new device.
func (f *Fleet) enroll(ctx context.Context, r Record) error {
	if err := f.cfg.Store.AddDevice(ctx, r, []Event{added(r)}); err != nil {
		return err
	}
	f.index.put(OutlineOf(r))
	return nil
}

// newClaim gives a device that claims by token the token of r, when it holds
// no birth certificate: the token ran out, or the device was revoked and
// restored. Otherwise the device exists, which taken says.
func (f *Fleet) newClaim(ctx context.Context, r Record, taken error) error {
	_, err := f.changeLocked(ctx, r.ID, func(old *Record, _ operator.Group) ([]Event, error) {
		if old.Admits != ByToken || old.Group != r.Group || old.Birth != "" || old.Revoked != nil {
			return nil, taken
		}
		old.Token, old.Expires, old.Spent, old.EK, old.Key = r.Token, r.Expires, false, identity.Digest{}, identity.Digest{}
		return []Event{{Kind: KindAdd, Device: r.ID, Details: map[string]any{"by": r.By, "group": r.Group, "admits": ByToken, "again": true}}}, nil
	})
	return err
}

func added(r Record) Event {
	details := map[string]any{"by": r.By, "group": r.Group, "admits": r.Admits}
	if r.EK != (identity.Digest{}) {
		details["ek"] = r.EK
	}
	return Event{Kind: KindAdd, Device: r.ID, Details: details}
}

// unclaimed refuses an EK that is another device's than id.
func (f *Fleet) unclaimed(ctx context.Context, ek identity.Digest, id identity.Device, by string) error {
	if ek == (identity.Digest{}) {
		return nil
	}
	other, err := f.cfg.Store.DeviceByEK(ctx, ek)
	if fault.Of(err) == fault.NotFound || err == nil && other.ID == id {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.record(ctx, Event{Kind: KindRefused, Device: id, Details: map[string]any{
		"by": by, "reason": "its EK is already enrolled as another device", "ek": ek, "other": other.ID}})
	if err != nil {
		return err
	}
	return fault.New(fault.Conflict, "the EK is registered already, as %s", other.ID)
}

// Device returns a device as operators see it, or a fault of kind NotFound.
func (f *Fleet) Device(ctx context.Context, id identity.Device) (operator.Device, error) {
	defer f.locks.lock(id)()
	r, g, err := f.load(ctx, id)
	if err != nil {
		return operator.Device{}, err
	}
	return f.view(ctx, r, g), nil
}

// DeviceGroup returns the group that a device is in, or a fault of kind NotFound. It
// waits for no act on the device.
func (f *Fleet) DeviceGroup(ctx context.Context, id identity.Device) (identity.Group, error) {
	f.mu.Lock()
	r, ok := f.records[id]
	f.mu.Unlock()
	if ok {
		return r.Group, nil
	}
	r, err := f.cfg.Store.Device(ctx, id)
	return r.Group, err
}

// view decides on a device for whoever looks: what it shows is as of now.
func (f *Fleet) view(ctx context.Context, r Record, g operator.Group) operator.Device {
	now := f.now()
	rows := posture.Combine(r.Rows)
	s, isLive := f.session(r.ID)
	d := decide(g.Policy, r, rows, now)
	out := operator.Device{
		ID: r.ID, Group: r.Group, Status: posture.StatusOf(facts(r, g.Policy, rows, d, s, isLive)),
		Reason:  strings.Join(reasons(r, d, s, isLive), "; "),
		Release: r.Release, Firmware: f.firmware(ctx, g, r), Born: r.Born, LastSeen: r.LastSeen, Connected: isLive, Posture: posture.AsOf(rows, now), Decision: &d,
	}
	if isLive {
		out.LastSeen = now
	}
	if len(r.Certificates) > 0 {
		c := r.Certificates[0]
		out.Certificate = &operator.Certificate{NotAfter: c.NotAfter, Lifetime: int64(c.Lifetime / time.Second), Serial: c.Serial}
	}
	return out
}

// The verbs of Act.
const (
	Revoke     = "revoke"
	Quarantine = "quarantine"
	Restore    = "restore"
)

// Act does what an operator decides: revoke ends the session and lets nothing
// in any more; quarantine cuts the session down until restore; restore ends
// both. Restoring a revoked device lets its EK be born again: the certificates
// it had stay worthless. It returns the device as it is then.
func (f *Fleet) Act(ctx context.Context, by string, id identity.Device, verb, reason string) (operator.Device, error) {
	if len(reason) > maxReason {
		return operator.Device{}, fault.New(fault.Invalid, "reason has %d bytes, at most %d are allowed", len(reason), maxReason)
	}
	m := Mark{By: by, Reason: reason, Time: f.now()}
	acts := map[string]act{Revoke: m.revoke, Quarantine: m.hold, Restore: m.restore}
	do, ok := acts[verb]
	if !ok {
		return operator.Device{}, fault.New(fault.Invalid, "verb %q: want revoke, quarantine or restore", verb)
	}
	var old Record
	_, err := f.change(ctx, id, func(r *Record, g operator.Group) ([]Event, error) {
		old = *r
		return do(r, g)
	})
	if err != nil {
		return operator.Device{}, err
	}
	if verb == Revoke {
		f.withdraw(ctx, old, pki.ReasonUnspecified)
	}
	return f.Device(ctx, id)
}

func (m Mark) event(kind string, id identity.Device) []Event {
	return []Event{{Kind: kind, Device: id, Details: map[string]any{"by": m.By, "reason": m.Reason}}}
}

func (m Mark) revoke(r *Record, _ operator.Group) ([]Event, error) {
	if r.Revoked != nil {
		return nil, fault.New(fault.Conflict, "%s is revoked already", r.ID)
	}
	r.Revoked, r.Birth, r.Certificates = &m, "", nil
	return m.event(KindRevoke, r.ID), nil
}

func (m Mark) hold(r *Record, _ operator.Group) ([]Event, error) {
	if r.Revoked != nil || r.Held != nil {
		return nil, fault.New(fault.Conflict, "%s is revoked or in quarantine already", r.ID)
	}
	r.Held = &m
	return m.event(KindQuarantine, r.ID), nil
}

func (m Mark) restore(r *Record, _ operator.Group) ([]Event, error) {
	if r.Revoked == nil && r.Held == nil {
		return nil, fault.New(fault.Conflict, "%s is neither revoked nor quarantined by an operator", r.ID)
	}
	r.Revoked, r.Held = nil, nil
	return m.event(KindRestore, r.ID), nil
}

// withdraw has the certificates of r put on the revocation lists. Here they
// are worthless already: that it did not work is logged, not returned.
func (f *Fleet) withdraw(ctx context.Context, r Record, reason int) {
	if f.cfg.Withdrawer == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	put := func(class pki.Class, serial string) {
		if err := f.cfg.Withdrawer.Withdraw(ctx, r.ID, class, serial, reason); err != nil {
			f.log.ErrorContext(ctx, "withdraw certificate", "device", r.ID, "class", class, "serial", serial, "err", err)
		}
	}
	if r.Birth != "" {
		put(pki.Birth, r.Birth)
	}
	for _, c := range unexpired(r.Certificates, f.now()) {
		put(pki.Operational, c.Serial)
	}
}
