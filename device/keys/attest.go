package keys

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/evidence"
	"holdfast/identity"
)

// Activate decrypts a challenge that only the TPM with this endorsement key
// and this attestation key can (TPM2_ActivateCredential): credential and
// secret are the contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
func (t *TPM) Activate(credential, secret []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := t.birth()
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	var plain []byte
	err = t.loaded(b.AK, func(ak tpm2.AuthHandle) error {
		return t.withEK(func(ek tpm2.NamedHandle, _ []byte) error {
			r, err := tpm2.ActivateCredential{
				ActivateHandle: ak,
				KeyHandle:      tpm2.AuthHandle{Handle: ek.Handle, Name: ek.Name, Auth: t.ekPolicy()},
				CredentialBlob: tpm2.TPM2BIDObject{Buffer: credential},
				Secret:         tpm2.TPM2BEncryptedSecret{Buffer: secret},
			}.Execute(t.tpm)
			if err != nil {
				return err
			}
			plain = r.CertInfo.Buffer
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	return plain, nil
}

// ekPolicy satisfies the endorsement key's policy: knowledge of the
// endorsement hierarchy's authorisation value.
func (t *TPM) ekPolicy() tpm2.Session {
	return tpm2.Policy(tpm2.TPMAlgSHA256, 16, tpm2.PolicyCallback(
		func(tpm transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicySecret{
				AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(t.endorsement)},
				PolicySession: session, NonceTPM: nonce,
			}.Execute(tpm)
			return err
		}))
}

// Request says what to attest.
type Request struct {
	Qualifying identity.Digest // of every signature: evidence.Binding
	PCRs       []int           // the registers to quote, SHA-256 bank
	Counters   []uint32        // NV indices of counters to certify
	Next       *Key            // a key of NewOperational to certify; may be nil
}

// Signed is what the attestation key signed.
type Signed struct {
	Quote    evidence.Certification
	PCRs     []evidence.PCR // the values that the quote covers
	Counters []evidence.Counter
	NextKey  *evidence.CertifiedKey // nil without Request.Next
}

// Attest has the attestation key state the boot (a quote), the counters and
// the next operational key. It returns ErrNone before Birth.
func (t *TPM) Attest(req Request) (*Signed, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := t.birth()
	if err != nil {
		return nil, fmt.Errorf("attest: %w", err)
	}
	signed := &Signed{}
	err = t.loaded(b.AK, func(ak tpm2.AuthHandle) error {
		if err := t.quote(ak, req, signed); err != nil {
			return err
		}
		for _, index := range req.Counters {
			c, err := t.certifyCounter(ak, index, req.Qualifying[:])
			if err != nil {
				return err
			}
			signed.Counters = append(signed.Counters, c)
		}
		return nil
	})
	if err == nil && req.Next != nil {
		signed.NextKey, err = t.certifyNext(b.AK, req)
	}
	if err != nil {
		return nil, fmt.Errorf("attest: %w", err)
	}
	return signed, nil
}

func (t *TPM) certifyNext(ak blob, req Request) (*evidence.CertifiedKey, error) {
	if len(req.Next.blob.Private) == 0 {
		return nil, errors.New("the next key is not in a TPM")
	}
	c, err := t.certify(ak, req.Next.blob, req.Qualifying[:])
	if err != nil {
		return nil, err
	}
	return &evidence.CertifiedKey{Public: req.Next.blob.Public, Certify: c}, nil
}

// quoteTries bounds how often a register may change between being read and
// being quoted.
const quoteTries = 3

// quote reads and quotes the registers until both agree.
func (t *TPM) quote(ak tpm2.AuthHandle, req Request, into *Signed) error {
	for range quoteTries {
		values, err := t.readPCRs(req.PCRs)
		if err != nil {
			return err
		}
		r, err := tpm2.Quote{SignHandle: ak, QualifyingData: tpm2.TPM2BData{Buffer: req.Qualifying[:]},
			InScheme: nullScheme(), PCRSelect: selection(req.PCRs)}.Execute(t.tpm)
		if err != nil {
			return fmt.Errorf("quote: %w", err)
		}
		said, err := r.Quoted.Contents()
		if err != nil {
			return fmt.Errorf("quote: %w", err)
		}
		info, err := said.Attested.Quote()
		if err != nil {
			return fmt.Errorf("quote: %w", err)
		}
		if bytes.Equal(info.PCRDigest.Buffer, digestOf(values)) {
			into.Quote, into.PCRs = certification(r.Quoted, r.Signature), values
			return nil
		}
	}
	return errors.New("quote: the registers keep changing")
}

func digestOf(values []evidence.PCR) []byte {
	h := sha256.New()
	for _, v := range values {
		h.Write(v.SHA256[:])
	}
	return h.Sum(nil)
}

func selection(pcrs []int) tpm2.TPMLPCRSelection {
	var list []uint
	for _, p := range pcrs {
		list = append(list, uint(p))
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(list...)}}}
}

// lastPCR is the last register that every TPM for PCs has.
const lastPCR = 23

// readPCRs reads registers of the SHA-256 bank, in the order of their indices,
// which is the order a quote digests them in.
func (t *TPM) readPCRs(pcrs []int) ([]evidence.PCR, error) {
	var values []evidence.PCR
	for _, index := range slices.Compact(slices.Sorted(slices.Values(pcrs))) {
		if index < 0 || index > lastPCR {
			return nil, fmt.Errorf("read PCR %d: there is none", index)
		}
		r, err := tpm2.PCRRead{PCRSelectionIn: selection([]int{index})}.Execute(t.tpm)
		if err != nil {
			return nil, fmt.Errorf("read PCR %d: %w", index, err)
		}
		if len(r.PCRValues.Digests) != 1 || len(r.PCRValues.Digests[0].Buffer) != sha256.Size {
			return nil, fmt.Errorf("read PCR %d: the TPM has no SHA-256 bank", index)
		}
		values = append(values, evidence.PCR{Index: index, SHA256: identity.Digest(r.PCRValues.Digests[0].Buffer)})
	}
	return values, nil
}
