package hub

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"slices"
	"time"

	"holdfast/access"
	"holdfast/dps"
	"holdfast/fault"
	"holdfast/hub/gateway"
	"holdfast/hub/issuer"
	"holdfast/hub/provision"
	"holdfast/identity"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// provisioner is what enters initial twins into the ledger.
const provisioner = "provisioning"

// azurePort is the port that client libraries know; they may know no other.
const azurePort = "8883"

func (h *hub) buildProvision(ctx context.Context) error {
	_, port, err := net.SplitHostPort(h.at.MQTT)
	if err != nil {
		return err
	}
	name := h.cfg.Hosts[0]
	if port != azurePort {
		name = net.JoinHostPort(name, port)
	}
	h.provision, err = provision.New(provision.Config{
		Store: h.db.Provision(), Registry: h.fleet, Issuer: operational{h}, Twins: beginnings{h}, Ledger: h.journal,
		Scope: dps.ScopeOf(identity.Sum(h.issuer.Root().Raw)), Hub: name, Root: h.issuer.Root(), Log: h.component("provision"),
	})
	if err != nil {
		return err
	}
	return h.provision.Load(ctx)
}

// enrolments is asked by the fleet, which is made before the service.
type enrolments struct{ h *hub }

// Enrolled implements fleet.Enrolments.
func (e enrolments) Enrolled(ctx context.Context, p pki.Peer) (identity.Group, string, error) {
	return e.h.provision.Enrolled(ctx, p)
}

// pinned is what the device listeners ask of a self-signed certificate.
func (h *hub) pinned(certificate identity.Digest) (identity.Device, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout) // crypto/tls hands none down
	defer cancel()
	id, err := h.provision.Pinned(ctx, certificate)
	return id, err == nil
}

// named is what the device listeners ask of a certificate that is not the hub's.
func (h *hub) named(p pki.Peer) (identity.Device, error) {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout) // crypto/tls hands none down
	defer cancel()
	return h.provision.Name(ctx, p)
}

// whose is what the gateway asks of a certificate that TLS has accepted.
func (h *hub) whose(chain []*x509.Certificate) (d identity.Device, registration string, err error) {
	who, err := h.trust.current().Verify(chain, time.Now())
	if err != nil {
		return "", "", fault.Hide(fault.Denied, "the certificate is not accepted", err)
	}
	return who.Device, string(h.provision.RegistrationOf(who)), nil
}

// operational issues certificates as EST does, by the same gate.
type operational struct{ h *hub }

// Issue implements provision.Issuer.
func (o operational) Issue(ctx context.Context, p pki.Peer, key identity.Digest, csr []byte) ([]*x509.Certificate, error) {
	life, err := o.h.Grant(ctx, issuer.GrantRequest{Peer: p, Key: key, Reenroll: p.Class == pki.Operational})
	if err != nil {
		return nil, err
	}
	return o.h.issuer.IssueRegistered(ctx, p.Device, identity.Device(o.h.provision.RegistrationOf(p)), csr, life)
}

// Held implements provision.Issuer.
func (o operational) Held(ctx context.Context, id identity.Device, key identity.Digest) ([]*x509.Certificate, error) {
	certs, err := o.h.issuer.Certificates(ctx, pki.Operational, string(id))
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return identity.Sum(c.RawSubjectPublicKeyInfo) == key })
	if i < 0 || time.Now().After(certs[i].NotAfter) || o.h.issuer.CheckRevoked(ctx, pki.SerialText(certs[i])) != nil {
		return nil, nil
	}
	return []*x509.Certificate{certs[i], o.h.issuer.Authority(pki.Operational)}, nil
}

// beginnings writes initial twins.
type beginnings struct{ h *hub }

// Begin implements provision.Twins.
func (b beginnings) Begin(ctx context.Context, id identity.Device, t operator.SetTwin, reset bool) error {
	_, err := b.h.twins.SetTwin(ctx, provisioner, id, t, reset, "")
	return err
}

// admitRegistration admits a session with DPS: whose certificate is trusted may
// ask, and is told there whether it is enrolled.
func (h *hub) admitRegistration(p gateway.Peer) (gateway.Admission, error) {
	if _, err := h.peer(p); err != nil {
		return gateway.Admission{}, err
	}
	if !h.provision.Scope().Is(p.Registration.Scope) {
		return gateway.Admission{}, fault.New(fault.Denied, "id scope %s is not of this hub", p.Registration.Scope)
	}
	return gateway.Admission{Mode: access.Provision, Fixed: true}, nil
}

// register answers a request of a session with DPS.
func (h *hub) register(ctx context.Context, s *gateway.Session, t iothub.Request, payload []byte) (iothub.Topic, []byte, error) {
	p := s.Peer()
	who, err := h.peer(p)
	if err != nil || p.Registration == nil {
		return nil, nil, iothub.Fail(iothub.CodeUnauthorized, "the certificate is not enrolled here")
	}
	c := provision.Caller{Peer: who, Scope: p.Registration.Scope, ID: string(p.Registration.ID), Bare: p.Door == legacyName}
	return h.provision.Answer(ctx, c, t, payload)
}

// credentials answers a request for a certificate over a session: once when it
// is taken, and once with the certificate.
func (h *hub) credentials(ctx context.Context, s *gateway.Session, t iothub.IssueCertificate, payload []byte) (iothub.Topic, []byte, error) {
	who, err := h.peer(s.Peer())
	if err != nil {
		return nil, nil, err
	}
	body, err := h.provision.Renew(ctx, who, t.RequestID, payload, func(first []byte) {
		s.Publish(t.Result(http.StatusAccepted).String(), first)
	})
	if err != nil {
		return nil, nil, err
	}
	return t.Result(http.StatusOK), body, nil
}

// certified says whose certificate a request came with. Unlike authenticate it
// does not ask whether the device is registered: that is what it came for.
func (h *hub) certified(r *http.Request) (pki.Peer, error) {
	return tlspolicy.Peer(r.TLS, h.trust.current(), time.Now())
}
