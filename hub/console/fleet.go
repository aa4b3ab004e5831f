package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast/identity"
	"holdfast/operator"
	"holdfast/posture"
)

func (c *console) fleetRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /fleet", c.show("fleet", c.fleet))
	mux.HandleFunc("POST /fleet/add", c.act("fleet", "add", c.fleet, c.addDevice))
	mux.HandleFunc("POST /fleet/revoke", c.act("fleet", "revoke", c.fleet, c.revokeDevices))
}

// changes is the query of the events that tell of changes: the ledger's records.
const changes = "kind=security"

// fleetView is a page of the fleet and what it was asked for.
type fleetView struct {
	operator.FleetPage
	Query  url.Values
	Groups []operator.Group
}

// Chip is a status with how many devices have it, and the query that shows them.
type Chip struct {
	Status  posture.Status
	Count   int
	Query   string
	Current bool
}

// Chips returns the statuses that are there or asked for.
func (v fleetView) Chips() []Chip {
	var out []Chip
	for _, s := range statuses() {
		current := v.Query.Get("status") == string(s)
		if n := v.Counts[s]; n > 0 || current {
			to := string(s)
			if current {
				to = "" // takes the filter away
			}
			out = append(out, Chip{s, n, v.With("status", to), current})
		}
	}
	return out
}

// All returns how many devices there are of any status.
func (v fleetView) All() int {
	n := 0
	for _, c := range v.Counts {
		n += c
	}
	return n
}

// With returns the page's query with one thing changed, from the first page on.
func (v fleetView) With(name, value string) string {
	q := url.Values{}
	for _, k := range []string{"group", "status", "search", "sort", "limit"} {
		if s := v.Query.Get(k); s != "" {
			q.Set(k, s)
		}
	}
	q.Del(name)
	if value != "" {
		q.Set(name, value)
	}
	return "?" + q.Encode()
}

// Sorted returns the query that sorts by a column, or the other way round.
func (v fleetView) Sorted(column string) string {
	if v.Direction(column) == "ascending" {
		return v.With("sort", "-"+column)
	}
	return v.With("sort", column)
}

// Direction is what aria-sort says of a column.
func (v fleetView) Direction(column string) string {
	sort := v.Query.Get("sort")
	switch {
	case sort == column, sort == "" && column == "id":
		return "ascending"
	case sort == "-"+column:
		return "descending"
	}
	return "none"
}

// Asked returns a parameter of the query.
func (v fleetView) Asked(name string) string { return v.Query.Get(name) }

func (c *console) fleet(r *http.Request) (page, error) {
	q := r.URL.Query()
	at := q.Get
	v := fleetView{Query: q}
	var err error
	if v.Groups, err = get[[]operator.Group](c, r, "/v1/groups"); err != nil {
		return page{}, err
	}
	v.FleetPage, err = get[operator.FleetPage](c, r, "/v1/fleet", "group", at("group"), "status", at("status"),
		"search", strings.TrimSpace(at("search")), "sort", at("sort"), "after", at("after"), "limit", at("limit"))
	return page{Data: v, Live: changes}, err
}

// addDevice registers a device before it comes.
func (c *console) addDevice(r *http.Request) (outcome, error) {
	form := r.PostForm
	in := operator.AddDevice{ID: identity.Device(strings.TrimSpace(form.Get("id"))), Group: identity.Group(form.Get("group")),
		EK: []byte(strings.TrimSpace(form.Get("ek"))), Token: form.Get("token") != "", MakerCA: form.Get("maker_ca")}
	var added operator.AddedDevice
	if err := c.ask(r, request{method: http.MethodPost, path: "/v1/devices", body: in}, &added); err != nil {
		return outcome{}, err
	}
	if added.Token != "" {
		return outcome{result: notice{Said: fmt.Sprintf("%s is registered. Its claim token is good until %s:", added.ID, added.Expires.UTC().Format(time.RFC1123)), Secret: added.Token}}, nil
	}
	return outcome{to: devicePath(string(added.ID)), done: "added"}, nil
}

// revokeDevices revokes those that were chosen.
func (c *console) revokeDevices(r *http.Request) (outcome, error) {
	in := operator.RevokeDevices{Reason: r.PostForm.Get("reason")}
	for _, id := range r.PostForm["device"] {
		in.Devices = append(in.Devices, identity.Device(id))
	}
	if len(in.Devices) == 0 {
		return outcome{}, mistyped("Choose the devices to revoke.")
	}
	var out operator.RevokedDevices
	if err := c.ask(r, request{method: http.MethodPost, path: "/v1/devices/revoke", body: in}, &out); err != nil {
		return outcome{}, err
	}
	n := notice{Said: fmt.Sprintf("Revoked: %d.", out.Revoked)}
	for _, f := range out.Failed {
		n.List = append(n.List, fmt.Sprintf("%s: %s", f.Device, f.Reason))
	}
	return outcome{result: n}, nil
}

// devicePath is where the console shows a device.
func devicePath(id string) string { return "/devices/" + url.PathEscape(id) }
