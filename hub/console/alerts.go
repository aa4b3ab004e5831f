package console

import (
	"net/http"
	"net/url"
	"strconv"

	"holdfast/operator"
)

// alertPage is how many alerts a page shows.
const alertPage = 50

func (c *console) alertRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /alerts", c.show("alerts", c.alerts))
	mux.HandleFunc("POST /alerts/{id}/acknowledge", c.act("alerts", "acknowledge", c.alerts, c.acknowledge))
}

// alertsView is some alerts, the newest first.
type alertsView struct {
	Alerts []operator.Alert
	Groups []operator.Group
	Group  string
	Open   bool
	Next   string // asks for those before; empty: nothing is left
}

func (c *console) alerts(r *http.Request) (page, error) {
	q := r.URL.Query()
	v := alertsView{Group: q.Get("group"), Open: q.Get("show") != "all"}
	open := ""
	if v.Open {
		open = "true"
	}
	var err error
	if v.Alerts, err = get[[]operator.Alert](c, r, "/v1/alerts", "group", v.Group, "open", open, "after", q.Get("after"), "limit", strconv.Itoa(alertPage+1)); err != nil {
		return page{}, err
	}
	if len(v.Alerts) > alertPage {
		v.Alerts = v.Alerts[:alertPage]
		show := "open"
		if !v.Open {
			show = "all"
		}
		v.Next = encode([]string{"group", v.Group, "show", show, "after", v.Alerts[alertPage-1].ID})
	}
	v.Groups, err = get[[]operator.Group](c, r, "/v1/groups")
	return page{Data: v, Live: changes}, err
}

func (c *console) acknowledge(r *http.Request) (outcome, error) {
	err := c.ask(r, request{method: http.MethodPost, path: "/v1/alerts/" + url.PathEscape(r.PathValue("id")) + "/acknowledge"}, nil)
	return outcome{to: "/alerts", done: "acknowledged"}, err
}
