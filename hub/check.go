package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/hub/issuer"
	"holdfast/hub/repository"
	"holdfast/internal/filelock"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/pki"
)

// From where on a check warns.
const (
	littleDisk   = 2 << 30 // bytes free
	slowSync     = 20 * time.Millisecond
	syncs        = 20                  // how often the disk is tried
	fewFiles     = 16384               // open files that a process may have
	soonExpires  = 90 * 24 * time.Hour // of an authority
	resolveLimit = 3 * time.Second
)

// CheckOptions say what to check.
type CheckOptions struct {
	Deep bool // read the whole database and ledger too; only of a hub that does not run
	Now  time.Time
}

// Check looks at the hub in dir and says what would keep it from running, or
// from running well. It changes nothing, and may be called while the hub runs.
func Check(ctx context.Context, dir string, o CheckOptions) []operator.Finding {
	c := &check{ctx: ctx, dir: dir, now: o.Now}
	if c.now.IsZero() {
		c.now = time.Now()
	}
	if !c.configuration() {
		return c.found
	}
	c.permissions()
	if c.seal() {
		c.authorities()
		c.ledgerKey()
		c.found = append(c.found, repository.Inspect(filepath.Join(c.dir, repositoryDir), c.secret, c.now)...)
	}
	running := c.running()
	if !running {
		c.listeners()
	}
	c.names()
	c.disk()
	c.clock()
	c.files()
	c.weak()
	switch {
	case o.Deep && running:
		c.add("database", operator.FindingWarn, "not read: the hub runs", "stop the hub, or check a backup: 'holdfast hub restore' reads all of it")
	case o.Deep:
		c.database()
	}
	return c.found
}

// check is a look at a hub.
type check struct {
	ctx    context.Context
	dir    string
	now    time.Time
	cfg    Config
	secret pki.Secret
	found  []operator.Finding
}

func (c *check) add(name, state, text, fix string) {
	c.found = append(c.found, operator.Finding{Check: name, State: state, Text: text, Fix: fix})
}

// tell adds that a check is well, or failed with err.
func (c *check) tell(name string, err error, well, fix string) bool {
	if err != nil {
		c.add(name, operator.FindingFail, err.Error(), fix)
		return false
	}
	c.add(name, operator.FindingOK, well, "")
	return true
}

func (c *check) configuration() bool {
	var err error
	c.cfg, err = LoadConfig(c.dir)
	if err == nil {
		_, err = pki.ParseNames(c.cfg.Hosts)
	}
	return c.tell("configuration", err, filepath.Join(c.dir, configName)+" is understood", "correct the file; 'docs/OPERATING.md' lists its keys")
}

// permissions finds what others than the hub's user could read.
func (c *check) permissions() {
	var open []string
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		public := strings.HasSuffix(path, ".pem") || strings.HasSuffix(path, ".pub")
		if path == c.dir && info.Mode().Perm()&0o077 != 0 || d.Type().IsRegular() && !public && info.Mode().Perm()&0o077 != 0 {
			open = append(open, path)
		}
		if d.IsDir() && d.Name() == streamDir {
			return fs.SkipDir // many files; the directory keeps others out
		}
		return nil
	})
	if err == nil && len(open) > 0 {
		c.add("permissions", operator.FindingFail, "others may read "+strings.Join(open, ", "), "chmod go= them")
		return
	}
	c.tell("permissions", err, "nobody else may read the state", "run this as the hub's user")
}

func (c *check) seal() bool {
	b, err := os.ReadFile(c.cfg.SealFile)
	if err == nil {
		c.secret, err = pki.ParseSecret(b)
	}
	if !c.tell("seal file", err, c.cfg.SealFile, "put the hub's seal file there, or name its place as seal_file in hub.json") {
		return false
	}
	if rel, err := filepath.Rel(c.dir, c.cfg.SealFile); err == nil && !strings.HasPrefix(rel, "..") {
		c.add("seal file", operator.FindingWarn, "it is in the state directory: a copy of the directory has the keys and what opens them",
			"move it to another disk or a service credential, and name it as seal_file in hub.json")
	}
	return true
}

func (c *check) authorities() {
	certs, err := issuer.Authorities(filepath.Join(c.dir, caDir), c.secret)
	if !c.tell("authorities", err, "their keys open", "restore the directory ca from a backup of this hub, with its seal file") {
		return
	}
	for _, cert := range certs {
		switch left := cert.NotAfter.Sub(c.now); {
		case left <= 0:
			c.add("authorities", operator.FindingFail, fmt.Sprintf("%s expired at %s", cert.Subject.CommonName, cert.NotAfter.Format(time.RFC3339)), "make a new hub with new authorities and move the devices")
		case left < soonExpires:
			c.add("authorities", operator.FindingWarn, fmt.Sprintf("%s expires at %s", cert.Subject.CommonName, cert.NotAfter.Format(time.RFC3339)), "plan its replacement")
		case c.now.Before(cert.NotBefore):
			c.add("authorities", operator.FindingFail, fmt.Sprintf("%s begins at %s: this machine's clock is wrong", cert.Subject.CommonName, cert.NotBefore.Format(time.RFC3339)), "set the clock")
		}
	}
}

