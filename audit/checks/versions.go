package checks

import (
	"encoding/binary"
	"regexp"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

func versionRules() []Rule {
	return []Rule{{
		ID: "VER-TEXT-01", Measure: measure.FirmwareUpdate, Bullets: nil, Severity: finding.Low, Confidence: finding.Guess,
		Title: "the firmware does not say its version", Why: "What cannot say what it is cannot be updated for sure, nor known to be vulnerable.", Section: "Firmware or OTA update", CWE: []string{"CWE-1059"},
		Fix: "Put the version into the image, and declare it in .holdfast-audit.yaml.", Bad: "version: 1.2.3 (declared, not in the image)", Good: `const char version[] = "1.2.3";`, Judge: judgeVersion,
	}, {
		ID: "VER-BUILD-01", Measure: measure.FirmwareSigning, Bullets: nil, Severity: finding.Info, Confidence: finding.Certain,
		Title: "a program has no build id", Why: "A crash report or a finding cannot be matched with the build it is of.", Section: "Code signing", CWE: []string{"CWE-1059"},
		Fix: "Link with --build-id.", Bad: "ld --build-id=none", Good: "ld --build-id", Judge: eachProgram(judgeBuildID),
	}, {
		ID: "VER-SIGN-01", Measure: measure.FirmwareSigning, Bullets: nil, Severity: finding.High, Confidence: finding.Certain,
		Title: "an image is not signed", Why: "A boot loader that takes it takes anything.", Section: "Code signing", CWE: []string{"CWE-347", "CWE-494"},
		Fix: "Sign it: imgtool sign --key, or holdfast image sign.", Bad: "imgtool sign --version 1.2.3", Good: "imgtool sign --key k.pem --version 1.2.3", Judge: judgeSigned,
	}, {
		ID: "VER-COUNTER-01", Measure: measure.FirmwareDowngrade, Bullets: nil, Severity: finding.Medium, Confidence: finding.Certain,
		Title: "an image has no security counter", Why: "The boot loader cannot tell an old, vulnerable image from a new one.", Section: "Roll back or downgrade protection", CWE: []string{"CWE-1328"},
		Fix: "Give it one: imgtool sign --security-counter N, and raise it with each security fix.", Bad: "imgtool sign --key k.pem", Good: "imgtool sign --key k.pem --security-counter 4", Judge: judgeCounter,
	}}
}

var versionText = regexp.MustCompile(`(^|[^\w.])[vV]?\d{1,4}\.\d{1,4}\.\d{1,4}($|[^\w.]|[-+][0-9A-Za-z])`)

// judgeVersion looks for the declared version in programs and images, and
// without one for a text that looks like a version.
func judgeVersion(s *subject.Subject, r *Ruling) {
	some := false
	for _, p := range s.Programs {
		if !linked(p) {
			continue
		}
		some = true
		told, seen := s.Declared.Version, ""
		for t := range p.Strings(5) {
			if told != "" && strings.Contains(t.Value, told) || told == "" && len(t.Value) < 256 && versionText.MatchString(t.Value) {
				seen = t.Value
				break
			}
		}
		switch {
		case seen != "":
			r.Fact("version in "+subject.Base(p.File), "%.60s", seen)
			r.Pass("%s says its version", p.File)
		case told != "" && imageVersion(s, told):
			r.Pass("an image's header says version %s", told)
		case told != "":
			r.Found(finding.InFile(p.File), "the declared version %s is not in the program", told)
		default:
			r.Unknown("%s has no text that looks like a version, and none is declared", p.File)
		}
	}
	if !some {
		r.Idle("no program")
	}
}

// imageVersion reports whether an image's header has a version.
func imageVersion(s *subject.Subject, version string) bool {
	for _, i := range s.Images {
		if i.MCUboot != nil && strings.HasPrefix(i.MCUboot.Version.String(), version) {
			return true
		}
	}
	return false
}

func judgeBuildID(p *subject.Program, r *Ruling) {
	switch {
	case !linked(p):
		r.Idle("%s is not linked", p.File)
	case p.BuildID != "" || goProgram(p):
		r.Pass("%s has a build id", p.File)
	default:
		r.Found(finding.InFile(p.File), "the program has no build id")
		r.Idle("a build id is not asked of every product")
	}
}

// Tags of MCUboot's list of signatures (docs/design.md): RSA-2048, ECDSA-224,
// ECDSA, RSA-3072, Ed25519.
var signatureTags = []uint16{0x20, 0x21, 0x22, 0x23, 0x24}

// judgeSigned reads MCUboot's tags. Whether the signature is by the right key
// is not asked here: the device's boot loader and the hub do.
func judgeSigned(s *subject.Subject, r *Ruling) {
	if len(s.Images) == 0 {
		r.Idle("no image")
		return
	}
	for _, i := range s.Images {
		switch {
		case i.MCUboot == nil:
			r.Unknown("%s has no header of MCUboot: how it is signed is not known", i.File)
		case !signed(i):
			r.Found(finding.InFile(i.File), "the image is not signed")
		default:
			r.Pass("%s is signed", i.File)
		}
	}
}

// signed reports whether the tags behind an image's payload have a signature.
func signed(i *subject.Image) bool {
	const magic, protectedMagic, header = 0x6907, 0x6908, 32
	le := binary.LittleEndian
	if len(i.Chunks) == 0 {
		return false
	}
	b := i.Chunks[0].Data
	if len(b) < header {
		return false
	}
	at := uint64(le.Uint16(b[8:])) + uint64(le.Uint32(b[12:]))
	for at+4 <= uint64(len(b)) {
		kind, size := le.Uint16(b[at:]), uint64(le.Uint16(b[at+2:]))
		if kind != magic && kind != protectedMagic || size < 4 || at+size > uint64(len(b)) {
			return false
		}
		if kind == magic && hasTag(b[at+4:at+size], signatureTags) {
			return true
		}
		at += size
	}
	return false
}

// hasTag reports whether a list has a tag of some kinds, with bytes.
func hasTag(list []byte, kinds []uint16) bool {
	le := binary.LittleEndian
	for len(list) >= 4 {
		kind, size := le.Uint16(list), int(le.Uint16(list[2:]))
		for _, k := range kinds {
			if k == kind && size > 0 && size <= len(list)-4 {
				return true
			}
		}
		list = list[min(4+size, len(list)):]
	}
	return false
}

func judgeCounter(s *subject.Subject, r *Ruling) {
	some := false
	for _, i := range s.Images {
		if i.MCUboot == nil {
			continue
		}
		if some = true; i.MCUboot.SecurityCounter == 0 {
			r.Found(finding.InFile(i.File), "the image has no security counter")
			continue
		}
		r.Pass("%s has security counter %d", i.File, i.MCUboot.SecurityCounter)
	}
	if !some {
		r.Idle("no image of MCUboot")
	}
}
