// Package evidence has the messages of birth and attestation as they travel
// between device and hub: the Evidence and Attestation Results of RFC 9334.
// It has their forms and digests, and neither sends nor judges them. TPM
// structures travel in the TPM's own encoding (TPM 2.0 Library, Part 2), as
// the contents of a TPM2B, without its length prefix; JSON carries bytes as
// standard base64.
package evidence

import "holdfast/identity"

// BeginRequest asks for a birth certificate (IDevID): POST /enroll/begin.
// Without TPM the key is in a file, which only groups that allow it accept.
type BeginRequest struct {
	Token string `json:"token,omitempty"` // claim token, where the group admits by token
	CSR   []byte `json:"csr"`             // PKCS#10 DER, signed by the birth key
	TPM   *Birth `json:"tpm,omitempty"`
}

// Birth is what a TPM shows of itself and of the key that was born in it.
type Birth struct {
	EKPublic    []byte        `json:"ek_public"`    // TPMT_PUBLIC of the endorsement key
	EKChain     [][]byte      `json:"ek_chain"`     // DER, the EK certificate first; the root may be absent
	AKPublic    []byte        `json:"ak_public"`    // TPMT_PUBLIC of the attestation key
	BirthPublic []byte        `json:"birth_public"` // TPMT_PUBLIC of the birth key
	Certify     Certification `json:"certify"`      // TPM2_Certify of the birth key by the AK
}

// Certification is a statement signed by the AK.
type Certification struct {
	Attest    []byte `json:"attest"`    // TPMS_ATTEST
	Signature []byte `json:"signature"` // TPMT_SIGNATURE
}

// BeginResponse answers BeginRequest: a challenge that only the TPM with this
// EK and this AK can answer, or, for a file key, the certificate at once.
type BeginResponse struct {
	Session    string  `json:"session,omitempty"`
	Credential []byte  `json:"credential,omitempty"` // TPM2B_ID_OBJECT contents
	Secret     []byte  `json:"secret,omitempty"`     // TPM2B_ENCRYPTED_SECRET contents
	Issued     *Issued `json:"issued,omitempty"`
}

// FinishRequest returns the activated secret: POST /enroll/finish.
type FinishRequest struct {
	Session string `json:"session"`
	Secret  []byte `json:"secret"`
}

// Issued is a new birth certificate. The id was the hub's to give.
type Issued struct {
	Device identity.Device `json:"device"`
	Group  identity.Group  `json:"group"`
	Chain  [][]byte        `json:"chain"` // DER, IDevID first, without the root
}
