package accounts

import (
	"crypto/x509"
	"strings"

	"holdfast/fault"
)

// OIDC says which provider vouches for accounts (OpenID Connect Core 1.0), and
// by what.
type OIDC struct {
	Issuer       string // URL, as the provider's tokens name it
	ClientID     string
	ClientSecret string // empty: a public client
	Name         string // how the login page calls it
	Claim        string // ClaimEmail or ClaimSubject
	// Roots are those of the provider's certificate; empty: the system's.
	Roots []*x509.Certificate
}

// The claims that may name an account.
const (
	ClaimEmail   = "email" // has to be verified
	ClaimSubject = "sub"
)

// maxSubject bounds what a provider calls somebody, in bytes.
const maxSubject = 400

// parseSubject brings what a provider calls somebody into the form that is
// compared: an e-mail address in lower case, or "ISSUER SUBJECT".
func parseSubject(s string) (string, error) {
	switch issuer, sub, isSub := strings.Cut(s, " "); {
	case s == "":
		return "", nil
	case text(s, maxSubject) != s:
		return "", fault.New(fault.Invalid, "OIDC subject: want at most %d printable characters", maxSubject)
	case isSub && sub != "" && strings.HasPrefix(issuer, "https://"):
		return s, nil
	case !isSub && strings.Count(s, "@") == 1:
		return strings.ToLower(s), nil
	}
	return "", fault.New(fault.Invalid, "OIDC subject %.100q: want an e-mail address, or the issuer and the subject with a space between", s)
}
