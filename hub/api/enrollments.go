package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/fault"
	"holdfast/identity"
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
	Kind string `path:"kind" enum:"individual,group" doc:"one device, or all whose ids fit"`
	ID   string `path:"id" doc:"registration id, or the name of an enrolment for many"`
}

func (a *api) registerEnrollments(h huma.API) {
	type list struct {
		Kind string `query:"kind" enum:"individual,group" doc:"only this kind"`
	}
	serve(a, h, op("list-enrollments", http.MethodGet, "/v1/enrollments", "List enrolments"),
		func(ctx context.Context, in *list) ([]operator.Enrollment, error) {
			es, err := a.Enrollments.Enrollments(ctx, in.Kind)
			return only(ctx, es, func(e operator.Enrollment) identity.Group { return e.Group }), err
		})
	type add struct {
		Body operator.Enrollment
	}
	serve(a, h, op("add-enrollment", http.MethodPost, "/v1/enrollments", "Add an enrolment"),
		func(ctx context.Context, in *add) (operator.Enrollment, error) {
			if err := a.mayFor(ctx, "add-enrollment", in.Body.Kind); err != nil {
				return operator.Enrollment{}, err
			}
			if err := a.newcomer(ctx, in.Body); err != nil {
				return operator.Enrollment{}, err
			}
			e, err := a.Enrollments.AddEnrollment(ctx, operator.From(ctx).Name, in.Body)
			return e, reticent(ctx, err)
		})
	const path = "/v1/enrollments/{kind}/{id}"
	serve(a, h, op("show-enrollment", http.MethodGet, path, "Show an enrolment"),
		func(ctx context.Context, in *enrollmentKey) (operator.Enrollment, error) {
			return a.enrollment(ctx, in)
		})
	act(a, h, op("remove-enrollment", http.MethodDelete, path, "Remove an enrolment; its devices stay"),
		func(ctx context.Context, in *enrollmentKey) error {
			if err := a.mayTouch(ctx, "remove-enrollment", in); err != nil {
				return err
			}
			return a.Enrollments.RemoveEnrollment(ctx, operator.From(ctx).Name, in.Kind, in.ID)
		})
	disable := func(id string, disabled bool) func(context.Context, *enrollmentKey) (operator.Enrollment, error) {
		return func(ctx context.Context, in *enrollmentKey) (operator.Enrollment, error) {
			if err := a.mayTouch(ctx, id, in); err != nil {
				return operator.Enrollment{}, err
			}
			return a.Enrollments.DisableEnrollment(ctx, operator.From(ctx).Name, in.Kind, in.ID, disabled)
		}
	}
	const no, yes = "disable-enrollment", "enable-enrollment"
	serve(a, h, op(no, http.MethodPost, path+"/disable", "Refuse the devices of an enrolment"), disable(no, true))
	serve(a, h, op(yes, http.MethodPost, path+"/enable", "Take the devices of an enrolment again"), disable(yes, false))
}

// newcomer refuses an enrolment of another group's device, which it would bring
// into this one. Without a device of its own an enrolment's id is the device's,
// in whatever case.
func (a *api) newcomer(ctx context.Context, e operator.Enrollment) error {
	if e.Kind != operator.Individual || e.Device != "" || operator.From(ctx).Groups == nil {
		return nil
	}
	for _, id := range []identity.Device{identity.Device(e.ID), identity.Device(strings.ToLower(e.ID))} {
		if a.taken(ctx, id) {
			if err := a.visible(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayFor asks for the right that an enrolment for many takes.
func (a *api) mayFor(ctx context.Context, id, kind string) error {
	if kind == operator.ForGroup {
		return a.may(ctx, id+":group")
	}
	return nil
}

// mayTouch refuses an enrolment that is not there for whoever asks, or that it
// may not change.
func (a *api) mayTouch(ctx context.Context, id string, key *enrollmentKey) error {
	if err := a.mayFor(ctx, id, key.Kind); err != nil {
		return err
	}
	_, err := a.enrollment(ctx, key)
	return err
}

// enrollment returns an enrolment of a group that whoever asks sees.
func (a *api) enrollment(ctx context.Context, key *enrollmentKey) (operator.Enrollment, error) {
	e, err := a.Enrollments.Enrollment(ctx, key.Kind, key.ID)
	if operator.From(ctx).Groups == nil {
		return e, err
	}
	if fault.Of(err) == fault.NotFound || err == nil && !operator.From(ctx).Sees(e.Group) {
		return operator.Enrollment{}, fault.New(fault.NotFound, "there is no such enrolment")
	}
	return e, err
}
