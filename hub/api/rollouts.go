package api

import (
	"context"
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/operator"
	"holdfast/release"
)

// Rollouts brings releases to devices.
type Rollouts interface {
	Start(ctx context.Context, by string, in operator.StartRollout) (operator.Rollout, error)
	// Act pauses, resumes, halts or retries a rollout that has an ETag; empty: any.
	Act(ctx context.Context, by, id, verb string, in operator.RolloutAct, etag string) (operator.Rollout, error)
	Rollouts(ctx context.Context, q operator.RolloutQuery) ([]operator.Rollout, error)
	Rollout(ctx context.Context, id string) (operator.Rollout, error)
	Devices(ctx context.Context, id string, q operator.RolloutDeviceQuery) ([]operator.RolloutDevice, error)
	// Of returns the rollouts that a device is in, the newest first, of groups
	// that are all among those given; nil: all.
	Of(ctx context.Context, d identity.Device, groups []identity.Group) ([]operator.DeviceRollout, error)
}

// productName is how a product's name is described.
type productName string

// Schema implements huma.SchemaProvider.
func (productName) Schema(huma.Registry) *huma.Schema {
	return text(`^[a-z][-a-z0-9]*$`, "product: lower-case letters, digits and \"-\", beginning with a letter", 32, "pump")
}

// versionText is how a version is described.
type versionText string

// Schema implements huma.SchemaProvider.
func (versionText) Schema(huma.Registry) *huma.Schema {
	return text(`^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,5}(\+[0-9]{1,10})?$`, "version as MCUboot has it: major.minor.revision, and a build number after \"+\"", 32, "1.4.0")
}

// aliasReleases describes the words of releases.
func aliasReleases(r huma.Registry) {
	r.RegisterTypeAlias(reflect.TypeFor[release.Product](), reflect.TypeFor[productName]())
	r.RegisterTypeAlias(reflect.TypeFor[mcuboot.Version](), reflect.TypeFor[versionText]())
	r.RegisterTypeAlias(reflect.TypeFor[release.Requirement](), reflect.TypeFor[releaseRequirement]())
}

func (a *api) registerRollouts(h huma.API) {
	type query struct {
		Product release.Product `query:"product" doc:"only of this product"`
		Stage   string          `query:"stage" enum:"planning,running,paused,halted,finished,superseded" doc:"only in this stage"`
		Live    bool            `query:"live" doc:"only those that are not over"`
		Group   identity.Group  `query:"group" doc:"only those for this group"`
		After   string          `query:"after" maxLength:"64" doc:"only those older than the rollout with this id"`
		Limit   int             `query:"limit" default:"50" minimum:"1" maximum:"500" doc:"most rollouts to answer"`
	}
	serve(a, h, op("list-rollouts", http.MethodGet, "/v1/rollouts", "List rollouts, the newest first"),
		func(ctx context.Context, in *query) ([]operator.Rollout, error) {
			return a.Rollouts.Rollouts(ctx, operator.RolloutQuery{Product: in.Product, Stage: in.Stage, Live: in.Live, Group: in.Group, After: in.After, Limit: in.Limit, Groups: operator.From(ctx).Groups})
		})
	type start struct {
		Body operator.StartRollout
	}
	register(a, h, op("start-rollout", http.MethodPost, "/v1/rollouts", "Bring a release to devices, wave by wave"),
		func(ctx context.Context, in *start) (*tagged[operator.Rollout], error) {
			if err := a.visibleAll(ctx, in.Body.Devices); err != nil {
				return nil, err
			}
			return ofTag(a.Rollouts.Start(ctx, operator.From(ctx).Name, in.Body))
		})
	type show struct {
		ID string `path:"rollout" maxLength:"64" pattern:"^[a-z0-9-]+$" doc:"id of the rollout"`
	}
	register(a, h, op("show-rollout", http.MethodGet, "/v1/rollouts/{rollout}", "Show a rollout"),
		func(ctx context.Context, in *show) (*tagged[operator.Rollout], error) {
			return ofTag(a.rollout(ctx, in.ID))
		})
	type act struct {
		ID   string `path:"rollout" maxLength:"64" pattern:"^[a-z0-9-]+$" doc:"id of the rollout"`
		Verb string `path:"verb" enum:"pause,resume,halt,retry" doc:"what to do"`
		ETag string `header:"If-Match" doc:"do it only if the rollout has this ETag: it has not gone on since"`
		Body operator.RolloutAct
	}
	register(a, h, op("act-on-rollout", http.MethodPost, "/v1/rollouts/{rollout}/{verb}", "Pause, resume or halt a rollout, or have failed devices try again", http.StatusPreconditionFailed),
		func(ctx context.Context, in *act) (*tagged[operator.Rollout], error) {
			tag, err := ifMatch(in.ETag)
			if err != nil {
				return nil, err
			}
			if _, err := a.rollout(ctx, in.ID); err != nil {
				return nil, err
			}
			if err := a.visibleAll(ctx, in.Body.Devices); err != nil {
				return nil, err
			}
			return ofTag(a.Rollouts.Act(ctx, operator.From(ctx).Name, in.ID, in.Verb, in.Body, tag))
		})
	type devices struct {
		ID    string `path:"rollout" maxLength:"64" pattern:"^[a-z0-9-]+$" doc:"id of the rollout"`
		State string `query:"state" enum:"waiting,offered,updating,committed,done,failed,excluded,superseded" doc:"only in this state"`
		After string `query:"after" maxLength:"128" doc:"only those that come after this id"`
		Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"most devices to answer; fewer mean that there are no more"`
	}
	serve(a, h, op("list-rollout-devices", http.MethodGet, "/v1/rollouts/{rollout}/devices", "List where devices stand in a rollout, by id"),
		func(ctx context.Context, in *devices) ([]operator.RolloutDevice, error) {
			if _, err := a.rollout(ctx, in.ID); err != nil {
				return nil, err
			}
			return a.Rollouts.Devices(ctx, in.ID, operator.RolloutDeviceQuery{State: in.State, After: identity.Device(in.After), Limit: in.Limit})
		})
	type of struct {
		Device identity.Device `path:"device" doc:"id of the device"`
	}
	serve(a, h, op("list-device-rollouts", http.MethodGet, "/v1/devices/{device}/rollouts", "List the rollouts that a device is in, the newest first"),
		func(ctx context.Context, in *of) ([]operator.DeviceRollout, error) {
			if _, err := a.Devices.DeviceGroup(ctx, in.Device); err != nil {
				return nil, err
			}
			return a.Rollouts.Of(ctx, in.Device, operator.From(ctx).Groups)
		})
}

// visibleAll refuses devices of which one is not there for whoever asks.
func (a *api) visibleAll(ctx context.Context, ds []identity.Device) error {
	for _, d := range ds {
		if err := a.visible(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func ofTag(r operator.Rollout, err error) (*tagged[operator.Rollout], error) {
	return &tagged[operator.Rollout]{ETag: quoted(r.ETag), Body: r}, err
}

// rollout returns a rollout of groups that whoever asks sees, all of them.
func (a *api) rollout(ctx context.Context, id string) (operator.Rollout, error) {
	r, err := a.Rollouts.Rollout(ctx, id)
	who := operator.From(ctx)
	if err == nil && slices.ContainsFunc(r.Groups, func(g identity.Group) bool { return !who.Sees(g) }) {
		return operator.Rollout{}, fault.New(fault.NotFound, "there is no rollout %.64q", id)
	}
	return r, err
}
