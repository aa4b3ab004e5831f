// Package agent is the life of a device, as a state machine over what the
// other rooms do: it is born, attests, gets an operational certificate,
// connects, and renews; in quarantine it only attests, listens, ships logs and
// takes updates.
//
//	provisioned -> born -> attested -> certificate -> connected
//	                          ^                           |
//	                          +------- quarantined <------+
//
// Each state is a function that returns the next one. What a state needs to
// remember over a restart is with the keys (certificates) or the spool (logs),
// so a device that loses power anywhere goes on from its last whole step, and
// attests again before it connects. Errors that can pass are retried with
// back-off; a refusal is reported and retried only slowly, since an operator
// has to change something first.
package agent

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/internal/backoff"
	"holdfast/iothub"
	"holdfast/logs"
	"holdfast/posture"
	"holdfast/release"
)

// Hub is the hub's HTTPS side. Its errors have the kinds of package fault.
type Hub interface {
	Begin(ctx context.Context, req evidence.BeginRequest) (evidence.BeginResponse, error)
	Finish(ctx context.Context, req evidence.FinishRequest) (evidence.Issued, error)
	// Attest has sign make evidence for a nonce and a channel binding.
	Attest(ctx context.Context, cert *tls.Certificate, sign func(nonce, exporter []byte) (evidence.Attestation, error)) (evidence.Result, error)
	Enroll(ctx context.Context, cert *tls.Certificate, csr []byte) ([][]byte, error)
	Reenroll(ctx context.Context, cert *tls.Certificate, csr []byte) ([][]byte, error)
}

// Birth is the key that a device is born with, and its certificate.
type Birth interface {
	// Birth returns the birth key, made if there is none, and what a TPM shows
	// of it: nil without a TPM.
	Birth() (*evidence.Birth, crypto.Signer, error)
	Activate(credential, secret []byte) ([]byte, error)
	Issued() (*evidence.Issued, error) // nil before SaveIssued
	SaveIssued(evidence.Issued) error
	// RenewBirth makes a new birth key in place of the old one and forgets
	// what was issued for that.
	RenewBirth() error
}

// Operational are the keys that a device works with, one after the other.
type Operational interface {
	NewOperational() (crypto.Signer, error)
	Operational() (*tls.Certificate, error) // nil before the first Promote
	Promote(key crypto.Signer, chain [][]byte) error
}

// Attester signs evidence: all but the nonce, the event log and the claims.
type Attester interface {
	Attest(binding identity.Digest, next crypto.Signer) (evidence.Attestation, error)
}

// Entropy says whether keys may be made.
type Entropy interface {
	Start() error
	Err() error
}

// Clock is the device's clock; see package device/clock.
type Clock interface {
	Now() (now time.Time, state string)
	Expired(notAfter time.Time) bool
}

// Spool has the log records that the hub has not yet.
type Spool interface {
	Ready() <-chan struct{}
	Batch() ([]logs.Record, error)
	Ack(seq uint64) error
}

// Session is an MQTT session; see package device/link.
type Session interface {
	Publish(ctx context.Context, topic iothub.Topic, body []byte) error
	Attest(ctx context.Context, op iothub.AttestOp, body []byte) ([]byte, error)
	Exporter() ([]byte, error)
	Postures() <-chan posture.Report
	Offers() <-chan []byte
	Progress(ctx context.Context, p release.Progress) error
	Done() <-chan struct{}
	Err() error
	Close() error
}

