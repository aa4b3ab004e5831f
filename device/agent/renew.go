package agent

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/evidence"
	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/measure"
)

// starting looks what the device has from before this boot.
func (a *Agent) starting(ctx context.Context) state {
	cert, err := a.cfg.Operational.Operational()
	switch {
	case err != nil:
		a.failing("operational certificate unusable", err)
		return a.renewing
	case cert == nil || a.cfg.Clock.Expired(cert.Leaf.NotAfter):
		return a.renewing
	}
	a.adopt(cert, false)
	if !time.Now().Before(a.renewAt) {
		return a.renewing
	}
	return a.attesting
}

// adopt makes cert the operational certificate.
func (a *Agent) adopt(cert *tls.Certificate, fresh bool) {
	a.use(cert)
	a.renewAt = a.renewal(cert.Leaf, fresh, rand.Float64())
	a.change(func(s *Status) { s.Certificate = lifetime(cert) })
}

// attesting proves this boot before the device connects with a certificate
// that it had before.
func (a *Agent) attesting(ctx context.Context) state {
	if a.cfg.Attester == nil {
		return a.connecting
	}
	if err := a.attest(ctx, a.current, nil); err != nil {
		return a.unproven(ctx, err, a.attesting)
	}
	return a.connecting
}

// renewing gets a certificate for a new key before the device connects.
func (a *Agent) renewing(ctx context.Context) state {
	if err := a.renew(ctx); err != nil {
		return a.unproven(ctx, err, a.renewing)
	}
	return a.connecting
}

// unproven decides what follows when the hub gave no certificate or did not
// take the evidence.
func (a *Agent) unproven(ctx context.Context, err error, same state) state {
	switch {
	case ctx.Err() != nil:
		return nil
	case untrusted(err):
		a.trouble(a.Status().Phase, "hub not trusted", err)
		return a.again(a.recovery.Next(), same)
	case final(err) && a.current != nil:
		a.cfg.Log.Warn("certificate refused", "err", err)
		a.use(nil) // the birth certificate may still open what this one does not
		return a.again(a.retry.Next(), a.renewing)
	case final(err):
		return a.quarantined(err)
	}
	a.failing("hub not ready", err)
	return a.again(a.retry.Next(), same)
}

// identity returns the certificate that the device shows: the operational one
// while it has one that may be valid, else that of its birth.
func (a *Agent) identity() *tls.Certificate {
	if a.current != nil && a.cfg.Clock.Expired(a.current.Leaf.NotAfter) {
		a.use(nil)
	}
	if a.current != nil {
		return a.current
	}
	return a.birth
}

// renew makes a new key, has it attested, gets a certificate for it and
// adopts both.
func (a *Agent) renew(ctx context.Context) error {
	if err := a.cfg.Entropy.Err(); err != nil {
		return err
	}
	key, err := a.cfg.Operational.NewOperational()
	if err != nil {
		return fmt.Errorf("operational key: %w", err)
	}
	shown := a.identity()
	if a.cfg.Attester != nil {
		if err := a.attest(ctx, shown, key); err != nil {
			return err
		}
	}
	chain, err := a.certify(ctx, shown, key)
	if err != nil {
		return err
	}
	if err := check(chain, key, a.id); err != nil {
		return fmt.Errorf("operational certificate: %w", err)
	}
	if err := a.cfg.Operational.Promote(key, chain); err != nil {
		return fmt.Errorf("keep operational certificate: %w", err)
	}
	cert, err := certificate(chain, key)
	if err != nil {
		return err
	}
	a.adopt(cert, true)
	a.retry.Reset()
	l := lifetime(cert)
	a.enter(Certificate, "not_after", l.NotAfter.Format(time.RFC3339), "lifetime_seconds", l.Seconds)
	return nil
}

// certify asks for a certificate for key.
func (a *Agent) certify(ctx context.Context, shown *tls.Certificate, key crypto.Signer) ([][]byte, error) {
	csr, err := request(key, a.id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	if shown == a.birth {
		return a.cfg.Hub.Enroll(ctx, shown, csr)
	}
	return a.cfg.Hub.Reenroll(ctx, shown, csr)
}

// attest proves the boot, and that next lives in the same TPM, over HTTPS.
func (a *Agent) attest(ctx context.Context, shown *tls.Certificate, next crypto.Signer) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	result, err := a.cfg.Hub.Attest(ctx, shown, func(nonce, exporter []byte) (evidence.Attestation, error) {
		return a.evidence(nonce, exporter, next)
	})
	if err != nil {
		return fmt.Errorf("attest: %w", err)
	}
	return a.judged(result)
}

// judged takes the hub's appraisal.
func (a *Agent) judged(result evidence.Result) error {
	if !result.Verified {
		return fault.New(fault.Integrity, "the hub does not accept the evidence: %s", result.Reason)
	}
	a.proven()
	var fails []string
	for _, row := range result.Rows {
		if row.Verdict == measure.Fail {
			fails = append(fails, string(row.Measure))
		}
	}
	if len(fails) > 0 { // the evidence is sound, and what it says is not
		a.enter(Attested, "fails", fails)
		return nil
	}
	a.enter(Attested)
	return nil
}

// evidence signs for a nonce and a channel binding what this device is.
func (a *Agent) evidence(nonce, exporter []byte, next crypto.Signer) (evidence.Attestation, error) {
	if len(nonce) != evidence.NonceSize || len(exporter) != evidence.ExporterSize {
		return evidence.Attestation{}, errors.New("nonce or channel binding has a wrong size")
	}
	claims, err := json.Marshal(a.cfg.Claims())
	if err != nil {
		return evidence.Attestation{}, err
	}
	ev, err := a.cfg.Attester.Attest(evidence.Binding(nonce, a.id, exporter, claims), next)
	if err != nil {
		return evidence.Attestation{}, err
	}
	ev.Nonce, ev.EventLog, ev.Claims = nonce, a.cfg.EventLog, claims
	return ev, nil
}

// reattest proves the boot again over an open session.
func (a *Agent) reattest(ctx context.Context, s Session) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	exporter, err := s.Exporter()
	if err != nil {
		return fmt.Errorf("channel binding: %w", err)
	}
	answer, err := s.Attest(ctx, iothub.AttestNonce, nil)
	if err != nil {
		return err
	}
	var nonce evidence.Nonce
	if err := json.Unmarshal(answer, &nonce); err != nil {
		return fmt.Errorf("nonce: %w", err)
	}
	ev, err := a.evidence(nonce.Nonce, exporter, nil)
	if err != nil {
		return fmt.Errorf("make evidence: %w", err)
	}
	body, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	if answer, err = s.Attest(ctx, iothub.AttestEvidence, body); err != nil {
		return err
	}
	var result evidence.Result
	if err := json.Unmarshal(answer, &result); err != nil {
		return fmt.Errorf("attestation result: %w", err)
	}
	if !result.Verified {
		return fault.New(fault.Integrity, "the hub does not accept the evidence: %s", result.Reason)
	}
	return nil
}
