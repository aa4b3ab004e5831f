package fleet

import (
	"context"
	"slices"
	"time"

	"holdfast/birth"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// MaxArrivals bounds how many undecided arrivals are kept. When there are that
// many, further ones are told to come again: nobody can push an honest one out.
const MaxArrivals = 1000

// Claim says who the device is that shows s. An EK that is registered or was
// born before decides; otherwise the claim token does; a TPM that nothing
// admits is recorded as pending, and the error is of kind Pending. Refusals are
// recorded by RefuseBirth.
func (f *Fleet) Claim(ctx context.Context, s birth.Showing) (birth.Entry, error) {
	r, err := f.claim(ctx, s)
	if err != nil {
		return birth.Entry{}, err
	}
	g, err := f.group(ctx, r.Group)
	if err != nil {
		return birth.Entry{}, err
	}
	if r.Revoked != nil {
		return birth.Entry{}, fault.New(fault.Denied, "the device is revoked")
	}
	return birth.Entry{Device: r.ID, Group: g}, nil
}

func (f *Fleet) claim(ctx context.Context, s birth.Showing) (Record, error) {
	tpm := s.EK != (identity.Digest{})
	var known Record
	var err error
	if tpm {
		known, err = f.cfg.Store.DeviceByEK(ctx, s.EK)
		if err != nil && fault.Of(err) != fault.NotFound {
			return known, err
		}
	}
	isKnown := tpm && err == nil
	if s.Token == "" {
		switch {
		case isKnown:
			return known, nil
		case tpm:
			return known, f.arrive(ctx, s)
		}
		return known, fault.New(fault.Denied, "a key in a file needs a claim token")
	}
	r, err := f.byToken(ctx, s)
	switch {
	case isKnown && err == nil && r.ID != known.ID:
		const reason = "the EK is already enrolled as another device"
		if err := f.refuseDevice(ctx, r.ID, reason); err != nil {
			return known, err
		}
		return known, fault.New(fault.Denied, reason)
	case isKnown:
		return known, nil // its EK says who it is: a token spent long ago does no harm
	}
	return r, err
}

// byToken finds the device whose claim token s shows. A spent token is good
// only for the key or TPM that spent it, whose answer may have been lost.
func (f *Fleet) byToken(ctx context.Context, s birth.Showing) (Record, error) {
	bad := fault.New(fault.Denied, "the claim token is unknown, spent or expired")
	r, err := f.cfg.Store.DeviceByToken(ctx, identity.Sum([]byte(s.Token)))
	switch {
	case fault.Of(err) == fault.NotFound:
		return r, bad
	case err != nil:
		return r, err
	case !f.now().Before(r.Expires) || !tokenFits(r, s):
		return r, bad
	}
	return r, nil
}

func tokenFits(r Record, s birth.Showing) bool {
	if !r.Spent {
		return true
	}
	none := identity.Digest{}
	return r.EK == s.EK && (s.EK != none || r.Key == s.Key)
}

// arrive records a TPM that nothing admits.
func (f *Fleet) arrive(ctx context.Context, s birth.Showing) error {
	defer f.lockRegistry()()
	now := f.now()
	a, err := f.cfg.Store.Arrival(ctx, s.EK)
	var es []Event
	switch {
	case fault.Of(err) == fault.NotFound:
		if err := f.roomForArrival(ctx); err != nil {
			return err
		}
		a = Arrival{EK: s.EK, First: now}
		es = []Event{{Kind: KindPending, Details: map[string]any{"ek": s.EK, "class": s.Class, "subject": s.Subject, "issuer": s.Issuer, "remote": s.Remote}}}
	case err != nil:
		return err
	case a.Refused != "":
		return fault.New(fault.Denied, "an operator refused the device: %s", a.Refused)
	}
	pending := fault.New(fault.Pending, "the device is on no list: an operator has to accept it (EK %s)", s.EK)
	if now.Sub(a.Last) < fine && !now.Before(a.Last) {
		return pending // it asks often: nobody may make us write as often
	}
	a.Class, a.Subject, a.Issuer, a.Remote, a.Last, a.Times = s.Class, s.Subject, s.Issuer, s.Remote, now, a.Times+1
	if err := f.cfg.Store.SaveArrival(ctx, a, es); err != nil {
		return err
	}
	f.handOver(ctx)
	return pending
}

func (f *Fleet) roomForArrival(ctx context.Context) error {
	as, err := f.cfg.Store.Arrivals(ctx)
	if err != nil {
		return err
	}
	waiting := 0
	for _, a := range as {
		if a.Accepted == "" && a.Refused == "" {
			waiting++
		}
	}
	if waiting >= MaxArrivals {
		return fault.New(fault.Unavailable, "too many devices wait for an operator")
	}
	return nil
}

// Bind reserves the device for what it showed, just before its certificate is
// issued: from here on the EK, and the token, are nobody else's. It is written
// at once, so that a crash afterwards leaves a device that can simply repeat.
func (f *Fleet) Bind(ctx context.Context, id identity.Device, s birth.Showing) error {
	defer f.locks.lock(id)()
	if err := f.unclaimed(ctx, s.EK, id, s.Remote); err != nil {
		return fault.Hide(fault.Denied, "the EK is already enrolled as another device", err)
	}
	_, err := f.changeLocked(ctx, id, func(r *Record, g operator.Group) ([]Event, error) {
		if err := f.mayBind(*r, s); err != nil {
			return nil, err
		}
		r.EK, r.Key = s.EK, s.Key
		r.Spent = r.Spent || r.Token != (identity.Digest{}) && r.Token == identity.Sum([]byte(s.Token))
		return nil, birth.Welcome(s.Class, g)
	})
	return err
}

// mayBind refuses what Claim would not let pass any more: much may have
// happened since.
func (f *Fleet) mayBind(r Record, s birth.Showing) error {
	none := identity.Digest{}
	byToken := s.Token != "" && r.Token == identity.Sum([]byte(s.Token)) && f.now().Before(r.Expires) && tokenFits(r, s)
	switch {
	case r.Revoked != nil:
		return fault.New(fault.Denied, "the device is revoked")
	case r.EK != none && r.EK != s.EK:
		return fault.New(fault.Denied, "%s is registered with another TPM", r.ID)
	case r.EK == none && !byToken:
		return fault.New(fault.Denied, "the claim token is unknown, spent or expired")
	}
	return nil
}

// Born takes in a completed birth. What it supersedes (AK, birth certificate
// and the operational certificates that followed from them) is worthless from
// here on, and recorded. The same birth once more, whose answer was lost,
// changes nothing.
func (f *Fleet) Born(ctx context.Context, b birth.Born) error {
	var old Record
	_, err := f.change(ctx, b.Device, func(r *Record, _ operator.Group) ([]Event, error) {
		old = *r
		again := r.Birth == b.Serial && slices.Equal(r.AK, b.AK)
		switch {
		case r.Revoked != nil:
			return nil, fault.New(fault.Denied, "the device is revoked")
		case r.EK != b.EK || r.Key != b.Key:
			return nil, fault.New(fault.Conflict, "another birth of %s has overtaken this one", b.Device)
		case again:
			old.Birth, old.Certificates = "", nil // nothing is superseded
			return nil, nil
		}
		r.Class, r.AK, r.Born, r.Birth = b.Class, slices.Clone(b.AK), b.Time.UTC(), b.Serial
		r.Refused, r.Certificates = "", nil
		delete(r.Rows, posture.Attestation) // the old AK's word
		r.Release, r.Firmware = "", nil
		details := map[string]any{"class": b.Class, "serial": b.Serial, "key": b.Key}
		if b.AK != nil {
			details["ek"], details["ak"] = b.EK, identity.Sum(b.AK)
		}
		if old.Birth == b.Serial {
			old.Birth = "" // a new AK for the same birth key
		}
		if old.Birth != "" {
			details["superseded"] = old.Birth
		}
		return []Event{{Kind: KindBorn, Device: b.Device, Details: details}}, nil
	})
	if err == nil {
		f.withdraw(ctx, old, pki.ReasonSuperseded)
	}
	return err
}

// RefuseBirth takes in that whoever showed s asked to be born and was refused.
// Where EK or token leads to a device that was never born, it shows as refused,
// with the reason. Of a device the same reason is recorded once, so that
// nobody can fill the ledger by asking again.
func (f *Fleet) RefuseBirth(ctx context.Context, s birth.Showing, reason string) error {
	r, err := f.shown(ctx, s)
	if fault.Of(err) == fault.NotFound {
		return f.refuseStranger(ctx, s, reason)
	}
	if err != nil {
		return err
	}
	return f.refuseDevice(ctx, r.ID, reason)
}

// shown finds the device that s leads to, whether it may be born or not.
func (f *Fleet) shown(ctx context.Context, s birth.Showing) (Record, error) {
	if s.EK != (identity.Digest{}) {
		if r, err := f.cfg.Store.DeviceByEK(ctx, s.EK); err == nil || fault.Of(err) != fault.NotFound {
			return r, err
		}
	}
	return f.cfg.Store.DeviceByToken(ctx, identity.Sum([]byte(s.Token)))
}

// refuseDevice takes in that the birth of a device was refused. Whoever knows
// its EK, which is no secret, can have it refused for one reason after another.
func (f *Fleet) refuseDevice(ctx context.Context, id identity.Device, reason string) error {
	_, err := f.change(ctx, id, func(r *Record, _ operator.Group) ([]Event, error) {
		if r.Refused == reason || !f.mayRefuse(id) {
			return nil, nil
		}
		r.Refused = reason
		return []Event{{Kind: KindRefused, Device: id, Details: map[string]any{"reason": reason}}}, nil
	})
	return err
}

// refusalsPerHour bounds how many refusals of one device's births are taken in.
const refusalsPerHour = 20

// mayRefuse counts a refusal of a device's birth and reports whether it is
// within bounds.
func (f *Fleet) mayRefuse(id identity.Device) bool {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.refused.since) >= time.Hour || f.refused.of == nil {
		f.refused.since, f.refused.of = now, make(map[identity.Device]int)
	}
	f.refused.of[id]++
	return f.refused.of[id] <= refusalsPerHour
}

