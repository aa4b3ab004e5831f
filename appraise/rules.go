package appraise

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"unicode/utf16"

	"holdfast/evidence"
)

// Event types that only UEFI firmware writes (TCG PC Client Platform Firmware
// Profile, section 10.4.1).
const (
	eventEFIAction         = 0x80000007 // EV_EFI_ACTION
	eventVariableAuthority = 0x800000E0 // EV_EFI_VARIABLE_AUTHORITY
)

// rule reports whether an event whose digest is that of its data says only
// what it is allowed to say, and takes note of it. A digest of code must never
// pass here: whoever runs unknown code can show that code as the "data" of an
// event of any type. So each rule fixes the first bytes of the data to what no
// bootable image begins with, and reads the data to its end.
func (j *judgement) rule(e Event) bool {
	switch {
	case e.Type == evidence.EventSeparator && e.PCR < 8:
		return j.separator(e)
	case e.Type == eventVariableAuthority && e.PCR == evidence.PCRPolicy:
		return j.authorityEvent(e.Data)
	case j.separated[e.PCR] && e.PCR != evidence.PCRFirmware:
		return false // what runs after the boot code adds nothing to what it said
	case e.Type == evidence.EventCRTMVersion && e.PCR == evidence.PCRBootROM:
		return isVersion(e.Data)
	case e.Type == evidence.EventAction && e.PCR == evidence.PCRFirmware:
		return j.refusedSlot(e)
	case e.Type == eventEFIAction && e.PCR == evidence.PCRFirmware:
		return isBootAction(e.Data)
	case e.Type == evidence.EventVariableConfig && e.PCR == evidence.PCRPolicy:
		return j.variable(e.Data)
	}
	return false
}

// separator takes the event that ends the boot code's own measurements of a
// register: once, and not one that reports an error (section 10.4.1).
func (j *judgement) separator(e Event) bool {
	ok := bytes.Equal(e.Data, []byte{0, 0, 0, 0}) || bytes.Equal(e.Data, []byte{0xff, 0xff, 0xff, 0xff})
	if !ok || j.separated[e.PCR] {
		return false
	}
	j.separated[e.PCR] = true
	return true
}

// isVersion: UTF-16 text of a version, possibly empty.
func isVersion(data []byte) bool {
	text, ok := utf16Text(data)
	return ok && len(text) <= 128
}

var refusal = regexp.MustCompile(`^refused slot [AB]: [ -~]{1,200}$`)

// refusedSlot takes a board's note that it did not boot a slot. MCUboot images
// begin with a number that is not text, so none matches.
func (j *judgement) refusedSlot(e Event) bool {
	if j.separated[e.PCR] || j.full() || !refusal.Match(e.Data) {
		return false
	}
	j.facts.Refused = append(j.facts.Refused, string(e.Data))
	return true
}

// isBootAction: the UEFI boot manager's steps (section 10.4.4).
func isBootAction(data []byte) bool {
	switch string(data) {
	case "Calling EFI Application from Boot Option", "Returning from EFI Application from Boot Option":
		return true
	}
	return false
}

// The vendor GUIDs of variables that PCR 7 has, in UEFI encoding.
const (
	efiGlobal        = "\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c" // 8be4df61-93ca-11d2-aa0d-00e098032b8c
	efiImageSecurity = "\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f" // d719b2cb-3d3a-4596-a3bc-dad00e67656f
)

// Names of the variables, as the judgement keeps them.
const (
	boardVerification = "board/" + evidence.VariableVerification
	boardDebugLock    = "board/" + evidence.VariableDebugLock
	boardLifecycle    = "board/" + evidence.VariableLifecycle
	boardKeyHash      = "board/" + evidence.VariableKeyHash
	boardCounterIndex = "board/" + evidence.VariableCounterIndex
	boardCounterBase  = "board/" + evidence.VariableCounterBase
	uefiSecureBoot    = "uefi/SecureBoot"
)

// boardVariables are those that every board measures.
func boardVariables() []string {
	return []string{boardVerification, boardDebugLock, boardLifecycle, boardKeyHash}
}

