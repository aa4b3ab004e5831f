package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
)

// op describes one operation.
func op(id, method, path, summary string) huma.Operation {
	o := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary,
		Errors: []int{http.StatusBadRequest, http.StatusForbidden, http.StatusInternalServerError}}
	if method == http.MethodPost {
		o.DefaultStatus = http.StatusOK
	}
	return o
}

// register adds every operation to h.
func (a *api) register(h huma.API) {
	huma.Register(h, op("show-hub", http.MethodGet, "/v1/hub", "Show the hub"),
		func(ctx context.Context, _ *struct{}) (*answer[operator.Hub], error) {
			v, err := a.Hub(ctx)
			return reply(a, v, err)
		})
	a.registerGroups(h)
	a.registerCAs(h)
	a.registerProofs(h)
	a.registerDevices(h)
	a.registerPending(h)
	a.registerReferences(h)
	a.registerTwins(h)
	a.registerMethods(h)
	a.registerMessages(h)
	a.registerEnrollments(h)
	a.registerEvents(h)
	a.registerLedger(h)
}

func (a *api) registerGroups(h huma.API) {
	huma.Register(h, op("list-groups", http.MethodGet, "/v1/groups", "List groups and their policies"),
		func(ctx context.Context, _ *struct{}) (*answer[[]operator.Group], error) {
			v, err := a.Groups.Groups(ctx)
			return reply(a, v, err)
		})
	type set struct {
		by
		Group string `path:"group" doc:"name of the group"`
		Body  operator.SetGroup
	}
	huma.Register(h, op("set-group", http.MethodPut, "/v1/groups/{group}", "Make or change a group"),
		func(ctx context.Context, in *set) (*answer[operator.Group], error) {
			id, err := identity.ParseGroup(in.Group)
			if err != nil {
				return nil, a.refuse(fault.New(fault.Invalid, "%w", err))
			}
			v, err := a.Groups.SetGroup(ctx, in.actor, id, in.Body)
			return reply(a, v, err)
		})
}

func (a *api) registerCAs(h huma.API) {
	huma.Register(h, op("list-cas", http.MethodGet, "/v1/cas", "List registered authorities"),
		func(ctx context.Context, _ *struct{}) (*answer[[]operator.CA], error) {
			v, err := a.CAs.CAs(ctx)
			return reply(a, v, err)
		})
	type add struct {
		by
		Body operator.CA
	}
	huma.Register(h, op("add-ca", http.MethodPost, "/v1/cas", "Register a maker's CA or an endorsement root"),
		func(ctx context.Context, in *add) (*answer[operator.CA], error) {
			v, err := a.CAs.AddCA(ctx, in.actor, in.Body)
			return reply(a, v, err)
		})
}

func (a *api) registerProofs(h huma.API) {
	type verify struct {
		by
		Name string `path:"name" doc:"name of the maker's CA"`
		Body operator.Proof
	}
	o := with(op("verify-ca", http.MethodPost, "/v1/cas/{name}/verify", "Prove possession of a maker's CA's key, or ask for a new challenge"),
		http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity)
	huma.Register(h, o, func(ctx context.Context, in *verify) (*answer[operator.CA], error) {
		v, err := a.CAs.VerifyCA(ctx, in.actor, in.Name, in.Body)
		return reply(a, v, err)
	})
}

func (a *api) registerDevices(h huma.API) {
	type list struct {
		Group  string `query:"group" doc:"only this group"`
		Status string `query:"status" enum:"pending,refused,trusted,degraded,connected,quarantined,offline,revoked" doc:"only this status"`
	}
	huma.Register(h, op("list-devices", http.MethodGet, "/v1/devices", "List devices with their posture"),
		func(ctx context.Context, in *list) (*answer[[]operator.Device], error) {
			v, err := a.Devices.Devices(ctx, Filter{Group: identity.Group(in.Group), Status: in.Status})
			return reply(a, v, err)
		})
	type add struct {
		by
		Body operator.AddDevice
	}
	huma.Register(h, op("add-device", http.MethodPost, "/v1/devices", "Register a device before it comes"),
		func(ctx context.Context, in *add) (*answer[operator.AddedDevice], error) {
			v, err := a.Devices.AddDevice(ctx, in.actor, in.Body)
			return reply(a, v, err)
		})
	type show struct {
		Device string `path:"device" doc:"id of the device"`
	}
	huma.Register(h, op("show-device", http.MethodGet, "/v1/devices/{device}", "Show a device"),
		func(ctx context.Context, in *show) (*answer[operator.Device], error) {
			id, err := a.device(in.Device)
			if err != nil {
				return nil, err
			}
			v, err := a.Devices.Device(ctx, id)
			return reply(a, v, err)
		})
	type act struct {
		by
		Device string `path:"device" doc:"id of the device"`
		Verb   string `path:"verb" enum:"revoke,quarantine,restore" doc:"what to do"`
		Body   operator.Act
	}
	huma.Register(h, op("act-on-device", http.MethodPost, "/v1/devices/{device}/{verb}", "Revoke, quarantine or restore a device"),
		func(ctx context.Context, in *act) (*answer[operator.Device], error) {
			id, err := a.device(in.Device)
			if err != nil {
				return nil, err
			}
			v, err := a.Devices.Act(ctx, in.actor, id, in.Verb, in.Body.Reason)
			return reply(a, v, err)
		})
}

