package console

import (
	"net/http"
	"net/url"
	"strings"

	"holdfast/identity"
	"holdfast/operator"
)

func (c *console) arrivalRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /pending", c.show("pending", c.pending))
	mux.HandleFunc("POST /pending/{id}/accept", func(w http.ResponseWriter, r *http.Request) {
		c.act("pending", "accept "+r.PathValue("id"), c.pending, c.accept)(w, r)
	})
	mux.HandleFunc("POST /pending/{id}/refuse", func(w http.ResponseWriter, r *http.Request) {
		c.act("pending", "refuse "+r.PathValue("id"), c.pending, c.refuse)(w, r)
	})
}

// pendingView is who waits, and the groups that there are.
type pendingView struct {
	Pending []operator.Pending
	Groups  []operator.Group
}

func (c *console) pending(r *http.Request) (page, error) {
	var v pendingView
	var err error
	if v.Pending, err = get[[]operator.Pending](c, r, "/v1/pending"); err != nil {
		return page{}, err
	}
	v.Groups, err = get[[]operator.Group](c, r, "/v1/groups")
	return page{Data: v, Live: changes}, err
}

func (c *console) accept(r *http.Request) (outcome, error) {
	in := operator.Accept{Device: identity.Device(strings.TrimSpace(r.PostForm.Get("device"))), Group: identity.Group(r.PostForm.Get("group"))}
	err := c.ask(r, request{method: http.MethodPost, path: "/v1/pending/" + url.PathEscape(r.PathValue("id")) + "/accept", body: in}, nil)
	return outcome{to: "/pending", done: "accepted"}, err
}

func (c *console) refuse(r *http.Request) (outcome, error) {
	err := c.ask(r, request{method: http.MethodPost, path: "/v1/pending/" + url.PathEscape(r.PathValue("id")) + "/refuse",
		body: operator.Act{Reason: strings.TrimSpace(r.PostForm.Get("reason"))}}, nil)
	return outcome{to: "/pending", done: "refused"}, err
}