// refused counts what was refused in this hour.
type refused struct {
	since time.Time
	of    map[identity.Device]int
}

// strangersPerHour bounds how many refusals of who leads to no device are
// recorded: anybody can make new EKs. All refusals are in the log.
const strangersPerHour = 100

// strangers remembers what was recorded of strangers in this hour.
type strangers struct {
	since time.Time
	known map[string]bool
}

// news reports whether a refusal is to be recorded, and remembers it.
func (s *strangers) news(key string, now time.Time) bool {
	if now.Sub(s.since) >= time.Hour || s.known == nil {
		s.since, s.known = now, make(map[string]bool)
	}
	if s.known[key] || len(s.known) >= strangersPerHour {
		return false
	}
	s.known[key] = true
	return true
}

// refuseStranger records the refusal of who leads to no device, once an hour
// for each TPM (or for all without one) and reason.
func (f *Fleet) refuseStranger(ctx context.Context, s birth.Showing, reason string) error {
	now := f.now()
	f.mu.Lock()
	news := f.strangers.news(s.EK.String()+reason, now)
	f.mu.Unlock()
	if !news {
		return nil
	}
	details := map[string]any{"reason": reason, "remote": s.Remote}
	if s.EK != (identity.Digest{}) {
		details["ek"], details["subject"], details["issuer"] = s.EK, s.Subject, s.Issuer
	}
	return f.record(ctx, Event{Kind: KindRefused, Details: details})
}

