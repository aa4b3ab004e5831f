package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamName   = "MESSAGES"
	subject      = "messages"
	maxPayload   = 8 << 20
	startTimeout = time.Minute // recovery reads the last blocks
	never        = 100 * 365 * 24 * time.Hour
)

// servers is where the stream is kept: in this process, or elsewhere.
type servers interface {
	connect(name string) (*nats.Conn, error)
	publisher(timeout time.Duration) (publisher, error)
	payload() int         // bytes of the largest message
	writeErr() error      // why nothing is stored now, as far as is known
	reopen() error        // brings storing back after a commit failed; an error: not yet
	lasts(err error) bool // a commit that failed so will not work later either
	stop()
}

// publisher stores one message after another.
type publisher interface {
	// publish returns nil once b is on disk. While it waits, it asks check every
	// checkInterval, and stops at an error.
	publish(b []byte, check func() error) error
	close()
}

// node is the embedded NATS server. It has no listener of any kind: the only
// connections are those that connect makes inside this process.
type node struct {
	srv     *server.Server
	store   server.JetStreamConfig
	log     *slog.Logger
	msgsDir string // where JetStream keeps the blocks of our stream
}

func startNode(cfg Config) (*node, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make stream directory: %w", err)
	}
	store := server.JetStreamConfig{
		StoreDir:   cfg.Dir,
		MaxMemory:  64 << 20, // state of readers
		MaxStore:   2*cfg.MaxBytes + maxPayload,
		SyncAlways: !cfg.WithoutSyncUnsafe,
		Strict:     true,
	}
	srv, err := server.NewServer(&server.Options{
		ServerName:         "holdfast",
		DontListen:         true,
		NoSigs:             true,
		MaxPayload:         maxPayload,
		MaxPending:         8 * maxPayload,
		JetStream:          true,
		StoreDir:           store.StoreDir,
		JetStreamMaxMemory: store.MaxMemory,
		JetStreamMaxStore:  store.MaxStore,
		SyncAlways:         store.SyncAlways,
		SyncInterval:       2 * time.Minute,

		// Nobody at the other end of a connection inside this process goes
		// missing, and a pipe does not listen while nothing is on its way.
		PingInterval: never, DisableShortFirstPing: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make embedded NATS: %w", err)
	}
	srv.SetLoggerV2(&natsLog{cfg.Log}, false, false, false)
	srv.Start()
	n := &node{srv: srv, store: store, log: cfg.Log, msgsDir: filepath.Join(cfg.Dir, "jetstream", "$G", "streams", streamName, "msgs")}
	if !srv.ReadyForConnections(startTimeout) || !srv.JetStreamEnabled() {
		n.stop()
		return nil, fmt.Errorf("embedded NATS did not start in %s", cfg.Dir)
	}
	return n, nil
}

func (n *node) stop() {
	n.srv.Shutdown()
	n.srv.WaitForShutdown()
}

func (n *node) connect(name string) (*nats.Conn, error) {
	conn, err := nats.Connect("", nats.InProcessServer(n.srv), nats.Name(name),
		nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			n.log.Warn("embedded NATS client", "conn", name, "err", err)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect %s to embedded NATS: %w", name, err)
	}
	return conn, nil
}

func (n *node) publisher(timeout time.Duration) (publisher, error) {
	p := &pipe{dial: n.srv.InProcessConn, timeout: timeout}
	if err := p.open(); err != nil {
		return nil, fmt.Errorf("connect publisher to embedded NATS: %w", err)
	}
	return p, nil
}

// writeErr returns why the store takes no more writes. JetStream does not
// answer the publisher in this case, and stays so until it is started again.
func (n *node) writeErr() error {
	h := n.srv.Healthz(&server.HealthzOptions{})
	if h.Error == "" {
		return nil
	}
	return fmt.Errorf("JetStream: %s", h.Error)
}

func (n *node) payload() int { return maxPayload }

// lasts says that a disk fails: all but what temporary knows.
func (n *node) lasts(err error) bool { return !temporary(err) }

// reopen restarts the store where it has failed.
func (n *node) reopen() error {
	if n.writeErr() == nil {
		return nil
	}
	return n.restartStore()
}

// restartStore closes and opens JetStream: what was acknowledged is read back
// from the disk, what was cut short by the failed write is dropped.
// Connections and subscriptions of the bus stay.
func (n *node) restartStore() error {
	if err := n.srv.ShutdownJetStream(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	store := n.store
	if err := n.srv.EnableJetStream(&store); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	return nil
}

// openStream makes the stream, or brings its limits up to date. What else was
// set on one that exists, as its replicas and where they are, stays.
func openStream(ctx context.Context, js jetstream.JetStream, cfg Config) (jetstream.Stream, error) {
	want := jetstream.StreamConfig{
		Name:      streamName,
		Subjects:  []string{subject},
		Storage:   jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy,
		Discard:   jetstream.DiscardOld,
		Replicas:  cfg.Replicas,
	}
	switch old, err := js.Stream(ctx, streamName); {
	case err == nil:
		want = old.CachedInfo().Config
		want.Replicas = cmp.Or(cfg.Replicas, want.Replicas)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("open stream: %w", err)
	}
	want.MaxAge, want.MaxBytes = cfg.MaxAge, cfg.MaxBytes
	want.Duplicates = min(2*time.Minute, cfg.MaxAge) // without message ids nothing is remembered for this window
	s, err := js.CreateOrUpdateStream(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return s, nil
}

// natsLog hands what the server says to slog. Its notices are our details.
type natsLog struct{ log *slog.Logger }

func (l *natsLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *natsLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *natsLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *natsLog) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *natsLog) Debugf(string, ...any)           {}
func (l *natsLog) Tracef(string, ...any)           {}
