package operator

import (
	"encoding/json"
	"time"

	"holdfast/identity"
)

// The kinds of enrolments.
const (
	Individual = "individual" // one device, by its registration id
	ForGroup   = "group"      // every device of a maker's CA whose id fits
)

// What re-provisioning does with a device's data.
const (
	Keep  = "keep"  // the twin stays as it is
	Reset = "reset" // the twin becomes the initial one again
)

// Enrollment says what becomes of devices that provision themselves (DPS). A
// device that no enrolment mentions is taken by its group's own maker's CAs and
// ids.
type Enrollment struct {
	Kind string `json:"kind" enum:"individual,group" doc:"one device, or all whose ids fit"`
	ID   string `json:"id" doc:"registration id, which is the device's id unless device says otherwise, or the name of an enrolment for many"`
	// Device may differ from the registration id, which the certificate has as its
	// common name. It needs MakerCA or Certificates: one certificate, one device.
	Device identity.Device `json:"device,omitempty" doc:"of an individual enrolment: the id that the device has on the hub; default the registration id"`
	Group  identity.Group  `json:"group" doc:"the group its devices come into"`
	// MakerCA may be left out of an individual enrolment: then any of the
	// group's CAs, or the certificates listed, say who the device is.
	MakerCA string `json:"maker_ca,omitempty" doc:"the maker's CA that certifies its devices"`
	// Certificates has one, or two while a device changes from one to the next.
	Certificates []identity.Digest `json:"certificates,omitempty" maxItems:"2" doc:"of an individual enrolment: SHA-256 of the device's certificate"`
	IDs          []string          `json:"ids,omitempty" doc:"of an enrolment for many: ids or patterns"`
	Twin         *SetTwin          `json:"initial_twin,omitempty" doc:"what a new device's twin begins with"`
	Payload      json.RawMessage   `json:"payload,omitempty" doc:"handed to the device with its assignment"`
	Reprovision  string            `json:"reprovision,omitempty" enum:"keep,reset" doc:"what a device's coming again does with its twin; default keep"`
	Disabled     bool              `json:"disabled,omitempty" doc:"its devices are refused"`
	Created      time.Time         `json:"created,omitzero" readOnly:"true"`
	Updated      time.Time         `json:"updated,omitzero" readOnly:"true"`
}