// Attester returns the public area of a device's activated attestation key,
// what its TPM is, and its group; or a fault of kind Denied when the device has
// no such key or is revoked.
func (f *Fleet) Attester(ctx context.Context, id identity.Device) (ak []byte, class birth.Class, g operator.Group, err error) {
	defer f.locks.lock(id)()
	r, g, err := f.load(ctx, id)
	if err != nil {
		return nil, "", g, err
	}
	if len(r.AK) == 0 || r.Revoked != nil {
		return nil, r.Class, g, fault.New(fault.Denied, "device %s has no attestation key", id)
	}
	return r.AK, r.Class, g, nil
}

// Attests reports whether a device has an activated attestation key, revoked or
// not.
func (f *Fleet) Attests(ctx context.Context, id identity.Device) (bool, error) {
	defer f.locks.lock(id)()
	r, err := f.read(ctx, id)
	return len(r.AK) > 0, err
}

// Pending returns the devices that nothing admits, the newest first.
func (f *Fleet) Pending(ctx context.Context) ([]operator.Pending, error) {
	as, err := f.cfg.Store.Arrivals(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]operator.Pending, 0, len(as))
	for _, a := range as {
		shown := string(a.Class) + " TPM, EK certificate of " + a.Subject + " by " + a.Issuer
		if a.Refused != "" {
			shown += ", refused: " + a.Refused
		}
		out = append(out, operator.Pending{ID: a.EK.String(), EK: a.EK.String(), Shown: shown, Remote: a.Remote, Time: a.Last, Device: a.Accepted})
	}
	return out, nil
}

