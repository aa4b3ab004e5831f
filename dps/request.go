package dps

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"holdfast/identity"
)

// The limits of what a device sends.
const (
	MaxRequest = 96 << 10 // bytes of a body
	MaxCSR     = 4096     // bytes of a certificate request, as DER
)

// ErrTPM refuses attestation by TPM: it ends in a shared key, which is no way
// in here.
var ErrTPM = errors.New("attestation by TPM ends in a shared access key: only certificates are taken")

// Request is the body of a registration. All of it may be absent, and the body
// empty: clients in C send nothing.
type Request struct {
	Registration Registration // as the body names it; empty where it does not
	CSR          []byte       // PKCS#10 DER, not looked into; nil: no certificate is asked for
}

// ParseRequest reads the body of a registration.
func ParseRequest(body []byte) (Request, error) {
	var r Request
	if len(bytes.TrimSpace(body)) == 0 && len(body) <= MaxRequest {
		return r, nil
	}
	ms, err := members(body, MaxRequest)
	if err != nil {
		return r, err
	}
	if v, ok := ms["tpm"]; ok && !null(v) {
		return r, ErrTPM
	}
	if v, ok := ms["registrationId"]; ok && !null(v) {
		s, err := text(v)
		if err == nil {
			r.Registration, err = ParseRegistration(s)
		}
		if err != nil {
			return Request{}, fmt.Errorf("registrationId: %w", err)
		}
	}
	if v, ok := ms["csr"]; ok && !null(v) {
		if r.CSR, err = der(v); err != nil {
			return Request{}, fmt.Errorf("csr: %w", err)
		}
	}
	return r, nil
}

// Renewal is the body of a request for a certificate over a device's session
// with its hub ($iothub/credentials/POST/issueCertificate/).
type Renewal struct {
	Device identity.Device
	CSR    []byte // PKCS#10 DER
	// Replace says which operation of the device that still runs this one takes
	// the place of: its request id, "*" for any, or empty for none.
	Replace string
}

// MaxRenewal is the longest body of a [Renewal] in bytes.
const MaxRenewal = 8 << 10

// ParseRenewal reads a request for a certificate.
func ParseRenewal(body []byte) (Renewal, error) {
	ms, err := members(body, MaxRenewal)
	if err != nil {
		return Renewal{}, err
	}
	id, err := text(ms["id"])
	if err != nil {
		return Renewal{}, fmt.Errorf("id: %w", err)
	}
	r := Renewal{}
	if r.Device, err = identity.ParseDevice(id); err != nil {
		return Renewal{}, fmt.Errorf("id: %w", err)
	}
	if r.CSR, err = der(ms["csr"]); err != nil {
		return Renewal{}, fmt.Errorf("csr: %w", err)
	}
	if v, ok := ms["replace"]; ok && !null(v) {
		if r.Replace, err = text(v); err != nil {
			return Renewal{}, fmt.Errorf("replace: %w", err)
		}
		if r.Replace == "" || len(r.Replace) > identity.MaxDevice {
			return Renewal{}, fmt.Errorf("replace has %d bytes, want 1 to %d", len(r.Replace), identity.MaxDevice)
		}
	}
	return r, nil
}

// members reads a JSON object. Unlike encoding/json, it tells names apart by
// case and refuses one that comes twice: a body means one thing.
func members(body []byte, limit int) (map[string]json.RawMessage, error) {
	if len(body) > limit {
		return nil, fmt.Errorf("body has %d bytes, at most %d are allowed", len(body), limit)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("body is not a JSON object")
	}
	ms := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		name := t.(string) // an object's member begins with nothing else
		if _, ok := ms[name]; ok {
			return nil, fmt.Errorf("member %.100q comes twice", name)
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("member %.100q: %w", name, err)
		}
		ms[name] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	return ms, nil
}

func null(v json.RawMessage) bool { return string(v) == "null" }

func text(v json.RawMessage) (string, error) {
	if len(v) == 0 || v[0] != '"' {
		return "", errors.New("want a string")
	}
	var s string
	return s, json.Unmarshal(v, &s)
}

// der reads base64 (RFC 4648 section 4) of DER.
func der(v json.RawMessage) ([]byte, error) {
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || len(b) > MaxCSR {
		return nil, fmt.Errorf("want base64 of at most %d bytes of DER, without PEM armour", MaxCSR)
	}
	return b, nil
}
