package operator

import (
	"context"
	"errors"
	"slices"
	"time"

	"holdfast/fault"
	"holdfast/identity"
)

// Role says what somebody may do. The zero value may do nothing.
type Role string

// The roles, each with all that the one before it may do.
const (
	RoleViewer        Role = "viewer"        // sees
	RoleOperator      Role = "operator"      // acts on devices
	RoleAdministrator Role = "administrator" // changes groups, policies, authorities and operators
)

// Roles are the roles from the least to the most.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleAdministrator} }

// Includes reports whether r may do what other may. Nobody has a role that does
// not exist.
func (r Role) Includes(other Role) bool {
	mine, its := slices.Index(Roles(), r), slices.Index(Roles(), other)
	return mine >= 0 && its >= 0 && mine >= its
}

// Via is how somebody proved who they are.
type Via string

// The ways in.
const (
	ViaCertificate Via = "certificate"
	ViaLink        Via = "link"
	ViaPasskey     Via = "passkey"
	ViaOIDC        Via = "oidc"
	ViaToken       Via = "token"
)

// Principal is who asks the hub for something, as authentication found.
type Principal struct {
	Name   string
	Role   Role
	Groups []identity.Group // those it is for; nil: all
	Via    Via
	Remote string    // host it came from
	Proved time.Time // when it last proved itself with a key of its own: a certificate's handshake, a passkey
	Until  time.Time // when its credential ends
	// Credential names the session or token that it came with; empty for a
	// certificate.
	Credential string
}

// StepUpFor is how long a proof is fresh enough for a dangerous act.
const StepUpFor = 5 * time.Minute

// StepUpProblem is the type of the problem (RFC 9457) that says that a fresh
// proof of who asks is all that is missing.
const StepUpProblem = "https://holdfast.invalid/problems/step-up"

// ErrStepUp is in the error of an act that needs a fresh proof of who asks.
var ErrStepUp = errors.New("prove once more who you are: with a passkey or an operator certificate")

// Right is what an act takes.
type Right struct {
	Role   Role
	Global bool // it concerns no group alone: not for whoever is limited to groups
	StepUp bool // it is dangerous: needs a proof no older than StepUpFor
}

// May refuses what p has no right to: a fault of kind Denied, with ErrStepUp in
// it where a fresh proof is all that is missing.
func (p Principal) May(r Right, now time.Time) error {
	switch {
	case !p.Role.Includes(r.Role):
		return fault.New(fault.Denied, "this takes the role %s; %s has %q", r.Role, p.Name, p.Role)
	case r.Global && p.Groups != nil:
		return fault.New(fault.Denied, "this concerns all groups; %s is for some", p.Name)
	case r.StepUp && (p.Via == ViaToken || p.Proved.IsZero() || now.Sub(p.Proved) > StepUpFor):
		return fault.New(fault.Denied, "%w", ErrStepUp)
	}
	return nil
}

// Sees reports whether group is one of those that p is for.
func (p Principal) Sees(group identity.Group) bool {
	return p.Groups == nil || slices.Contains(p.Groups, group)
}

type principalKey struct{}

// With returns a context that says who asks.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns who asks; the zero Principal, who may do nothing, where nobody does.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
