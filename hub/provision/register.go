package provision

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"time"

	"holdfast/dps"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/pki"
)

// RetryAfter is when a device asks how its registration stands.
const RetryAfter = time.Second

// Caller is who registers: the verified certificate, and the scope and id that
// CONNECT or the URL named.
type Caller struct {
	Peer  pki.Peer
	Scope string
	ID    string
	// Bare says that the way in is too weak for a certificate to be issued.
	Bare bool
}

// Register takes a registration and returns the operation by which the device
// asks for the outcome: the protocol has it in two steps, and some clients take
// nothing else. Errors are faults with the protocol's codes.
func (s *Service) Register(ctx context.Context, c Caller, body []byte) (dps.Progress, error) {
	id, err := s.identify(c)
	if err != nil {
		return dps.Progress{}, err
	}
	req, err := parse(body, id)
	if err != nil {
		return dps.Progress{}, err
	}
	if req.CSR != nil && c.Bare {
		return dps.Progress{}, iothub.Fail(iothub.CodeForbidden, "no certificates are issued on this listener")
	}
	if !s.rates.take(c.Peer.Device, s.now()) {
		return dps.Progress{}, iothub.Fail(iothub.CodeThrottled, "more than %d registrations in a minute", perMinute)
	}
	r, err := s.begin(ctx, c.Peer, id)
	if err != nil {
		return dps.Progress{}, err
	}
	if err := s.provision(ctx, c.Peer, req, &r); err != nil {
		return dps.Progress{}, err
	}
	if err := s.cfg.Store.SaveRegistration(ctx, r); err != nil {
		return dps.Progress{}, err
	}
	return dps.Progress{Operation: r.Operation, Status: dps.Assigning}, nil
}

// identify checks that the caller means this hub and is who it says.
func (s *Service) identify(c Caller) (dps.Registration, error) {
	if !s.cfg.Scope.Is(c.Scope) {
		return "", iothub.Fail(iothub.CodeUnauthorized, "the id scope is not of this hub")
	}
	id, err := dps.ParseRegistration(c.ID)
	if err != nil {
		return "", iothub.Fail(iothub.CodeArgument, "%w", err)
	}
	if c.Peer.Device == "" || !id.Is(s.RegistrationOf(c.Peer)) {
		return "", iothub.Fail(iothub.CodeUnauthorized, "the certificate is not of %s", id)
	}
	return id, nil
}

// parse reads the body of a registration of id.
func parse(body []byte, id dps.Registration) (dps.Request, error) {
	req, err := dps.ParseRequest(body)
	switch {
	case errors.Is(err, dps.ErrTPM):
		return req, iothub.Fail(iothub.CodeUnauthorized, "%w", err)
	case err != nil:
		return req, iothub.Fail(iothub.CodeFormat, "%w", err)
	case req.Registration != "" && !req.Registration.Is(id):
		return req, iothub.Fail(iothub.CodeArgument, "the body registers %s, the session %s", req.Registration, id)
	}
	return req, nil
}

// begin starts an operation on a device's registration.
func (s *Service) begin(ctx context.Context, p pki.Peer, id dps.Registration) (Registration, error) {
	now := s.now()
	r, err := s.cfg.Store.Registration(ctx, p.Device)
	switch {
	case fault.Of(err) == fault.NotFound && err != nil:
		r = Registration{Device: p.Device, Created: now}
	case err != nil:
		return r, err
	}
	r.ID, r.Updated, r.Operation, r.Version = id, now, dps.NewOperation(), r.Version+1
	r.Leaf = dps.Certificate{SHA256: p.Certificate, Subject: "CN=" + p.Name, Serial: p.Serial,
		NotBefore: dps.Time(p.Issued), NotAfter: dps.Time(p.NotAfter)}
	r.Enrolment, r.Status, r.Substatus, r.Code, r.Message, r.Payload, r.Chain = "", "", "", 0, "", nil, nil
	return r, nil
}

// provision does what a registration asks for. What keeps an enrolled device
// out ends in a failed registration; who is not enrolled gets an error.
func (s *Service) provision(ctx context.Context, p pki.Peer, req dps.Request, r *Registration) error {
	csr, err := s.checkCSR(req.CSR, p)
	if err != nil {
		return err
	}
	e, err := s.find(ctx, p)
	if fault.Of(err) == fault.Denied {
		return unauthorized(err)
	}
	enrolled := err == nil
	if err != nil && fault.Of(err) != fault.NotFound {
		return err
	}
	if enrolled && e.Disabled {
		r.fail(errDisabled(e))
		r.Status = dps.Disabled
		return nil
	}
	if e.Kind == operator.ForGroup {
		r.Enrolment = e.ID
	}
	_, err = s.cfg.Registry.Enter(ctx, p, e.Group, by(e))
	switch {
	case fault.Of(err) == fault.Denied && enrolled:
		r.fail(err)
		return nil
	case fault.Of(err) == fault.Denied:
		return unauthorized(err)
	case err != nil:
		return err
	}
	return s.assign(ctx, p, e, csr, r)
}

// unauthorized is the answer to who is not enrolled. It does not tell why.
func unauthorized(err error) error {
	return fmt.Errorf("%w (%w)", iothub.Fail(iothub.CodeUnauthorized, "the certificate is not enrolled here"), err)
}

