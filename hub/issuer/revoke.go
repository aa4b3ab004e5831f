package issuer

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/pki"
)

// crlGrace keeps a revoked certificate on the lists for a while after its end
// (RFC 5280 section 3.3 wants it on one list beyond).
const crlGrace = 48 * time.Hour

// crl is a signed list in memory. The zero value is outdated.
type crl struct {
	der     []byte
	number  int64
	renew   time.Time // half-way to its nextUpdate
	current bool      // nothing was revoked since
	epoch   uint64    // counts revocations
}

// Revoke revokes the certificate with a serial number. None by it is
// fault.NotFound; one that is revoked already stays as it is.
func (i *Issuer) Revoke(ctx context.Context, serial string, reason int) error {
	known, err := i.cfg.Store.Certificates(ctx, Selection{Serial: serial})
	if err != nil {
		return fmt.Errorf("revoke %s: %w", serial, err)
	}
	if len(known) == 0 {
		return fault.New(fault.NotFound, "no certificate %q was issued here", serial)
	}
	return i.revoke(ctx, Selection{Serial: serial}, reason)
}

// RevokeDevice revokes all certificates of a device.
func (i *Issuer) RevokeDevice(ctx context.Context, id identity.Device, reason int) error {
	for _, class := range []pki.Class{pki.Birth, pki.Operational} {
		if err := i.revoke(ctx, Selection{Class: class, Name: string(id)}, reason); err != nil {
			return err
		}
	}
	return nil
}

// RevokeOperator revokes all certificates of an operator.
func (i *Issuer) RevokeOperator(ctx context.Context, name string, reason int) error {
	if name == "" { // would select those of all
		return fault.New(fault.NotFound, "no operator has no name")
	}
	return i.revoke(ctx, Selection{Class: pki.Operator, Name: name}, reason)
}

func (i *Issuer) revoke(ctx context.Context, which Selection, reason int) error {
	now := i.cfg.Now()
	serials, err := i.cfg.Store.Revoke(ctx, which, now, reason)
	if err != nil {
		return fmt.Errorf("revoke %+v: %w", which, err)
	}
	if len(serials) == 0 {
		return nil
	}
	for _, class := range pki.Classes() {
		i.outdate(class)
	}
	i.cfg.Log.InfoContext(ctx, "certificates revoked", "name", which.Name, "serials", serials, "reason", reason)
	if i.cfg.Revoked != nil {
		i.cfg.Revoked(ctx, Revoked{Name: which.Name, Serials: serials, Reason: reason, Time: now})
	}
	return nil
}

// CheckRevoked refuses the certificate with a serial number, by rule revoked,
// if it is revoked or superseded, or was never issued here.
func (i *Issuer) CheckRevoked(ctx context.Context, serial string) error {
	known, err := i.cfg.Store.Certificates(ctx, Selection{Serial: serial})
	if err != nil {
		return fmt.Errorf("look up certificate %s: %w", serial, err)
	}
	detail := ""
	switch {
	case len(known) == 0:
		detail = "serial number " + serial + " is not on record"
	case !known[0].RevokedAt.IsZero():
		detail = fmt.Sprintf("serial number %s, %s, reason %d", serial, known[0].RevokedAt.UTC().Format(time.RFC3339), known[0].Reason)
	default:
		return nil
	}
	return &pki.Refusal{Of: "certificate", Rule: pki.RuleRevoked, Detail: detail}
}

// CRL returns the revocation list of a class, DER. A new one is signed after a
// revocation and half-way to nextUpdate; its number never goes back.
func (i *Issuer) CRL(ctx context.Context, class pki.Class) ([]byte, error) {
	ca := i.ca[class]
	if ca == nil {
		return nil, fault.New(fault.NotFound, "no authority %q", class)
	}
	now := i.cfg.Now()
	i.mu.Lock()
	cached := i.crls[class]
	i.mu.Unlock()
	if cached.current && now.Before(cached.renew) {
		return cached.der, nil
	}
	number, revoked, err := i.cfg.Store.NextCRL(ctx, class, now.Add(-crlGrace))
	if err != nil {
		return nil, fmt.Errorf("%s revocation list: %w", class, err)
	}
	entries, err := revocations(revoked)
	if err != nil {
		return nil, fmt.Errorf("%s revocation list: %w", class, err)
	}
	// Like notBefore of a certificate, thisUpdate allows for slow clocks.
	der, err := ca.RevocationList(number, entries, now.Add(-pki.Backdate), now.Add(i.cfg.CRLLifetime))
	if err != nil {
		return nil, err
	}
	i.keep(class, cached.epoch, crl{der: der, number: number, renew: now.Add(i.cfg.CRLLifetime / 2)})
	return der, nil
}

// keep caches a list, unless a newer one is there. It is current only if
// nothing was revoked since epoch, when its entries were not yet read.
func (i *Issuer) keep(class pki.Class, epoch uint64, c crl) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.crls[class]
	if c.number < now.number {
		return
	}
	c.epoch, c.current = now.epoch, now.epoch == epoch
	i.crls[class] = c
}

// outdate makes the next CRL a new one.
func (i *Issuer) outdate(class pki.Class) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := i.crls[class]
	c.current = false
	c.epoch++
	i.crls[class] = c
}

func revocations(certs []Certificate) ([]pki.Revocation, error) {
	list := make([]pki.Revocation, 0, len(certs))
	for _, c := range certs {
		serial, ok := new(big.Int).SetString(c.Serial, 16)
		if !ok {
			return nil, fmt.Errorf("serial number %q on record", c.Serial)
		}
		list = append(list, pki.Revocation{Serial: serial, Time: c.RevokedAt, Reason: c.Reason})
	}
	return list, nil
}

// Certificates returns what was issued under a name, the newest first.
func (i *Issuer) Certificates(ctx context.Context, class pki.Class, name string) ([]*x509.Certificate, error) {
	known, err := i.cfg.Store.Certificates(ctx, Selection{Class: class, Name: name})
	if err != nil {
		return nil, fmt.Errorf("%s certificates of %q: %w", class, name, err)
	}
	certs := make([]*x509.Certificate, 0, len(known))
	for _, k := range known {
		cert, err := x509.ParseCertificate(k.DER)
		if err != nil {
			return nil, fmt.Errorf("%s certificate %s on record: %w", class, k.Serial, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}
