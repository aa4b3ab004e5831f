package agent

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/identity"
)

// provisioned is where every run begins.
func (a *Agent) provisioned(context.Context) state {
	a.enter(Provisioned)
	return a.testing
}

// testing tests the entropy source before any key is made or used.
func (a *Agent) testing(context.Context) state {
	if err := a.cfg.Entropy.Start(); err != nil {
		a.trouble(Provisioned, "entropy refused", err)
		return a.again(a.retry.Next(), a.testing)
	}
	a.retry.Reset()
	return a.unborn
}

// unborn gets the device its birth certificate.
func (a *Agent) unborn(ctx context.Context) state {
	issued, err := a.cfg.Birth.Issued()
	if err == nil && (issued == nil || a.cfg.Token != "") {
		issued, err = a.claim(ctx, issued)
	}
	if err == nil {
		err = a.born(*issued)
	}
	switch {
	case err == nil:
		a.retry.Reset()
		return a.starting
	case ctx.Err() != nil:
		return nil
	case untrusted(err):
		a.verdict = err
		a.trouble(Provisioned, "hub not trusted", err)
		return a.again(a.recovery.Next(), a.unborn)
	case final(err):
		a.verdict = err
		a.trouble(Refused, string(Refused), err)
		return a.again(refusedEvery, a.unborn)
	case fault.Of(err) == fault.Pending:
		a.trouble(Provisioned, "pending", err)
	default:
		a.failing("enrolment failed", err)
	}
	return a.again(a.retry.Next(), a.unborn)
}

// claim has the device born. One that has a birth certificate and was given
// another claim token is born again: its certificate may be worthless. Where
// the hub decides against that, it goes on with the one it has.
func (a *Agent) claim(ctx context.Context, have *evidence.Issued) (*evidence.Issued, error) {
	issued, err := a.enroll(ctx)
	if err != nil && have != nil && final(err) {
		a.cfg.Log.Warn("not born again", "err", err)
		return have, nil
	}
	return issued, err
}

// reborn asks for another birth certificate when the hub does not take the one
// that the device has: it was superseded, or the device was revoked. While it
// is, the hub refuses this too; once an operator has restored it, the hub lets
// it be born again by its TPM, and a key in a file by another claim token.
func (a *Agent) reborn(ctx context.Context) state {
	issued, err := a.enroll(ctx)
	if err == nil {
		err = a.born(*issued)
	}
	switch {
	case err == nil:
		a.retry.Reset()
		a.use(nil) // it went with the birth certificate that it followed from
		return a.renewing
	case ctx.Err() != nil:
		return nil
	case final(err):
		a.trouble(Refused, string(Refused), err)
		return a.again(a.recovery.Next(), a.renewing)
	}
	a.failing("enrolment failed", err)
	return a.again(a.retry.Next(), a.reborn)
}

// maxClashes is how often the hub has to answer a birth with a conflict before
// the device makes another birth key. Once can be bad timing; a key that was
// certified before, and whose certificate is worthless, is a conflict for ever.
const maxClashes = 2

// clashed takes note of how an attempt to be born went.
func (a *Agent) clashed(err error) error {
	if fault.Of(err) != fault.Conflict || err == nil {
		a.clashes = 0
		return err
	}
	if a.clashes++; a.clashes < maxClashes {
		return err
	}
	a.clashes = 0
	a.cfg.Log.Warn("making another birth key", "err", err)
	return errors.Join(err, a.cfg.Birth.RenewBirth())
}

// final reports whether the hub has decided: asking again soon changes nothing.
func final(err error) bool {
	switch fault.Of(err) {
	case fault.Denied, fault.Invalid, fault.NotFound, fault.Integrity:
		return true
	}
	return false
}

