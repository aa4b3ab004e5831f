package hub

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/hub/accounts"
	"holdfast/hub/issuer"
	"holdfast/hub/journal"
	"holdfast/hub/store"
	"holdfast/internal/atomicfile"
	"holdfast/ledger"
	"holdfast/pki"
)

// The files of a state directory.
const (
	caDir        = "ca"
	databaseName = "holdfast.db"
	streamDir    = "stream"
	ledgerKey    = "ledger.key"
	operatorDir  = "operator"
	rootName     = "root.pem"
)

// ledgerPurpose is what the ledger's key is sealed for.
const ledgerPurpose = "ledger key"

// operatorLifetime is how long the first operator's certificate lives.
const operatorLifetime = 365 * 24 * time.Hour

// InitConfig says what hub to make.
type InitConfig struct {
	State   string   // directory of its state; must not hold a hub yet
	Hosts   []string // names and addresses that devices reach it by
	RootOut string   // file that receives the root's key; must not exist
	// RSARootOut, if set, makes an RSA hierarchy too and is the file that
	// receives the key of its root; see EnableRSA.
	RSARootOut string
	SealFile   string // file with the secret that seals keys; empty: made in State
	Operator   string // address of the operator API; empty: the default
	Admin      string // name of the first operator
}

// Init makes a hub: authorities, ledger, database, and the profile of its
// first operator. The configuration is written last: a directory without it is
// not a hub's, and Init refuses one with it.
func Init(ctx context.Context, in InitConfig) error {
	if _, err := os.Stat(filepath.Join(in.State, configName)); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s holds a hub already", in.State)
	}
	if err := offTheHub(in); err != nil {
		return err
	}
	if err := accounts.CheckName(in.Admin); err != nil {
		return err
	}
	if err := os.MkdirAll(in.State, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(in.State, 0o700); err != nil { // it may have been there
		return err
	}
	in.Hosts = reachable(in.Hosts, in.Operator)
	cfg := Config{Hosts: in.Hosts, Operator: in.Operator, SealFile: in.SealFile}
	if in.SealFile != "" {
		abs, err := filepath.Abs(in.SealFile)
		if err != nil {
			return err
		}
		cfg.SealFile = abs
	}
	written := cfg
	cfg.fill(in.State)
	secret, err := sealSecret(cfg.SealFile, in.SealFile == "")
	if err != nil {
		return err
	}
	root, err := issuer.Init(filepath.Join(in.State, caDir), in.RootOut, in.Hosts, secret, time.Now())
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(in.State, rootName), pki.EncodeCerts(root), 0o644); err != nil {
		return err
	}
	if err := initOperator(ctx, in, cfg, secret); err != nil {
		return err
	}
	if err := written.write(in.State); err != nil || in.RSARootOut == "" {
		return err
	}
	return EnableRSA(ctx, in.State, in.RSARootOut)
}

