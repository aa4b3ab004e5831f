// Command guest is the init program of the machine whose evidence capture.sh
// takes: it attests once over /dev/tpmrm0, prints the capture on the console
// and powers off.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"holdfast/evidence"
	"holdfast/identity"
	captured "holdfast/test/evidence"
)

const (
	ekCertificate = tpm2.TPMHandle(0x01c00002) // TCG EK Credential Profile: RSA 2048
	counterIndex  = tpm2.TPMHandle(0x01800001)
)

func main() {
	if err := run(); err != nil {
		fmt.Println("CAPTURE-FAILED", err)
	}
	syscall.Sync()
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}, {"securityfs", "/sys/kernel/security"}} {
		os.MkdirAll(m[1], 0o755)
		if err := syscall.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[0], err)
		}
	}
	tpm, err := linuxtpm.Open("/dev/tpmrm0")
	if err != nil {
		return fmt.Errorf("open TPM: %w", err)
	}
	defer tpm.Close()
	c, err := capture(tpm)
	if err != nil {
		return err
	}
	return show(c)
}

// show prints the capture as base64 in lines that a serial console keeps whole.
func show(c captured.Capture) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	fmt.Println("CAPTURE-BEGIN")
	text := base64.StdEncoding.EncodeToString(b)
	for len(text) > 0 {
		n := min(76, len(text))
		fmt.Println(text[:n])
		text = text[n:]
	}
	fmt.Println("CAPTURE-END")
	return nil
}

func capture(tpm transport.TPM) (captured.Capture, error) {
	claims, err := json.Marshal(evidence.Claims{Runtime: "capture", Clock: "unknown", Reset: "power-on"})
	if err != nil {
		return captured.Capture{}, err
	}
	c := captured.Capture{
		Device:   "board-01",
		Exporter: bytes.Repeat([]byte{0xe5}, evidence.ExporterSize),
		Attestation: evidence.Attestation{
			Nonce:  bytes.Repeat([]byte{0x5a}, evidence.NonceSize),
			Claims: claims,
		},
	}
	if err := endorsement(tpm, &c); err != nil {
		return c, err
	}
	return c, attest(tpm, &c)
}

func endorsement(tpm transport.TPM, c *captured.Capture) error {
	ek, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHEndorsement,
		InPublic:      tpm2.New2B(tpm2.RSAEKTemplate),
	}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("create EK: %w", err)
	}
	defer tpm2.FlushContext{FlushHandle: ek.ObjectHandle}.Execute(tpm)
	c.EKPublic = ek.OutPublic.Bytes()
	der, err := readNV(tpm, ekCertificate)
	if err != nil {
		return fmt.Errorf("read EK certificate: %w", err)
	}
	c.EKChain = [][]byte{der}
	return nil
}

func readNV(tpm transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm)
	if err != nil {
		return nil, err
	}
	contents, err := public.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	var out []byte
	for int(contents.DataSize) > len(out) {
		r, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Size:       min(512, contents.DataSize-uint16(len(out))),
			Offset:     uint16(len(out)),
		}.Execute(tpm)
		if err != nil {
			return nil, err
		}
		out = append(out, r.Data.Buffer...)
	}
	return out, nil
}

func attest(tpm transport.TPM, c *captured.Capture) error {
	ak, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHEndorsement,
		InPublic:      tpm2.New2B(signer(true)),
	}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("create AK: %w", err)
	}
	defer tpm2.FlushContext{FlushHandle: ak.ObjectHandle}.Execute(tpm)
	c.AKPublic = ak.OutPublic.Bytes()
	key := tpm2.AuthHandle{Handle: ak.ObjectHandle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)}
	for _, step := range []func(transport.TPM, tpm2.AuthHandle, *captured.Capture) error{quote, counter, nextKey} {
		if err := step(tpm, key, c); err != nil {
			return err
		}
	}
	c.Attestation.EventLog, err = os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	return err
}

