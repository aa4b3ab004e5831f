package appraise

import (
	"bytes"

	"holdfast/identity"
)

// checkNextKey verifies the key that the device wants its next certificate
// for: made in the same TPM to stay in it, and good for signing alone.
func (a *appraisal) checkNextKey() *Failure {
	k := a.in.Evidence.NextKey
	if k == nil {
		return nil
	}
	p, err := parsePublic(k.Public)
	switch {
	case err != nil:
		return fail(StepNextKey, "public area: %v", err)
	case !p.has(fixedTPM | fixedParent | sensitiveDataOrigin | userWithAuth):
		return fail(StepNextKey, "the key could leave its TPM, or was not made in it")
	case !p.has(signs) || p.attributes&(decrypts|restricted) != 0:
		return fail(StepNextKey, "not a plain signing key")
	case p.kind != algECC || p.nameAlg != algSHA256:
		return fail(StepNextKey, "not an ECC key named by SHA-256")
	}
	key, err := p.p256()
	if err != nil {
		return fail(StepNextKey, "%v", err)
	}
	s, err := a.ak.openBound(k.Certify, typeCertify, a.in.Binding)
	if err != nil {
		return fail(StepNextKey, "%v", err)
	}
	if !bytes.Equal(s.certify.name, name(k.Public)) {
		return fail(StepNextKey, "another key was certified")
	}
	digest, err := identity.KeyDigest(key)
	if err != nil {
		return fail(StepNextKey, "%v", err)
	}
	a.nextKey = &digest
	return nil
}
