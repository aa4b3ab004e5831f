package keys

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// srkHandle is where the storage root key is persistent (TCG TPM v2.0
// Provisioning Guidance, section 7.8).
const srkHandle = 0x81000001

// storageRoot returns the persistent storage root key, making it once.
func (t *TPM) storageRoot() (tpm2.NamedHandle, error) {
	if h, public, err := t.persistent(srkHandle); err == nil {
		if a := public.ObjectAttributes; !a.Restricted || !a.Decrypt || !a.FixedTPM {
			return h, fmt.Errorf("the object at %#x is not a storage key", srkHandle)
		}
		return h, nil
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(t.owner)}
	made, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t.tpm)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("create: %w", err)
	}
	_, err = tpm2.EvictControl{Auth: owner, PersistentHandle: srkHandle,
		ObjectHandle: tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}}.Execute(t.tpm)
	if err = errors.Join(err, flush(t.tpm, made.ObjectHandle)); err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("make persistent: %w", err)
	}
	return tpm2.NamedHandle{Handle: srkHandle, Name: made.Name}, nil
}

// persistent returns the name and public area of a persistent object.
func (t *TPM) persistent(h tpm2.TPMHandle) (tpm2.NamedHandle, *tpm2.TPMTPublic, error) {
	r, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(t.tpm)
	if err != nil {
		return tpm2.NamedHandle{}, nil, err
	}
	public, err := r.OutPublic.Contents()
	return tpm2.NamedHandle{Handle: h, Name: r.Name}, public, err
}

// ekSource is a way to an endorsement key: the NV index of its certificate,
// its usual persistent handle and its template (TCG EK Credential Profile
// 2.5, section 2.2.1.4 and TCG registry of reserved handles).
type ekSource struct {
	certificate tpm2.TPMHandle
	handle      tpm2.TPMHandle
	template    tpm2.TPMTPublic
}

func ekSources() []ekSource {
	return []ekSource{
		{certificate: 0x01C00002, handle: 0x81010001, template: tpm2.RSAEKTemplate},
		{certificate: 0x01C0000A, handle: 0x81010002, template: tpm2.ECCEKTemplate},
	}
}

// The NV indices of the certificates above the endorsement key's.
const (
	chainFirst = 0x01C00100
	chainLast  = 0x01C001FF
)

// findEK chooses the first endorsement key that has a certificate, or the
// first of all when none has, and reads its chain.
func (t *TPM) findEK() error {
	sources := ekSources()
	t.ek = sources[0]
	var leaf []byte
	for _, s := range sources {
		text, err := t.readNV(s.certificate)
		if err != nil {
			continue // not there, or not to be read by us
		}
		if leaf, err = firstDER(text); err != nil {
			return fmt.Errorf("certificate at %#x: %w", uint32(s.certificate), err)
		}
		t.ek = s
		break
	}
	public, err := t.ekArea()
	if err != nil || leaf == nil {
		t.ekPublic = public
		return err
	}
	if err := matches(leaf, public); err != nil {
		return err
	}
	t.ekPublic, t.ekChain = public, append([][]byte{leaf}, t.readChain()...)
	return nil
}

// ekArea returns the endorsement key's public area.
func (t *TPM) ekArea() ([]byte, error) {
	var area []byte
	err := t.withEK(func(_ tpm2.NamedHandle, public []byte) error {
		area = public
		return nil
	})
	return area, err
}

// withEK calls use with the endorsement key: the persistent one where it is
// the one of the template, else one made from the endorsement seed, which is
// always the same.
func (t *TPM) withEK(use func(tpm2.NamedHandle, []byte) error) error {
	if h, public, err := t.persistent(t.ek.handle); err == nil && sameTemplate(*public, t.ek.template) {
		return use(h, tpm2.Marshal(public))
	}
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(t.endorsement)},
		InPublic:      tpm2.New2B(t.ek.template),
	}.Execute(t.tpm)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	err = use(tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, made.OutPublic.Bytes())
	return errors.Join(err, flush(t.tpm, made.ObjectHandle))
}

// sameTemplate reports whether two public areas differ at most in the key.
func sameTemplate(a, b tpm2.TPMTPublic) bool {
	a.Unique = b.Unique
	return bytes.Equal(tpm2.Marshal(a), tpm2.Marshal(b))
}

// matches refuses a certificate that is not of the key in a public area.
func matches(certificate, area []byte) error {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return err
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](area)
	if err != nil {
		return err
	}
	key, err := tpm2.Pub(*public)
	if err != nil {
		return err
	}
	if k, ok := key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(cert.PublicKey) {
		return errors.New("the certificate is of another key")
	}
	return nil
}

// readChain returns the certificates above the endorsement key's. What cannot
// be read is left out: the verifier may know it.
func (t *TPM) readChain() [][]byte {
	indices, err := handles(t.tpm, chainFirst)
	if err != nil {
		return nil
	}
	var text []byte
	for _, index := range indices {
		part, err := t.readNV(index)
		if index > chainLast || err != nil {
			break
		}
		text = append(text, part...) // a certificate may span indices
	}
	var chain [][]byte
	for len(text) > 0 {
		der, err := firstDER(text)
		if err != nil {
			break
		}
		chain = append(chain, der)
		text = text[len(der):]
	}
	return chain
}

// firstDER returns the first DER element: makers pad with other bytes.
func firstDER(text []byte) ([]byte, error) {
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	return raw.FullBytes, nil
}