// reachable adds the names of this machine for itself to those of a hub whose
// operators come from there, which is the default: by them the console and the
// command line find a certificate that is the hub's. The first name stays first.
func reachable(hosts []string, at string) []string {
	host, _, err := net.SplitHostPort(cmp.Or(at, defaultOperator))
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return hosts
	}
	hosts = slices.Clone(hosts)
	for _, h := range []string{"localhost", "127.0.0.1", "::1"} {
		if !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// offTheHub refuses a place for the root's key among the hub's own files: a copy
// or a thief of the state directory would have it.
func offTheHub(in InitConfig) error {
	state, err := filepath.Abs(in.State)
	if err != nil {
		return err
	}
	out, err := filepath.Abs(in.RootOut)
	if err != nil {
		return err
	}
	if in.RootOut != "" && strings.HasPrefix(out, state+string(filepath.Separator)) {
		return fmt.Errorf("the root key may not stay in %s: it has to leave the hub", in.State)
	}
	return nil
}

// sealSecret reads the secret that seals keys, making the file where it may. It
// never replaces one: what was sealed under it would be lost.
func sealSecret(path string, create bool) (pki.Secret, error) {
	if _, err := os.Lstat(path); create && errors.Is(err, os.ErrNotExist) {
		if err := atomicfile.Write(path, pki.NewSecret(), 0o600); err != nil {
			return pki.Secret{}, fmt.Errorf("make seal file: %w", err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return pki.Secret{}, fmt.Errorf("read seal file: %w", err)
	}
	s, err := pki.ParseSecret(b)
	if err != nil {
		return s, fmt.Errorf("seal file %s: %w", path, err)
	}
	return s, nil
}

// initOperator makes the ledger's key and the first operator's certificate and
// records both as the ledger's first entries.
func initOperator(ctx context.Context, in InitConfig, cfg Config, secret pki.Secret) error {
	db, err := store.Open(ctx, filepath.Join(in.State, databaseName))
	if err != nil {
		return err
	}
	defer db.Close()
	key, err := makeLedgerKey(in.State, secret)
	if err != nil {
		return err
	}
	j, err := journal.New(journal.Config{Store: db, Signer: key, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := j.Append(ctx, ledger.Entry{Kind: ledger.HubInit, Actor: "hub"}); err != nil {
		return err
	}
	return way{state: in.State, cfg: cfg, secret: secret, db: db, journal: j, ledgerKey: key.Public()}.make(ctx, in.Admin, filepath.Join(in.State, operatorDir))
}

// way makes a way in for somebody whom no operator lets in: when a hub is made,
// and when nobody gets in any more.
type way struct {
	state     string
	cfg       Config
	secret    pki.Secret
	db        *store.Store
	journal   *journal.Journal
	ledgerKey crypto.PublicKey
}

// make makes an administrator's account, if there is none of that name, a
// certificate for it, and the profile in the directory out that uses it.
func (y way) make(ctx context.Context, name, out string) error {
	if err := accounts.Recover(ctx, y.db.Accounts(), y.journal, name); err != nil {
		return err
	}
	authority, err := issuer.New(issuer.Config{Dir: filepath.Join(y.state, caDir), Secret: y.secret, Store: y.db, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	chain, err := authority.IssueOperator(ctx, name, key.Public(), operatorLifetime)
	if err != nil {
		return err
	}
	entry := map[string]any{"class": pki.Operator, "name": name, "serial": pki.SerialText(chain[0])}
	if err := y.journal.Record(ctx, string(ledger.Issue), "", entry); err != nil {
		return err
	}
	return writeProfile(out, y.cfg, chain, key, y.ledgerKey, authority.Root())
}

func makeLedgerKey(state string, secret pki.Secret) (crypto.Signer, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	sealed, err := secret.Seal(ledgerPurpose, text)
	if err != nil {
		return nil, err
	}
	return key, atomicfile.Write(filepath.Join(state, ledgerKey), sealed, 0o600)
}

// openLedgerKey reads the key that signs ledger heads.
func openLedgerKey(state string, secret pki.Secret) (crypto.Signer, error) {
	sealed, err := os.ReadFile(filepath.Join(state, ledgerKey))
	if err != nil {
		return nil, fmt.Errorf("read ledger key: %w", err)
	}
	text, err := secret.Open(ledgerPurpose, sealed)
	if err != nil {
		return nil, err
	}
	return pki.ParseKey(text)
}

// writeProfile writes an operator's profile: it may be moved to another machine
// as a directory.
func writeProfile(dir string, cfg Config, chain []*x509.Certificate, key crypto.Signer, ledgerPub crypto.PublicKey, root *x509.Certificate) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	keyText, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	pubDER, err := x509.MarshalPKIXPublicKey(ledgerPub)
	if err != nil {
		return err
	}
	profile, err := json.MarshalIndent(map[string]string{
		"url": profileURL(cfg), "root": rootName, "certificate": "operator.pem", "key": "operator.key", "ledger_key": "ledger.pub",
	}, "", "  ")
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{rootName, pki.EncodeCerts(root)},
		{"operator.pem", pki.EncodeCerts(chain...)},
		{"operator.key", keyText},
		{"ledger.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pubDER})},
		{"profile.json", append(profile, '\n')},
	} {
		if err := atomicfile.Write(filepath.Join(dir, f.name), f.data, 0o600); err != nil {
			return fmt.Errorf("write operator profile: %w", err)
		}
	}
	return nil
}

// profileURL is where the operator API will be found: an address that binds
// everywhere is reached by the hub's first name.
func profileURL(cfg Config) string {
	host, port, _ := net.SplitHostPort(cfg.Operator) // checked when it is loaded
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = cfg.Hosts[0]
	}
	return "https://" + net.JoinHostPort(host, port)
}
