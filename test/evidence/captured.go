// Package captured has attestation evidence that was taken from running
// machines and is kept on file: a UEFI firmware (OVMF) with a software TPM,
// with Secure Boot on and off. capture.sh takes it anew.
package captured

import (
	"encoding/json"
	"fmt"
	"os"

	"holdfast/evidence"
	"holdfast/identity"
)

// Capture is one machine's evidence and what its signatures are bound to.
type Capture struct {
	Device      identity.Device      `json:"device"`
	Exporter    []byte               `json:"exporter"`  // stands for the TLS session's
	EKPublic    []byte               `json:"ek_public"` // TPMT_PUBLIC
	EKChain     [][]byte             `json:"ek_chain"`  // DER, the EK certificate first
	AKPublic    []byte               `json:"ak_public"` // TPMT_PUBLIC
	Attestation evidence.Attestation `json:"attestation"`
}

// Binding is the qualifying data that the evidence has to carry.
func (c Capture) Binding() identity.Digest {
	return evidence.Binding(c.Attestation.Nonce, c.Device, c.Exporter, c.Attestation.Claims)
}

// Read reads a capture from a file.
func Read(path string) (Capture, error) {
	var c Capture
	b, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read capture %s: %w", path, err)
	}
	return c, nil
}
