package call

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"
)

// Enroll asks for the first operational certificate for a PKCS#10 request
// (DER), as the device that cert is the birth certificate of. It returns the
// chain, DER, leaf first.
func (c *Caller) Enroll(ctx context.Context, cert *tls.Certificate, csr []byte) ([][]byte, error) {
	return c.est(ctx, cert, "simpleenroll", csr)
}

// Reenroll asks for the next operational certificate with the current one.
func (c *Caller) Reenroll(ctx context.Context, cert *tls.Certificate, csr []byte) ([][]byte, error) {
	return c.est(ctx, cert, "simplereenroll", csr)
}

func (c *Caller) est(ctx context.Context, cert *tls.Certificate, op string, csr []byte) (chain [][]byte, err error) {
	body := []byte(base64.StdEncoding.EncodeToString(csr))
	err = c.on(ctx, cert, func(x *exchange) error {
		answer, err := x.post(ctx, "/.well-known/est/"+op, "application/pkcs10", body)
		if err != nil {
			return err
		}
		chain, err = parseCerts(answer)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("EST %s: %w", op, err)
	}
	return chain, nil
}

// parseCerts reads a certs-only PKCS#7 in base64, which may be broken into
// lines (RFC 7030 section 4.1.3).
func parseCerts(text []byte) ([][]byte, error) {
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	if err != nil {
		return nil, fmt.Errorf("answer is not base64: %w", err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("answer is not PKCS#7: %w", err)
	}
	if len(p7.Certificates) == 0 {
		return nil, errors.New("answer has no certificate")
	}
	chain := make([][]byte, len(p7.Certificates))
	for i, cert := range p7.Certificates {
		chain[i] = cert.Raw
	}
	return chain, nil
}
