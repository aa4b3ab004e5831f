package iothub_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"holdfast/fault"
	"holdfast/iothub"
)

func TestFailureIsAFaultOfItsKind(t *testing.T) {
	for code, kind := range map[iothub.Code]fault.Kind{
		iothub.CodeArgument: fault.Invalid, iothub.CodeTooLarge: fault.Invalid, iothub.CodeForbidden: fault.Denied,
		iothub.CodeQueueFull: fault.Unavailable, iothub.CodeInFlight: fault.Unavailable, iothub.CodeNotOnline: fault.NotFound,
		iothub.CodePrecondition: fault.Conflict, iothub.CodeTimeout: fault.Unavailable, iothub.CodeInternal: fault.Internal,
	} {
		err := fmt.Errorf("around: %w", iothub.Fail(code, "read: %w", io.EOF))
		if fault.Of(err) != kind || iothub.CodeOf(err) != code || !errors.Is(err, io.EOF) {
			t.Errorf("%d: %s, %d, %v", code, fault.Of(err), iothub.CodeOf(err), err)
		}
	}
	if got := iothub.CodeOf(fault.New(fault.Denied, "no")); got != iothub.CodeForbidden {
		t.Errorf("code of a fault: %d", got)
	}
}

func TestRefusal(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		err    error
		status int
		body   string
	}{
		{iothub.Fail(iothub.CodeTooLarge, "too much"), 413, `{"errorCode":413001,"trackingId":"T","message":"too much","timestampUtc":"2026-01-02T02:04:05Z"}`},
		{errors.New("the cause"), 500, `{"errorCode":500001,"trackingId":"T","message":"internal error","timestampUtc":"2026-01-02T02:04:05Z"}`},
	} {
		if status, body := iothub.Refusal(c.err, "T", at); status != c.status || string(body) != c.body {
			t.Errorf("refusal %d %s, want %d %s", status, body, c.status, c.body)
		}
	}
}
