package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/hub/accounts"
	"holdfast/pki"
)

// OIDC is the member "oidc" of hub.json: an OpenID Connect provider that
// vouches for accounts. Only accounts that exist and have a subject come in by
// it.
type OIDC struct {
	// Issuer is the provider's URL, https, as its tokens name it. Required.
	Issuer string `json:"issuer"`
	// ClientID is what the provider calls this hub. Required.
	ClientID string `json:"client_id"`
	// ClientSecretFile holds the client's secret; relative to the state directory.
	// Default: none, a public client.
	ClientSecretFile string `json:"client_secret_file,omitempty"`
	// Name is how the login page calls the provider. Default: its host.
	Name string `json:"name,omitempty"`
	// Claim is what names an account: "email", which the provider has to have
	// verified, or "sub". Default "email".
	Claim string `json:"claim,omitempty"`
	// Root is a file with the roots of the provider's certificate, PEM. Default:
	// the system's roots.
	Root string `json:"root,omitempty"`
}

// checkLogins refuses what nobody could log in by.
func (c *Config) checkLogins() error {
	if c.Console != "" {
		u, err := url.Parse(c.Console)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return fmt.Errorf("console %q: want https://HOST:PORT", c.Console)
		}
	}
	if c.OIDC == nil {
		return nil
	}
	issuer, err := url.Parse(c.OIDC.Issuer)
	switch {
	case err != nil || issuer.Scheme != "https" || issuer.Host == "":
		return fmt.Errorf("oidc: issuer %q: want https://HOST", c.OIDC.Issuer)
	case c.OIDC.ClientID == "":
		return errors.New("oidc: client_id is empty")
	case !slices.Contains([]string{"", accounts.ClaimEmail, accounts.ClaimSubject}, c.OIDC.Claim):
		return fmt.Errorf("oidc: claim %q: want %q or %q", c.OIDC.Claim, accounts.ClaimEmail, accounts.ClaimSubject)
	}
	return nil
}

// console is where browsers reach the hub, whose operator listener is at addr.
func (c *Config) console(addr string) *url.URL {
	var host, port string
	if c.Console != "" {
		u, _ := url.Parse(c.Console) // checked when it was loaded
		host, port = u.Hostname(), u.Port()
	} else {
		host, port, _ = net.SplitHostPort(addr)
		host = c.consoleHost(host)
	}
	at := net.JoinHostPort(host, port)
	if port == "" || port == "443" { // browsers leave it out
		at = strings.TrimSuffix(at, ":"+port)
	}
	return &url.URL{Scheme: "https", Host: at}
}

// consoleHost is the one of Hosts, which the hub's certificate has, that a
// browser most likely finds the listener by. A name is better than an address:
// passkeys know no addresses.
func (c *Config) consoleHost(at string) string {
	isName := func(h string) bool { _, err := netip.ParseAddr(h); return err != nil }
	local := at == "127.0.0.1" || at == "::1" // what localhost is
	for _, fits := range []func(string) bool{
		func(h string) bool { return local && strings.EqualFold(h, "localhost") },
		func(h string) bool { return loopback(at) && h == at },
		func(h string) bool { return isName(h) && !strings.EqualFold(h, "localhost") },
		isName,
		func(h string) bool { return h == at },
	} {
		if i := slices.IndexFunc(c.Hosts, fits); i >= 0 {
			return c.Hosts[i]
		}
	}
	return c.Hosts[0]
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// buildAccounts makes the service that says who may ask.
func (h *hub) buildAccounts(ctx context.Context, dir string) error {
	provider, err := h.cfg.OIDC.open(dir)
	if err != nil {
		return err
	}
	h.accounts, err = accounts.New(accounts.Config{
		Store: h.db.Accounts(), Ledger: h.journal, Certifier: h.issuer, Log: h.component("accounts"),
		Refused: func(ctx context.Context, kind, remote string, err error) {
			h.refusals.record(ctx, kind, "", remote, err)
		},
		Console: h.cfg.console(h.at.Operator), Hosts: h.cfg.Hosts, OIDC: provider,
		Lifetime: time.Duration(h.cfg.SessionLifetime), Idle: time.Duration(h.cfg.SessionIdle),
	})
	if err != nil {
		return err
	}
	return h.adopt(ctx)
}

// adopt gives the first operator, whose certificate is as old as the hub, an
// account where there is none yet.
func (h *hub) adopt(ctx context.Context) error {
	certs, err := h.issuer.Certificates(ctx, pki.Operator, "")
	if err != nil || len(certs) == 0 {
		return err
	}
	return h.accounts.Adopt(ctx, certs[len(certs)-1].Subject.CommonName)
}

// open reads the files of the configured provider; nil without one.
func (o *OIDC) open(dir string) (*accounts.OIDC, error) {
	if o == nil {
		return nil, nil
	}
	out := &accounts.OIDC{Issuer: o.Issuer, ClientID: o.ClientID, Name: o.Name, Claim: o.Claim}
	if out.Claim == "" {
		out.Claim = accounts.ClaimEmail
	}
	if u, err := url.Parse(o.Issuer); out.Name == "" && err == nil {
		out.Name = u.Host
	}
	read := func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return os.ReadFile(name)
	}
	if o.ClientSecretFile != "" {
		b, err := read(o.ClientSecretFile)
		if err != nil {
			return nil, fmt.Errorf("oidc: read the client's secret: %w", err)
		}
		out.ClientSecret = strings.TrimSpace(string(b))
	}
	if o.Root != "" {
		b, err := read(o.Root)
		if err == nil {
			out.Roots, err = pki.ParseCerts(b)
		}
		if err != nil {
			return nil, fmt.Errorf("oidc: read the roots: %w", err)
		}
	}
	return out, nil
}
