// Package dial opens TLS connections from a device to its hub, and nowhere
// else: the hub is the one that the provisioned roots vouch for, judged by the
// device's own idea of the time.
package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"holdfast/fault"
	"holdfast/tlspolicy"
)

// timeout bounds connecting and the handshake together.
const timeout = 20 * time.Second

// Config says which hub.
type Config struct {
	Host  string              // the hub's name or address, as in its certificate
	Roots []*x509.Certificate // the hub's roots; nothing else is trusted
	// Judge calls a function that verifies certificates at a time; see
	// clock.Clock.Judge.
	Judge func(verify func(now time.Time) error) error
}

// Dialer opens connections to one hub.
type Dialer struct{ cfg Config }

// New returns a Dialer.
func New(cfg Config) (*Dialer, error) {
	if cfg.Host == "" || len(cfg.Roots) == 0 || cfg.Judge == nil {
		return nil, errors.New("dial: host, roots and judge are required")
	}
	return &Dialer{cfg}, nil
}

// Dial connects to a port of the hub and speaks protocol (ALPN) there, showing
// cert where that is not nil. A hub whose certificate does not verify is an
// error of the kind fault.Integrity; one that cannot be reached,
// fault.Unavailable.
func (d *Dialer) Dial(ctx context.Context, port int, protocol string, cert *tls.Certificate) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var conn *tls.Conn
	err := d.cfg.Judge(func(now time.Time) (err error) {
		conn, err = d.attempt(ctx, port, protocol, cert, now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", net.JoinHostPort(d.cfg.Host, strconv.Itoa(port)), classify(err))
	}
	return conn, nil
}

func (d *Dialer) attempt(ctx context.Context, port int, protocol string, cert *tls.Certificate, now time.Time) (*tls.Conn, error) {
	cfg, err := tlspolicy.Client(tlspolicy.Dialer{
		Roots:       d.cfg.Roots,
		ServerName:  d.cfg.Host,
		Now:         func() time.Time { return now },
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
		Protocols:   []string{protocol},
	})
	if err != nil {
		return nil, err
	}
	dialer := tls.Dialer{Config: cfg}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(d.cfg.Host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil // that is what a tls.Dialer returns
}

// classify gives an error its kind.
func classify(err error) error {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.New(fault.Integrity, "the hub's certificate does not verify: %w", err)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return fault.New(fault.Unavailable, "the hub cannot be reached: %w", err)
	}
	return err
}
