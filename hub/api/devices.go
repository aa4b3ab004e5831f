package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/posture"
)

// maxDevices is how many devices with all of their posture an answer has.
const maxDevices = 1000

// ofDevice is the input of what concerns one device.
type ofDevice struct {
	Device identity.Device `path:"device" doc:"id of the device"`
}

func (a *api) registerDevices(h huma.API) {
	type list struct {
		Group  identity.Group `query:"group" doc:"only this group"`
		Status posture.Status `query:"status" enum:"pending,refused,trusted,degraded,connected,quarantined,offline,revoked" doc:"only this status"`
		After  string         `query:"after" maxLength:"128" doc:"only those that come after this id"`
		Limit  int            `query:"limit" default:"1000" minimum:"1" maximum:"1000" doc:"most devices to answer; fewer mean that there are no more"`
	}
	serve(a, h, op("list-devices", http.MethodGet, "/v1/devices", "List devices with their posture, by id"),
		func(ctx context.Context, in *list) ([]operator.Device, error) {
			return a.Devices.Devices(ctx, Filter{Group: in.Group, Status: in.Status, After: identity.Device(in.After), Limit: in.Limit, Groups: operator.From(ctx).Groups})
		})
	type add struct {
		Body operator.AddDevice
	}
	serve(a, h, op("add-device", http.MethodPost, "/v1/devices", "Register a device before it comes"),
		func(ctx context.Context, in *add) (operator.AddedDevice, error) {
			v, err := a.Devices.AddDevice(ctx, operator.From(ctx).Name, in.Body)
			return v, reticent(ctx, err)
		})
	serve(a, h, op("show-device", http.MethodGet, "/v1/devices/{device}", "Show a device"),
		func(ctx context.Context, in *ofDevice) (operator.Device, error) {
			return a.Devices.Device(ctx, in.Device)
		})
	type actOn struct {
		Device identity.Device `path:"device" doc:"id of the device"`
		Verb   string          `path:"verb" enum:"revoke,quarantine,restore" doc:"what to do"`
		Body   operator.Act
	}
	serve(a, h, op("act-on-device", http.MethodPost, "/v1/devices/{device}/{verb}", "Revoke, quarantine or restore a device"),
		func(ctx context.Context, in *actOn) (operator.Device, error) {
			return a.Devices.Act(ctx, operator.From(ctx).Name, in.Device, in.Verb, in.Body.Reason)
		})
	type revoke struct {
		Body operator.RevokeDevices
	}
	serve(a, h, op("revoke-devices", http.MethodPost, "/v1/devices/revoke", "Revoke many devices, or all of a group"),
		func(ctx context.Context, in *revoke) (operator.RevokedDevices, error) {
			return a.revokeMany(ctx, in.Body)
		})
	serve(a, h, op("list-certificates", http.MethodGet, "/v1/devices/{device}/certificates", "List the certificates that a device was issued, the newest first"),
		func(ctx context.Context, in *ofDevice) ([]operator.Issued, error) {
			return a.History.Certificates(ctx, in.Device)
		})
	type sessions struct {
		Device identity.Device `path:"device" doc:"id of the device"`
		Limit  int             `query:"limit" default:"50" minimum:"1" maximum:"500" doc:"most sessions to answer"`
	}
	serve(a, h, op("list-sessions", http.MethodGet, "/v1/devices/{device}/sessions", "List the connections that a device has and had, the newest first"),
		func(ctx context.Context, in *sessions) ([]operator.Session, error) {
			return a.SessionHistory.Sessions(ctx, in.Device, in.Limit)
		})
}

// maxFailed bounds how many failures an answer lists.
const maxFailed = 1000

// revokeMany revokes one device after the other. One that does not work out
// keeps none of the others.
func (a *api) revokeMany(ctx context.Context, in operator.RevokeDevices) (operator.RevokedDevices, error) {
	out := operator.RevokedDevices{Failed: []operator.FailedDevice{}}
	if (in.Group == "") == (len(in.Devices) == 0) {
		return out, fault.New(fault.Invalid, "say which devices, or which group: one of the two")
	}
	each := func(d identity.Device) error {
		err := a.visible(ctx, d)
		if err == nil {
			_, err = a.Devices.Act(ctx, operator.From(ctx).Name, d, "revoke", in.Reason)
		}
		if err == nil {
			out.Revoked++
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.Log.WarnContext(ctx, "revoke one of many", "device", d, "err", err)
		if len(out.Failed) == maxFailed {
			out.Left++
			return nil
		}
		out.Failed = append(out.Failed, operator.FailedDevice{Device: d, Reason: fault.Public(err)})
		return nil
	}
	if in.Group == "" {
		for _, d := range in.Devices {
			if err := each(d); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	return out, a.eachOf(ctx, in.Group, each)
}

// eachOf calls do for the devices of a group.
func (a *api) eachOf(ctx context.Context, g identity.Group, do func(identity.Device) error) error {
	if _, err := a.group(ctx, g); err != nil {
		return err
	}
	for after := identity.Device(""); ; {
		ds, err := a.Devices.Devices(ctx, Filter{Group: g, After: after, Limit: maxDevices})
		if err != nil {
			return err
		}
		for _, d := range ds {
			if err := do(d.ID); err != nil {
				return err
			}
		}
		if len(ds) < maxDevices {
			return nil
		}
		after = ds[len(ds)-1].ID
	}
}
