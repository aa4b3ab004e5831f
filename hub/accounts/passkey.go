package accounts

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"holdfast/fault"
	"holdfast/operator"
)

// maxPasskeys bounds the passkeys of an account.
const maxPasskeys = 20

// freshLogin is for how long after a login by link passkeys may be changed
// without another proof: how somebody gets a first one, or one after a loss.
const freshLogin = 15 * time.Minute

// errPasskey is the one answer to a passkey that does not open anything here.
const errPasskey = "this passkey does not open anything here"

// The ways in which a passkey is refused beside those of package webauthn.
var (
	errChallenge = errors.New("no such challenge was given, or it was used or is too old")
	errCounter   = errors.New("the signature counter went back: the passkey may have been copied")
)

// ceremony is a challenge that was given.
type ceremony struct {
	session webauthn.SessionData
	account string // whose passkey is to be registered; empty: somebody logs in
	by      string // the session that registers it
	name    string // what it is to be called
}

// newWebAuthn returns the relying party of a hub; nil where browsers reach it
// by an address, which WebAuthn does not know.
func newWebAuthn(cfg Config) (*webauthn.WebAuthn, error) {
	rp := cfg.Console.Hostname()
	if _, err := netip.ParseAddr(rp); err == nil {
		return nil, nil
	}
	required := true
	return webauthn.New(&webauthn.Config{
		RPID: rp, RPDisplayName: "Holdfast", RPOrigins: origins(cfg),
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: &required, ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired,
		},
	})
}

// origins are where pages of this hub come from: the console's, and those of
// the hub's names below it.
func origins(cfg Config) []string {
	all := []string{cfg.Console.String()}
	for _, h := range cfg.Hosts {
		if strings.HasSuffix(strings.ToLower(h), "."+strings.ToLower(cfg.Console.Hostname())) {
			if port := cfg.Console.Port(); port != "" {
				h = net.JoinHostPort(h, port)
			}
			all = append(all, "https://"+h)
		}
	}
	return all
}

// algorithms are those of passkeys: ECDSA, Ed25519, and RSA for the sake of TPMs
// that Windows uses.
func algorithms() []protocol.CredentialParameter {
	var ps []protocol.CredentialParameter
	for _, alg := range []webauthncose.COSEAlgorithmIdentifier{webauthncose.AlgES256, webauthncose.AlgEdDSA, webauthncose.AlgES384, webauthncose.AlgRS256} {
		ps = append(ps, protocol.CredentialParameter{Type: protocol.PublicKeyCredentialType, Algorithm: alg})
	}
	return ps
}

// user is an account as package webauthn sees it.
type user struct {
	Record
	keys []Passkey
}

func (u user) WebAuthnID() []byte          { return u.Handle }
func (u user) WebAuthnName() string        { return u.Name }
func (u user) WebAuthnDisplayName() string { return u.Name }
func (u user) WebAuthnCredentials() []webauthn.Credential {
	cs := make([]webauthn.Credential, 0, len(u.keys))
	for _, k := range u.keys {
		cs = append(cs, k.Credential)
	}
	return cs
}

// withPasskeys serves only a hub that can have passkeys.
func (a *Accounts) withPasskeys(do func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if a.web == nil {
			return fault.New(fault.Conflict, "browsers reach this hub by an address, and passkeys need a name: see \"console\" in hub.json")
		}
		return do(w, r)
	}
}

// beginLogin gives a challenge to whoever wants to log in, or to prove again
// who they are. It names no account: a passkey knows whose it is.
func (a *Accounts) beginLogin(w http.ResponseWriter, _ *http.Request) error {
	options, session, err := a.web.BeginDiscoverableLogin()
	if err != nil {
		return fmt.Errorf("begin a login: %w", err)
	}
	a.ceremonies.put(session.Challenge, ceremony{session: *session}, a.cfg.Now())
	return write(w, options)
}

// finishLogin logs in by a passkey's answer.
func (a *Accounts) finishLogin(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fault.Hide(fault.Invalid, "the body is too long", err)
	}
	answer, err := protocol.ParseCredentialRequestResponseBytes(body)
	if err != nil {
		return fault.Hide(fault.Invalid, "this is no passkey's answer", detailed(err))
	}
	c, ok := a.ceremonies.take(answer.Response.CollectedClientData.Challenge, a.cfg.Now())
	if !ok || c.account != "" {
		return fault.Hide(fault.Denied, errPasskey, errChallenge)
	}
	account, err := a.verify(r.Context(), c, answer)
	if err != nil {
		return err
	}
	if err := a.begin(w, r, account, operator.ViaPasskey); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// verify finds whose passkey answered, and judges the answer.
func (a *Accounts) verify(ctx context.Context, c ceremony, answer *protocol.ParsedCredentialAssertionData) (Record, error) {
	account, err := a.cfg.Store.AccountByHandle(ctx, answer.Response.UserHandle)
	if err != nil {
		return account, fault.Hide(fault.Denied, errPasskey, err)
	}
	if wait := a.byAccount.Take(account.Name, a.cfg.Now()); wait > 0 {
		return account, TooMany(wait)
	}
	u := user{Record: account}
	if u.keys, err = a.cfg.Store.PasskeysOf(ctx, account.Name); err != nil {
		return account, fmt.Errorf("passkeys of %s: %w", account.Name, err)
	}
	_, shown, err := a.web.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return u, nil }, c.session, answer)
	if err == nil && !account.Live() {
		err = errRevoked
	}
	if err == nil {
		err = a.cfg.Store.ChangePasskey(ctx, passkeyID(shown.ID), func(p Passkey) (Passkey, error) {
			was, is := p.Credential.Authenticator.SignCount, answer.Response.AuthenticatorData.Counter
			if (was != 0 || is != 0) && is <= was {
				return p, errCounter
			}
			p.Credential.Authenticator.SignCount, p.Credential.Flags, p.LastUsed = is, shown.Flags, a.cfg.Now().UTC()
			return p, nil
		})
	}
	if err != nil {
		return account, fault.Hide(fault.Denied, errPasskey, fmt.Errorf("passkey of %s: %w", account.Name, detailed(err)))
	}
	a.byAccount.Return(account.Name)
	return account, nil
}