// untrusted reports whether it was the device that refused the hub.
func untrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// enroll is birth: begin, activate, finish. The keys are kept before the hub
// hears of them, so that a repetition shows the same ones.
func (a *Agent) enroll(ctx context.Context) (*evidence.Issued, error) {
	if err := a.cfg.Entropy.Err(); err != nil {
		return nil, err
	}
	shown, key, err := a.cfg.Birth.Birth()
	if err != nil {
		return nil, fmt.Errorf("birth key: %w", err)
	}
	csr, err := request(key, "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	issued, err := a.ask(ctx, evidence.BeginRequest{Token: a.cfg.Token, CSR: csr, TPM: shown})
	if err = a.clashed(err); err != nil {
		return nil, err
	}
	if err := check(issued.Chain, key, issued.Device); err != nil {
		return nil, fmt.Errorf("birth certificate: %w", err)
	}
	if err := a.cfg.Birth.SaveIssued(*issued); err != nil {
		return nil, fmt.Errorf("keep birth certificate: %w", err)
	}
	return issued, nil
}

// ask has the hub answer a request to be born.
func (a *Agent) ask(ctx context.Context, req evidence.BeginRequest) (*evidence.Issued, error) {
	begun, err := a.cfg.Hub.Begin(ctx, req)
	if err != nil || begun.Issued != nil {
		return begun.Issued, err
	}
	return a.activate(ctx, begun)
}

// activate answers the hub's challenge.
func (a *Agent) activate(ctx context.Context, begun evidence.BeginResponse) (*evidence.Issued, error) {
	secret, err := a.cfg.Birth.Activate(begun.Credential, begun.Secret)
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	issued, err := a.cfg.Hub.Finish(ctx, evidence.FinishRequest{Session: begun.Session, Secret: secret})
	return &issued, err
}

// born takes on the identity that the hub has given.
func (a *Agent) born(issued evidence.Issued) error {
	_, key, err := a.cfg.Birth.Birth()
	if err != nil {
		return fmt.Errorf("birth key: %w", err)
	}
	if a.birth, err = certificate(issued.Chain, key); err != nil {
		return fmt.Errorf("birth certificate: %w", err)
	}
	a.use(a.current)
	if err := a.cfg.Forget(); err != nil {
		return fmt.Errorf("forget claim token: %w", err)
	}
	a.id = issued.Device
	a.change(func(s *Status) { s.Device, s.Group = issued.Device, issued.Group })
	a.enter(Born, "device", issued.Device, "group", issued.Group)
	return nil
}

// request makes a PKCS#10 request for key, in the name of id where that is
// known already.
func request(key crypto.Signer, id identity.Device) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:            pkix.Name{CommonName: string(id)},
		SignatureAlgorithm: x509.ECDSAWithSHA256,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return csr, nil
}

// check refuses a chain that is not a certificate for key and id.
func check(chain [][]byte, key crypto.Signer, id identity.Device) error {
	cert, err := certificate(chain, key)
	if err != nil {
		return err
	}
	if _, err := identity.ParseDevice(string(id)); err != nil {
		return err
	}
	if cert.Leaf.Subject.CommonName != string(id) {
		return fmt.Errorf("issued to %q, not to %q", cert.Leaf.Subject.CommonName, id)
	}
	return nil
}

// certificate joins a chain with the key of its leaf.
func certificate(chain [][]byte, key crypto.Signer) (*tls.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("chain is empty")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("issued for another key")
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// renewal returns when a certificate is to be renewed, by this process's
// clock: at a point between 60 and 80 percent of its lifetime, draw in [0, 1).
// Without a clock, a certificate of unknown age is renewed at once.
func (a *Agent) renewal(leaf *x509.Certificate, fresh bool, draw float64) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	after := time.Duration((0.6 + 0.2*draw) * float64(life))
	now, state := a.cfg.Clock.Now()
	switch {
	case fresh:
		return time.Now().Add(after)
	case state != "rtc":
		return time.Now()
	}
	return time.Now().Add(leaf.NotBefore.Add(after).Sub(now))
}
