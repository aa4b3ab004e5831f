package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/posture"
)

func (a *api) registerOverview(h huma.API) {
	type query struct {
		Group  identity.Group `query:"group" doc:"only this group"`
		Status posture.Status `query:"status" enum:"pending,refused,trusted,degraded,connected,quarantined,offline,revoked" doc:"only this status"`
		Search string         `query:"search" maxLength:"128" doc:"part of the id, in any case"`
		Sort   string         `query:"sort" enum:"id,group,status,release,seen,-id,-group,-status,-release,-seen" doc:"by what; a \"-\" turns it round; default id"`
		After  string         `query:"after" maxLength:"1024" doc:"next of the page before"`
		Limit  int            `query:"limit" default:"50" minimum:"1" maximum:"500" doc:"most devices to answer"`
	}
	serve(a, h, op("show-fleet", http.MethodGet, "/v1/fleet", "Show a page of devices, and how many there are of each status"),
		func(ctx context.Context, in *query) (operator.FleetPage, error) {
			return a.Overview.Page(ctx, operator.FleetQuery{Group: in.Group, Status: in.Status, Search: in.Search, Sort: in.Sort,
				After: in.After, Limit: in.Limit, Groups: operator.From(ctx).Groups})
		})
	serve(a, h, op("show-hub", http.MethodGet, "/v1/hub", "Show the hub"),
		func(ctx context.Context, _ *struct{}) (operator.Hub, error) { return a.hub(ctx) })
}

// hub describes the hub; devices are counted that whoever asks sees. Those in
// quarantine may have a session or not: for who is of some groups they do not
// count as connected.
func (a *api) hub(ctx context.Context) (operator.Hub, error) {
	v, err := a.Hub(ctx)
	p := operator.From(ctx)
	if err != nil || p.Groups == nil {
		return v, err
	}
	page, err := a.Overview.Page(ctx, operator.FleetQuery{Groups: p.Groups, Limit: 1})
	v.Devices, v.Connected = page.Total, 0
	for _, s := range []posture.Status{posture.Connected, posture.Trusted, posture.Degraded} {
		v.Connected += page.Counts[s]
	}
	return v, err
}

func (a *api) registerAlerts(h huma.API) {
	type query struct {
		Group  identity.Group  `query:"group" doc:"only this group"`
		Device identity.Device `query:"device" doc:"only this device"`
		Open   bool            `query:"open" doc:"only those that are neither cleared nor acknowledged"`
		After  string          `query:"after" maxLength:"128" doc:"only those older than the alert with this id"`
		Limit  int             `query:"limit" default:"50" minimum:"1" maximum:"500" doc:"most alerts to answer"`
	}
	serve(a, h, op("list-alerts", http.MethodGet, "/v1/alerts", "List alerts, the newest first"),
		func(ctx context.Context, in *query) ([]operator.Alert, error) {
			return a.Alerts.Alerts(ctx, operator.AlertQuery{Group: in.Group, Device: in.Device, Open: in.Open, After: in.After,
				Limit: in.Limit, Groups: operator.From(ctx).Groups})
		})
	type acknowledge struct {
		ID string `path:"id" maxLength:"128" doc:"id of the alert"`
	}
	serve(a, h, op("acknowledge-alert", http.MethodPost, "/v1/alerts/{id}/acknowledge", "Say that somebody has seen an alert"),
		func(ctx context.Context, in *acknowledge) (operator.Alert, error) {
			return a.Alerts.Acknowledge(ctx, in.ID)
		})
}

// maxPoints bounds the values of one series in an answer.
const maxPoints = 2000

func (a *api) registerSeries(h huma.API) {
	type query struct {
		Names []string  `query:"names" maxItems:"16" doc:"which, with commas between; absent: all"`
		Since time.Time `query:"since" doc:"from when on; default a day ago"`
		Step  int64     `query:"step" default:"300" minimum:"10" maximum:"86400" doc:"seconds from one value to the next"`
	}
	serve(a, h, op("read-series", http.MethodGet, "/v1/series", "Read quantities over time"),
		func(ctx context.Context, in *query) ([]operator.Series, error) {
			now := time.Now()
			if in.Since.IsZero() {
				in.Since = now.Add(-24 * time.Hour)
			}
			step := time.Duration(in.Step) * time.Second
			if n := now.Sub(in.Since) / step; n > maxPoints {
				return nil, fault.New(fault.Invalid, "%d values of each series: at most %d are answered; ask for a longer step", n, maxPoints)
			}
			return a.Series.Series(ctx, in.Names, in.Since, step)
		})
}
