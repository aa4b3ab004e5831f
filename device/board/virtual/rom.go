package virtual

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
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
	"holdfast/internal/flash"
	"holdfast/mcuboot"
	"holdfast/update"
)

// ROMVersion is the version of the boot ROM, measured into PCR 0.
const ROMVersion = "holdfast-rom 2"

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

// What the boot ROM says of a slot without an image.
const empty mcuboot.Refusal = "empty"

// ROM is what the boot ROM works with. The flash that it has been given is all
// that it knows: package update decides.
type ROM struct {
	A, B   flash.Area // nil: there is none
	Record flash.Area
	Fuses  Fuses
}

// Booted is the boot ROM's decision, carried out as far as the flash goes.
type Booted struct {
	update.Choice
	Parsed *mcuboot.Image // what boots; nil: nothing may
}

// Boot chooses what boots and brings the boot record up to date. minimum is the
// least security version and cause that of the reset before. A trial boots only
// once the record says so on stable storage.
func (r ROM) Boot(minimum uint32, cause string) Booted {
	seen := map[update.Slot]*mcuboot.Image{}
	look := func(s update.Slot) (update.Image, error) {
		img, err := r.look(s)
		if err != nil {
			return update.Image{}, err
		}
		seen[s] = img
		return update.Image{Measured: img.Digest, Version: img.Version, SecurityVersion: img.SecurityCounter}, nil
	}
	if !r.Fuses.Verify {
		minimum = 0 // nothing of an image is believed
	}
	record := flash.Pair{Area: r.Record}
	c := update.Boot(update.Load(record), look, minimum, cause)
	if c.Write {
		saved, err := update.Save(record, c.Record)
		if err != nil && c.Trial { // it could be tried again and again
			c = update.Boot(update.Load(record).Revert("the boot record cannot be written", cause), look, minimum, cause)
			saved = c.Record
		}
		c.Record = saved
	}
	return Booted{Choice: c, Parsed: seen[c.Image.Slot]}
}

// look verifies what a slot holds.
func (r ROM) look(s update.Slot) (*mcuboot.Image, error) {
	area := r.area(s)
	if area == nil {
		return nil, empty
	}
	head := make([]byte, 32)
	if _, err := area.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", mcuboot.Unreadable, err)
	}
	if flash.Blank(head) {
		return nil, empty
	}
	if !r.Fuses.Verify {
		return mcuboot.ParseAt(area, area.Used())
	}
	return mcuboot.VerifyAt(area, area.Used(), r.Fuses.KeyHash)
}

func (r ROM) area(s update.Slot) flash.Area {
	if s == update.A {
		return r.A
	}
	return r.B
}

// Load writes the program that was chosen. What has changed in the flash since
// is found: then nothing may be started.
func (r ROM) Load(b Booted, w io.Writer) error {
	if err := b.Parsed.CopyPayload(w, r.area(b.Image.Slot)); err != nil {
		return fmt.Errorf("load slot %s: %w", b.Image.Slot, err)
	}
	return nil
}

// refused is what is measured and reported of a slot: "slot A: wrong hash".
func refused(r update.Refusal) string { return "slot " + string(r.Slot) + ": " + reason(r.Err) }

// reason returns the part of a refusal that never changes.
func reason(err error) string {
	if why, ok := errors.AsType[mcuboot.Refusal](err); ok {
		return string(why)
	}
	return err.Error()
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
	for _, v := range variables(fuses) {
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

// variable is a part of the fuses, as it is measured.
type variable struct {
	name  string
	value []byte
}

func variables(f Fuses) []variable {
	v := []variable{
		{evidence.VariableVerification, flag(f.Verify)},
		{evidence.VariableDebugLock, flag(f.DebugLock)},
		{evidence.VariableLifecycle, []byte(f.Lifecycle)},
		{evidence.VariableKeyHash, f.KeyHash[:]},
	}
	if f.CounterIndex == 0 {
		return v
	}
	return append(v,
		variable{evidence.VariableCounterIndex, binary.BigEndian.AppendUint32(nil, f.CounterIndex)},
		variable{evidence.VariableCounterBase, binary.BigEndian.AppendUint64(nil, f.CounterBase)})
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
