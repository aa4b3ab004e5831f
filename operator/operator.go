// Package operator has the words of the operator API: what the hub answers to
// whoever answers for the fleet, and what they ask of it. The hub serves these
// forms, the Go client and the command line read them; OpenAPI at
// /openapi.json describes them.
package operator

import (
	"encoding/json"
	"time"

	"holdfast/identity"
	"holdfast/measure"
	"holdfast/posture"
	"holdfast/release"
)

// HeadHeader is the HTTP header that carries the ledger's signed head
// (base64 of its JSON) in every answer.
const HeadHeader = "Holdfast-Ledger-Head"

// Hub describes a hub.
type Hub struct {
	Version   string   `json:"version" doc:"version of the hub program"`
	Hosts     []string `json:"hosts" doc:"names and addresses in the hub's certificates"`
	MQTT      string   `json:"mqtt" doc:"address of the MQTT listener"`
	HTTPS     string   `json:"https" doc:"address of the device HTTPS listener"`
	Legacy    string   `json:"legacy,omitempty" doc:"address of the legacy listener"`
	Root      string   `json:"root" doc:"root certificate, PEM"`
	RSARoot   string   `json:"rsa_root,omitempty" doc:"root certificate for devices that verify RSA alone, PEM"`
	OldRoot   string   `json:"legacy_root,omitempty" doc:"root certificate of the legacy listener, PEM"`
	Scope     string   `json:"id_scope" doc:"id scope, for devices that provision themselves"`
	Devices   int      `json:"devices" doc:"registered devices"`
	Connected int      `json:"connected" doc:"live sessions"`

	Time       time.Time `json:"time" doc:"the hub's clock"`
	LastBackup time.Time `json:"last_backup,omitzero" doc:"when the newest backup was made; absent: never"`
}

// Group is a device group and its policy.
type Group struct {
	ID         identity.Group  `json:"id" doc:"name of the group"`
	Policy     posture.Policy  `json:"policy" doc:"what its devices have to show"`
	Product    release.Product `json:"product,omitempty" doc:"whose published releases its devices may run; absent: none is said"`
	Simulation bool            `json:"simulation,omitempty" doc:"software TPMs count as hardware roots"`
	FileKeys   bool            `json:"file_keys,omitempty" doc:"devices may keep their key in a file"`
	TLS12      bool            `json:"tls12,omitempty" doc:"TLS 1.2 with ECDHE and AEAD is allowed"`
	SelfSigned bool            `json:"legacy_selfsigned,omitempty" doc:"self-signed certificates that are registered by SHA-256 are accepted"`
	ThreadX    bool            `json:"legacy_threadx,omitempty" doc:"the legacy listener with its CBC suites is allowed"`
	MakerCAs   []string        `json:"maker_cas,omitempty" doc:"names of makers' CAs that speak for the group"`
	IDs        []string        `json:"ids,omitempty" doc:"ids or patterns that those CAs may certify"`
	Limits     Limits          `json:"limits,omitzero" doc:"what each of its devices may send, and all of them together"`
}

// NoProduct, in place of a product, takes a group's product away.
const NoProduct = "-"

// SetGroup makes a group or changes one. What is absent is off, but for the
// policy and the product, which stay as they are. The policy is a built-in one by its
// name, or one in JSON or text; of those with a version, only a higher one than
// the group has replaces it.
type SetGroup struct {
	PolicyName string          `json:"policy_name,omitempty" doc:"a built-in policy: standard, bench or lenient"`
	Policy     json.RawMessage `json:"policy,omitempty" doc:"a policy, in place of a built-in one"`
	Text       string          `json:"policy_text,omitempty" doc:"a policy in its text form, in place of either"`
	Product    string          `json:"product,omitempty" doc:"whose published releases its devices may run; absent: as it was; \"-\": none"`
	Simulation bool            `json:"simulation,omitempty" doc:"let software TPMs count as hardware roots"`
	FileKeys   bool            `json:"file_keys,omitempty" doc:"let devices keep their key in a file"`
	TLS12      bool            `json:"tls12,omitempty" doc:"allow TLS 1.2 with ECDHE and AEAD"`
	SelfSigned bool            `json:"legacy_selfsigned,omitempty" doc:"accept self-signed certificates that are registered by SHA-256"`
	ThreadX    bool            `json:"legacy_threadx,omitempty" doc:"allow the legacy listener, whose suites are those of stock ThreadX firmware"`
	MakerCAs   []string        `json:"maker_cas,omitempty" doc:"names of makers' CAs that speak for the group"`
	IDs        []string        `json:"ids,omitempty" doc:"ids or patterns that those CAs may certify"`
	Limits     Limits          `json:"limits,omitzero" doc:"what each of its devices may send, and all of them together"`
}

// CA is a registered authority: a maker's, which signs device certificates, or
// an endorsement root, which says what a TPM is.
type CA struct {
	Name     string    `json:"name" doc:"its name on this hub"`
	Kind     string    `json:"kind" enum:"maker,endorsement" doc:"what it is trusted for"`
	Class    string    `json:"class,omitempty" enum:"hardware,software" doc:"of an endorsement root: what its TPMs are"`
	PEM      string    `json:"pem" doc:"the certificate"`
	Subject  string    `json:"subject,omitempty" readOnly:"true" doc:"its subject"`
	NotAfter time.Time `json:"not_after,omitzero" readOnly:"true" doc:"when it expires"`
	// Challenge and Verified are of a maker's CA. A proof is a certificate that
	// the CA signed and whose common name is the challenge.
	Challenge string    `json:"challenge,omitempty" readOnly:"true" doc:"what a proof has to certify"`
	Verified  time.Time `json:"verified,omitzero" readOnly:"true" doc:"when somebody proved to hold its key"`
}

