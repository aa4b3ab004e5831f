package birth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/pki"
)

const (
	maxChain       = 6       // certificates of an EK's chain
	maxCertificate = 8 << 10 // bytes of one of them
)

// parseEK reads an EK's public area. It has to be exactly of one of the TCG's
// default templates L-1 (RSA 2048) or L-2 (ECC P-256) but for the key itself,
// so that one EK has one digest (TCG EK Credential Profile, section 2.2.1.4).
func parseEK(area []byte) (*tpm2.TPMTPublic, crypto.PublicKey, error) {
	ek, err := decode[tpm2.TPMTPublic](area)
	if err != nil {
		return nil, nil, err
	}
	key, err := publicKey(ek)
	if err != nil {
		return nil, nil, err
	}
	for _, template := range []tpm2.TPMTPublic{tpm2.RSAEKTemplate, tpm2.ECCEKTemplate} {
		template.Unique = ek.Unique
		if template.Type == ek.Type && bytes.Equal(tpm2.Marshal(&template), area) {
			return ek, key, nil
		}
	}
	return nil, nil, errors.New("public area is of none of the default EK templates")
}

// ParseEK reads what an operator registers as the EK of a device, and returns
// the SHA-256 of its TPMT_PUBLIC. The file has a TPM2B_PUBLIC (as tpm2-tools
// write), a TPMT_PUBLIC, the digest in hexadecimal, or a JSON object with one
// of the members "ek" (the digest) and "ek_public" (the TPMT_PUBLIC, base64).
func ParseEK(file []byte) (identity.Digest, error) {
	if len(file) > maxStructure {
		return identity.Digest{}, fmt.Errorf("EK: %d bytes, at most %d are read", len(file), maxStructure)
	}
	text := bytes.TrimSpace(file)
	if d, err := identity.ParseDigest(string(text)); err == nil {
		return d, nil
	}
	if bytes.HasPrefix(text, []byte("{")) {
		return parseJSONEK(text)
	}
	area := file
	if len(file) > 2 && int(binary.BigEndian.Uint16(file)) == len(file)-2 {
		area = file[2:]
	}
	if _, _, err := parseEK(area); err != nil {
		return identity.Digest{}, fmt.Errorf("EK: want a TPM2B_PUBLIC, a TPMT_PUBLIC, a digest in hexadecimal or JSON: %w", err)
	}
	return identity.Sum(area), nil
}

func parseJSONEK(text []byte) (identity.Digest, error) {
	var v struct {
		EK     *identity.Digest `json:"ek"`
		Public []byte           `json:"ek_public"`
	}
	if err := json.Unmarshal(text, &v, json.RejectUnknownMembers(true)); err != nil {
		return identity.Digest{}, fmt.Errorf("EK: %w", err)
	}
	if (v.EK == nil) == (v.Public == nil) {
		return identity.Digest{}, errors.New(`EK: want one of the members "ek" and "ek_public"`)
	}
	if v.EK != nil {
		return *v.EK, nil
	}
	if _, _, err := parseEK(v.Public); err != nil {
		return identity.Digest{}, fmt.Errorf("EK: ek_public: %w", err)
	}
	return identity.Sum(v.Public), nil
}

// oidEK is tcg-kp-EKCertificate, the key purpose of EK certificates.
var oidEK = asn1.ObjectIdentifier{2, 23, 133, 8, 1}

// oidSAN is subjectAltName: critical in EK certificates, with a directory name
// that tells the TPM's model, which crypto/x509 does not know.
var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// checkChain verifies that chain, the EK certificate first, is of the EK with
// that key and leads to one of roots, and returns its certificate and which
// class the root is of. Where it leads to roots of both, it is Software.
func checkChain(chain [][]byte, key crypto.PublicKey, roots []Root, now time.Time) (*x509.Certificate, Class, error) {
	leaf, above, err := parseChain(chain)
	if err != nil {
		return nil, "", err
	}
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key) {
		return nil, "", errors.New("EK certificate is of another key")
	}
	if err := checkEKUsage(leaf); err != nil {
		return nil, "", err
	}
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(leaf.UnhandledCriticalExtensions, oidSAN.Equal)
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range above {
		opts.Intermediates.AddCert(c)
	}
	for _, r := range roots {
		opts.Roots.AddCert(r.Cert)
	}
	paths, err := leaf.Verify(opts)
	if err != nil {
		return leaf, "", fault.Hide(fault.Denied, "the EK certificate is of no registered endorsement root", err)
	}
	return leaf, classOf(paths, roots), nil
}

func parseChain(chain [][]byte) (leaf *x509.Certificate, above []*x509.Certificate, err error) {
	if len(chain) == 0 {
		return nil, nil, fault.New(fault.Denied, "the TPM shows no EK certificate")
	}
	if len(chain) > maxChain {
		return nil, nil, fmt.Errorf("EK chain of %d certificates, at most %d are read", len(chain), maxChain)
	}
	var certs []*x509.Certificate
	for i, der := range chain {
		if len(der) > maxCertificate {
			return nil, nil, fmt.Errorf("EK chain: certificate %d has %d bytes, at most %d are read", i+1, len(der), maxCertificate)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("EK chain: certificate %d: %w", i+1, err)
		}
		if err := pki.StrongCertificate(c); err != nil {
			return nil, nil, fmt.Errorf("EK chain: %w", err)
		}
		certs = append(certs, c)
	}
	return certs[0], certs[1:], nil
}

// checkEKUsage refuses a certificate that was not issued for an EK.
func checkEKUsage(c *x509.Certificate) error {
	usage := x509.KeyUsageKeyEncipherment
	if c.PublicKeyAlgorithm == x509.ECDSA {
		usage = x509.KeyUsageKeyAgreement
	}
	switch {
	case c.IsCA:
		return errors.New("EK certificate is a CA's")
	case c.KeyUsage&usage == 0:
		return errors.New("EK certificate: key usage is not an EK's")
	case !slices.ContainsFunc(c.UnknownExtKeyUsage, oidEK.Equal):
		return errors.New("EK certificate: extended key usage lacks tcg-kp-EKCertificate")
	}
	return nil
}

func classOf(paths [][]*x509.Certificate, roots []Root) Class {
	class := Hardware
	for _, path := range paths {
		anchor := path[len(path)-1]
		hardware := slices.ContainsFunc(roots, func(r Root) bool { return r.Class == Hardware && r.Cert.Equal(anchor) })
		if !hardware {
			class = Software
		}
	}
	return class
}
