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
	captured "holdfast/test/evidence"
	"holdfast/test/evidence/attester"
)

// ekCertificate is the NV index of the certificate of the RSA-2048 EK (TCG EK
// Credential Profile, section 2.2.1.4).
const ekCertificate = tpm2.TPMHandle(0x01c00002)

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
	a, err := attester.New(tpm, tpm2.TPMRHEndorsement)
	if err != nil {
		return err
	}
	defer a.Close()
	c.AKPublic = a.Public
	e, binding := &c.Attestation, c.Binding()
	if e.Quote, e.PCRs, err = a.Quote(binding, 0, 1, 2, 3, 4, 5, 6, 7, 11); err != nil {
		return err
	}
	if err := a.Increment(); err != nil {
		return err
	}
	counter, err := a.Counter(binding)
	if err != nil {
		return err
	}
	e.Counters = []evidence.Counter{counter}
	if e.NextKey, err = a.NextKey(binding, attester.Template(false)); err != nil {
		return err
	}
	e.EventLog, err = os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	return err
}
