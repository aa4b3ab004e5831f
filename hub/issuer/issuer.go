// Package issuer is the only user of the hub's CA keys: it issues birth,
// operational, server and operator certificates, signs revocation lists and
// serves EST (RFC 7030).
//
// Invariants:
//   - The root's key is never here: Init writes it to a file of the caller's
//     choice and nowhere else.
//   - A certificate leaves the issuer only after it, and its key, are recorded
//     and fsynced, and whoever has to know of it does.
//   - A public key is certified once. Every renewal needs a new key, and a key
//     that any device has shown before is refused.
//   - What may be issued to whom is not decided here: the caller has admitted
//     the device, and EST asks its [Gate].
package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/identity"
	"holdfast/pki"
)

// DefaultCRLLifetime is the time between a revocation list's thisUpdate and
// its nextUpdate.
const DefaultCRLLifetime = 24 * time.Hour

// Config has what an Issuer works with.
type Config struct {
	Dir    string       // what Init made; required
	Secret pki.Secret   // the keys in Dir are sealed under it; required
	Store  Store        // required
	Log    *slog.Logger // required

	// URL is the prefix of the device HTTPS listener, as "https://hub:8443".
	// Set, device certificates name URL/crl/CLASS.crl as distribution point.
	URL string

	CRLLifetime time.Duration    // default DefaultCRLLifetime
	Now         func() time.Time // default time.Now

	// Issued, if set, is told of each certificate after it was recorded and
	// before it is returned: for evidence and the ledger. On an error of it
	// nobody gets the certificate.
	Issued func(context.Context, Issued) error
	// Revoked, if set, is told of each revocation after it was recorded.
	Revoked func(context.Context, Revoked)
}

// Issued tells of a new certificate.
type Issued struct {
	Class    pki.Class
	Name     string          // the CN
	Device   identity.Device // empty for servers and operators
	Group    identity.Group  // of a birth certificate
	Key      identity.Digest
	Serial   string // as pki.SerialText
	Issued   time.Time
	NotAfter time.Time
	Lifetime time.Duration // that was granted; 0: without end
	Via      string        // "est", or empty
}

// Revoked tells of revoked certificates.
type Revoked struct {
	Name    string   // device id or name, where revoked by it
	Serials []string // those that were not revoked before
	Reason  int      // pki.ReasonSuperseded and the like
	Time    time.Time
}

// Issuer issues certificates. It is safe for concurrent use.
type Issuer struct {
	cfg  Config
	root *x509.Certificate
	ca   map[pki.Class]*pki.Authority
	rsa  map[RSA]rsaServers // those that this hub has
	post *batcher

	mu   sync.Mutex
	crls map[pki.Class]crl
}

// New opens the authorities that Init made in cfg.Dir.
func New(cfg Config) (*Issuer, error) {
	if cfg.Store == nil || cfg.Log == nil || cfg.Dir == "" {
		return nil, errors.New("issuer: Dir, Store and Log are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.CRLLifetime <= 0 {
		cfg.CRLLifetime = DefaultCRLLifetime
	}
	i := &Issuer{
		cfg: cfg, post: newBatcher(cfg.Store),
		ca: make(map[pki.Class]*pki.Authority), rsa: make(map[RSA]rsaServers), crls: make(map[pki.Class]crl),
	}
	return i, i.open()
}

// Authorities opens the authorities in dir as New would, and returns their
// certificates, the root first.
func Authorities(dir string, secret pki.Secret) ([]*x509.Certificate, error) {
	i := &Issuer{cfg: Config{Dir: dir, Secret: secret}, ca: make(map[pki.Class]*pki.Authority), rsa: make(map[RSA]rsaServers)}
	if err := i.open(); err != nil {
		return nil, err
	}
	certs := []*x509.Certificate{i.root}
	for _, class := range pki.Classes() {
		certs = append(certs, i.ca[class].Cert)
	}
	return certs, nil
}

func (i *Issuer) open() error {
	var err error
	if i.root, err = loadCert(filepath.Join(i.cfg.Dir, rootFile)); err != nil {
		return fmt.Errorf("open authorities: %w", err)
	}
	for _, class := range pki.Classes() {
		if i.ca[class], err = i.load(class); err != nil {
			return fmt.Errorf("open %s authority: %w", class, err)
		}
	}
	return i.loadRSA()
}

// load reads one intermediate and checks that certificate, key, class and
// root belong together.
func (i *Issuer) load(class pki.Class) (*pki.Authority, error) {
	a, err := i.loadFrom(i.cfg.Dir, class, purpose(class), i.root)
	if err != nil {
		return nil, err
	}
	if i.cfg.URL != "" && (class == pki.Birth || class == pki.Operational) {
		a.CRL = i.cfg.URL + "/crl/" + string(class) + ".crl"
	}
	return a, nil
}

func (i *Issuer) loadFrom(dir string, class pki.Class, purpose string, root *x509.Certificate) (*pki.Authority, error) {
	cert, err := loadCert(certPath(dir, class))
	if err != nil {
		return nil, err
	}
	sealed, err := os.ReadFile(keyPath(dir, class))
	if err != nil {
		return nil, err
	}
	text, err := i.cfg.Secret.Open(purpose, sealed)
	if err != nil {
		return nil, err
	}
	key, err := pki.ParseKey(text)
	if err != nil {
		return nil, err
	}
	if !pki.SamePublicKey(cert, key.Public()) {
		return nil, errors.New("certificate and key do not belong together")
	}
	if err := cert.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("not of this root: %w", err)
	}
	return &pki.Authority{Class: class, Cert: cert, Key: key}, nil
}

func loadCert(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return pki.ParseCert(text)
}

// Root returns the root certificate: what devices and operators trust.
func (i *Issuer) Root() *x509.Certificate { return i.root }

// Authority returns the intermediate certificate of a class, or nil.
func (i *Issuer) Authority(class pki.Class) *x509.Certificate {
	if a := i.ca[class]; a != nil {
		return a.Cert
	}
	return nil
}

// Anchors returns the anchors of classes, for a listener's pki.NewTrust.
func (i *Issuer) Anchors(classes ...pki.Class) []pki.Anchor {
	var anchors []pki.Anchor
	for _, class := range classes {
		anchors = append(anchors, pki.Anchor{Class: class, Cert: i.Authority(class)})
	}
	return anchors
}
