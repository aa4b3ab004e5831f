package virtual

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/device/board"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/mcuboot"
)

// ROMVersion is the version of the boot ROM, measured into PCR 0.
const ROMVersion = "holdfast-rom 1"

// ROMDigest is the SHA-256 of the boot ROM's code, which is this program's
// file. It is what operators register as a reference value.
func ROMDigest() (identity.Digest, error) {
	code, err := os.Open("/proc/self/exe")
	if err != nil {
		return identity.Digest{}, fmt.Errorf("digest of boot ROM: %w", err)
	}
	defer func() { _ = code.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, code); err != nil {
		return identity.Digest{}, fmt.Errorf("digest of boot ROM: %w", err)
	}
	return identity.Digest(h.Sum(nil)), nil
}

// content is what a slot holds.
type content struct {
	slot    string
	image   []byte
	trouble mcuboot.Refusal // why there is no image to look at
}

// What the boot ROM says of a slot without an image.
const (
	empty      mcuboot.Refusal = "empty"
	unreadable mcuboot.Refusal = "unreadable"
)

// refusal is a slot that does not boot.
type refusal struct {
	slot   string
	why    mcuboot.Refusal
	detail error
}

// String is what is measured and reported: "slot A: wrong hash".
func (r refusal) String() string { return "slot " + r.slot + ": " + string(r.why) }

// choose tries the slots in order. It returns the first image that the fuses
// allow, nil when there is none, and the slots that were refused before it.
func choose(fuses Fuses, all []content) (string, *mcuboot.Image, []refusal) {
	var refused []refusal
	for _, c := range all {
		img, err := admit(fuses, c)
		if err == nil {
			return c.slot, img, refused
		}
		r := refusal{slot: c.slot, why: mcuboot.NotAnImage, detail: err}
		_ = errors.As(err, &r.why) // all of them are
		refused = append(refused, r)
	}
	return "", nil, refused
}

func admit(fuses Fuses, c content) (*mcuboot.Image, error) {
	if c.trouble != "" {
		return nil, c.trouble
	}
	if !fuses.Verify {
		return mcuboot.Parse(c.image)
	}
	img, err := mcuboot.Verify(c.image, fuses.KeyHash)
	if err == nil && img.SecurityCounter < fuses.SecurityCounter {
		return nil, fmt.Errorf("%w: %d, the fuses say %d", mcuboot.LowSecurityCounter, img.SecurityCounter, fuses.SecurityCounter)
	}
	return img, err
}

// quoted are the registers that the firmware is to quote.
var quoted = []int{evidence.PCRBootROM, 1, 2, 3, evidence.PCRFirmware, 5, 6, evidence.PCRPolicy, evidence.PCRManifests}

// recorder measures: it extends registers and keeps the log.
type recorder struct {
	tpm transport.TPM
	log evidence.EventLog
	err error // the first one
}

// event measures the data of an event.
func (m *recorder) event(pcr int, kind uint32, data []byte) {
	m.extend(pcr, m.log.Append(pcr, kind, data))
}

// digest measures something that an event's data only describes.
func (m *recorder) digest(pcr int, kind uint32, d identity.Digest, data []byte) {
	m.log.AppendDigest(pcr, kind, d, data)
	m.extend(pcr, d)
}

func (m *recorder) extend(pcr int, d identity.Digest) {
	if m.err != nil {
		return
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: d[:]}}},
	}.Execute(m.tpm)
	if err != nil {
		m.err = fmt.Errorf("extend PCR %d: %w", pcr, err)
	}
}

// measure records a boot in the TPM, as docs/PROTOCOL.md has it, closes the
// platform hierarchy, and returns the log.
func measure(tpm transport.TPM, rom identity.Digest, fuses Fuses, boot board.Boot) ([]byte, error) {
	m := &recorder{tpm: tpm}
	m.event(evidence.PCRBootROM, evidence.EventCRTMVersion, evidence.UTF16(ROMVersion))
	m.digest(evidence.PCRBootROM, evidence.EventPostCode, rom, []byte("boot ROM"))
	for _, v := range []struct {
		name  string
		value []byte
	}{
		{evidence.VariableVerification, flag(fuses.Verify)},
		{evidence.VariableDebugLock, flag(fuses.DebugLock)},
		{evidence.VariableLifecycle, []byte(fuses.Lifecycle)},
		{evidence.VariableKeyHash, fuses.KeyHash[:]},
	} {
		m.event(evidence.PCRPolicy, evidence.EventVariableConfig, evidence.Variable(v.name, v.value))
	}
	for _, r := range boot.Refused {
		m.event(evidence.PCRFirmware, evidence.EventAction, []byte("refused "+r))
	}
	ipl, err := json.Marshal(evidence.IPL{Slot: boot.Slot, Version: boot.Version})
	if err != nil {
		return nil, fmt.Errorf("measure boot: %w", err)
	}
	m.digest(evidence.PCRFirmware, evidence.EventIPL, boot.Digest, ipl)
	for pcr := range 8 {
		m.event(pcr, evidence.EventSeparator, make([]byte, 4))
	}
	if m.err == nil {
		m.err = closePlatform(tpm)
	}
	if m.err != nil {
		return nil, fmt.Errorf("measure boot: %w", m.err)
	}
	return m.log.Bytes(), nil
}

func flag(on bool) []byte {
	if on {
		return []byte{1}
	}
	return []byte{0}
}

// closePlatform gives the platform hierarchy an authorisation value that
// nobody knows until the next reset, so that firmware cannot act as the boot
// ROM (TCG PC Client Platform Firmware Profile, section 2.3.1).
func closePlatform(tpm transport.TPM) error {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: secret},
	}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("close platform hierarchy: %w", err)
	}
	return nil
}
