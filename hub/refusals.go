package hub

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"holdfast/hub/journal"
	"holdfast/identity"
)

// Refusals come from outside, as often as a peer likes, and the ledger keeps
// everything for ever. So the same refusal of the same peer is recorded once
// in refusalEvery, and at most maxRefusals different ones in that time.
const (
	refusalEvery = time.Minute
	maxRefusals  = 60
)

// refusals records in the ledger who was refused, and why.
type refusals struct {
	journal *journal.Journal
	log     *slog.Logger

	mu    sync.Mutex
	since time.Time
	seen  map[refusal]bool
}

// refusal is what makes two refusals the same.
type refusal struct {
	kind, reason, host string
	device             identity.Device
}

func newRefusals(j *journal.Journal, log *slog.Logger) *refusals {
	return &refusals{journal: j, log: log, seen: map[refusal]bool{}}
}

// record records a refusal unless it was recorded lately.
func (r *refusals) record(ctx context.Context, kind string, device identity.Device, remote string, err error) {
	host, _, splitErr := net.SplitHostPort(remote)
	if splitErr != nil {
		host = remote
	}
	reason := "unknown"
	if err != nil {
		reason = err.Error()
	}
	if !r.first(refusal{kind: kind, reason: reason, host: host, device: device}, time.Now()) {
		return
	}
	details := map[string]any{"reason": reason, "remote": host}
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
		own := cfg.Clone()
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

// first reports whether this refusal is to be recorded now.
func (r *refusals) first(f refusal, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.since) >= refusalEvery {
		r.since = now
		clear(r.seen)
	}
	if r.seen[f] || len(r.seen) >= maxRefusals {
		return false
	}
	r.seen[f] = true
	return true
}
