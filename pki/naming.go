package pki

import (
	"crypto/x509"
	"time"

	"holdfast/identity"
)

// Naming says which device a maker's or a self-signed certificate is of, where
// that is registered to be another than its common name says, which p.Device has.
// An error refuses the certificate.
type Naming func(p Peer) (identity.Device, error)

// Name makes t ask naming about each certificate that is not the hub's own, and
// returns t. It is asked anew each time, so that what is registered now counts.
// It must be called before t is used.
func (t *Trust) Name(naming Naming) *Trust {
	t.naming = naming
	return t
}

// Verify says who presented chain, the leaf first, or refuses it with a
// [*Refusal] naming the rule, or with the error of the Naming. The class is that
// of the anchor whose signature verifies, never what the certificate says of
// itself.
func (t *Trust) Verify(chain []*x509.Certificate, now time.Time) (Peer, error) {
	p, err := t.verify(chain, now)
	if err != nil || t.naming == nil || p.Class != Maker && p.Class != SelfSigned {
		return p, err
	}
	if p.Device, err = t.naming(p); err != nil {
		return Peer{}, err
	}
	return p, nil
}