// assign completes the registration of a device that is in the registry.
func (s *Service) assign(ctx context.Context, p pki.Peer, e operator.Enrollment, csr *x509.CertificateRequest, r *Registration) error {
	if csr != nil {
		chain, err := s.certify(ctx, p, csr)
		if why := fault.Of(err); why == fault.Denied || why == fault.Conflict {
			r.fail(err)
			return nil
		}
		if err != nil {
			return err
		}
		r.Chain = pki.RawChain(chain)
	}
	reset := r.Assigned && e.Reprovision == operator.Reset
	if e.Twin != nil && (reset || !r.Assigned) {
		if err := s.cfg.Twins.Begin(ctx, p.Device, *e.Twin, reset); err != nil {
			return fmt.Errorf("initial twin of %s: %w", p.Device, err)
		}
	}
	switch {
	case !r.Assigned:
		r.Substatus = dps.InitialAssignment
	case reset:
		r.Substatus = dps.DataReset
	default:
		r.Substatus = dps.DataMigrated
	}
	if !r.Assigned || reset {
		details := map[string]any{"substatus": r.Substatus, "certificate": p.Certificate}
		if e.ID != "" {
			details["by"] = by(e)
		}
		if err := s.cfg.Ledger.Record(ctx, KindProvision, p.Device, details); err != nil {
			return err
		}
	}
	r.Assigned, r.Status, r.Payload = true, dps.Assigned, e.Payload
	return nil
}

func (r *Registration) fail(err error) {
	r.Status, r.Code, r.Message = dps.Failed, iothub.CodeOf(err), fault.Public(err)
}

// checkCSR checks a certificate request where there is one. A device may call
// itself by its id or by its registration id.
func (s *Service) checkCSR(der []byte, p pki.Peer) (*x509.CertificateRequest, error) {
	if der == nil {
		return nil, nil
	}
	csr, err := pki.CheckCSR(der, p.Device)
	if id := identity.Device(s.RegistrationOf(p)); err != nil && id != p.Device {
		csr, err = pki.CheckCSR(der, id)
	}
	if err != nil {
		return nil, iothub.Fail(dps.CodeCSR, "%w", err)
	}
	return csr, nil
}

// certify issues a certificate. A device whose answer was lost asks again with
// the same key: it gets what it was issued for it.
func (s *Service) certify(ctx context.Context, p pki.Peer, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	key := identity.Sum(csr.RawSubjectPublicKeyInfo)
	chain, err := s.cfg.Issuer.Issue(ctx, p, key, csr.Raw)
	if fault.Of(err) == fault.Conflict && pki.RuleOf(err) == pki.RuleKeyReuse {
		held, heldErr := s.cfg.Issuer.Held(ctx, p.Device, key)
		if heldErr != nil || len(held) > 0 {
			return held, heldErr
		}
	}
	if err != nil && pki.RuleOf(err) != "" {
		return nil, fmt.Errorf("%w (%w)", iothub.Fail(dps.CodeCSR, "%s", fault.Public(err)), err)
	}
	return chain, err
}

// Operation says how an operation of the caller's stands: only its last is
// known.
func (s *Service) Operation(ctx context.Context, c Caller, op string) (dps.Progress, error) {
	if _, err := dps.ParseOperation(op); err != nil {
		return dps.Progress{}, iothub.Fail(iothub.CodeArgument, "%w", err)
	}
	state, r, err := s.registration(ctx, c)
	if err != nil {
		return dps.Progress{}, err
	}
	if string(r.Operation) != op {
		return dps.Progress{}, iothub.Fail(iothub.CodeDeviceNotFound, "%s has no such operation", r.ID)
	}
	status := r.Status
	if status == dps.Disabled {
		status = dps.Failed // clients know no more than that as the status of an operation
	}
	return dps.Progress{Operation: r.Operation, Status: status, State: state}, nil
}

// Registration says how the caller's last registration stands.
func (s *Service) Registration(ctx context.Context, c Caller) (dps.State, error) {
	state, _, err := s.registration(ctx, c)
	if err != nil {
		return dps.State{}, err
	}
	return *state, nil
}

func (s *Service) registration(ctx context.Context, c Caller) (*dps.State, Registration, error) {
	id, err := s.identify(c)
	if err != nil {
		return nil, Registration{}, err
	}
	r, err := s.cfg.Store.Registration(ctx, c.Peer.Device)
	if fault.Of(err) == fault.NotFound && err != nil {
		return nil, r, iothub.Fail(iothub.CodeDeviceNotFound, "%s is not registered", id)
	}
	if err != nil {
		return nil, r, err
	}
	state := &dps.State{
		X509: &dps.X509{Group: r.Enrolment, Leaf: &r.Leaf}, Registration: r.ID, Created: dps.Time(r.Created), Status: r.Status,
		Substatus: r.Substatus, ErrorCode: r.Code, ErrorMessage: r.Message, Updated: dps.Time(r.Updated),
		ETag: strconv.FormatInt(r.Version, 16), Payload: r.Payload, Chain: dps.Chain(r.Chain),
	}
	if r.Status == dps.Assigned {
		state.Hub, state.Device = s.cfg.Hub, r.Device
	}
	return state, r, nil
}
