package gateway

import (
	"crypto/x509"
	"errors"
	"time"

	"holdfast/access"
	"holdfast/fault"
	"holdfast/internal/tally"
)

// Why a connection did not become a session, beside the kinds of faults.
const (
	resultSession     = "session" // it did
	resultBusy        = "busy"    // too many at once
	resultNotTLS      = "not-tls"
	resultSilent      = "silent" // it sent nothing, or was lost, before the handshake
	resultHandshake   = "handshake"
	resultCertificate = "certificate"
	resultProtocol    = "protocol" // what it sent is no proper CONNECT
)

// The kinds of messages that devices send, and what becomes of them.
const (
	countTelemetry = "telemetry"
	countLog       = "log"
	countRequest   = "request"
	countResult    = "method-result"

	outcomeOK     = "ok"
	outcomeFailed = "failed"
)

// Stats counts what a Gateway does.
type Stats struct {
	Connections  *tally.Vec       // by what became of them: a session, or why not
	Handshakes   *tally.Histogram // how long they take, the wait for a slot included
	Sessions     *tally.Vec       // that are open now, by mode
	Ended        *tally.Vec       // sessions, by cause
	Messages     *tally.Vec       // from devices, by kind and outcome
	Acknowledged *tally.Histogram // from the receipt of telemetry until it is stored
}

func newStats() Stats {
	return Stats{
		Connections: tally.NewVec([]string{resultSession, resultBusy, resultNotTLS, resultSilent, resultHandshake, resultCertificate, resultProtocol,
			string(fault.Denied), string(fault.Invalid), string(fault.Conflict), string(fault.Unavailable), string(fault.Pending), string(fault.Internal)}),
		Handshakes: tally.NewDurations(tally.Latencies()...),
		Sessions:   tally.NewVec([]string{string(access.Full), string(access.Quarantine), string(access.Provision)}),
		Ended: tally.NewVec([]string{string(Left), string(Lost), string(Silent), string(Violation), string(Replaced), string(Revoked),
			string(Expired), string(Unstored), string(Slow), string(Shutdown), string(Crashed)}),
		Messages:     tally.NewVec([]string{countTelemetry, countLog, countRequest, countResult}, []string{outcomeOK, outcomeFailed}),
		Acknowledged: tally.NewDurations(tally.Latencies()...),
	}
}

// Stats returns the counters; they go on counting.
func (g *Gateway) Stats() *Stats { return &g.stats }

// Pending returns how many connections are on their way to a session.
func (g *Gateway) Pending() int {
	g.pend.mu.Lock()
	defer g.pend.mu.Unlock()
	return len(g.pend.conns)
}

// outcome counts what became of a message.
func (st *Stats) outcome(kind string, err error) {
	if err != nil {
		st.Messages.Inc(kind, outcomeFailed)
		return
	}
	st.Messages.Inc(kind, outcomeOK)
}

// stored counts telemetry that a sink has answered for.
func (st *Stats) stored(received time.Time, err error) {
	st.outcome(countTelemetry, err)
	if err == nil {
		st.Acknowledged.Took(time.Since(received))
	}
}

// refused counts a connection that did not become a session.
func (st *Stats) refused(cert *x509.Certificate, verified bool, err error) {
	st.Connections.Inc(refusal(cert, verified, err))
}

// refusal is the one table from errors to what is counted.
func refusal(cert *x509.Certificate, verified bool, err error) string {
	_, known := errors.AsType[*fault.Error](err)
	switch {
	case errors.Is(err, errNotTLS):
		return resultNotTLS
	case errors.Is(err, errNoSlot):
		return resultBusy
	case errors.Is(err, errNoByte):
		return resultSilent
	case !verified && cert != nil:
		return resultCertificate
	case !verified:
		return resultHandshake
	case known:
		return string(fault.Of(err))
	}
	return resultProtocol
}

// count takes a session into the count of its mode, until end.
func (s *Session) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted = true
	s.g.stats.Connections.Inc(resultSession)
	s.g.stats.Sessions.Inc(string(s.mode))
}

// recount moves a session to another mode. s.mu is held.
func (s *Session) recount(from, to access.Mode) {
	if s.counted && from != to {
		s.g.stats.Sessions.Dec(string(from))
		s.g.stats.Sessions.Inc(string(to))
	}
}

// uncount is count's end. s.mu is held.
func (s *Session) uncount() {
	if s.counted {
		s.counted = false
		s.g.stats.Sessions.Dec(string(s.mode))
		s.g.stats.Ended.Inc(string(s.cause))
	}
}
