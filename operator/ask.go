package operator

import (
	"time"

	"holdfast/identity"
)

// Me says who asks, as the hub sees it.
type Me struct {
	Name   string           `json:"name"`
	Role   Role             `json:"role" enum:"viewer,operator,administrator"`
	Groups []identity.Group `json:"groups,omitempty" doc:"those it is for; absent: all"`
	Via    Via              `json:"via" enum:"certificate,link,passkey,oidc,token" doc:"how it proved who it is"`
	Remote string           `json:"remote,omitempty" doc:"host it comes from"`
	Proved time.Time        `json:"proved,omitzero" doc:"when it last proved itself with a key of its own"`
	Until  time.Time        `json:"until,omitzero" doc:"when its credential ends"`
	StepUp time.Time        `json:"step_up_until,omitzero" doc:"until then dangerous acts need no further proof"`
}

// RevokeDevices revokes many devices: those listed, or a whole group.
type RevokeDevices struct {
	Devices []identity.Device `json:"devices,omitempty" maxItems:"1000" doc:"these devices"`
	Group   identity.Group    `json:"group,omitempty" doc:"all devices of this group, in place of a list"`
	Reason  string            `json:"reason" minLength:"1" maxLength:"400" doc:"why, for the ledger"`
}

// RevokedDevices says what became of them.
type RevokedDevices struct {
	Revoked int            `json:"revoked" doc:"how many"`
	Failed  []FailedDevice `json:"failed" doc:"those that are not revoked by this, and why"`
	Left    int            `json:"left,omitempty" doc:"failures that are not listed"`
}

// FailedDevice is a device that something did not work on.
type FailedDevice struct {
	Device identity.Device `json:"device"`
	Reason string          `json:"reason"`
}

// LinkFor asks for a one-time login link.
type LinkFor struct {
	Account string `json:"account,omitempty" maxLength:"100" doc:"whose login; absent: that of whoever asks"`
}

// CertifyAccount asks for an operator certificate.
type CertifyAccount struct {
	CSR string `json:"csr" minLength:"1" maxLength:"16384" doc:"PKCS #10 request, PEM"`
}

// AccountCertificate answers CertifyAccount.
type AccountCertificate struct {
	PEM string `json:"pem" doc:"the certificate and its issuer, PEM"`
}
