package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// maxSnapshotHead bounds the line of JSON before a snapshot, in bytes.
const maxSnapshotHead = 64 << 10

// snapshotChunk is how much of a snapshot is handed over at a time, in bytes.
const snapshotChunk = 128 << 10

// snapshotHead is the first line of a snapshot: what JetStream needs to restore
// the rest.
type snapshotHead struct {
	Config server.StreamConfig `json:"config"`
	State  server.StreamState  `json:"state"`
}

// Snapshot writes all messages that were acknowledged before the call, and maybe
// later ones, in a form that Restore reads. Messages are taken meanwhile.
func (s *Stream) Snapshot(ctx context.Context, w io.Writer) error {
	inbox := s.read.NewInbox()
	chunks, err := s.read.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer func() { _ = chunks.Unsubscribe() }() // the connection may be gone
	var answer server.JSApiStreamSnapshotResponse
	ask := server.JSApiStreamSnapshotRequest{DeliverSubject: inbox, NoConsumers: true, ChunkSize: snapshotChunk}
	if err := request(ctx, s.read, fmt.Sprintf(server.JSApiStreamSnapshotT, streamName), ask, &answer); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	switch {
	case answer.Error != nil:
		return fmt.Errorf("snapshot: %w", answer.Error)
	case answer.Config == nil || answer.State == nil:
		return errors.New("snapshot: JetStream did not say what it holds")
	}
	if err := json.NewEncoder(w).Encode(snapshotHead{*answer.Config, *answer.State}); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return receive(ctx, chunks, w)
}

// receive writes the chunks of a snapshot until the last. An empty one ends it
// and says whether that was all.
func receive(ctx context.Context, chunks *nats.Subscription, w io.Writer) error {
	for {
		m, err := chunks.NextMsgWithContext(ctx)
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("snapshot: JetStream gave up: %s %s", status, m.Header.Get("Description"))
			}
			return nil
		}
		if _, err := w.Write(m.Data); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		if m.Reply == "" {
			continue
		}
		if err := m.Respond(nil); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
}

// Restore makes the embedded store in cfg.Dir, which must not have one, of a
// snapshot. All of it is on disk when Restore returns nil; after an error the
// directory is good for nothing.
func Restore(ctx context.Context, cfg Config, r io.Reader) error {
	cfg = cfg.withDefaults()
	in := bufio.NewReaderSize(r, maxSnapshotHead)
	head, err := readHead(in)
	if err != nil {
		return err
	}
	n, err := startNode(cfg)
	if err != nil {
		return err
	}
	err = n.restore(ctx, head, in)
	n.stop()
	if err != nil {
		return fmt.Errorf("restore messages: %w", err)
	}
	return syncTree(cfg.Dir)
}

func readHead(in *bufio.Reader) (snapshotHead, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return snapshotHead{}, fmt.Errorf("restore messages: first line: %w", err)
	}
	var head snapshotHead
	if err := json.Unmarshal(line, &head); err != nil {
		return head, fmt.Errorf("restore messages: first line: %w", err)
	}
	if head.Config.Name != streamName || head.Config.Storage != server.FileStorage {
		return head, fmt.Errorf("restore messages: this is the stream %q, want %q on disk", head.Config.Name, streamName)
	}
	head.Config.Replicas = 1 // it may come from a cluster
	return head, nil
}

func (n *node) restore(ctx context.Context, head snapshotHead, r io.Reader) error {
	conn, err := n.connect("restore")
	if err != nil {
		return err
	}
	defer conn.Close()
	var answer server.JSApiStreamRestoreResponse
	ask := server.JSApiStreamRestoreRequest(head)
	if err := request(ctx, conn, fmt.Sprintf(server.JSApiStreamRestoreT, streamName), ask, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	buf := make([]byte, snapshotChunk)
	for {
		k, err := io.ReadFull(r, buf)
		if k > 0 {
			if err := handOver(ctx, conn, answer.DeliverSubject, buf[:k]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return handOver(ctx, conn, answer.DeliverSubject, nil)
		case err != nil:
			return err
		}
	}
}

// handOver sends a chunk; the empty one ends the restoring and is answered when
// that is done.
func handOver(ctx context.Context, conn *nats.Conn, to string, chunk []byte) error {
	m, err := conn.RequestWithContext(ctx, to, chunk)
	if err != nil || len(m.Data) == 0 {
		return err
	}
	var answer server.JSApiStreamCreateResponse
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

func request(ctx context.Context, conn *nats.Conn, to string, ask, answer any) error {
	b, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	m, err := conn.RequestWithContext(ctx, to, b)
	if err != nil {
		return err
	}
	return json.Unmarshal(m.Data, answer)
}

// syncTree puts all files under dir on stable storage, and their names.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncFile(path)
	})
}
