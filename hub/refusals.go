package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"holdfast/fault"
	"holdfast/hub/journal"
	"holdfast/identity"
	"holdfast/internal/tally"
	"holdfast/pki"
)

// Refusals come from outside, as often as a peer likes, and the ledger keeps
// everything for ever. So in refusalEvery the same refusal of the same peer is
// recorded once, and at most maxOfHost different ones of one address, which
// cannot use up the maxRefusals of all. How many were left out is recorded too.
// The log has every one.
const (
	refusalEvery = 10 * time.Minute
	maxOfHost    = 60
	maxRefusals  = 600
)

// refusals records in the ledger who was refused, and why.
type refusals struct {
	journal *journal.Journal
	counts  *tally.Vec // each of them, by kind
	log     *slog.Logger

	mu     sync.Mutex
	since  time.Time
	seen   map[refusal]bool
	ofHost map[string]int
	left   int // out of the ledger
}

// refusal is what makes two refusals the same.
type refusal struct {
	kind, reason, host string
	device             identity.Device
}

func newRefusals(j *journal.Journal, counts *tally.Vec, log *slog.Logger) *refusals {
	return &refusals{journal: j, counts: counts, log: log, seen: map[refusal]bool{}, ofHost: map[string]int{}}
}

// record records a refusal unless it was recorded lately.
func (r *refusals) record(ctx context.Context, kind string, device identity.Device, remote string, err error) {
	r.counts.Inc(kind)
	host, _, splitErr := net.SplitHostPort(remote)
	if splitErr != nil {
		host = remote
	}
	reason := "unknown"
	if err != nil {
		reason = err.Error()
	}
	first, left := r.first(refusal{kind: kind, reason: reason, host: host, device: device}, time.Now())
	if left > 0 {
		r.write(ctx, "refusals.left-out", "", map[string]any{"count": left})
	}
	if first {
		details := map[string]any{"reason": reason, "remote": host}
		if ofAnother(err) {
			details["key_of_another"] = true
		}
		r.write(ctx, kind, device, details)
	}
}

// ofAnother reports whether somebody was refused who showed a key that is
// another device's: one of the two is a copy. A device's own key once more is a
// conflict, not a denial.
func ofAnother(err error) bool {
	refusal, ok := errors.AsType[*pki.Refusal](err)
	return ok && refusal.Rule == pki.RuleKeyReuse && fault.Of(err) == fault.Denied
}

func (r *refusals) write(ctx context.Context, kind string, device identity.Device, details map[string]any) {
	if err := r.journal.Record(ctx, kind, device, details); err != nil {
		r.log.ErrorContext(ctx, "record refusal", "kind", kind, "device", device, "err", err)
	}
}

// watch returns a TLS configuration that is cfg and records whose certificate
// it refuses in a handshake: an HTTP server only logs that. listener says
// which one it is.
func (r *refusals) watch(cfg *tls.Config, listener string) *tls.Config {
	watching := cfg.Clone()
	watching.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		own := cfg
		if cfg.GetConfigForClient != nil { // it may have another for this client
			switch chosen, err := cfg.GetConfigForClient(hello); {
			case err != nil:
				return nil, err
			case chosen != nil:
				own = chosen
			}
		}
		own = own.Clone()
		own.VerifyConnection = func(state tls.ConnectionState) error {
			err := cfg.VerifyConnection(state)
			if err != nil && len(state.PeerCertificates) > 0 {
				name := state.PeerCertificates[0].Subject.CommonName
				r.record(hello.Context(), "connection.refused", "", hello.Conn.RemoteAddr().String(),
					fmt.Errorf("%s listener: certificate of %.100q: %w", listener, name, err))
			}
			return err
		}
		return own, nil
	}
	return watching
}

// first reports whether this refusal is to be recorded now, and how many were
// left out in the time that has just ended.
func (r *refusals) first(f refusal, now time.Time) (first bool, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.since) >= refusalEvery {
		left, r.since, r.left = r.left, now, 0
		clear(r.seen)
		clear(r.ofHost)
	}
	switch {
	case r.seen[f]:
		return false, left
	case r.ofHost[f.host] >= maxOfHost || len(r.seen) >= maxRefusals:
		r.left++
		return false, left
	}
	r.seen[f] = true
	r.ofHost[f.host]++
	return true, left
}
