// Package token signs with keys that a PKCS#11 token keeps. The token's library
// is native code: it runs in a helper program, holdfast-pkcs11, so that this one
// needs no cgo and a fault of the library ends the helper alone.
//
// The helper reads one Request per line and answers each with one Answer.
package token

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"holdfast/fault"
)

// MaxLine is the longest request or answer in bytes.
const MaxLine = 64 << 10

// patience bounds how long the helper may take for an answer.
const patience = time.Minute

// The operations of the helper.
const (
	OpList   = "list"   // the labels of the tokens and of their P-256 keys
	OpPublic = "public" // a key's public half
	OpSign   = "sign"   // a signature on a SHA-256 digest
)

// Request is what the helper is asked.
type Request struct {
	Op     string `json:"op"`
	Module string `json:"module"`           // path of the PKCS#11 library
	Token  string `json:"token,omitempty"`  // label
	Key    string `json:"key,omitempty"`    // label
	PIN    string `json:"pin,omitempty"`    // of the token's user
	Digest []byte `json:"digest,omitempty"` // OpSign: 32 bytes
}

// Answer is what the helper says.
type Answer struct {
	Error     string   `json:"error,omitempty"`
	Tokens    []string `json:"tokens,omitempty"`
	Keys      []string `json:"keys,omitempty"`      // OpList with a token
	Public    []byte   `json:"public,omitempty"`    // SubjectPublicKeyInfo
	Signature []byte   `json:"signature,omitempty"` // ASN.1 DER
}

// Config names a key in a token.
type Config struct {
	Helper string // path of holdfast-pkcs11
	Module string // path of the PKCS#11 library
	Token  string // label
	Key    string // label
	PIN    string
}

// Signer is a P-256 key in a token. It implements crypto.Signer for SHA-256
// digests.
type Signer struct {
	ctx    context.Context // of the command that signs: Sign has no parameter for it
	cfg    Config
	public *ecdsa.PublicKey
}

// Open finds the key. The context is for all that the signer does.
func Open(ctx context.Context, cfg Config) (*Signer, error) {
	s := &Signer{ctx: ctx, cfg: cfg}
	a, err := s.ask(OpPublic, nil)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(a.Public)
	if err != nil {
		return nil, fmt.Errorf("the token's public key: %w", err)
	}
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("the token's key is not ECDSA on P-256")
	}
	s.public = public
	return s, nil
}

// Public returns the *ecdsa.PublicKey.
func (s *Signer) Public() crypto.PublicKey { return s.public }

// Sign signs a SHA-256 digest. What the token returns is checked.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, errors.New("sign with a token: want a SHA-256 digest")
	}
	a, err := s.ask(OpSign, digest)
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(s.public, digest, a.Signature) {
		return nil, fault.New(fault.Integrity, "the token's signature does not verify with its public key")
	}
	return a.Signature, nil
}

func (s *Signer) ask(op string, digest []byte) (Answer, error) {
	return Ask(s.ctx, s.cfg.Helper, Request{Op: op, Module: s.cfg.Module, Token: s.cfg.Token, Key: s.cfg.Key, PIN: s.cfg.PIN, Digest: digest})
}

// Ask has the helper answer one request.
func Ask(ctx context.Context, helper string, r Request) (Answer, error) {
	var a Answer
	line, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out, talk capped
	cmd := exec.CommandContext(ctx, helper)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(line, '\n')), &out, &talk
	if err := cmd.Run(); err != nil {
		return a, fmt.Errorf("run %s: %w%s", helper, err, said(talk.Bytes()))
	}
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		return a, fmt.Errorf("answer of %s: %w", helper, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("token: %s", a.Error)
	}
	return a, nil
}

// capped keeps what a program writes, up to MaxLine bytes.
type capped struct{ bytes.Buffer }

// Write refuses more than MaxLine bytes.
func (c *capped) Write(b []byte) (int, error) {
	if c.Len()+len(b) > MaxLine {
		return 0, errors.New("the answer is too long")
	}
	return c.Buffer.Write(b)
}

func said(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return ": " + string(bytes.TrimSpace(b))
}

// Serve answers requests until in ends: the helper's side.
func Serve(in io.Reader, out io.Writer, answer func(Request) (Answer, error)) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 4<<10), MaxLine)
	enc := json.NewEncoder(out)
	for lines.Scan() {
		var r Request
		dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		dec.DisallowUnknownFields()
		err := dec.Decode(&r)
		var a Answer
		if err == nil {
			a, err = answer(r)
		}
		if err != nil {
			a = Answer{Error: err.Error()}
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}
