package hub

import (
	"context"
	"crypto"
	"errors"
	"time"

	"holdfast/fault"
	"holdfast/hub/auditors"
	"holdfast/hub/fleet"
	"holdfast/hub/issuer"
	"holdfast/identity"
	"holdfast/pki"
)

// buildAuditors opens the auditors. What they signed counts from here on.
func (h *hub) buildAuditors(ctx context.Context) error {
	var err error
	h.auditors, err = auditors.New(auditors.Config{Store: h.db.Auditors(), Releases: h.repository, Keys: roles{h}, Ledger: h.journal, Log: h.component("auditors")})
	if err != nil {
		return err
	}
	return h.auditors.Refresh(ctx)
}

// watchAudits has devices judged anew as soon as other statements count.
func (h *hub) watchAudits(ctx context.Context) error {
	for {
		published, said := h.repository.Changed(), h.auditors.Changed()
		err := h.auditors.Refresh(ctx)
		if err == nil {
			err = h.fleet.AuditsChanged(ctx)
		}
		if err != nil && ctx.Err() == nil {
			h.log.ErrorContext(ctx, "judge devices by what auditors said", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-published:
		case <-said:
		case <-time.After(fleet.Recheck):
		}
	}
}

// roles says what the keys of this hub are for.
type roles struct{ h *hub }

// Claim implements auditors.Keys: an auditor's key is one that this hub has
// never seen, and will certify nobody.
func (r roles) Claim(ctx context.Context, key identity.Digest, name string) error {
	err := r.h.db.NoteKey(ctx, issuer.Key{Digest: key, Owner: name, Kind: "auditor"}, time.Now())
	if seen, ok := errors.AsType[*issuer.KeySeenError](err); ok {
		return fault.New(fault.Conflict, "the key is known as the %s key of %q: an auditor needs one that is used for nothing else", seen.Known.Kind, seen.Known.Owner)
	}
	return err
}

// Role implements auditors.Keys. RSA keys are no auditors' in any case.
func (r roles) Role(ctx context.Context, key identity.Digest) (string, error) {
	if role := r.h.repository.RoleOf(key); role != "" {
		return role, nil
	}
	certs := pki.EncodeCerts(r.h.issuer.Root())
	for _, a := range r.h.issuer.Anchors(pki.Birth, pki.Operational, pki.Server, pki.Operator) {
		certs = append(certs, pki.EncodeCerts(a.Cert)...)
	}
	if ok, err := certifies(certs, key); ok || err != nil {
		return "a key of this hub's authorities", err
	}
	cas, err := r.h.db.Fleet().CAs(ctx)
	if err != nil {
		return "", err
	}
	for _, ca := range cas {
		if ok, err := certifies([]byte(ca.PEM), key); ok || err != nil {
			return "the key of the registered authority " + ca.Name, err
		}
	}
	return "", nil
}

// certifies reports whether one of certificates in PEM is for a key.
func certifies(text []byte, key identity.Digest) (bool, error) {
	certs, err := pki.ParseCerts(text)
	for _, c := range certs {
		if d, err := identity.KeyDigest(crypto.PublicKey(c.PublicKey)); err == nil && d == key {
			return true, nil
		}
	}
	return false, err
}
