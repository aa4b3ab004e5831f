// Package stream keeps the messages of devices in NATS JetStream, embedded in
// this process or in a cluster elsewhere, and carries requests between the hub's services and the
// process that holds a device's session.
//
// An acknowledgement is a promise: Append calls done with nil only after the
// message is on disk. One committer packs all messages that wait into one
// group, publishes it as one JetStream message and waits for the answer, which
// comes after fsync (SyncAlways; without it JetStream answers before, see
// nats-server issue 7564). While it waits the next group fills: the fsync is
// the batching, there is no timer.
//
// Invariants:
//   - the embedded server listens on no network port; its connections are
//     in-process;
//   - done is called exactly once for each Append;
//   - a group is stored whole or not at all, and none of a group that failed
//     is acknowledged (it may nevertheless be found later: delivery is at
//     least once, as the protocol's QoS 1 is);
//   - after a full disk the store is opened again and messages are taken as
//     soon as there is room; a disk that fails otherwise ends Run.
package stream

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"holdfast/fault"
	"holdfast/iothub"
)

// Config says where messages are kept and for how long.
type Config struct {
	// URL of an external NATS cluster with JetStream, as "tls://host:4222", or
	// several with commas between; empty: embedded in this process. The hub needs
	// an account of its own there. The promise of an acknowledgement is then the
	// cluster's: its servers have to run with sync_interval always.
	URL         string
	Credentials string // file with what logs in there (NATS .creds); empty: nothing
	Root        string // file with the roots of its certificates, PEM; empty: the system's
	Replicas    int    // of the stream there; 0: as it is, or one

	Dir      string        // directory of the embedded store; made when missing
	MaxAge   time.Duration // older messages are dropped; 0: 7 days
	MaxBytes int64         // the oldest are dropped above this; 0: 1 GiB, at least 16 MiB
	MaxQueue int           // bytes that may wait for the disk; 0: 32 MiB
	MinFree  int64         // bytes of the disk left to others (SQL, logs); 0: 64 MiB, negative: none
	Log      *slog.Logger

	AckTimeout time.Duration // a commit that takes longer has failed; 0: 10 s

	// WithoutSyncUnsafe acknowledges before fsync. It exists so that the test
	// of durability can show that it would notice.
	WithoutSyncUnsafe bool
}

