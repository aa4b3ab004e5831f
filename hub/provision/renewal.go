package provision

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/dps"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/pki"
)

// renewalTimeout bounds the issue of a certificate over a session.
const renewalTimeout = 25 * time.Second

// renewals are the issues that run, one for each device at most.
type renewals struct {
	mu      sync.Mutex
	running map[identity.Device]*renewal
}

// renewal is one of them.
type renewal struct {
	id   string // $rid
	stop context.CancelFunc
}

// start enters a renewal, or refuses it while another of the device runs that
// it is not to replace.
func (r *renewals) start(ctx context.Context, d identity.Device, id, replace string) (context.Context, func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.running[d]
	switch {
	case old == nil && replace != "" && replace != "*":
		return nil, nil, iothub.Fail(iothub.CodePrecondition, "no request %s runs that could be replaced", replace)
	case old != nil && replace == "":
		return nil, nil, iothub.Fail(dps.CodeActive, "another request for a certificate runs: %s", old.id)
	case old != nil && replace != "*" && replace != old.id:
		return nil, nil, iothub.Fail(iothub.CodePrecondition, "request %s runs, not %s", old.id, replace)
	case old != nil:
		old.stop()
	}
	ctx, stop := context.WithTimeout(ctx, renewalTimeout)
	now := &renewal{id: id, stop: stop}
	r.running[d] = now
	return ctx, func() {
		stop()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.running[d] == now {
			delete(r.running, d)
		}
	}, nil
}

// Renew issues a certificate that a device asks for over its session with the
// hub. accepted is called with the body of the first answer (202) before the
// work is done; what Renew returns is the body of the second (200), or the
// error in its place.
func (s *Service) Renew(ctx context.Context, p pki.Peer, rid string, body []byte, accepted func(body []byte)) ([]byte, error) {
	req, err := dps.ParseRenewal(body)
	if err != nil {
		return nil, iothub.Fail(iothub.CodeFormat, "%w", err)
	}
	if req.Device != p.Device {
		return nil, iothub.Fail(iothub.CodeArgument, "id is %s, the session is of %s", req.Device, p.Device)
	}
	if p.Class == pki.Birth {
		return nil, fault.New(fault.Denied, "a birth certificate is renewed by EST")
	}
	csr, err := s.checkCSR(req.CSR, p)
	if err != nil {
		return nil, err
	}
	ctx, end, err := s.runs.start(ctx, p.Device, rid, req.Replace)
	if err != nil {
		return nil, err
	}
	defer end()
	first, err := json.Marshal(dps.Accepted{Correlation: dps.NewTracking(), Expires: dps.Time(s.now().Add(renewalTimeout))})
	if err != nil {
		return nil, err
	}
	accepted(first)
	chain, err := s.renewed(ctx, p, csr)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, iothub.Fail(iothub.CodeConflict, "another request has replaced this one")
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(dps.Issued{Certificates: dps.Chain(pki.RawChain(append(chain, s.cfg.Root)))})
}

// renewed issues for a new key: unlike a first certificate, one is not handed
// out a second time.
func (s *Service) renewed(ctx context.Context, p pki.Peer, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	chain, err := s.cfg.Issuer.Issue(ctx, p, identity.Sum(csr.RawSubjectPublicKeyInfo), csr.Raw)
	if err != nil && pki.RuleOf(err) != "" {
		return nil, fmt.Errorf("%w (%w)", iothub.Fail(dps.CodeCSR, "%s", fault.Public(err)), err)
	}
	return chain, err
}