// variable takes a boot policy variable: one of those we know, each once,
// before the separator.
func (j *judgement) variable(data []byte) bool {
	guid, name, value, ok := parseVariable(data)
	if !ok {
		return false
	}
	switch guid {
	case string(evidence.BoardGUID[:]):
		name = "board/" + name
	case efiGlobal, efiImageSecurity:
		name = "uefi/" + name
	}
	if j.variables[name] {
		return false
	}
	switch guid {
	case string(evidence.BoardGUID[:]):
		ok = j.boardVariable(name, value)
	case efiGlobal:
		ok = j.uefiVariable(name, value)
	case efiImageSecurity:
		ok = name == "uefi/db" || name == "uefi/dbx" || name == "uefi/dbt" || name == "uefi/dbr"
	default:
		ok = false
	}
	if ok {
		j.variables[name] = true
	}
	return ok
}

var lifecycle = regexp.MustCompile(`^[a-z-]{1,32}$`)

func (j *judgement) boardVariable(name string, value []byte) bool {
	p := &j.facts.Policy
	switch name {
	case boardVerification:
		return toggle(&p.Verification, value)
	case boardDebugLock:
		return toggle(&p.DebugLock, value)
	case boardLifecycle:
		if !lifecycle.Match(value) {
			return false
		}
		p.Lifecycle = string(value)
		return true
	case boardKeyHash:
		if len(value) != sha256.Size {
			return false
		}
		p.KeyHash = hex.EncodeToString(value)
		return true
	case boardCounterIndex:
		if len(value) != 4 || value[0] != nvHandle {
			return false
		}
		p.counter().Index = binary.BigEndian.Uint32(value)
		return true
	case boardCounterBase:
		if len(value) != 8 {
			return false
		}
		p.counter().Base = binary.BigEndian.Uint64(value)
		return true
	}
	return false
}

// nvHandle is the first byte of an NV index (TPM 2.0 Library, Part 2, TPM_HT).
const nvHandle = 0x01

// counter returns the note of the board's counter, which two variables fill.
func (p *BootPolicy) counter() *SecurityCounter {
	if p.Counter == nil {
		p.Counter = new(SecurityCounter)
	}
	return p.Counter
}

func (j *judgement) uefiVariable(name string, value []byte) bool {
	switch name {
	case uefiSecureBoot:
		return toggle(&j.facts.Policy.SecureBoot, value)
	case "uefi/PK", "uefi/KEK", "uefi/AuditMode", "uefi/DeployedMode":
		return true
	}
	return false
}

// toggle reads a switch of one byte, 0 or 1.
func toggle(to **bool, value []byte) bool {
	if len(value) != 1 || value[0] > 1 {
		return false
	}
	v := value[0] == 1
	*to = &v
	return true
}

// authorityEvent takes the entry of db that verified an image (section 10.4.1):
// informative, since each image has to be known by its own digest.
func (j *judgement) authorityEvent(data []byte) bool {
	guid, name, _, ok := parseVariable(data)
	if !ok || guid != efiImageSecurity || name != "db" {
		return false
	}
	j.authority = true
	return true
}

// maxVariableName is the longest name of a policy variable in characters.
const maxVariableName = 64

// parseVariable reads UEFI_VARIABLE_DATA (section 10.2.6) to its last byte.
func parseVariable(data []byte) (guid, name string, value []byte, ok bool) {
	const head = 16 + 8 + 8
	if len(data) < head {
		return "", "", nil, false
	}
	chars, size := binary.LittleEndian.Uint64(data[16:]), binary.LittleEndian.Uint64(data[24:])
	rest := data[head:]
	if chars > maxVariableName || size > MaxEventLog || 2*chars+size != uint64(len(rest)) {
		return "", "", nil, false
	}
	name, ok = utf16Text(rest[:2*chars])
	return string(data[:16]), name, rest[2*chars:], ok
}

// utf16Text decodes little-endian UTF-16 of printable ASCII, with or without a
// terminating zero.
func utf16Text(b []byte) (string, bool) {
	if len(b)%2 != 0 {
		return "", false
	}
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	if n := len(u); n > 0 && u[n-1] == 0 {
		u = u[:n-1]
	}
	for _, c := range u {
		if c < ' ' || c > '~' {
			return "", false
		}
	}
	return string(utf16.Decode(u)), true
}
