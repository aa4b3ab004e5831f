package demo

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"time"

	"holdfast/internal/atomicfile"
	"holdfast/pki"
)

// makeMaker plays the maker of the sensor: a CA of its own, and the device
// certificate that it put into sensor-01 at the factory.
func (s *stage) makeMaker() error {
	if _, err := os.Stat(s.path("maker", "sensor-01.pem")); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(s.path("maker"), 0o700); err != nil {
		return err
	}
	rootKey, err := makeKey(s.path("maker", "root.key"))
	if err != nil {
		return err
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Demo sensor maker"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if err := s.sign("root", root, root, rootKey, rootKey); err != nil {
		return err
	}
	key, err := makeKey(s.path("maker", "sensor-01.key"))
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "sensor-01"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return s.sign("sensor-01", leaf, root, key, rootKey)
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

// sign writes maker/name.pem: template, signed by parent's key.
func (s *stage) sign(name string, template, parent *x509.Certificate, key, parentKey crypto.Signer) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	return atomicfile.Write(s.path("maker", name+".pem"), pki.EncodeCerts(cert), 0o644)
}
