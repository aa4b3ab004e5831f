//go:build cgo

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/miekg/pkcs11"

	"holdfast/internal/token"
)

// maxObjects bounds how many keys of a token are looked at.
const maxObjects = 100

// p256 is CKA_EC_PARAMS of the curve: its object identifier, DER.
var p256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

// libraries are the PKCS#11 libraries that are loaded, by path.
type libraries struct{ loaded map[string]*pkcs11.Ctx }

func newLibraries() libraries { return libraries{map[string]*pkcs11.Ctx{}} }

func (l libraries) load(path string) (*pkcs11.Ctx, error) {
	if c := l.loaded[path]; c != nil {
		return c, nil
	}
	c := pkcs11.New(path)
	if c == nil {
		return nil, fmt.Errorf("%q is no PKCS#11 library", path)
	}
	if err := c.Initialize(); err != nil {
		c.Destroy()
		return nil, fmt.Errorf("initialize %s: %w", path, err)
	}
	l.loaded[path] = c
	return c, nil
}

func (l libraries) close() {
	for _, c := range l.loaded {
		_ = c.Finalize() // the process ends
		c.Destroy()
	}
}

func (l libraries) answer(r token.Request) (token.Answer, error) {
	c, err := l.load(r.Module)
	if err != nil {
		return token.Answer{}, err
	}
	slots, err := tokens(c)
	if err != nil {
		return token.Answer{}, err
	}
	var a token.Answer
	if r.Op == token.OpList {
		for label := range slots {
			a.Tokens = append(a.Tokens, label)
		}
		if r.Token == "" {
			return a, nil
		}
	}
	slot, ok := slots[r.Token]
	if !ok {
		return a, fmt.Errorf("no token is called %q", r.Token)
	}
	s, err := open(c, slot, r.PIN)
	if err != nil {
		return a, err
	}
	defer s.close()
	switch r.Op {
	case token.OpList:
		a.Keys, err = s.labels()
	case token.OpPublic:
		a.Public, err = s.public(r.Key)
	case token.OpSign:
		a.Signature, err = s.sign(r.Key, r.Digest)
	default:
		err = fmt.Errorf("operation %q: want list, public or sign", r.Op)
	}
	return a, err
}

// tokens returns the slots with a token, by the token's label.
func tokens(c *pkcs11.Ctx) (map[string]uint, error) {
	slots, err := c.GetSlotList(true)
	if err != nil {
		return nil, fmt.Errorf("list slots: %w", err)
	}
	out := map[string]uint{}
	for _, s := range slots {
		info, err := c.GetTokenInfo(s)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue // an empty reader
		}
		label := strings.TrimRight(info.Label, " \x00")
		if _, twice := out[label]; twice {
			return nil, fmt.Errorf("two tokens are called %q", label)
		}
		out[label] = s
	}
	return out, nil
}

// session is a session in which the user is logged in.
type session struct {
	c *pkcs11.Ctx
	h pkcs11.SessionHandle
}

func open(c *pkcs11.Ctx, slot uint, pin string) (session, error) {
	h, err := c.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return session{}, fmt.Errorf("open a session: %w", err)
	}
	s := session{c, h}
	if err := c.Login(h, pkcs11.CKU_USER, pin); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		s.close()
		return session{}, fmt.Errorf("log in: %w", err)
	}
	return s, nil
}

func (s session) close() {
	_ = s.c.Logout(s.h) // the session ends next
	_ = s.c.CloseSession(s.h)
}

// find returns the objects of a class that are P-256 keys; an empty label means
// all.
func (s session) find(class uint, label string) ([]pkcs11.ObjectHandle, error) {
	want := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256),
	}
	if label != "" {
		want = append(want, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if err := s.c.FindObjectsInit(s.h, want); err != nil {
		return nil, fmt.Errorf("find keys: %w", err)
	}
	found, _, err := s.c.FindObjects(s.h, maxObjects)
	return found, errors.Join(err, s.c.FindObjectsFinal(s.h))
}

// one returns the one object of a class with a label.
func (s session) one(class uint, label string) (pkcs11.ObjectHandle, error) {
	if label == "" {
		return 0, errors.New("the key's label is missing")
	}
	found, err := s.find(class, label)
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d P-256 keys are called %q, want one", len(found), label)
	}
	return found[0], nil
}

func (s session) attribute(h pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	got, err := s.c.GetAttributeValue(s.h, h, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil || len(got) != 1 {
		return nil, fmt.Errorf("read an attribute: %w", err)
	}
	return got[0].Value, nil
}

// labels returns the labels of the keys that can sign.
func (s session) labels() ([]string, error) {
	found, err := s.find(pkcs11.CKO_PRIVATE_KEY, "")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range found {
		label, err := s.attribute(h, pkcs11.CKA_LABEL)
		if err != nil {
			return nil, err
		}
		out = append(out, string(label))
	}
	return out, nil
}

// public returns a key's SubjectPublicKeyInfo.
func (s session) public(label string) ([]byte, error) {
	h, err := s.one(pkcs11.CKO_PUBLIC_KEY, label)
	if err != nil {
		return nil, err
	}
	point, err := s.attribute(h, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	var raw []byte
	if rest, err := asn1.Unmarshal(point, &raw); err != nil || len(rest) > 0 {
		raw = point // some libraries leave the OCTET STRING out
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return x509.MarshalPKIXPublicKey(key)
}

// sign signs a SHA-256 digest.
func (s session) sign(label string, digest []byte) ([]byte, error) {
	if len(digest) != 32 {
		return nil, fmt.Errorf("a digest of %d bytes, want 32", len(digest))
	}
	h, err := s.one(pkcs11.CKO_PRIVATE_KEY, label)
	if err != nil {
		return nil, err
	}
	if err := s.c.SignInit(s.h, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, h); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	raw, err := s.c.Sign(s.h, bytes.Clone(digest))
	if err != nil || len(raw) != 64 {
		return nil, fmt.Errorf("sign: %d bytes: %w", len(raw), err)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
}