// Config is what a life is made of. Everything without "may be" is required.
type Config struct {
	Hub         Hub
	Open        func(ctx context.Context, id identity.Device, cert *tls.Certificate) (Session, error)
	Birth       Birth
	Operational Operational
	Attester    Attester // may be nil: the device has no TPM and cannot attest
	EventLog    []byte   // of this boot; may be empty
	Entropy     Entropy
	Clock       Clock
	Spool       Spool
	Claims      func() evidence.Claims
	Token       string                               // the claim token; may be empty
	Forget      func() error                         // deletes the claim token once the device is born
	Report      func(Status) error                   // keeps the status for whoever asks; called on each change
	Update      func(ctx context.Context, s Session) // takes the offers of updates of each session until it ends; may be nil
	Beat        func()                               // called at least every ten seconds, or every few minutes during an exchange
	Log         *slog.Logger

	Telemetry time.Duration // between two readings; 0: 5 s
	Reattest  time.Duration // between two attestations of a session; 0: an hour
}

const (
	defaultTelemetry = 5 * time.Second
	defaultReattest  = time.Hour
	beatEvery        = 10 * time.Second
	exchangeTimeout  = 2 * time.Minute // of one exchange with the hub, all its requests together
)

// retry spaces out what fails by itself, slow what an operator has to change.
var (
	retry = backoff.Policy{Base: time.Second, Cap: 2 * time.Minute}
	slow  = backoff.Policy{Base: 30 * time.Second, Cap: 10 * time.Minute}
)

// refusedEvery is how often a device asks again that was refused at birth.
const refusedEvery = 10 * time.Minute

// Agent lives a device's life.
type Agent struct {
	cfg Config

	// These belong to the goroutine of Run.
	id       identity.Device
	birth    *tls.Certificate
	current  *tls.Certificate // nil without an operational certificate that may be used
	renewAt  time.Time        // by this process's clock
	retry    *backoff.Backoff
	recovery *backoff.Backoff
	renewals *backoff.Backoff
	asked    bool  // the hub has asked for a renewal before
	clashes  int   // times in a row that the hub would not let this birth key be born
	verdict  error // of the last attempt to be born that is not worth repeating
	started  time.Time

	mu     sync.Mutex // guards what follows
	status Status
	shown  *tls.Certificate
	health Health
}

// state does what is to be done in it and returns the next: nil at the end.
type state func(ctx context.Context) state

// New returns an Agent.
func New(cfg Config) (*Agent, error) {
	if cfg.Hub == nil || cfg.Open == nil || cfg.Birth == nil || cfg.Operational == nil || cfg.Entropy == nil ||
		cfg.Clock == nil || cfg.Spool == nil || cfg.Claims == nil || cfg.Forget == nil || cfg.Report == nil ||
		cfg.Beat == nil || cfg.Log == nil {
		return nil, errors.New("agent: a required part is missing")
	}
	if cfg.Telemetry == 0 {
		cfg.Telemetry = defaultTelemetry
	}
	if cfg.Reattest == 0 {
		cfg.Reattest = defaultReattest
	}
	return &Agent{
		cfg: cfg, status: Status{Phase: Provisioned}, started: time.Now(),
		retry: backoff.New(retry), recovery: backoff.New(slow), renewals: backoff.New(slow),
	}, nil
}

// Run lives until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	next := a.provisioned
	for next != nil && ctx.Err() == nil {
		a.cfg.Beat()
		next = next(ctx)
	}
	return nil
}

// Enroll lives until the device is born, and no longer. It goes on while that
// is a matter of time, and returns the error when either side refuses the
// other.
func (a *Agent) Enroll(ctx context.Context) error {
	next := a.provisioned
	for next != nil && ctx.Err() == nil {
		next = next(ctx)
		switch {
		case a.verdict != nil:
			return a.verdict
		case a.Status().Phase == Born:
			return nil
		}
	}
	return ctx.Err()
}

// wait waits, with a beat now and then.
func (a *Agent) wait(ctx context.Context, d time.Duration) {
	end := time.NewTimer(d)
	defer end.Stop()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		a.cfg.Beat()
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-beat.C:
		}
	}
}

// again goes to a state after a delay.
func (a *Agent) again(delay time.Duration, next state) state {
	return func(ctx context.Context) state {
		a.wait(ctx, delay)
		return next
	}
}
