package operator

import (
	"time"

	"holdfast/finding"
	"holdfast/identity"
)

// Auditor is somebody whose signed statements about firmware this hub believes.
type Auditor struct {
	Name    string          `json:"name" minLength:"1" maxLength:"64" doc:"its name on this hub"`
	Key     string          `json:"key" minLength:"1" maxLength:"4096" doc:"public key, PEM: ECDSA P-256 or Ed25519, used for nothing else"`
	ID      identity.Digest `json:"id,omitzero" readOnly:"true" doc:"SHA-256 of the key: what its signatures are named after"`
	By      string          `json:"by,omitempty" readOnly:"true" doc:"who registered it"`
	Added   time.Time       `json:"added,omitzero" readOnly:"true" doc:"when it was registered"`
	Trouble string          `json:"trouble,omitempty" readOnly:"true" doc:"why its statements do not count; absent: they do"`
}

// AddAudit gives the hub an auditor's statement.
type AddAudit struct {
	Envelope []byte `json:"envelope" doc:"DSSE envelope with an in-toto statement, base64"`
}

// Audit is a statement of an auditor about firmware.
type Audit struct {
	ID       identity.Digest          `json:"id" doc:"SHA-256 of the envelope"`
	Auditor  string                   `json:"auditor" doc:"who signed it"`
	Program  string                   `json:"program" doc:"name and version of the auditor's program"`
	Rules    string                   `json:"rules" doc:"digest of its rule set"`
	Revision string                   `json:"revision,omitempty" doc:"revision of the source"`
	Time     time.Time                `json:"time" doc:"when it was judged"`
	Received time.Time                `json:"received,omitzero" doc:"when the hub got it; absent of a release's"`
	By       string                   `json:"by,omitempty" doc:"who gave it to the hub"`
	Release  string                   `json:"release,omitempty" doc:"the release that it came with; absent: none"`
	Images   []finding.Image          `json:"images" doc:"what a device measures that it is about: the auditor has shown what they carry"`
	Rows     []finding.Row            `json:"rows" doc:"its verdict on each measure"`
	Findings map[finding.Severity]int `json:"findings,omitempty" doc:"how many of each severity"`
	Older    bool                     `json:"older,omitempty" doc:"the same auditor has a newer statement about each of its images: this one does not count"`
}