// Proof shows that somebody holds the key of a maker's CA. Without a
// certificate it asks for a new challenge.
type Proof struct {
	PEM string `json:"pem,omitempty" doc:"certificate that the CA signed, with the challenge as its common name"`
}

// Certificate is a device's operational certificate.
type Certificate struct {
	_        struct{}  `nullable:"true"`
	NotAfter time.Time `json:"not_after" doc:"when it expires"`
	Lifetime int64     `json:"lifetime_seconds" doc:"how long it was issued for"`
	Serial   string    `json:"serial,omitempty" doc:"serial number, hexadecimal"`
}

// Device is a device as the hub knows it.
type Device struct {
	ID          identity.Device   `json:"id"`
	Group       identity.Group    `json:"group"`
	Status      posture.Status    `json:"status"`
	Reason      string            `json:"reason" doc:"why the status is what it is"`
	Certificate *Certificate      `json:"certificate" doc:"its newest operational certificate, null where the hub has issued none"`
	Release     string            `json:"release,omitempty" doc:"name and version of the firmware that it attested"`
	Firmware    *Firmware         `json:"firmware,omitempty" doc:"the firmware that it attested, held against signed releases; absent: it attests none now"`
	Born        time.Time         `json:"born,omitzero" doc:"when its birth certificate was issued"`
	LastSeen    time.Time         `json:"last_seen,omitzero" doc:"when it was last connected"`
	Connected   bool              `json:"connected" doc:"it has a live session"`
	Posture     []measure.Row     `json:"posture" doc:"one row per measure; a row without evidence has the time of this answer"`
	Decision    *posture.Decision `json:"decision,omitempty" doc:"the policy's demands and how each came out"`
}

// AddDevice registers a device before it comes. With EK or Token it may be
// born; with neither it waits for a maker's certificate: of any CA of its
// group, or of the one that MakerCA names.
type AddDevice struct {
	ID      identity.Device `json:"id" doc:"the id the device will have"`
	Group   identity.Group  `json:"group" doc:"its group"`
	EK      []byte          `json:"ek,omitempty" doc:"public area of its TPM's endorsement key, or the digest in hexadecimal"`
	Token   bool            `json:"token,omitempty" doc:"make a claim token"`
	MakerCA string          `json:"maker_ca,omitempty" doc:"the one maker's CA that may certify it"`
	TTL     int64           `json:"token_ttl_seconds,omitempty" doc:"how long the token is good; default a day"`
}

// AddedDevice answers AddDevice. The token is shown this once.
type AddedDevice struct {
	ID      identity.Device `json:"id"`
	Group   identity.Group  `json:"group"`
	Token   string          `json:"token,omitempty"`
	Expires time.Time       `json:"expires,omitzero"`
}

// Act is what an operator does to a device: revoke, quarantine or restore.
type Act struct {
	Reason string `json:"reason" minLength:"1" maxLength:"400" doc:"why, for the ledger"`
}

// Pending is a device that nothing admits, as it showed itself.
type Pending struct {
	ID     string          `json:"id" doc:"names this request"`
	EK     string          `json:"ek,omitempty" doc:"digest of its EK's public area"`
	Shown  string          `json:"shown" doc:"what it showed"`
	Remote string          `json:"remote" doc:"where it came from"`
	Time   time.Time       `json:"time" doc:"when it last asked"`
	Device identity.Device `json:"device,omitempty" doc:"given when accepted"`
}

// Accept admits a pending device under an id.
type Accept struct {
	Device identity.Device `json:"device" doc:"the id it will have"`
	Group  identity.Group  `json:"group" doc:"its group"`
}

// Reference is a Reference Value (RFC 9334): a measurement that is known good
// in a group.
type Reference struct {
	Group   identity.Group  `json:"group"`
	Kind    string          `json:"kind" enum:"boot-rom,firmware,manifest,event"`
	PCR     int             `json:"pcr" doc:"the register it is measured into"`
	Digest  identity.Digest `json:"digest" doc:"SHA-256, hexadecimal"`
	Name    string          `json:"name"`
	Version string          `json:"version,omitempty"`

	Released bool `json:"released,omitempty" readOnly:"true" doc:"it is a published release of the group's product, which nobody added"`
}

// Event is one stored message. Body is the body as text when it is valid
// UTF-8, otherwise Base64 has it. Whoever goes on after ID misses nothing.
type Event struct {
	ID         string            `json:"id" doc:"its place in the stream"`
	Device     identity.Device   `json:"device,omitempty"`
	Kind       string            `json:"kind" doc:"telemetry, log, twin, feedback, lifecycle or security"`
	Time       time.Time         `json:"time"`
	Properties map[string]string `json:"properties,omitempty"`
	System     map[string]string `json:"system,omitempty"`
	Body       string            `json:"body,omitempty"`
	Base64     []byte            `json:"body_base64,omitempty"`
}

// EventQuery says which stored messages to read; the zero value means all that
// there are.
type EventQuery struct {
	Device identity.Device // only this one
	Kind   string          // only this one
	Since  time.Time       // taken at this time or later
	After  string          // after the event with this ID
	Follow bool            // then go on with new ones
}
