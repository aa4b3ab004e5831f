package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast/appraise"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
	"holdfast/release"
)

// Firmware is what a device's verified evidence showed of the image that runs.
type Firmware struct {
	appraise.Running
	First time.Time `json:"first"`          // when evidence first showed this image, after another
	Void  bool      `json:"void,omitempty"` // later evidence showed none, or did not verify
	Told  Told      `json:"told,omitzero"`  // what the ledger has of it
}

// Told is what the ledger records of a device's firmware.
type Told struct {
	Digest    identity.Digest `json:"digest"`
	Release   string          `json:"release,omitempty"`   // the signed release that it is
	Reference string          `json:"reference,omitempty"` // an operator's name for it, where it is none
	Withdrawn string          `json:"withdrawn,omitempty"` // why the release was
}

// shown is what is kept of a device's firmware after an appraisal. That one
// showed nothing does not make the image young again.
func (w *Firmware) shown(runs *appraise.Running) *Firmware {
	switch {
	case runs == nil && w == nil:
		return nil
	case runs == nil:
		return &Firmware{Running: w.Running, First: w.First, Void: true, Told: w.Told}
	case w == nil:
		return &Firmware{Running: *runs, First: runs.Time}
	case w.Digest == runs.Digest:
		return &Firmware{Running: *runs, First: w.First, Told: w.Told}
	}
	return &Firmware{Running: *runs, First: runs.Time, Told: w.Told}
}

// judgeFirmware holds what r runs against what is signed, and returns what the
// ledger has to record of it. It is done anew with every decision: releases are
// published and withdrawn, rollouts come and go.
func (f *Fleet) judgeFirmware(ctx context.Context, g operator.Group, r *Record) ([]Event, error) {
	if r.Firmware == nil || r.Firmware.Void {
		delete(r.Rows, posture.Releases)
		return nil, nil
	}
	s, err := f.shelf(ctx, g, *r)
	if err != nil {
		return nil, fmt.Errorf("releases for %s: %w", r.ID, err)
	}
	w := *r.Firmware
	r.Rows[posture.Releases] = appraise.ReleaseRows(w.Running, w.First, s)
	told := w.tell(s)
	if w.Doubt != "" || told == w.Told {
		return nil, nil
	}
	was := w.Told
	w.Told = told
	r.Firmware = &w
	return []Event{{Kind: KindFirmware, Device: r.ID, Details: map[string]any{"firmware": told, "was": was}}}, nil
}

// tell is what the ledger records of what runs.
func (w Firmware) tell(s appraise.Shelf) Told {
	t := Told{Digest: w.Digest, Reference: w.Reference}
	if p := appraise.Stand(w.Running, s).Runs; p != nil {
		t.Release, t.Reference, t.Withdrawn = string(p.Product)+" "+p.Version.String(), "", p.Why()
	}
	return t
}

// shelf is what is signed for a device that attests its firmware.
func (f *Fleet) shelf(ctx context.Context, g operator.Group, r Record) (appraise.Shelf, error) {
	s := appraise.Shelf{Product: g.Product}
	if f.cfg.Releases == nil {
		return s, nil
	}
	rel, signed := f.cfg.Releases.Signed(ctx, r.Firmware.Digest)
	product := g.Product
	if product == "" && signed {
		product = rel.Product
	}
	if product == "" {
		return s, nil
	}
	if signed && rel.Product != product {
		s.Elsewhere, signed = &rel, false
	}
	var err error
	if s.Releases, err = f.published(ctx, product); err == nil && signed && !has(s.Releases, rel) {
		s.Releases, err = f.lookAgain(ctx, product) // it was published or withdrawn a moment ago
	}
	if err != nil {
		return s, err
	}
	if f.cfg.Offers == nil {
		return s, nil
	}
	o, ok, err := f.cfg.Offers.Offered(ctx, r.ID)
	if ok {
		s.Offered = &o
	}
	return s, err
}

// has reports whether a shelf has a release as it is now.
func has(all []appraise.Published, rel release.Release) bool {
	return slices.ContainsFunc(all, func(p appraise.Published) bool {
		return p.Version == rel.Version && p.Measured == rel.Measured && p.Target.Withdrawn == rel.Withdrawn
	})
}

// Attested returns the digest of the firmware that a device runs, as its TPM
// signed it, and when that was appraised. It is a fault of kind NotFound where
// nothing proves what runs. It waits for no act on the device.
func (f *Fleet) Attested(ctx context.Context, id identity.Device) (identity.Digest, time.Time, error) {
	r, err := f.peek(ctx, id)
	if err != nil {
		return identity.Digest{}, time.Time{}, err
	}
	w := r.Firmware
	switch {
	case w == nil || w.Void:
		return identity.Digest{}, time.Time{}, fault.New(fault.NotFound, "nothing attests what %s runs", id)
	case w.Doubt != "":
		return identity.Digest{}, time.Time{}, fault.New(fault.NotFound, "nothing attests what %s runs: %s", id, w.Doubt)
	case !w.Grade.Meets(measure.Attested):
		return identity.Digest{}, time.Time{}, fault.New(fault.NotFound, "what %s runs is only %s", id, w.Grade)
	}
	return w.Digest, w.Time, nil
}

// firmware is what a device runs as operators see it, or nil.
func (f *Fleet) firmware(ctx context.Context, g operator.Group, r Record) *operator.Firmware {
	w := r.Firmware
	if w == nil || w.Void {
		return nil
	}
	out := &operator.Firmware{Digest: w.Digest, Since: w.First, Time: w.Time, Minimum: w.Minimum}
	s, err := f.shelf(ctx, g, r)
	if err != nil {
		f.log.ErrorContext(ctx, "releases of what it runs", "device", r.ID, "err", err)
		return out
	}
	if w.Doubt != "" {
		return out
	}
	st := appraise.Stand(w.Running, s)
	if p := st.Runs; p != nil {
		out.Product, out.Version, out.SecurityVersion, out.Withdrawn = p.Product, p.Version, p.SecurityVersion, p.Why()
	}
	if st.Behind != nil {
		out.Behind, out.BehindSince = st.Behind.Version, st.Since
	}
	return out
}

// Releases knows what has been signed and published. It answers from memory: it
// is asked with every decision on a device, while that is being acted on, and
// must not call back.
type Releases interface {
	// Signed returns the release whose image measures as digest, withdrawn or not.
	Signed(ctx context.Context, digest identity.Digest) (release.Release, bool)
	// Published returns all releases of a product, the withdrawn ones too.
	Published(ctx context.Context, p release.Product) ([]release.Release, error)
}

// Offers knows what rollouts offer. It is asked as Releases are.
type Offers interface {
	// Offered returns what a running rollout offers a device, if one does.
	Offered(ctx context.Context, id identity.Device) (appraise.Offered, bool, error)
}
