// Package swtpm makes and runs software TPMs 2.0 with the program swtpm, for
// virtual boards and tests. All state is in directories that the caller names;
// the machine-wide certificate authority of swtpm's own configuration is never
// used.
package swtpm

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// CA is the certificate authority of a simulated TPM maker. It comes into
// being with the first TPM that is created under it; TPMs may be created
// under one CA at the same time.
type CA struct {
	Dir string // where its keys and certificates are kept
}

// RootFile is the path of the maker's root certificate (PEM), which exists
// after the first Create.
func (c CA) RootFile() string { return filepath.Join(c.Dir, "swtpm-localca-rootca-cert.pem") }

// IssuerFile is the path of the certificate (PEM) whose key signs endorsement
// key certificates; the root signed it.
func (c CA) IssuerFile() string { return filepath.Join(c.Dir, "issuercert.pem") }

// chainIndex is the first NV index of the endorsement certificate chain (TCG
// EK Credential Profile 2.5, section 2.2.1.5.2).
const chainIndex = 0x01C00100

// Create manufactures a TPM in dir, replacing one that is there: endorsement
// keys (RSA-2048 persistent at 0x81010001, ECC P-384), their certificates and a
// platform certificate of the maker ca in NV, with the issuing certificate at
// 0x01C00100. Only the SHA-256 bank of PCRs is active.
func Create(ctx context.Context, dir string, ca CA) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("create software TPM: %w", err)
	}
	config, err := writeConfig(dir, ca)
	if err != nil {
		return fmt.Errorf("create software TPM: %w", err)
	}
	cmd := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--config", config, "--tpmstate", dir,
		"--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--overwrite")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("create software TPM: swtpm_setup: %w: %s", err, lastLine(out))
	}
	if err := storeChain(ctx, dir, ca); err != nil {
		return fmt.Errorf("create software TPM: %w", err)
	}
	return nil
}

// writeConfig writes private configuration for swtpm_setup and the CA tool
// that it calls, and returns the path of the former.
func writeConfig(dir string, ca CA) (string, error) {
	caDir, err := filepath.Abs(ca.Dir)
	if err != nil || ca.Dir == "" {
		return "", errors.New("the maker's CA has no directory")
	}
	tool, err := exec.LookPath("swtpm_localca")
	if err != nil {
		return "", err
	}
	for _, d := range []string{dir, caDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return "", err
		}
	}
	setup, local, options := filepath.Join(dir, "setup.conf"), filepath.Join(dir, "localca.conf"), filepath.Join(dir, "localca.options")
	files := map[string]string{
		setup: "create_certs_tool = " + tool + "\ncreate_certs_tool_config = " + local +
			"\ncreate_certs_tool_options = " + options + "\nactive_pcr_banks = sha256\n",
		local: "statedir = " + caDir + "\nsigningkey = " + filepath.Join(caDir, "signkey.pem") +
			"\nissuercert = " + filepath.Join(caDir, "issuercert.pem") + "\ncertserial = " + filepath.Join(caDir, "certserial") + "\n",
		options: "--platform-manufacturer Holdfast\n--platform-version 1.0\n--platform-model VirtualBoard\n",
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return setup, nil
}

// storeChain puts the issuing certificate into the TPM, as makers do, so that
// a verifier that knows only the root can follow the chain.
func storeChain(ctx context.Context, dir string, ca CA) error {
	text, err := os.ReadFile(ca.IssuerFile())
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s has no certificate", ca.IssuerFile())
	}
	t, err := Start(ctx, dir)
	if err != nil {
		return err
	}
	defer t.Kill()
	tpm, err := t.Open()
	if err != nil {
		return err
	}
	if err := writeNV(tpm, chainIndex, block.Bytes); err != nil {
		return err
	}
	return t.Stop()
}

// writeNV defines an index that anybody may read and only the platform may
// write, and fills it.
func writeNV(tpm transport.TPM, index tpm2.TPMHandle, data []byte) error {
	public := tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: index,
		NameAlg: tpm2.TPMAlgSHA256,
		Attributes: tpm2.TPMANV{PPWrite: true, PPRead: true, OwnerRead: true, AuthRead: true,
			PolicyRead: true, PlatformCreate: true, NoDA: true},
		DataSize: uint16(len(data)),
	})
	platform := tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: platform, PublicInfo: public}).Execute(tpm); err != nil {
		return fmt.Errorf("define NV %#x: %w", index, err)
	}
	read, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("name of NV %#x: %w", index, err)
	}
	named := tpm2.NamedHandle{Handle: index, Name: read.NVName}
	const chunk = 512 // every TPM can take this much in one command
	for at := 0; at < len(data); at += chunk {
		part := data[at:min(at+chunk, len(data))]
		write := tpm2.NVWrite{AuthHandle: platform, NVIndex: named, Data: tpm2.TPM2BMaxNVBuffer{Buffer: part}, Offset: uint16(at)}
		if _, err := write.Execute(tpm); err != nil {
			return fmt.Errorf("write NV %#x: %w", index, err)
		}
		// The first write changes the index's attributes, hence its name.
		if read, err = (tpm2.NVReadPublic{NVIndex: index}).Execute(tpm); err != nil {
			return fmt.Errorf("name of NV %#x: %w", index, err)
		}
		named.Name = read.NVName
	}
	return nil
}

func lastLine(out []byte) []byte {
	out = bytes.TrimSpace(out)
	return out[bytes.LastIndexByte(out, '\n')+1:]
}
