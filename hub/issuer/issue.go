package issuer

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/pki"
)

// IssueBirth issues the IDevID of a device that the caller has admitted to
// group, and revokes its earlier ones as superseded. csr is PKCS#10 DER. The
// result has the leaf and the intermediate, without the root. A request that
// breaks a rule is fault.Invalid and names it; a key that was seen before is
// fault.Conflict, or fault.Denied where it is another's.
func (i *Issuer) IssueBirth(ctx context.Context, id identity.Device, group identity.Group, csr []byte) ([]*x509.Certificate, error) {
	req, err := checkCSR(csr, id)
	if err != nil {
		return nil, err
	}
	return i.issue(ctx, pki.Birth, pki.BirthLeaf(id, req.PublicKey), Issued{Device: id, Group: group})
}

// IssueOperational issues an LDevID of the given lifetime: what the device's
// posture has earned. Result and errors are those of IssueBirth.
func (i *Issuer) IssueOperational(ctx context.Context, id identity.Device, csr []byte, lifetime time.Duration) ([]*x509.Certificate, error) {
	req, err := checkCSR(csr, id)
	if err != nil {
		return nil, err
	}
	return i.operational(ctx, id, req, lifetime, "")
}

func (i *Issuer) operational(ctx context.Context, id identity.Device, req *x509.CertificateRequest, lifetime time.Duration, via string) ([]*x509.Certificate, error) {
	if lifetime <= 0 {
		return nil, fault.New(fault.Denied, "no certificate is granted")
	}
	leaf := pki.OperationalLeaf(id, req.PublicKey, lifetime)
	return i.issue(ctx, pki.Operational, leaf, Issued{Device: id, Lifetime: lifetime, Via: via})
}

// IssueRegistered is IssueOperational for a device that may call itself by its
// registration id in csr.
func (i *Issuer) IssueRegistered(ctx context.Context, id, registration identity.Device, csr []byte, lifetime time.Duration) ([]*x509.Certificate, error) {
	req, err := checkCSR(csr, id)
	if err != nil && registration != id {
		req, err = checkCSR(csr, registration)
	}
	if err != nil {
		return nil, err
	}
	return i.operational(ctx, id, req, lifetime, "")
}

// IssueOperator issues the certificate of an operator who holds key.
func (i *Issuer) IssueOperator(ctx context.Context, name string, key crypto.PublicKey, lifetime time.Duration) ([]*x509.Certificate, error) {
	return i.issue(ctx, pki.Operator, pki.OperatorLeaf(name, key, lifetime), Issued{Lifetime: lifetime})
}

// IssueServer makes a key and a certificate of the hub for it. The key stays
// in memory; the authority's name constraints bound the names.
func (i *Issuer) IssueServer(ctx context.Context, names pki.Names, lifetime time.Duration) (*tls.Certificate, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	chain, err := i.issue(ctx, pki.Server, pki.ServerLeaf(names, key.Public(), lifetime), Issued{Lifetime: lifetime})
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: pki.RawChain(chain), PrivateKey: key, Leaf: chain[0]}, nil
}

func (i *Issuer) issue(ctx context.Context, class pki.Class, leaf pki.Leaf, told Issued) ([]*x509.Certificate, error) {
	return i.issueBy(ctx, i.ca[class], leaf, told)
}

// issueBy signs, records, and only then returns the certificate.
func (i *Issuer) issueBy(ctx context.Context, ca *pki.Authority, leaf pki.Leaf, told Issued) ([]*x509.Certificate, error) {
	now, class := i.cfg.Now(), ca.Class
	cert, err := ca.Issue(leaf, now)
	if err != nil {
		return nil, err
	}
	told.Class, told.Name, told.Issued, told.NotAfter = class, cert.Subject.CommonName, now, cert.NotAfter
	told.Key, told.Serial = identity.Sum(cert.RawSubjectPublicKeyInfo), pki.SerialText(cert)
	added, err := i.post.add(ctx, Certificate{
		Serial: told.Serial, Class: class, Name: told.Name, Key: told.Key,
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, DER: cert.Raw, IssuedAt: now,
	})
	if err != nil {
		return nil, refused(err, told.Name)
	}
	if added.Superseded > 0 {
		i.outdate(class)
	}
	i.cfg.Log.InfoContext(ctx, "certificate issued", "class", class, "name", told.Name, "serial", told.Serial, "until", told.NotAfter)
	if i.cfg.Issued != nil {
		if err := i.cfg.Issued(ctx, told); err != nil {
			return nil, fmt.Errorf("%s certificate %s for %q is withheld: %w", class, told.Serial, told.Name, err)
		}
	}
	return []*x509.Certificate{cert, ca.Cert}, nil
}

// NoteKey records a public key of a device that is certified elsewhere: its
// AK, its EK, a maker's. A key that another device has shown is fault.Denied,
// by rule key-reuse. Keys that are to be certified here are not to be noted:
// issuing records them.
func (i *Issuer) NoteKey(ctx context.Context, key identity.Digest, device identity.Device, kind string) error {
	err := i.cfg.Store.NoteKey(ctx, Key{Digest: key, Owner: string(device), Kind: kind}, i.cfg.Now())
	if err != nil {
		return refused(err, string(device))
	}
	return nil
}

func checkCSR(csr []byte, id identity.Device) (*x509.CertificateRequest, error) {
	req, err := pki.CheckCSR(csr, id)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	return req, nil
}

// refused turns the store's "seen before" into a refusal. The log names whose
// key it was; the peer does not learn that.
func refused(err error, name string) error {
	var seen *KeySeenError
	if !errors.As(err, &seen) {
		return fmt.Errorf("certificate for %q: %w", name, err)
	}
	kind := fault.Denied
	if seen.Known.Owner == name {
		kind = fault.Conflict // a renewal with the old key, or an answer that was lost: it makes a new key
	}
	cause := &pki.Refusal{Of: "certificate request", Rule: pki.RuleKeyReuse, Detail: seen.Error()}
	return fault.Hide(kind, "certificate request refused by rule key-reuse: make a new key", cause)
}