func (c *check) ledgerKey() {
	_, err := openLedgerKey(c.dir, c.secret)
	c.tell("ledger key", err, "it opens", "restore ledger.key from a backup of this hub")
}

func (c *check) running() bool {
	release, err := filelock.Try(filepath.Join(c.dir, "lock"))
	if errors.Is(err, filelock.ErrHeld) {
		c.add("process", operator.FindingOK, "the hub runs", "")
		return true
	}
	if err == nil {
		release()
		c.add("process", operator.FindingOK, "the hub does not run", "")
		return false
	}
	return !c.tell("process", err, "", "run this as the hub's user")
}

// listeners tries to open them all.
func (c *check) listeners() {
	ls, err := listen(c.cfg)
	if err == nil {
		ls.close()
	}
	fix := "another program has the address, or it is not this machine's: change it in hub.json"
	if errors.Is(err, fs.ErrPermission) {
		fix = "ports below 1024 take AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit"
	}
	c.tell("listeners", err, "their addresses are free", fix)
}

// names looks up what devices reach the hub by.
func (c *check) names() {
	ctx, cancel := context.WithTimeout(c.ctx, resolveLimit)
	defer cancel()
	for _, h := range c.cfg.Hosts {
		if net.ParseIP(h) != nil {
			continue
		}
		if _, err := net.DefaultResolver.LookupHost(ctx, h); err != nil {
			c.add("names", operator.FindingWarn, fmt.Sprintf("%s is not found here: %v", h, err), "devices need it in their DNS")
			continue
		}
		c.add("names", operator.FindingOK, h+" is found", "")
	}
}

// disk asks how much is free and how long it takes until something is safe.
func (c *check) disk() {
	free, _, err := diskOf(c.dir)
	if err != nil {
		c.tell("disk", err, "", "")
		return
	}
	state, fix := operator.FindingOK, ""
	if free < littleDisk {
		state, fix = operator.FindingWarn, "make room, or lower retention_bytes in hub.json; messages are refused below 64 MiB"
	}
	c.add("disk", state, fmt.Sprintf("%d MiB are free", free>>20), fix)
	took, err := syncTime(c.dir)
	if err != nil {
		c.tell("disk", err, "", "run this as the hub's user; is the disk writable?")
		return
	}
	state, fix = operator.FindingOK, ""
	if took > slowSync {
		state, fix = operator.FindingWarn, "every acknowledgement waits for this: use a disk with a write cache that survives power loss"
	}
	c.add("disk", state, fmt.Sprintf("a write is safe after %s", took.Round(10*time.Microsecond)), fix)
}

// syncTime returns the median time of an fsync of a little file in dir.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".check-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	took := make([]time.Duration, 0, syncs)
	for range syncs {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
		begun := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// clock asks the kernel whether somebody keeps its time right.
func (c *check) clock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		c.add("clock", operator.FindingWarn, fmt.Sprintf("the kernel does not say whether it is right: %v", err), "")
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		c.add("clock", operator.FindingWarn, "nobody keeps this machine's time right", "run chrony or systemd-timesyncd; in a container, see that the host does")
	default:
		c.add("clock", operator.FindingOK, fmt.Sprintf("kept right to %d ms", t.Maxerror/1000), "")
	}
}

// files asks how many connections there can be.
func (c *check) files() {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		c.tell("open files", err, "", "")
		return
	}
	state, fix := operator.FindingOK, ""
	if l.Max < fewFiles {
		state, fix = operator.FindingWarn, "set LimitNOFILE= in the unit: every connection takes one"
	}
	c.add("open files", state, fmt.Sprintf("up to %d", l.Max), fix)
}

// weak names what was made weaker on purpose.
func (c *check) weak() {
	if c.cfg.Legacy != "" {
		c.add("weak", operator.FindingWarn, "the legacy listener is on: CBC suites and RSA key exchange at "+c.cfg.Legacy, "mend the devices' cipher tables, then remove legacy from hub.json")
	}
	if c.cfg.Stream != "" && !strings.HasPrefix(c.cfg.Stream, "tls://") {
		c.add("weak", operator.FindingWarn, "the way to "+c.cfg.Stream+" is not encrypted", "use tls://")
	}
}

// database reads all of it, and the whole ledger.
func (c *check) database() {
	const fix = "restore a backup: 'holdfast hub restore'"
	b, err := openBooks(c.ctx, c.dir, c.secret)
	if err != nil {
		c.tell("database", err, "", fix)
		return
	}
	defer b.Close()
	if c.tell("database", b.Verify(c.ctx), "all of "+databaseName+" is readable", fix) {
		res, err := ledger.Verify(allRecords(c.ctx, b.journal))
		c.tell("ledger", err, fmt.Sprint(res), "treat the hub as taken over: see docs/OPERATING.md")
	}
}
