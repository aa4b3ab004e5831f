package accounts

import (
	"context"
	"encoding/pem"
	"fmt"

	"holdfast/fault"
	"holdfast/pki"
)

// CertifyAccount certifies the key of a PKCS #10 request in PEM, which names
// the account alone, and answers the certificate and its issuer in PEM. Who has
// an account renews its certificate so; an administrator makes somebody's first.
func (a *Accounts) CertifyAccount(ctx context.Context, name, csrPEM string) (string, error) {
	r, err := a.mine(ctx, name)
	if err != nil {
		return "", err
	}
	block, rest := pem.Decode([]byte(csrPEM))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		return "", fault.New(fault.Invalid, "want one certificate request, PEM")
	}
	csr, err := pki.CheckOperatorCSR(block.Bytes, r.Name)
	if err != nil {
		return "", fault.New(fault.Invalid, "%w", err)
	}
	if err := a.record(ctx, kindCertificate, map[string]any{"name": r.Name}); err != nil {
		return "", err
	}
	chain, err := a.cfg.Certifier.IssueOperator(ctx, r.Name, csr.PublicKey, certificateFor)
	if err != nil {
		return "", fmt.Errorf("certify %s: %w", r.Name, err)
	}
	return string(pki.EncodeCerts(chain...)), nil
}