// detailed adds what package webauthn keeps apart from its errors' texts.
func detailed(err error) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.DevInfo != "" {
		return fmt.Errorf("%w: %s", err, e.DevInfo)
	}
	return err
}

func passkeyID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }

// changesKeys returns the account whose passkeys a request may change: its own,
// by a fresh proof. Soon after a login by link none is needed, nor soon after one
// by a provider where there is no passkey yet to give it.
func (a *Accounts) changesKeys(r *http.Request) (user, error) {
	p, err := someone(r.Context())
	if err != nil {
		return user{}, err
	}
	u := user{}
	if u.Record, err = a.account(r.Context(), p.Name); err != nil {
		return u, err
	}
	if u.keys, err = a.cfg.Store.PasskeysOf(r.Context(), p.Name); err != nil {
		return u, fmt.Errorf("passkeys of %s: %w", p.Name, err)
	}
	proof := p.May(open, a.cfg.Now())
	if proof == nil {
		return u, nil
	}
	s, err := a.session(r)
	fresh := err == nil && s.ID == p.Credential && a.cfg.Now().Sub(s.Created) <= freshLogin
	if fresh && (p.Via == operator.ViaLink || p.Via == operator.ViaOIDC && len(u.keys) == 0) {
		return u, nil
	}
	return u, proof
}

// beginRegistration gives a challenge for a new passkey of whoever asks.
func (a *Accounts) beginRegistration(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name string `json:"name"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	if err := checkLabel("a passkey", in.Name); err != nil {
		return err
	}
	u, err := a.changesKeys(r)
	if err != nil {
		return err
	}
	if len(u.keys) >= maxPasskeys {
		return fault.New(fault.Conflict, "%s has %d passkeys: remove some", u.Name, len(u.keys))
	}
	options, session, err := a.web.BeginRegistration(u, webauthn.WithExclusions(webauthn.Credentials(u.WebAuthnCredentials()).CredentialDescriptors()),
		webauthn.WithCredentialParameters(algorithms()))
	if err != nil {
		return fmt.Errorf("begin a registration: %w", err)
	}
	a.ceremonies.put(session.Challenge, ceremony{session: *session, account: u.Name, by: operator.From(r.Context()).Credential, name: in.Name}, a.cfg.Now())
	return write(w, options)
}

// finishRegistration adds a passkey.
func (a *Accounts) finishRegistration(w http.ResponseWriter, r *http.Request) error {
	p, err := someone(r.Context())
	if err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fault.Hide(fault.Invalid, "the body is too long", err)
	}
	answer, err := protocol.ParseCredentialCreationResponseBytes(body)
	if err != nil {
		return fault.Hide(fault.Invalid, "this is no new passkey", detailed(err))
	}
	c, ok := a.ceremonies.take(answer.Response.CollectedClientData.Challenge, a.cfg.Now())
	if !ok || c.account != p.Name || c.by != p.Credential {
		return fault.Hide(fault.Denied, "this passkey is refused", errChallenge)
	}
	account, err := a.account(r.Context(), p.Name)
	if err != nil {
		return err
	}
	made, err := a.web.CreateCredential(user{Record: account}, c.session, answer)
	if err != nil {
		return fault.Hide(fault.Denied, "this passkey is refused", detailed(err))
	}
	made.Attestation = webauthn.CredentialAttestation{} // none was asked for
	key := Passkey{Account: account.Name, Credential: *made,
		Passkey: operator.Passkey{ID: passkeyID(made.ID), Name: c.name, Created: a.cfg.Now().UTC()}}
	if err := a.record(r.Context(), kindPasskeyAdd, map[string]any{"id": key.ID, "name": key.Name, "account": key.Account}); err != nil {
		return err
	}
	if err := a.cfg.Store.AddPasskey(r.Context(), key); err != nil {
		return fmt.Errorf("add passkey of %s: %w", account.Name, err)
	}
	return write(w, key.Passkey)
}

// removePasskey removes a passkey of whoever asks.
func (a *Accounts) removePasskey(w http.ResponseWriter, r *http.Request) error {
	u, err := a.changesKeys(r)
	if err != nil {
		return err
	}
	id, err := base64.RawURLEncoding.DecodeString(r.PathValue("id"))
	i := slices.IndexFunc(u.keys, func(k Passkey) bool { return bytes.Equal(k.Credential.ID, id) })
	if err != nil || i < 0 {
		return fault.New(fault.NotFound, "there is no such passkey")
	}
	key := u.keys[i]
	if err := a.record(r.Context(), kindPasskeyRemove, map[string]any{"id": key.ID, "name": key.Name, "account": key.Account}); err != nil {
		return err
	}
	if err := a.cfg.Store.RemovePasskey(r.Context(), key.ID); err != nil {
		return fmt.Errorf("remove passkey of %s: %w", u.Name, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
