package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// minPayload is the least max_payload of a cluster: the largest message of the
// protocol is 256 KiB, with its properties.
const minPayload = 512 << 10

// remote is a NATS cluster that somebody else runs. Connections come back by
// themselves; while one is away nothing is kept for it, so that what failed
// here is not stored behind our back.
type remote struct {
	url     string
	options []nats.Option
	log     *slog.Logger
	ping    *nats.Conn // tells whether the cluster is there
	js      jetstream.JetStream
}

func dialRemote(cfg Config) (*remote, error) {
	if err := checkURLs(cfg.URL); err != nil {
		return nil, err
	}
	r := &remote{url: cfg.URL, log: cfg.Log}
	if cfg.Credentials != "" {
		r.options = append(r.options, nats.UserCredentials(cfg.Credentials))
	}
	if cfg.Root != "" {
		r.options = append(r.options, nats.RootCAs(cfg.Root))
	}
	var err error
	if r.ping, err = r.connect("health"); err != nil {
		return nil, err
	}
	if n := r.ping.MaxPayload(); n < minPayload {
		r.ping.Close()
		return nil, fmt.Errorf("NATS at %s takes messages of %d bytes, at least %d are needed (max_payload)", cfg.URL, n, minPayload)
	}
	r.js, err = jetstream.New(r.ping)
	return r, err
}

// checkURLs takes one or more URLs with commas between. Nothing travels in the
// clear but on this machine, and secrets do not stand in configurations.
func checkURLs(urls string) error {
	for s := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(s))
		switch {
		case err != nil || u.Host == "":
			return fmt.Errorf("stream URL %q: want tls://host:port", s)
		case u.User != nil:
			return errors.New("stream URL: credentials belong into a file of their own")
		case u.Scheme == "tls" || u.Scheme == "nats" && loopback(u.Hostname()):
		default:
			return fmt.Errorf("stream URL %q: want tls://, or nats:// to this machine", s)
		}
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (r *remote) connect(name string) (*nats.Conn, error) {
	options := append([]nats.Option{
		nats.Name("holdfast " + name), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(-1), // fail at once while the cluster is away
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { r.log.Warn("NATS is away", "conn", name, "err", err) }),
		nats.ReconnectHandler(func(*nats.Conn) { r.log.Info("NATS is back", "conn", name) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			r.log.Warn("NATS client", "conn", name, "err", err)
		}),
	}, r.options...)
	conn, err := nats.Connect(r.url, options...)
	if err != nil {
		return nil, fmt.Errorf("connect %s to NATS at %s: %w", name, r.url, err)
	}
	return conn, nil
}

func (r *remote) publisher(timeout time.Duration) (publisher, error) {
	conn, err := r.connect("publish")
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncTimeout(timeout))
	return &distant{conn, js}, err
}

// distant publishes to a cluster.
type distant struct {
	conn *nats.Conn
	js   jetstream.JetStream
}

func (p *distant) publish(b []byte, check func() error) error {
	ack, err := p.js.PublishAsync(subject, b, jetstream.WithRetryAttempts(0))
	if err != nil {
		return err
	}
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		select {
		case <-ack.Ok():
			return nil
		case err := <-ack.Err():
			return err
		case <-tick.C:
			if err := check(); err != nil {
				return err
			}
		}
	}
}

func (p *distant) close() { p.conn.Close() }

func (r *remote) payload() int { return int(r.ping.MaxPayload()) }

func (r *remote) writeErr() error {
	if !r.ping.IsConnected() {
		return errors.New("NATS is not connected")
	}
	return nil
}

// reopen reports whether the stream can be written to again.
func (r *remote) reopen() error {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	if _, err := r.js.Stream(ctx, streamName); err != nil {
		return fmt.Errorf("ask for the stream: %w", err)
	}
	return nil
}

// checkTimeout bounds a question to a cluster that may be away.
const checkTimeout = 2 * time.Second

// lasts is false: a cluster repairs itself, and its disks are not ours to judge.
func (r *remote) lasts(error) bool { return false }

func (r *remote) stop() { r.ping.Close() }
