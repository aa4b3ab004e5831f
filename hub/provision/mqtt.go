package provision

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"holdfast/dps"
	"holdfast/fault"
	"holdfast/iothub"
)

// Answer answers a request of a session with DPS. Errors are for the gateway to
// tell the device.
func (s *Service) Answer(ctx context.Context, c Caller, t iothub.Request, payload []byte) (iothub.Topic, []byte, error) {
	var p dps.Progress
	var err error
	answer := iothub.RegisterResult{Status: http.StatusOK}
	switch t := t.(type) {
	case iothub.Register:
		answer = iothub.RegisterResult{Status: http.StatusAccepted, RequestID: t.RequestID, RetryAfter: int(RetryAfter / time.Second)}
		p, err = s.Register(ctx, c, payload)
	case iothub.OperationStatus:
		answer.RequestID = t.RequestID
		p, err = s.Operation(ctx, c, t.OperationID)
	default:
		err = fault.New(fault.Invalid, "no request for a registration")
	}
	if err != nil {
		return nil, nil, err
	}
	body, err := json.Marshal(p)
	return answer, body, err
}
