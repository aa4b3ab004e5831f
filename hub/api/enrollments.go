package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/operator"
)

// Enrollments keeps enrolments of devices that provision themselves.
type Enrollments interface {
	AddEnrollment(ctx context.Context, by string, e operator.Enrollment) (operator.Enrollment, error)
	Enrollments(ctx context.Context, kind string) ([]operator.Enrollment, error)
	Enrollment(ctx context.Context, kind, id string) (operator.Enrollment, error)
	DisableEnrollment(ctx context.Context, by, kind, id string, disabled bool) (operator.Enrollment, error)
	RemoveEnrollment(ctx context.Context, by, kind, id string) error
}

// enrollmentKey names an enrolment in a path.
type enrollmentKey struct {
	by
	Kind string `path:"kind" enum:"individual,group" doc:"one device, or all whose ids fit"`
	ID   string `path:"id" doc:"registration id, or the name of an enrolment for many"`
}

func (a *api) registerEnrollments(h huma.API) {
	type list struct {
		Kind string `query:"kind" doc:"only this kind: individual or group"`
	}
	huma.Register(h, op("list-enrollments", http.MethodGet, "/v1/enrollments", "List enrolments"),
		func(ctx context.Context, in *list) (*answer[[]operator.Enrollment], error) {
			v, err := a.Enrollments.Enrollments(ctx, in.Kind)
			return reply(a, v, err)
		})
	type add struct {
		by
		Body operator.Enrollment
	}
	huma.Register(h, with(op("add-enrollment", http.MethodPost, "/v1/enrollments", "Add an enrolment"), http.StatusNotFound, http.StatusConflict),
		func(ctx context.Context, in *add) (*answer[operator.Enrollment], error) {
			v, err := a.Enrollments.AddEnrollment(ctx, in.actor, in.Body)
			return reply(a, v, err)
		})
	const path = "/v1/enrollments/{kind}/{id}"
	huma.Register(h, with(op("show-enrollment", http.MethodGet, path, "Show an enrolment"), http.StatusNotFound),
		func(ctx context.Context, in *enrollmentKey) (*answer[operator.Enrollment], error) {
			v, err := a.Enrollments.Enrollment(ctx, in.Kind, in.ID)
			return reply(a, v, err)
		})
	huma.Register(h, with(op("remove-enrollment", http.MethodDelete, path, "Remove an enrolment; its devices stay"), http.StatusNotFound),
		func(ctx context.Context, in *enrollmentKey) (*struct{}, error) {
			if err := a.Enrollments.RemoveEnrollment(ctx, in.actor, in.Kind, in.ID); err != nil {
				return nil, a.refuse(err)
			}
			return nil, nil
		})
	disable := func(disabled bool) func(context.Context, *enrollmentKey) (*answer[operator.Enrollment], error) {
		return func(ctx context.Context, in *enrollmentKey) (*answer[operator.Enrollment], error) {
			v, err := a.Enrollments.DisableEnrollment(ctx, in.actor, in.Kind, in.ID, disabled)
			return reply(a, v, err)
		}
	}
	huma.Register(h, with(op("disable-enrollment", http.MethodPost, path+"/disable", "Refuse the devices of an enrolment"), http.StatusNotFound), disable(true))
	huma.Register(h, with(op("enable-enrollment", http.MethodPost, path+"/enable", "Take the devices of an enrolment again"), http.StatusNotFound), disable(false))
}