func (c Config) withDefaults() Config {
	if c.MaxAge == 0 {
		c.MaxAge = 7 * 24 * time.Hour
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 1 << 30
	}
	if c.MaxQueue == 0 {
		c.MaxQueue = 32 << 20
	}
	if c.MinFree == 0 {
		c.MinFree = 64 << 20
	}
	if c.AckTimeout == 0 {
		c.AckTimeout = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// minBytes is the least that Config.MaxBytes may be: a group that does not fit
// would be dropped as soon as it is acknowledged.
const minBytes = 4 * maxGroupBytes

// Stream is the store of messages. It is safe for concurrent use.
type Stream struct {
	cfg     Config
	server  servers
	queue   *queue
	bus     *Bus
	dir     *dirSync // nil: not our disk
	space   space    // of who commits
	readers readers
	running atomic.Bool
	stats   *Stats

	publisher publisher
	read      *nats.Conn
	reader    jetstream.JetStream
}

// New starts the embedded server and opens the store; messages that were
// acknowledged before a crash are there. Run must be called, and closes it.
func New(ctx context.Context, cfg Config) (*Stream, error) {
	cfg = cfg.withDefaults()
	if cfg.MaxBytes < minBytes {
		return nil, fmt.Errorf("stream may take %d bytes, want at least %d", cfg.MaxBytes, minBytes)
	}
	s := &Stream{cfg: cfg, stats: newStats()}
	if err := s.start(); err != nil {
		return nil, err
	}
	s.queue = newQueue(cfg.MaxQueue, min(maxGroupBytes, s.server.payload()-maxHeader), cfg.Log)
	if err := s.open(ctx); err != nil {
		s.server.stop()
		return nil, err
	}
	return s, nil
}

// start starts the embedded server, or finds the external one.
func (s *Stream) start() error {
	if s.cfg.URL != "" {
		r, err := dialRemote(s.cfg)
		s.server = r
		return err
	}
	n, err := startNode(s.cfg)
	if err != nil {
		return err
	}
	s.server = n
	if !s.cfg.WithoutSyncUnsafe {
		s.dir = &dirSync{path: n.msgsDir}
	}
	return nil
}

func (s *Stream) open(ctx context.Context) error {
	busConn, err := s.server.connect("bus")
	if err != nil {
		return err
	}
	s.bus = &Bus{conn: busConn}
	if s.read, err = s.server.connect("read"); err != nil {
		return err
	}
	if s.reader, err = jetstream.New(s.read); err != nil {
		return err
	}
	if _, err := openStream(ctx, s.reader, s.cfg); err != nil {
		return err
	}
	if s.publisher, err = s.server.publisher(s.cfg.AckTimeout); err != nil {
		return err
	}
	if s.dir == nil {
		return nil
	}
	return syncParents(s.dir.path, s.cfg.Dir)
}

// Bus returns the request bus on the same server.
func (s *Stream) Bus() *Bus { return s.bus }

// Append queues m and returns; done is called once, with nil when m is on
// disk. It is called from the committer and must not block, or from within
// Append with what is wrong with m (fault.Invalid), or with fault.Unavailable
// when too much waits, the disk is full or the stream is shutting down. m's
// maps and body are not kept.
func (s *Stream) Append(m iothub.Message, done func(error)) { s.append(m, false, done) }

// AppendLater is Append for a message whose sender does not wait: it goes to the
// disk with others, or alone after a tenth of a second.
func (s *Stream) AppendLater(m iothub.Message, done func(error)) { s.append(m, true, done) }

func (s *Stream) append(m iothub.Message, patient bool, done func(error)) {
	err := s.take(&m, patient, done)
	if err != nil {
		s.stats.Messages.Inc(string(m.Kind), outcomeRefused)
		done(err)
	}
}

func (s *Stream) take(m *iothub.Message, patient bool, done func(error)) error {
	if err := validate(m); err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	if n := size(m) + maxHeader; n > s.queue.group {
		return fault.New(fault.Invalid, "message has %d bytes, the store takes %d", n, s.queue.group)
	}
	return s.queue.add(m, patient, done)
}

// Run commits until ctx ends, then commits what waits, and closes the store.
// It returns an error when the disk fails for another reason than being full:
// what the kernel could not write may be lost without a further error, so that
// nothing more can be promised.
func (s *Stream) Run(ctx context.Context) error {
	if s.running.Swap(true) {
		return fmt.Errorf("stream runs already")
	}
	err := s.commitUntil(ctx)
	s.queue.refuse(fault.New(fault.Unavailable, "the hub is shutting down"))
	if err == nil {
		err = s.commitAll()
	}
	s.queue.fail(fault.New(fault.Unavailable, "the hub is shutting down"), s.stats)
	s.bus.conn.Close()
	s.publisher.close()
	s.dir.close()
	s.read.Close()
	s.server.stop()
	return err
}

func (s *Stream) commitUntil(ctx context.Context) error {
	wait := firstWait
	for {
		s.queue.linger()
		select {
		case <-ctx.Done():
			return nil
		case <-s.queue.wake:
		}
		err := s.commitAll()
		if err == nil {
			wait = firstWait
			continue
		}
		if s.server.lasts(err) {
			return fmt.Errorf("commit messages: %w", err)
		}
		s.recover(ctx, wait, err)
		wait = min(2*wait, lastWait)
	}
}

// commitAll commits group after group until none waits or one fails.
func (s *Stream) commitAll() error {
	for g := s.queue.take(); g != nil; g = s.queue.take() {
		began := time.Now()
		err := s.commit(g.buf)
		s.stats.committed(g, time.Since(began), err)
		if err != nil {
			g.finish(fault.Hide(fault.Unavailable, "the hub cannot store messages now", err), s.cfg.Log)
			return err
		}
		g.finish(nil, s.cfg.Log)
		s.queue.recycle(g)
	}
	return nil
}

// commit stores one group and returns nil once it is on disk.
func (s *Stream) commit(b []byte) error {
	if err := s.checkSpace(len(b)); err != nil {
		return err
	}
	if err := s.publisher.publish(b, s.server.writeErr); err != nil {
		return fmt.Errorf("publish group: %w", err)
	}
	return s.syncDir()
}

func (s *Stream) syncDir() error {
	if s.dir == nil {
		return nil
	}
	return s.dir.sync()
}

const (
	checkInterval = 200 * time.Millisecond
	firstWait     = 100 * time.Millisecond
	lastWait      = 5 * time.Second
)

// recover refuses messages until the store is open again and has room.
func (s *Stream) recover(ctx context.Context, wait time.Duration, cause error) {
	refusal := fault.New(fault.Unavailable, "the hub cannot store messages now")
	s.queue.refuse(refusal)
	s.queue.fail(refusal, s.stats)
	s.cfg.Log.Error("messages are refused", "err", cause)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err := s.reopen()
		if err == nil {
			break
		}
		s.cfg.Log.Debug("store stays closed", "err", err)
		wait = min(2*wait, lastWait)
	}
	s.queue.refuse(nil)
	s.cfg.Log.Info("messages are taken again")
}

func (s *Stream) reopen() error {
	if err := s.checkSpace(0); err != nil {
		return err
	}
	s.dir.close()
	defer s.readers.reopened()
	return s.server.reopen()
}

// temporary reports whether a failed commit may work later with nothing lost:
// the disk was full, or JetStream did not answer.
func temporary(err error) bool {
	text := err.Error()
	for _, s := range []string{"no space left", "disk quota exceeded", "file too large", "timeout", "timed out", "no response", "no responders", "not enabled", "resources"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}
