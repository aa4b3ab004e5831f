package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/hub/backup"
	"holdfast/hub/journal"
	"holdfast/hub/store"
	"holdfast/hub/stream"
	"holdfast/internal/atomicfile"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/pki"
)

// The ledger's kinds of the acts below.
const (
	kindBackup  ledger.Kind = "hub.backup"
	kindRestore ledger.Kind = "hub.restore"
)

// backupPurpose is what the end of a backup is sealed for.
const backupPurpose = "backup"

// messagesName is the member of a backup with the messages.
const messagesName = "messages"

// copyName is the database's copy while it is backed up. Only one backup is made
// at a time: the file is there already otherwise.
const copyName = ".backup.db"

// madeName is the file with the time of the newest backup.
const madeName = ".backup-made"

// source is what a backup is made of.
type source struct {
	dir     string
	cfg     Config
	version string
	secret  pki.Secret
	db      *store.Store
	stream  *stream.Stream // nil: messages are kept elsewhere
	journal *journal.Journal
	by      string // who asked

	// quiet keeps the published releases as they are until release is called. Nil:
	// nobody publishes.
	quiet func() (release func())
}

// Backup writes a backup of the hub in dir, which must not run.
func Backup(ctx context.Context, dir, version string, w io.Writer) error {
	return alter(dir, func(_, cfg Config, secret pki.Secret) error {
		b, err := openBooks(ctx, dir, secret)
		if err != nil {
			return err
		}
		defer b.Close()
		h := &hub{cfg: cfg, log: slog.New(slog.DiscardHandler)}
		if err := h.buildStream(ctx, dir); err != nil {
			return err
		}
		running, stop := context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan error, 1)
		go func() { ended <- h.stream.Run(running) }()
		err = source{dir: dir, cfg: cfg, version: version, secret: secret, db: b.Store, stream: h.stream, journal: b.journal, by: "hub"}.write(ctx, w)
		stop()
		return errors.Join(err, <-ended)
	})
}

// write writes a backup. The database comes before the messages: what was on
// its way from the one to the other is there twice then, and never missing.
func (s source) write(ctx context.Context, w io.Writer) error {
	if err := s.journal.Append(ctx, ledger.Entry{Kind: kindBackup, Actor: s.by}); err != nil {
		return err
	}
	head, err := s.journal.Head(ctx)
	if err != nil {
		return err
	}
	db := filepath.Join(s.dir, copyName)
	if err := s.db.Snapshot(ctx, db); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there: another backup is being made, or was cut off (then remove it)", db)
	} else if err != nil {
		return err
	}
	defer os.Remove(db)
	m := backup.Manifest{Version: s.version, Hosts: s.cfg.Hosts, Time: time.Now().UTC(), Head: head, Messages: s.cfg.Stream == "", External: s.cfg.Stream}
	out, err := backup.NewWriter(w, m, func(b []byte) ([]byte, error) { return s.secret.Seal(backupPurpose, b) })
	if err != nil {
		return err
	}
	if err := s.files(out); err != nil {
		return err
	}
	if err := addFile(out, databaseName, db); err != nil {
		return err
	}
	if m.Messages {
		if err := out.Stream(messagesName, func(w io.Writer) error { return s.stream.Snapshot(ctx, w) }); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(s.dir, madeName), []byte(m.Time.Format(time.RFC3339)), 0o600)
}

// lastBackup returns when the newest backup of the hub in dir was made; the zero
// time when none was.
func lastBackup(dir string) time.Time {
	b, err := os.ReadFile(filepath.Join(dir, madeName))
	if err != nil {
		return time.Time{}
	}
	t, _ := time.Parse(time.RFC3339, string(b)) // unreadable is never
	return t
}

// files adds all that is in the state directory but for what has its own way
// into a backup, and what must not be in one: the secret that opens it, and an
// operator's key.
func (s source) files(out *backup.Writer) error {
	seal, err := filepath.Abs(s.cfg.SealFile)
	if err != nil {
		return err
	}
	if s.quiet != nil {
		defer s.quiet()()
	}
	return filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(s.dir, path)
		if err != nil || name == "." {
			return err
		}
		abs, err := filepath.Abs(path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == streamDir || name == operatorDir || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !d.Type().IsRegular() || abs == seal || name == "lock" || strings.HasPrefix(name, databaseName) || strings.HasPrefix(d.Name(), "."):
			return nil
		}
		return addFile(out, filepath.ToSlash(name), path)
	})
}

func addFile(out *backup.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	return out.File(name, f, info.Size())
}

