package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

func (a *api) registerGroups(h huma.API) {
	serve(a, h, op("list-groups", http.MethodGet, "/v1/groups", "List groups and their policies"),
		func(ctx context.Context, _ *struct{}) ([]operator.Group, error) { return a.groups(ctx) })
	type show struct {
		Group identity.Group `path:"group" doc:"name of the group"`
	}
	register(a, h, op("show-group", http.MethodGet, "/v1/groups/{group}", "Show a group"),
		func(ctx context.Context, in *show) (*tagged[operator.Group], error) {
			g, err := a.group(ctx, in.Group)
			if err != nil {
				return nil, err
			}
			return withTag(g)
		})
	type set struct {
		Group identity.Group `path:"group" doc:"name of the group"`
		ETag  string         `header:"If-Match" doc:"change the group only if it has this ETag; \"*\": only if there is one"`
		Body  operator.SetGroup
	}
	register(a, h, op("set-group", http.MethodPut, "/v1/groups/{group}", "Make or change a group", http.StatusPreconditionFailed),
		func(ctx context.Context, in *set) (*tagged[operator.Group], error) {
			a.setting.Lock() // from the comparison to the change nobody else's comes between
			defer a.setting.Unlock()
			if err := a.unchanged(ctx, in.Group, in.ETag); err != nil {
				return nil, err
			}
			g, err := a.Groups.SetGroup(ctx, operator.From(ctx).Name, in.Group, in.Body)
			if err != nil {
				return nil, reticent(ctx, err)
			}
			return withTag(g)
		})
}

// withTag answers with a group and its entity-tag.
func withTag(g operator.Group) (*tagged[operator.Group], error) {
	tag, err := etag(g)
	return &tagged[operator.Group]{ETag: quoted(tag), Body: g}, err
}

// unchanged refuses a group that is not the one that an If-Match means.
func (a *api) unchanged(ctx context.Context, id identity.Group, header string) error {
	want, err := ifMatch(header)
	if err != nil || want == "" {
		return err
	}
	g, err := a.group(ctx, id)
	if fault.Of(err) == fault.NotFound {
		return huma.Error412PreconditionFailed("there is no such group")
	}
	if err != nil {
		return err
	}
	if tag, err := etag(g); err != nil || want != "*" && tag != want {
		return stale("the group")
	}
	return nil
}

// groups are those that whoever asks sees.
func (a *api) groups(ctx context.Context) ([]operator.Group, error) {
	gs, err := a.Groups.Groups(ctx)
	return only(ctx, gs, func(g operator.Group) identity.Group { return g.ID }), err
}

func (a *api) group(ctx context.Context, id identity.Group) (operator.Group, error) {
	gs, err := a.groups(ctx)
	if err != nil {
		return operator.Group{}, err
	}
	i := slices.IndexFunc(gs, func(g operator.Group) bool { return g.ID == id })
	if i < 0 {
		return operator.Group{}, noGroup(id)
	}
	return gs[i], nil
}

func (a *api) registerPolicies(h huma.API) {
	serve(a, h, op("list-policies", http.MethodGet, "/v1/policies", "List the built-in policies"),
		func(context.Context, *struct{}) ([]posture.Policy, error) {
			var ps []posture.Policy
			for _, name := range []string{posture.Standard, posture.Bench, posture.Lenient} {
				p, err := posture.Builtin(name)
				if err != nil {
					return nil, err
				}
				ps = append(ps, p)
			}
			return ps, nil
		})
	serve(a, h, op("list-measures", http.MethodGet, "/v1/measures", "List the measures that the hub knows"),
		func(context.Context, *struct{}) ([]measure.Measure, error) { return measure.Catalogue(), nil })
	type check struct {
		Body operator.PolicyCheck
	}
	serve(a, h, op("check-policy", http.MethodPost, "/v1/policies/check", "Say what a policy would do to devices, without setting it"),
		func(ctx context.Context, in *check) (operator.PolicyEffect, error) {
			if p := operator.From(ctx); in.Body.Group == "" && p.Groups != nil {
				if len(p.Groups) != 1 {
					return operator.PolicyEffect{}, fault.New(fault.Invalid, "say for which of your groups: %v", p.Groups)
				}
				in.Body.Group = p.Groups[0]
			}
			return a.Overview.CheckPolicy(ctx, in.Body)
		})
}