// signer is the template of an ECDSA P-256 signing key; a restricted one signs
// nothing but what the TPM itself says.
func signer(restricted bool) tpm2.TPMTPublic {
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

func quote(tpm transport.TPM, ak tpm2.AuthHandle, c *captured.Capture) error {
	pcrs := []uint{0, 1, 2, 3, 4, 5, 6, 7, 11}
	selection := func(p ...uint) tpm2.TPMLPCRSelection {
		return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
			{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(p...)},
		}}
	}
	binding := c.Binding()
	q, err := tpm2.Quote{
		SignHandle:     ak,
		QualifyingData: tpm2.TPM2BData{Buffer: binding[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      selection(pcrs...),
	}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	c.Attestation.Quote = certification(q.Quoted, q.Signature)
	for _, p := range pcrs {
		r, err := tpm2.PCRRead{PCRSelectionIn: selection(p)}.Execute(tpm)
		if err != nil {
			return fmt.Errorf("read PCR %d: %w", p, err)
		}
		c.Attestation.PCRs = append(c.Attestation.PCRs,
			evidence.PCR{Index: int(p), SHA256: identity.Digest(r.PCRValues.Digests[0].Buffer)})
	}
	return nil
}

func certification(attest tpm2.TPM2BAttest, signature tpm2.TPMTSignature) evidence.Certification {
	return evidence.Certification{Attest: attest.Bytes(), Signature: tpm2.Marshal(signature)}
}

func counter(tpm transport.TPM, ak tpm2.AuthHandle, c *captured.Capture) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.TPMRHOwner,
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: counterIndex,
			NameAlg: tpm2.TPMAlgSHA256,
			Attributes: tpm2.TPMANV{
				OwnerWrite: true, OwnerRead: true, AuthWrite: true, AuthRead: true, NoDA: true, NT: tpm2.TPMNTCounter,
			},
			DataSize: 8,
		}),
	}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("define counter: %w", err)
	}
	public, err := tpm2.NVReadPublic{NVIndex: counterIndex}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("read counter's public area: %w", err)
	}
	auth := tpm2.AuthHandle{Handle: counterIndex, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.NVIncrement{AuthHandle: auth, NVIndex: tpm2.NamedHandle{Handle: counterIndex, Name: public.NVName}}).Execute(tpm); err != nil {
		return fmt.Errorf("increment counter: %w", err)
	}
	if public, err = (tpm2.NVReadPublic{NVIndex: counterIndex}).Execute(tpm); err != nil { // the name has changed: written
		return fmt.Errorf("read counter's public area: %w", err)
	}
	auth.Name = public.NVName
	binding := c.Binding()
	r, err := tpm2.NVCertify{
		SignHandle:     ak,
		AuthHandle:     auth,
		NVIndex:        tpm2.NamedHandle{Handle: counterIndex, Name: public.NVName},
		QualifyingData: tpm2.TPM2BData{Buffer: binding[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		Size:           8,
	}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("certify counter: %w", err)
	}
	c.Attestation.Counters = []evidence.Counter{{
		Public: public.NVPublic.Bytes(), Certify: certification(r.CertifyInfo, r.Signature),
	}}
	return nil
}

func nextKey(tpm transport.TPM, ak tpm2.AuthHandle, c *captured.Capture) error {
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(signer(false))}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("create next key: %w", err)
	}
	defer tpm2.FlushContext{FlushHandle: key.ObjectHandle}.Execute(tpm)
	binding := c.Binding()
	r, err := tpm2.Certify{
		ObjectHandle:   tpm2.AuthHandle{Handle: key.ObjectHandle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
		SignHandle:     ak,
		QualifyingData: tpm2.TPM2BData{Buffer: binding[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("certify next key: %w", err)
	}
	c.Attestation.NextKey = &evidence.CertifiedKey{
		Public: key.OutPublic.Bytes(), Certify: certification(r.CertifyInfo, r.Signature),
	}
	return nil
}
