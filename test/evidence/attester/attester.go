// Package attester makes attestation evidence with a TPM. It stands for the
// device where a test or a capture has a TPM and no device runtime.
package attester

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/appraise"
	"holdfast/evidence"
	"holdfast/identity"
)

// CounterIndex is the NV index of the counter.
const CounterIndex = tpm2.TPMHandle(0x01800001)

// Attester attests with an AK of its own. Close it before the TPM loses power.
type Attester struct {
	Public []byte // TPMT_PUBLIC of the AK

	tpm transport.TPM
	ak  tpm2.AuthHandle
}

// New makes the AK as a primary key of a hierarchy, hence the same one each
// time. Outside the endorsement hierarchy (TPMRHEndorsement) the TPM obscures
// the counts of its clock.
func New(tpm transport.TPM, hierarchy tpm2.TPMHandle) (*Attester, error) {
	ak, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(Template(true))}.Execute(tpm)
	if err != nil {
		return nil, fmt.Errorf("create AK: %w", err)
	}
	return &Attester{
		Public: ak.OutPublic.Bytes(),
		tpm:    tpm,
		ak:     tpm2.AuthHandle{Handle: ak.ObjectHandle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)},
	}, nil
}

// Close takes the AK out of the TPM's memory.
func (a *Attester) Close() error {
	_, err := tpm2.FlushContext{FlushHandle: a.ak.Handle}.Execute(a.tpm)
	return err
}

// Template is that of an ECDSA P-256 signing key. A restricted one signs
// nothing but what the TPM itself says.
func Template(restricted bool) tpm2.TPMTPublic {
	scheme := tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull}
	if restricted {
		scheme = tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
		}
	}
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
			NoDA: true, Restricted: restricted, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256, Scheme: scheme}),
	}
}

// Measure extends the registers with events, as boot code would.
func Measure(tpm transport.TPM, events []appraise.Event) error {
	for _, e := range events {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(e.PCR), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: e.Digest[:]}}},
		}.Execute(tpm)
		if err != nil {
			return fmt.Errorf("extend PCR %d: %w", e.PCR, err)
		}
	}
	return nil
}

func selection(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)},
	}}
}

func certification(attest tpm2.TPM2BAttest, signature tpm2.TPMTSignature) evidence.Certification {
	return evidence.Certification{Attest: attest.Bytes(), Signature: tpm2.Marshal(signature)}
}

func qualifying(binding identity.Digest) tpm2.TPM2BData { return tpm2.TPM2BData{Buffer: binding[:]} }

var akScheme = tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull} // the AK's own

// Quote quotes the registers and returns them with the quote.
func (a *Attester) Quote(binding identity.Digest, pcrs ...uint) (evidence.Certification, []evidence.PCR, error) {
	q, err := tpm2.Quote{SignHandle: a.ak, QualifyingData: qualifying(binding), InScheme: akScheme, PCRSelect: selection(pcrs...)}.Execute(a.tpm)
	if err != nil {
		return evidence.Certification{}, nil, fmt.Errorf("quote: %w", err)
	}
	var out []evidence.PCR
	for _, p := range pcrs {
		r, err := tpm2.PCRRead{PCRSelectionIn: selection(p)}.Execute(a.tpm)
		if err != nil {
			return evidence.Certification{}, nil, fmt.Errorf("read PCR %d: %w", p, err)
		}
		out = append(out, evidence.PCR{Index: int(p), SHA256: identity.Digest(r.PCRValues.Digests[0].Buffer)})
	}
	return certification(q.Quoted, q.Signature), out, nil
}

// Increment counts up the counter, which is defined where it is missing.
func (a *Attester) Increment() error {
	if _, err := (tpm2.NVReadPublic{NVIndex: CounterIndex}).Execute(a.tpm); err != nil {
		_, err := tpm2.NVDefineSpace{
			AuthHandle: tpm2.TPMRHOwner,
			PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex: CounterIndex,
				NameAlg: tpm2.TPMAlgSHA256,
				Attributes: tpm2.TPMANV{
					OwnerWrite: true, OwnerRead: true, AuthWrite: true, AuthRead: true, NoDA: true, NT: tpm2.TPMNTCounter,
				},
				DataSize: 8,
			}),
		}.Execute(a.tpm)
		if err != nil {
			return fmt.Errorf("define counter: %w", err)
		}
	}
	_, auth, err := a.index()
	if err != nil {
		return err
	}
	_, err = tpm2.NVIncrement{AuthHandle: auth, NVIndex: tpm2.NamedHandle{Handle: CounterIndex, Name: auth.Name}}.Execute(a.tpm)
	if err != nil {
		return fmt.Errorf("increment counter: %w", err)
	}
	return nil
}

// index returns the counter's public area and the authorization to use it.
func (a *Attester) index() ([]byte, tpm2.AuthHandle, error) {
	r, err := tpm2.NVReadPublic{NVIndex: CounterIndex}.Execute(a.tpm)
	if err != nil {
		return nil, tpm2.AuthHandle{}, fmt.Errorf("read counter's public area: %w", err)
	}
	return r.NVPublic.Bytes(), tpm2.AuthHandle{Handle: CounterIndex, Name: r.NVName, Auth: tpm2.PasswordAuth(nil)}, nil
}

// Counter certifies the counter's value.
func (a *Attester) Counter(binding identity.Digest) (evidence.Counter, error) {
	public, auth, err := a.index()
	if err != nil {
		return evidence.Counter{}, err
	}
	r, err := tpm2.NVCertify{
		SignHandle: a.ak, AuthHandle: auth, NVIndex: tpm2.NamedHandle{Handle: CounterIndex, Name: auth.Name},
		QualifyingData: qualifying(binding), InScheme: akScheme, Size: 8,
	}.Execute(a.tpm)
	if err != nil {
		return evidence.Counter{}, fmt.Errorf("certify counter: %w", err)
	}
	return evidence.Counter{Public: public, Certify: certification(r.CertifyInfo, r.Signature)}, nil
}

// NextKey makes a key from a template and certifies it.
func (a *Attester) NextKey(binding identity.Digest, template tpm2.TPMTPublic) (*evidence.CertifiedKey, error) {
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(a.tpm)
	if err != nil {
		return nil, fmt.Errorf("create next key: %w", err)
	}
	r, err := tpm2.Certify{
		ObjectHandle: tpm2.AuthHandle{Handle: key.ObjectHandle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
		SignHandle:   a.ak, QualifyingData: qualifying(binding), InScheme: akScheme,
	}.Execute(a.tpm)
	if _, flush := (tpm2.FlushContext{FlushHandle: key.ObjectHandle}).Execute(a.tpm); err == nil {
		err = flush
	}
	if err != nil {
		return nil, fmt.Errorf("certify next key: %w", err)
	}
	return &evidence.CertifiedKey{Public: key.OutPublic.Bytes(), Certify: certification(r.CertifyInfo, r.Signature)}, nil
}