// RestoreConfig says what to make of a backup.
type RestoreConfig struct {
	State    string // directory that becomes the hub's state; must be missing or empty
	SealFile string // the secret of the hub that was backed up
	Admin    string // name of an operator who gets a new certificate, into State; empty: none
}

// Restore makes a hub of a backup. It writes beside the state directory and puts
// that in place last: a backup that is cut off or forged leaves nothing behind.
// The manifest says what was restored.
func Restore(ctx context.Context, in RestoreConfig, r io.Reader) (m backup.Manifest, err error) {
	if es, err := os.ReadDir(in.State); err == nil && len(es) > 0 {
		return m, fmt.Errorf("%s is not empty: restore into a new directory", in.State)
	}
	seal, err := filepath.Abs(in.SealFile)
	if err != nil {
		return m, err
	}
	secret, err := sealSecret(seal, false)
	if err != nil {
		return m, err
	}
	parent := filepath.Dir(filepath.Clean(in.State))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return m, err
	}
	dir, err := os.MkdirTemp(parent, ".restore-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	free, _, err := diskOf(dir)
	if err != nil {
		return m, err
	}
	m, err = backup.Extract(r, dir, free-minFree, func(b []byte) ([]byte, error) { return secret.Open(backupPurpose, b) })
	if err != nil {
		return m, err
	}
	if err := restoreIn(ctx, dir, seal, secret, in.Admin, m); err != nil {
		return m, err
	}
	if err := os.Remove(in.State); err != nil && !errors.Is(err, os.ErrNotExist) {
		return m, err
	}
	if err := os.Rename(dir, in.State); err != nil {
		return m, err
	}
	return m, atomicfile.SyncDir(parent)
}

// restoreIn makes a hub of what was unpacked to dir, and looks at all of it.
func restoreIn(ctx context.Context, dir, seal string, secret pki.Secret, admin string, m backup.Manifest) error {
	b, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		return err
	}
	var written Config
	if err := json.Unmarshal(b, &written); err != nil {
		return fmt.Errorf("configuration of the backup: %w", err)
	}
	written.SealFile = seal
	if err := written.write(dir); err != nil {
		return err
	}
	cfg, err := LoadConfig(dir)
	if err != nil {
		return err
	}
	if m.Messages {
		if err := restoreMessages(ctx, dir, cfg.RetentionBytes); err != nil {
			return err
		}
	}
	books, err := openBooks(ctx, dir, secret)
	if err != nil {
		return err
	}
	defer books.Close()
	if err := books.Verify(ctx); err != nil {
		return err
	}
	if _, err := ledger.Verify(allRecords(ctx, books.journal), m.Head); err != nil {
		return fmt.Errorf("the ledger of the backup: %w", err)
	}
	if err := books.journal.Record(ctx, string(kindRestore), "", map[string]any{"by": "hub", "backup": m.Time, "records": m.Head.Seq}); err != nil {
		return err
	}
	if admin == "" {
		return nil
	}
	return way{state: dir, cfg: cfg, secret: secret, db: books.Store, journal: books.journal, ledgerKey: books.key.Public()}.make(ctx, admin, filepath.Join(dir, operatorDir))
}

// restoreMessages makes the stream of the member that has it.
func restoreMessages(ctx context.Context, dir string, maxBytes int64) error {
	path := filepath.Join(dir, messagesName)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := stream.Restore(ctx, stream.Config{Dir: filepath.Join(dir, streamDir), MaxBytes: maxBytes}, f); err != nil {
		return err
	}
	return os.Remove(path)
}

// allRecords reads the whole ledger.
func allRecords(ctx context.Context, j *journal.Journal) iter.Seq2[ledger.Record, error] {
	return ledger.Pages(1, func(from int64, limit int) ([]ledger.Record, error) {
		return j.Records(ctx, operator.LedgerQuery{From: from, Limit: limit})
	})
}

// minFree is what restoring leaves free, in bytes.
const minFree = 64 << 20

// backUp implements what api.Config.Backup is for. One at a time: the copy of
// the database takes room.
func (h *hub) backUp(ctx context.Context, by string, w io.Writer) error {
	if !h.backingUp.TryLock() {
		return fault.New(fault.Conflict, "a backup is being made already")
	}
	defer h.backingUp.Unlock()
	_ = os.Remove(filepath.Join(h.dir, copyName)) // of a process that ended meanwhile: this one holds the lock
	return source{dir: h.dir, cfg: h.cfg, version: h.version, secret: h.secret, db: h.db, stream: h.stream, journal: h.journal, by: by, quiet: h.repository.Quiet}.write(ctx, w)
}