// device reads a device id from a path.
func (a *api) device(s string) (identity.Device, error) {
	id, err := identity.ParseDevice(s)
	if err != nil {
		return "", a.refuse(fault.New(fault.Invalid, "%w", err))
	}
	return id, nil
}

func (a *api) registerPending(h huma.API) {
	huma.Register(h, op("list-pending", http.MethodGet, "/v1/pending", "List devices that wait for a decision"),
		func(ctx context.Context, _ *struct{}) (*answer[[]operator.Pending], error) {
			v, err := a.Arrivals.Pending(ctx)
			return reply(a, v, err)
		})
	type accept struct {
		by
		ID   string `path:"id" doc:"id of the request"`
		Body operator.Accept
	}
	huma.Register(h, op("accept-pending", http.MethodPost, "/v1/pending/{id}/accept", "Admit a waiting device"),
		func(ctx context.Context, in *accept) (*struct{}, error) {
			if err := a.Arrivals.Accept(ctx, in.actor, in.ID, in.Body); err != nil {
				return nil, a.refuse(err)
			}
			return nil, nil
		})
	type refuse struct {
		by
		ID   string `path:"id" doc:"id of the request"`
		Body operator.Act
	}
	huma.Register(h, op("refuse-pending", http.MethodPost, "/v1/pending/{id}/refuse", "Refuse a waiting device"),
		func(ctx context.Context, in *refuse) (*struct{}, error) {
			if err := a.Arrivals.Refuse(ctx, in.actor, in.ID, in.Body.Reason); err != nil {
				return nil, a.refuse(err)
			}
			return nil, nil
		})
}

func (a *api) registerReferences(h huma.API) {
	type list struct {
		Group string `query:"group" required:"true" doc:"the group"`
	}
	huma.Register(h, op("list-references", http.MethodGet, "/v1/references", "List a group's Reference Values"),
		func(ctx context.Context, in *list) (*answer[[]operator.Reference], error) {
			v, err := a.References.References(ctx, identity.Group(in.Group))
			return reply(a, v, err)
		})
	type add struct {
		by
		Body operator.Reference
	}
	huma.Register(h, op("add-reference", http.MethodPost, "/v1/references", "Add a Reference Value"),
		func(ctx context.Context, in *add) (*struct{}, error) {
			if err := a.References.AddReference(ctx, in.actor, in.Body); err != nil {
				return nil, a.refuse(err)
			}
			return nil, nil
		})
	type remove struct {
		by
		Group  string `path:"group" doc:"the group"`
		Digest string `path:"digest" doc:"the digest, hexadecimal"`
	}
	huma.Register(h, op("remove-reference", http.MethodDelete, "/v1/references/{group}/{digest}", "Remove a Reference Value"),
		func(ctx context.Context, in *remove) (*struct{}, error) {
			d, err := identity.ParseDigest(in.Digest)
			if err != nil {
				return nil, a.refuse(fault.New(fault.Invalid, "%w", err))
			}
			if err := a.References.RemoveReference(ctx, in.actor, identity.Group(in.Group), d); err != nil {
				return nil, a.refuse(err)
			}
			return nil, nil
		})
}

func (a *api) registerLedger(h huma.API) {
	type list struct {
		From  int64 `query:"from" default:"1" minimum:"1" doc:"first sequence number"`
		Limit int   `query:"limit" default:"1000" minimum:"1" maximum:"10000" doc:"most records to answer"`
	}
	huma.Register(h, op("list-ledger", http.MethodGet, "/v1/ledger", "Read the ledger"),
		func(ctx context.Context, in *list) (*answer[[]ledger.Record], error) {
			v, err := a.Ledger.Records(ctx, in.From, in.Limit)
			return reply(a, v, err)
		})
	huma.Register(h, op("show-ledger-head", http.MethodGet, "/v1/ledger/head", "Show the ledger's signed head"),
		func(ctx context.Context, _ *struct{}) (*answer[ledger.Head], error) {
			v, err := a.Ledger.Head(ctx)
			return reply(a, v, err)
		})
}
