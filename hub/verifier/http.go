package verifier

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/internal/httpfault"
)

// MaxBody is the longest request in bytes.
const MaxBody = 256 << 10

// The operations, as $hub/attest names them.
const (
	OpNonce    = "nonce"
	OpEvidence = "evidence"
)

// Handler serves POST /attest/nonce and POST /attest/evidence. authenticate
// says which device is at the other end of the connection and binds it to the
// TLS session, or refuses it with a fault.
func (v *Verifier) Handler(authenticate func(*http.Request) (Peer, error)) http.Handler {
	mux := http.NewServeMux()
	for _, op := range []string{OpNonce, OpEvidence} {
		mux.HandleFunc("POST /attest/"+op, func(w http.ResponseWriter, r *http.Request) {
			p, err := authenticate(r)
			if err != nil {
				httpfault.Write(w, v.cfg.Log, err, "op", "attest/"+op)
				return
			}
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
			if err != nil {
				httpfault.Write(w, v.cfg.Log, bodyFault(err), "device", p.Device, "op", "attest/"+op)
				return
			}
			status, answer := v.Exchange(r.Context(), p, op, body)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write(answer) // a device that left asks again
		})
	}
	return mux
}

func bodyFault(err error) error {
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return fault.New(fault.Invalid, "the request is longer than %d bytes", long.Limit)
	}
	return fault.Hide(fault.Invalid, "the request ended early", err)
}

// Exchange answers one request, of whatever transport: op is OpNonce or
// OpEvidence. It returns the HTTP status and the body.
func (v *Verifier) Exchange(ctx context.Context, p Peer, op string, payload []byte) (status int, body []byte) {
	answer, err := v.answer(ctx, p, op, payload)
	if err == nil {
		body, err = json.Marshal(answer)
	}
	if err != nil {
		return httpfault.Encode(v.cfg.Log, err, "device", p.Device, "op", "attest/"+op)
	}
	return http.StatusOK, body
}

func (v *Verifier) answer(ctx context.Context, p Peer, op string, payload []byte) (any, error) {
	switch op {
	case OpNonce:
		return v.Nonce(ctx, p)
	case OpEvidence:
		if len(payload) > MaxBody {
			return nil, fault.New(fault.Invalid, "the request is longer than %d bytes", MaxBody)
		}
		var e evidence.Attestation
		if err := json.Unmarshal(payload, &e); err != nil {
			return nil, fault.Hide(fault.Invalid, "the evidence is malformed", err)
		}
		return v.Attest(ctx, p, e)
	}
	return nil, fault.New(fault.NotFound, "there is no such operation")
}
