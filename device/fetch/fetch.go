// Package fetch reads releases from the hub's repository, and believes none of
// it: metadata counts once package tuf has verified it, from the root that the
// device was provisioned with; content counts for nothing until whoever reads
// it has compared its digest with a release.
//
// What the device has seen of the repository is kept, each file replaced whole
// or not at all, so that nothing older is taken after a restart either.
package fetch

import (
	"context"
	"errors"
	"net/http"
	"time"

	"holdfast/internal/backoff"
)

// Conn is a connection to the hub.
type Conn interface {
	// Get asks for a path. Its answer is 200 or 206 and says how long it is;
	// other answers are errors of the kinds of package fault.
	Get(ctx context.Context, path string, header http.Header) (*http.Response, error)
	Close() error
}

// Config says where the repository is and how patient the device is.
type Config struct {
	Dial  func(ctx context.Context) (Conn, error)
	Slow  Slow           // zero: 1 KiB/s over 30 s
	Retry backoff.Policy // zero: up to 1 s at first, 5 minutes at last
}

// Source reads from the repository.
type Source struct{ cfg Config }

// New returns a Source.
func New(cfg Config) (*Source, error) {
	if cfg.Dial == nil {
		return nil, errors.New("fetch: a way to the hub is required")
	}
	if cfg.Slow == (Slow{}) {
		cfg.Slow = Slow{Rate: 1 << 10, Window: 30 * time.Second}
	}
	if cfg.Retry == (backoff.Policy{}) {
		cfg.Retry = backoff.Policy{Base: time.Second, Cap: 5 * time.Minute}
	}
	return &Source{cfg}, nil
}
