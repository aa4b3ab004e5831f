package pki

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// MaxCRL is the longest revocation list in bytes that is read: some 100,000
// entries.
const MaxCRL = 4 << 20

// Revocation is one entry of a revocation list. Reason is a CRLReason of RFC
// 5280 section 5.3.1.
type Revocation struct {
	Serial *big.Int
	Time   time.Time
	Reason int
}

// The reasons that are used here.
const (
	ReasonUnspecified   = 0
	ReasonKeyCompromise = 1
	ReasonSuperseded    = 4
	ReasonRetired       = 5 // cessationOfOperation
)

// RevocationList signs a CRL (RFC 5280 section 5), DER. number has to grow
// with each list of the authority; the caller keeps it.
func (a *Authority) RevocationList(number int64, entries []Revocation, thisUpdate, nextUpdate time.Time) ([]byte, error) {
	t := &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: thisUpdate, NextUpdate: nextUpdate,
		RevokedCertificateEntries: make([]x509.RevocationListEntry, 0, len(entries)),
	}
	for _, e := range entries {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: e.Serial, RevocationTime: e.Time, ReasonCode: e.Reason,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, a.Cert, a.Key)
	if err != nil {
		return nil, fmt.Errorf("sign %s revocation list %d: %w", a.Class, number, err)
	}
	return der, nil
}

// CRL is a verified revocation list.
type CRL struct {
	Number     *big.Int
	ThisUpdate time.Time
	NextUpdate time.Time

	issuer  string // RawSubject of the issuer
	revoked map[string]int
}

// VerifyCRL reads a revocation list of issuer. It refuses, by rule, one that
// is not signed by issuer, has a number below known (nil: any), is past its
// nextUpdate or comes from the future.
func VerifyCRL(der []byte, issuer *x509.Certificate, known *big.Int, now time.Time) (*CRL, error) {
	if len(der) > MaxCRL {
		return nil, refuseCRL(RuleSize, "%d bytes, at most %d are read", len(der), MaxCRL)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, refuseCRL(RuleEncoding, "%v", err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil || string(list.RawIssuer) != string(issuer.RawSubject) {
		return nil, refuseCRL(RuleSignature, "not of %q: %v", issuer.Subject.CommonName, err)
	}
	switch {
	case list.Number == nil:
		return nil, refuseCRL(RuleNumber, "it has none")
	case known != nil && list.Number.Cmp(known) < 0:
		return nil, refuseCRL(RuleNumber, "number %d, but %d is known", list.Number, known)
	case list.NextUpdate.IsZero() || now.After(list.NextUpdate):
		return nil, refuseCRL(RuleStale, "nextUpdate was %s", list.NextUpdate.Format(time.RFC3339))
	case now.Before(list.ThisUpdate):
		return nil, refuseCRL(RuleNotYet, "thisUpdate is %s", list.ThisUpdate.Format(time.RFC3339))
	}
	return newCRL(list), nil
}

func newCRL(list *x509.RevocationList) *CRL {
	c := &CRL{
		Number: list.Number, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate,
		issuer: string(list.RawIssuer), revoked: make(map[string]int, len(list.RevokedCertificateEntries)),
	}
	for _, e := range list.RevokedCertificateEntries {
		c.revoked[e.SerialNumber.Text(16)] = e.ReasonCode
	}
	return c
}

// Check refuses a certificate that the list revokes. A certificate of another
// issuer is an error as well: the list says nothing about it.
func (c *CRL) Check(cert *x509.Certificate) error {
	if string(cert.RawIssuer) != c.issuer {
		return refuseCert(RuleIssuer, "%q is not of the list's issuer", cert.Subject.CommonName)
	}
	if reason, ok := c.revoked[SerialText(cert)]; ok {
		return refuseCert(RuleRevoked, "%q by list %d, reason %d", cert.Subject.CommonName, c.Number, reason)
	}
	return nil
}

// Len returns the number of entries.
func (c *CRL) Len() int { return len(c.revoked) }
