package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"holdfast/identity"
)

// MaxCSR is the longest certificate request in bytes. Ours has some 300; one
// with a 128-byte id in three places, under a P-384 key, stays below 1 KiB.
const MaxCSR = 4096

var (
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN              = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasic            = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidClientAuth       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

// CheckCSR parses a PKCS#10 request (RFC 2986, DER) for the device want and
// refuses it with a [*Refusal] that names the first rule it breaks: at most
// [MaxCSR] bytes; no attribute but an extension request; an ECDSA P-256 or
// P-384 key; signed by that key with SHA-256 or better; subject empty or
// CN=want alone; of the extensions only alternative names that are its own URN
// or its id as a DNS name, KU digitalSignature, EKU clientAuth and CA:FALSE.
// What the request asks for is only checked: the profile decides what is in
// the certificate.
func CheckCSR(der []byte, want identity.Device) (*x509.CertificateRequest, error) {
	if len(der) > MaxCSR {
		return nil, refuseCSR(RuleSize, "%d bytes, at most %d are read", len(der), MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, refuseCSR(RuleEncoding, "%v", err)
	}
	for _, check := range []func(*x509.CertificateRequest, identity.Device) error{
		csrAttributes, csrKey, csrSignature, csrSubject, csrExtensions,
	} {
		if err := check(csr, want); err != nil {
			return nil, err
		}
	}
	return csr, nil
}

// CheckOperatorCSR is CheckCSR for an operator's request: its subject is empty
// or CN=name alone, and it asks for no extension at all.
func CheckOperatorCSR(der []byte, name string) (*x509.CertificateRequest, error) {
	csr, err := CheckCSR(der, identity.Device(name)) // operators' names have the alphabet of devices
	if err == nil && len(csr.Extensions) > 0 {
		err = refuseCSR(RuleExtension, "extension %v, want none", csr.Extensions[0].Id)
	}
	if err != nil {
		return nil, err
	}
	return csr, nil
}

// csrAttributes reads the attributes again: x509 skips those it does not know.
func csrAttributes(csr *x509.CertificateRequest, _ identity.Device) error {
	var info struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	if rest, err := asn1.Unmarshal(csr.RawTBSCertificateRequest, &info); err != nil || len(rest) > 0 {
		return refuseCSR(RuleEncoding, "certificationRequestInfo: %v", err)
	}
	for _, raw := range info.Attributes {
		var a struct {
			Type   asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		if _, err := asn1.Unmarshal(raw.FullBytes, &a); err != nil {
			return refuseCSR(RuleEncoding, "attribute: %v", err)
		}
		if !a.Type.Equal(oidExtensionRequest) || len(a.Values) != 1 {
			return refuseCSR(RuleAttribute, "attribute %v with %d values", a.Type, len(a.Values))
		}
	}
	if len(info.Attributes) > 1 {
		return refuseCSR(RuleAttribute, "%d extension requests", len(info.Attributes))
	}
	return nil
}

func csrKey(csr *x509.CertificateRequest, _ identity.Device) error { return checkKey(csr.PublicKey) }

func csrSignature(csr *x509.CertificateRequest, _ identity.Device) error {
	switch csr.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return refuseCSR(RuleAlgorithm, "signed with %s, want ECDSA with SHA-256 or better", csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return refuseCSR(RuleSignature, "%v", err)
	}
	return nil
}

func csrSubject(csr *x509.CertificateRequest, want identity.Device) error {
	names := csr.Subject.Names
	if len(names) == 0 {
		return nil
	}
	if len(names) > 1 || !names[0].Type.Equal(oidCommonName) {
		return refuseCSR(RuleSubject, "%q, want only a common name", csr.Subject)
	}
	if csr.Subject.CommonName != string(want) {
		return refuseCSR(RuleSubject, "common name %q, want %q", csr.Subject.CommonName, want)
	}
	return nil
}

func csrExtensions(csr *x509.CertificateRequest, want identity.Device) error {
	for _, ext := range csr.Extensions {
		var err error
		switch {
		case ext.Id.Equal(oidSAN):
			err = extSAN(csr, ext, want)
		case ext.Id.Equal(oidKeyUsage):
			err = extKeyUsage(ext)
		case ext.Id.Equal(oidExtKeyUsage):
			err = extExtKeyUsage(ext)
		case ext.Id.Equal(oidBasic):
			err = extBasic(ext)
		default:
			err = refuseCSR(RuleExtension, "extension %v", ext.Id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// extSAN counts the names itself: x509 skips the kinds it does not know.
func extSAN(csr *x509.CertificateRequest, ext pkix.Extension, want identity.Device) error {
	var all []asn1.RawValue
	if rest, err := asn1.Unmarshal(ext.Value, &all); err != nil || len(rest) > 0 {
		return refuseCSR(RuleEncoding, "alternative names: %v", err)
	}
	if len(all) != len(csr.DNSNames)+len(csr.URIs) {
		return refuseCSR(RuleName, "alternative names that are neither a URI nor a DNS name")
	}
	for _, dns := range csr.DNSNames {
		if dns != string(want) {
			return refuseCSR(RuleName, "DNS name %q, want %q", dns, want)
		}
	}
	for _, uri := range csr.URIs {
		if uri.String() != Birth.URN(string(want)) {
			return refuseCSR(RuleName, "URI %q, want %q", uri, Birth.URN(string(want)))
		}
	}
	return nil
}

func extKeyUsage(ext pkix.Extension) error {
	var bits asn1.BitString
	if rest, err := asn1.Unmarshal(ext.Value, &bits); err != nil || len(rest) > 0 {
		return refuseCSR(RuleEncoding, "key usage: %v", err)
	}
	for i := 1; i < bits.BitLength; i++ {
		if bits.At(i) != 0 {
			return refuseCSR(RuleExtension, "key usage bit %d, want digitalSignature alone", i)
		}
	}
	return nil
}

func extExtKeyUsage(ext pkix.Extension) error {
	var usages []asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(ext.Value, &usages); err != nil || len(rest) > 0 {
		return refuseCSR(RuleEncoding, "extended key usage: %v", err)
	}
	if slices.ContainsFunc(usages, func(u asn1.ObjectIdentifier) bool { return !u.Equal(oidClientAuth) }) {
		return refuseCSR(RuleExtension, "extended key usage %v, want clientAuth alone", usages)
	}
	return nil
}

func extBasic(ext pkix.Extension) error {
	var basic struct {
		CA      bool `asn1:"optional"`
		PathLen int  `asn1:"optional,default:-1"`
	}
	if rest, err := asn1.Unmarshal(ext.Value, &basic); err != nil || len(rest) > 0 {
		return refuseCSR(RuleEncoding, "basic constraints: %v", err)
	}
	if basic.CA || basic.PathLen >= 0 {
		return refuseCSR(RuleCA, "the request asks for a CA certificate")
	}
	return nil
}