// Accept admits a pending device under an id: the next time it asks, it is born.
func (f *Fleet) Accept(ctx context.Context, by, id string, in operator.Accept) error {
	defer f.lockRegistry()()
	a, err := f.arrival(ctx, id)
	if err != nil {
		return err
	}
	if a.Accepted != "" {
		return fault.New(fault.Conflict, "it was accepted already, as %s", a.Accepted)
	}
	r, err := f.newRecord(ctx, by, in.Device, in.Group)
	if err != nil {
		return err
	}
	defer f.locks.lock(r.ID)()
	if err := f.unclaimed(ctx, a.EK, r.ID, by); err != nil {
		return err
	}
	a.Accepted, a.Refused = r.ID, ""
	r.EK, r.Admits = a.EK, ByEK
	es := []Event{added(r), {Kind: KindAccept, Device: r.ID, Details: map[string]any{"by": by, "ek": a.EK}}}
	if err := f.cfg.Store.AcceptArrival(ctx, a, r, es); err != nil {
		return err
	}
	f.index.put(OutlineOf(r))
	f.handOver(ctx)
	return nil
}

// Refuse turns a pending device away: it is denied until an operator accepts it.
func (f *Fleet) Refuse(ctx context.Context, by, id, reason string) error {
	defer f.lockRegistry()()
	a, err := f.arrival(ctx, id)
	if err != nil {
		return err
	}
	if a.Accepted != "" {
		return fault.New(fault.Conflict, "it was accepted already, as %s", a.Accepted)
	}
	if reason == "" || len(reason) > maxReason {
		return fault.New(fault.Invalid, "reason has %d bytes, want 1 to %d", len(reason), maxReason)
	}
	a.Refused = reason
	e := Event{Kind: KindTurnAway, Details: map[string]any{"by": by, "ek": a.EK, "reason": reason}}
	if err := f.cfg.Store.SaveArrival(ctx, a, []Event{e}); err != nil {
		return err
	}
	f.handOver(ctx)
	return nil
}

func (f *Fleet) arrival(ctx context.Context, id string) (Arrival, error) {
	ek, err := identity.ParseDigest(id)
	if err != nil {
		return Arrival{}, fault.New(fault.NotFound, "nothing is pending under %q", id)
	}
	return f.cfg.Store.Arrival(ctx, ek)
}
