package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// maxPEM bounds a file of certificates: far more than any chain or bundle.
const maxPEM = 1 << 20

// EncodeCerts writes certificates as PEM, in their order.
func EncodeCerts(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
	}
	return out
}

// ParseCerts reads one or more PEM certificates, and nothing else.
func ParseCerts(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("certificates: %d bytes, at most %d are read", len(text), maxPEM)
	}
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("certificates: a PEM block is %q, want only %q", block.Type, pemCertificate)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs, text = append(certs, cert), rest
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("certificates: no PEM block %q found", pemCertificate)
	}
	return certs, nil
}

// ParseCert reads exactly one PEM certificate.
func ParseCert(text []byte) (*x509.Certificate, error) {
	certs, err := ParseCerts(text)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%d certificates, want one", len(certs))
	}
	return certs[0], nil
}

// ParseChain parses DER certificates, as they travel in messages.
func ParseChain(chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("chain of %d certificates, want 1 to %d", len(chain), maxChain)
	}
	var certs []*x509.Certificate
	for i, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// RawChain is the reverse of ParseChain.
func RawChain(certs []*x509.Certificate) [][]byte {
	chain := make([][]byte, 0, len(certs))
	for _, c := range certs {
		chain = append(chain, c.Raw)
	}
	return chain
}

// EncodeKey writes a private key as PKCS#8 PEM. Whoever writes it to a file
// seals it first, or makes the file readable to its owner alone.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// ParseKey reads a PKCS#8 PEM private key.
func ParseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemKey {
		return nil, fmt.Errorf("key: no PEM block %q found", pemKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key: %T cannot sign", key)
	}
	return signer, nil
}
