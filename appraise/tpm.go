package appraise

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The TPM structures that evidence has are few and flat, and this is the one
// place that reads them: each to its last byte, in its only encoding, in the
// forms that we accept. (A decoder of everything, as in go-tpm, takes longer
// than the signatures; it is what the tests compare with.) Names and sections
// are those of the TPM 2.0 Library, Part 2.

// Constants of Part 2 that we accept.
const (
	magicGenerated = 0xff544347 // TPM_GENERATED_VALUE
	typeNV         = 0x8014     // TPM_ST_ATTEST_NV
	typeCertify    = 0x8017     // TPM_ST_ATTEST_CERTIFY
	typeQuote      = 0x8018     // TPM_ST_ATTEST_QUOTE

	algRSA    = 0x0001
	algNull   = 0x0010
	algRSASSA = 0x0014
	algECDSA  = 0x0018
	algECC    = 0x0023
	curveP256 = 0x0003
)

// Attributes of objects (TPMA_OBJECT).
const (
	fixedTPM            = 1 << 1
	fixedParent         = 1 << 4
	sensitiveDataOrigin = 1 << 5
	userWithAuth        = 1 << 6
	restricted          = 1 << 16
	decrypts            = 1 << 17
	signs               = 1 << 18
)

// wire takes big-endian values from the front of b. Once it has run out, all
// that follows is zero and end reports it.
type wire struct {
	b     []byte
	short bool
}

func (w *wire) take(n int) []byte {
	if n > len(w.b) {
		w.b, w.short = nil, true
		return make([]byte, min(n, 8))
	}
	v := w.b[:n:n]
	w.b = w.b[n:]
	return v
}

func (w *wire) u8() byte      { return w.take(1)[0] }
func (w *wire) u16() uint16   { return binary.BigEndian.Uint16(w.take(2)) }
func (w *wire) u32() uint32   { return binary.BigEndian.Uint32(w.take(4)) }
func (w *wire) u64() uint64   { return binary.BigEndian.Uint64(w.take(8)) }
func (w *wire) sized() []byte { return w.take(int(w.u16())) } // the contents of a TPM2B

// end says whether the structure filled its bytes.
func (w *wire) end() error {
	switch {
	case w.short:
		return errShort
	case len(w.b) > 0:
		return fmt.Errorf("%d bytes too many", len(w.b))
	}
	return nil
}

// statement is a TPMS_ATTEST (section 10.12.8). Of quote, certify and nv that
// of its type is set.
type statement struct {
	kind      uint16
	extraData []byte
	clock     Clock
	quote     quoteInfo
	certify   certifyInfo
	nv        nvInfo
}

// quoteInfo is TPMS_QUOTE_INFO of one bank, the SHA-256 one.
type quoteInfo struct {
	selected []byte // TPMS_PCR_SELECT: bit i is register i
	digest   []byte
}

// certifyInfo is TPMS_CERTIFY_INFO.
type certifyInfo struct{ name []byte }

// nvInfo is TPMS_NV_CERTIFY_INFO.
type nvInfo struct {
	name     []byte
	offset   uint16
	contents []byte
}

var (
	errNotTPM = errors.New("statement was not made by a TPM")
	errBank   = errors.New("the quote is not of the SHA-256 bank alone")
)

func parseStatement(b []byte) (statement, error) {
	var s statement
	w := &wire{b: b}
	if w.u32() != magicGenerated {
		return s, errNotTPM
	}
	s.kind = w.u16()
	w.sized() // qualified name of the signer: the AK's place in its hierarchy
	s.extraData = w.sized()
	s.clock.Milliseconds = w.u64()
	s.clock.ResetCount = w.u32()
	s.clock.RestartCount = w.u32()
	safe := w.u8()
	s.clock.Safe = safe == 1
	s.clock.Firmware = w.u64()
	if safe > 1 {
		return s, fmt.Errorf("safe is %d", safe)
	}
	switch s.kind {
	case typeQuote:
		if w.u32() != 1 || w.u16() != algSHA256 {
			return s, errBank
		}
		s.quote.selected = w.take(int(w.u8()))
		s.quote.digest = w.sized()
	case typeCertify:
		s.certify.name = w.sized()
		w.sized() // qualified name
	case typeNV:
		s.nv.name = w.sized()
		s.nv.offset = w.u16()
		s.nv.contents = w.sized()
	default:
		return s, fmt.Errorf("statement of type %#x", s.kind)
	}
	return s, w.end()
}

// public is a TPMT_PUBLIC (section 12.2.4) of a signing key: ECC, or RSA.
type public struct {
	kind       uint16
	nameAlg    uint16
	attributes uint32
	scheme     uint16 // algNull: the caller of the TPM chooses
	hash       uint16
	curve      uint16 // ECC
	x, y       []byte // ECC
	exponent   uint32 // RSA; 0 means 65537
	modulus    []byte // RSA
}

// has reports whether every attribute of mask is set.
func (p public) has(mask uint32) bool { return p.attributes&mask == mask }

func parsePublic(b []byte) (public, error) {
	w := &wire{b: b}
	p := public{kind: w.u16(), nameAlg: w.u16(), attributes: w.u32()}
	w.sized() // policy: how the key may be used, beside its password
	if p.kind != algECC && p.kind != algRSA {
		return p, fmt.Errorf("key type %#x", p.kind)
	}
	if symmetric := w.u16(); symmetric != algNull {
		return p, errors.New("not a signing key")
	}
	if p.scheme = w.u16(); p.scheme != algNull {
		p.hash = w.u16()
	}
	if p.kind == algRSA {
		w.u16() // bits, as the modulus has
		p.exponent = w.u32()
		p.modulus = w.sized()
		return p, w.end()
	}
	p.curve = w.u16()
	if kdf := w.u16(); kdf != algNull {
		return p, fmt.Errorf("key derivation %#x", kdf)
	}
	p.x, p.y = w.sized(), w.sized()
	return p, w.end()
}

// nvPublic is a TPMS_NV_PUBLIC (section 13.5).
type nvPublic struct {
	index      uint32
	nameAlg    uint16
	attributes uint32
}

// isCounter: type TPM_NT_COUNTER, and it has counted (TPMA_NV, section 13.4).
func (p nvPublic) isCounter() bool {
	const counter, written = 1, 1 << 29
	return p.attributes>>4&0xF == counter && p.attributes&written != 0
}

func parseNVPublic(b []byte) (nvPublic, error) {
	w := &wire{b: b}
	p := nvPublic{index: w.u32(), nameAlg: w.u16(), attributes: w.u32()}
	w.sized() // policy
	w.u16()   // size
	return p, w.end()
}

// parseSignature reads a TPMT_SIGNATURE (section 11.3.4) over SHA-256 of the
// wanted scheme: r and s, or for RSASSA the signature alone.
func parseSignature(b []byte, scheme uint16) (r, s []byte, err error) {
	w := &wire{b: b}
	if alg, hash := w.u16(), w.u16(); alg != scheme || hash != algSHA256 {
		return nil, nil, fmt.Errorf("signature of scheme %#x with hash %#x", alg, hash)
	}
	r = w.sized()
	if scheme == algECDSA {
		s = w.sized()
	}
	return r, s, w.end()
}
