package pki

import (
	"errors"
	"fmt"
)

// Rule names what a certificate, request or revocation list broke.
type Rule string

// The rules of certificate requests.
const (
	RuleSize      Rule = "size"      // longer than the limit
	RuleEncoding  Rule = "encoding"  // not the DER of what it should be
	RuleAttribute Rule = "attribute" // an attribute that is not an extension request
	RuleKeyType   Rule = "key-type"  // not ECDSA
	RuleKeySize   Rule = "key-size"  // not P-256 or P-384
	RuleAlgorithm Rule = "algorithm" // not ECDSA with SHA-256 or better
	RuleSignature Rule = "signature" // does not verify under the key it should
	RuleSubject   Rule = "subject"   // anything but CN=id, or nothing
	RuleExtension Rule = "extension" // asks for what the profile does not give
	RuleName      Rule = "name"      // an alternative name that is not its own
	RuleCA        Rule = "ca"        // a CA where a leaf belongs, or the reverse
	RuleKeyReuse  Rule = "key-reuse" // the public key was seen before in the fleet
)

// The rules of certificates and chains. RuleSignature, RuleName and RuleCA
// apply to them too.
const (
	RuleNone          Rule = "no-certificate"     // none was presented
	RuleChain         Rule = "chain"              // too long, or refused by the X.509 verifier
	RuleWeakSignature Rule = "weak-signature"     // MD5, SHA-1 or DSA
	RuleWeakKey       Rule = "weak-key"           // RSA below 2048 bits, DSA, or an unknown kind
	RuleIssuer        Rule = "wrong-intermediate" // not of an authority this listener trusts
	RuleExpired       Rule = "expired"            // after notAfter
	RuleNotYet        Rule = "not-yet-valid"      // before notBefore
	RuleUsage         Rule = "wrong-eku"          // extended key usage is not the class's
	RuleKeyUsage      Rule = "wrong-ku"           // key usage lacks digitalSignature
	RulePolicy        Rule = "wrong-policy"       // policy OID is not the class's
	RuleRevoked       Rule = "revoked"            // revoked or superseded
)

// The rules of revocation lists. RuleSize, RuleEncoding and RuleSignature
// apply to them too.
const (
	RuleNumber Rule = "crl-number" // older than the list already known
	RuleStale  Rule = "crl-stale"  // past its nextUpdate
)

// Refusal is an error that names the rule that was broken. Its text has no
// secrets, but of a failed certificate it is meant for the log, not the peer.
type Refusal struct {
	Of     string // "certificate", "certificate request" or "revocation list"
	Rule   Rule
	Detail string
}

// Error returns "certificate refused by rule expired: ...".
func (r *Refusal) Error() string {
	return fmt.Sprintf("%s refused by rule %s: %s", r.Of, r.Rule, r.Detail)
}

// RuleOf returns the rule that err's chain names, or "" where it names none.
func RuleOf(err error) Rule {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Rule
	}
	return ""
}

func refuseCert(rule Rule, format string, args ...any) error {
	return &Refusal{Of: "certificate", Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

func refuseCSR(rule Rule, format string, args ...any) error {
	return &Refusal{Of: "certificate request", Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

func refuseCRL(rule Rule, format string, args ...any) error {
	return &Refusal{Of: "revocation list", Rule: rule, Detail: fmt.Sprintf(format, args...)}
}
