package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/operator"
)

var (
	sees      = operator.Right{Role: operator.RoleViewer}
	seesAll   = operator.Right{Role: operator.RoleViewer, Global: true}
	acts      = operator.Right{Role: operator.RoleOperator}
	actsOnAll = operator.Right{Role: operator.RoleOperator, Global: true}
	rules     = operator.Right{Role: operator.RoleAdministrator}
	rulesAll  = operator.Right{Role: operator.RoleAdministrator, Global: true}
)

func dangerous(r operator.Right) operator.Right {
	r.StepUp = true
	return r
}

// Rights is what each operation takes, by its id. An operation that is not here
// is refused to everybody. Behind a colon stands what one kind of request takes
// beyond its operation.
//
// Dangerous is what opens the hub to others, or changes very much at once:
// policies, authorities that say what a TPM is, all credentials of operators,
// many devices.
func Rights() map[string]operator.Right {
	return map[string]operator.Right{
		"show-me":  sees,
		"show-hub": sees,

		"back-up-hub": dangerous(rulesAll),

		"list-measures": sees,
		"list-policies": sees,
		"check-policy":  acts,
		"list-groups":   sees,
		"show-group":    sees,
		"set-group":     dangerous(rules),

		"list-cas":           sees,
		"add-ca":             rulesAll,
		"add-ca:endorsement": dangerous(rulesAll),
		"verify-ca":          rulesAll,

		"show-fleet":        sees,
		"list-devices":      sees,
		"show-device":       sees,
		"list-certificates": sees,
		"list-sessions":     sees,
		"add-device":        acts,
		"act-on-device":     acts,
		"revoke-devices":    dangerous(acts),
		"list-pending":      seesAll,
		"accept-pending":    actsOnAll,
		"refuse-pending":    actsOnAll,

		"list-references":  sees,
		"add-reference":    acts,
		"remove-reference": acts,

		// Who audits is believed about every device: that it is believed, an
		// administrator says. What it has signed anybody may bring.
		"list-auditors":  sees,
		"add-auditor":    dangerous(rulesAll),
		"remove-auditor": rulesAll,
		"list-audits":    sees,
		"show-audit":     sees,
		"add-audit":      actsOnAll,
		"remove-audit":   actsOnAll,

		"show-twin":      sees,
		"merge-twin":     acts,
		"replace-twin":   acts,
		"call-method":    acts,
		"send-message":   acts,
		"list-messages":  sees,
		"purge-messages": acts,

		// What devices install, release keys have signed; a rollout changes very much at
		// once all the same. To stop one has to be easy.
		"list-rollouts":        sees,
		"show-rollout":         sees,
		"list-rollout-devices": sees,
		"list-device-rollouts": sees,
		"start-rollout":        dangerous(acts),
		"act-on-rollout":       acts,

		// What is published, release keys have signed; that the first root is theirs, an
		// administrator says.
		"show-repository":       seesAll,
		"show-metadata":         seesAll,
		"publish-metadata":      dangerous(actsOnAll),
		"publish-metadata:root": dangerous(rulesAll),
		"show-blob":             seesAll,
		"put-blob":              actsOnAll,
		"list-releases":         sees,
		"show-release":          sees,

		"list-enrollments":         sees,
		"show-enrollment":          sees,
		"add-enrollment":           acts,
		"add-enrollment:group":     rulesAll,
		"remove-enrollment":        acts,
		"remove-enrollment:group":  rulesAll,
		"disable-enrollment":       acts,
		"disable-enrollment:group": rulesAll,
		"enable-enrollment":        acts,
		"enable-enrollment:group":  rulesAll,

		"read-events":       sees,
		"list-ledger":       sees,
		"show-ledger-head":  sees,
		"list-alerts":       sees,
		"acknowledge-alert": acts,
		"read-series":       seesAll,

		// Of accounts, and of what opens them, everybody sees their own, and
		// administrators those that have no more than they: hub/accounts says which.
		"list-accounts":   sees,
		"add-account":     dangerous(rules),
		"change-account":  dangerous(rules),
		"revoke-account":  dangerous(rules),
		"certify-account": dangerous(sees),
		"list-logins":     sees,
		"end-login":       sees,
		"new-link":        dangerous(sees),
		"list-tokens":     sees,
		"add-token":       dangerous(sees),
		"remove-token":    sees,
	}
}

// may refuses what whoever asks has no right to.
func (a *api) may(ctx context.Context, what string) error {
	right, ok := a.rights[what]
	if !ok {
		return fault.New(fault.Denied, "nobody may do this")
	}
	return operator.From(ctx).May(right, time.Now())
}

// authorise refuses a request before anything of it is read.
func (a *api) authorise(ctx huma.Context, next func(huma.Context)) {
	if err := a.may(ctx.Context(), ctx.Operation().OperationID); err != nil {
		_, w := unwrap(ctx)
		a.problem(ctx.Context(), w, err)
		return
	}
	next(ctx)
}

// describeRight puts into an operation's description what it takes.
func describeRight(o *huma.Operation, rights map[string]operator.Right) {
	r := rights[o.OperationID]
	text := []string{"Takes the role " + string(r.Role) + "."}
	if r.Global {
		text = append(text, "Not for whoever is limited to groups.")
	}
	if r.StepUp {
		text = append(text, "Dangerous: takes a proof of who asks that is no older than "+operator.StepUpFor.String()+".")
	}
	for _, kind := range []string{"group", "endorsement", "root"} {
		if more, ok := rights[o.OperationID+":"+kind]; ok {
			text = append(text, fmt.Sprintf("Of kind %s: takes the role %s, for all groups%s.", kind, more.Role, map[bool]string{true: ", and a fresh proof"}[more.StepUp]))
		}
	}
	o.Description = strings.TrimSpace(o.Description + " " + strings.Join(text, " "))
	if o.Extensions == nil {
		o.Extensions = map[string]any{}
	}
	o.Extensions["x-right"] = map[string]any{"role": r.Role, "global": r.Global, "step_up": r.StepUp}
}

// needsStepUp reports whether a fresh proof is all that is missing.
func needsStepUp(err error) bool { return errors.Is(err, operator.ErrStepUp) }
