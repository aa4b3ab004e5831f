package issuer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"holdfast/pki"
)

// retryServing is how long Serving waits after a renewal that failed.
const retryServing = time.Minute

// Serving keeps a current certificate for the hub's listeners.
type Serving struct {
	issuer   *Issuer
	issue    func(context.Context) (*tls.Certificate, error)
	lifetime time.Duration
	cert     atomic.Pointer[tls.Certificate]
}

// NewServing issues the first certificate for names; Run renews it.
func NewServing(ctx context.Context, i *Issuer, names pki.Names, lifetime time.Duration) (*Serving, error) {
	return newServing(ctx, i, lifetime, func(ctx context.Context) (*tls.Certificate, error) {
		return i.IssueServer(ctx, names, lifetime)
	})
}

// NewRSAServing is NewServing with a certificate of an RSA hierarchy.
func NewRSAServing(ctx context.Context, i *Issuer, kind RSA, names pki.Names, lifetime time.Duration) (*Serving, error) {
	return newServing(ctx, i, lifetime, func(ctx context.Context) (*tls.Certificate, error) {
		return i.IssueRSAServer(ctx, kind, names, lifetime)
	})
}

func newServing(ctx context.Context, i *Issuer, lifetime time.Duration, issue func(context.Context) (*tls.Certificate, error)) (*Serving, error) {
	s := &Serving{issuer: i, issue: issue, lifetime: lifetime}
	if err := s.renew(ctx); err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	return s, nil
}

// Certificate returns the current certificate, for tlspolicy.Listener.
func (s *Serving) Certificate() (*tls.Certificate, error) {
	if c := s.cert.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("no serving certificate")
}

// Run renews the certificate, with a new key, at two thirds of its lifetime.
// It returns when ctx ends.
func (s *Serving) Run(ctx context.Context) error {
	wait := s.lifetime / 3 * 2
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = s.lifetime / 3 * 2
		if err := s.renew(ctx); err != nil {
			s.issuer.cfg.Log.ErrorContext(ctx, "serving certificate not renewed", "err", err)
			wait = min(retryServing, wait)
		}
	}
}

func (s *Serving) renew(ctx context.Context) error {
	cert, err := s.issue(ctx)
	if err != nil {
		return err
	}
	s.cert.Store(cert)
	return nil
}
