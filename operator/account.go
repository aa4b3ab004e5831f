package operator

import (
	"time"

	"holdfast/identity"
)

// Account is somebody, or a machine, who may ask this hub.
type Account struct {
	Name     string           `json:"name"`
	Role     Role             `json:"role" enum:"viewer,operator,administrator"`
	Groups   []identity.Group `json:"groups,omitempty" doc:"those it is for; absent: all"`
	Subject  string           `json:"oidc_subject,omitempty" doc:"issuer and subject, or e-mail, that an OIDC provider vouches for"`
	Passkeys []Passkey        `json:"passkeys,omitempty" readOnly:"true"`
	Created  time.Time        `json:"created,omitzero" readOnly:"true"`
	By       string           `json:"by,omitempty" readOnly:"true" doc:"who added it"`
	LastSeen time.Time        `json:"last_seen,omitzero" readOnly:"true"`
	Revoked  time.Time        `json:"revoked,omitzero" readOnly:"true" doc:"from then on nothing of it opens anything"`
}

// Passkey is a WebAuthn credential of an account.
type Passkey struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"last_used,omitzero"`
}

// Link is a one-time login link. Its secret is shown this once.
type Link struct {
	URL     string    `json:"url" doc:"opens the console; the secret is in the fragment"`
	Expires time.Time `json:"expires"`
}

// Login is a browser's session.
type Login struct {
	ID      string    `json:"id"`
	Account string    `json:"account"`
	Via     Via       `json:"via"`
	Remote  string    `json:"remote"`
	Agent   string    `json:"agent,omitempty" doc:"what the browser says it is"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Current bool      `json:"current,omitempty" doc:"the one that asks"`
}

// AddToken asks for an API token. It can do no more than whoever asks.
type AddToken struct {
	Name   string           `json:"name" minLength:"1" maxLength:"100" doc:"what it is for"`
	Role   Role             `json:"role" enum:"viewer,operator,administrator"`
	Groups []identity.Group `json:"groups,omitempty" doc:"those it is for; absent: those of whoever asks"`
	TTL    int64            `json:"ttl_seconds" minimum:"60" maximum:"31622400" doc:"how long it is good"`
}

// Token is an API token. Secret is shown once, when it is made.
type Token struct {
	ID       string           `json:"id"`
	Name     string           `json:"name"`
	Account  string           `json:"account" doc:"whose it is"`
	Role     Role             `json:"role"`
	Groups   []identity.Group `json:"groups,omitempty"`
	Created  time.Time        `json:"created"`
	Expires  time.Time        `json:"expires"`
	LastUsed time.Time        `json:"last_used,omitzero"`
	Secret   string           `json:"secret,omitempty"`
}
