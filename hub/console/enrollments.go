package console

import (
	"net/http"
	"net/url"
	"strings"

	"holdfast/identity"
	"holdfast/operator"
)

func (c *console) enrollmentRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /enrollments", c.show("enrollments", c.enrollments))
	mux.HandleFunc("POST /enrollments", c.act("enrollments", "add", c.enrollments, c.addEnrollment))
	for _, verb := range []string{"enable", "disable", "remove"} {
		mux.HandleFunc("POST /enrollments/{kind}/{id}/"+verb, c.act("enrollments", verb, c.enrollments, func(r *http.Request) (outcome, error) { return c.changeEnrollment(r, verb) }))
	}
}

// enrollmentsView is the enrolments, and what one can name.
type enrollmentsView struct {
	Enrollments []operator.Enrollment
	Groups      []operator.Group
	Scope       string // id scope of the hub
}

func (c *console) enrollments(r *http.Request) (page, error) {
	es, err := get[[]operator.Enrollment](c, r, "/v1/enrollments")
	if err != nil {
		return page{}, err
	}
	gs, err := get[[]operator.Group](c, r, "/v1/groups")
	return page{Data: enrollmentsView{es, gs, partOf[operator.Hub](c, r, "/v1/hub").Value.Scope}}, err
}

func (c *console) addEnrollment(r *http.Request) (outcome, error) {
	f := r.PostForm
	e := operator.Enrollment{Kind: f.Get("kind"), ID: strings.TrimSpace(f.Get("id")), Device: identity.Device(strings.TrimSpace(f.Get("device"))), Group: identity.Group(f.Get("group")),
		MakerCA: strings.TrimSpace(f.Get("maker_ca")), IDs: strings.Fields(f.Get("ids")), Reprovision: f.Get("reprovision")}
	for _, s := range strings.Fields(f.Get("certificates")) {
		d, err := identity.ParseDigest(s)
		if err != nil {
			return outcome{}, mistyped("%s.", err.Error())
		}
		e.Certificates = append(e.Certificates, d)
	}
	desired, err := object(r, "desired", "The first desired properties")
	if err != nil {
		return outcome{}, err
	}
	if len(desired) > 0 {
		e.Twin = &operator.SetTwin{Desired: desired}
	}
	err = c.ask(r, request{method: http.MethodPost, path: "/v1/enrollments", body: e}, nil)
	return outcome{to: "/enrollments", done: "added"}, err
}

// changeEnrollment enables, disables or removes one.
func (c *console) changeEnrollment(r *http.Request, verb string) (outcome, error) {
	q := request{method: http.MethodPost, path: "/v1/enrollments/" + url.PathEscape(r.PathValue("kind")) + "/" + url.PathEscape(r.PathValue("id"))}
	done := "saved"
	if verb == "remove" {
		q.method, done = http.MethodDelete, "removed"
	} else {
		q.path += "/" + verb
	}
	return outcome{to: "/enrollments", done: done}, c.ask(r, q, nil)
}
