package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"holdfast/fault"
	"holdfast/hub/gateway"
	"holdfast/hub/issuer"
	"holdfast/iothub"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

// legacyName is the gateway's name of the legacy listener.
const legacyName = "legacy"

// buildRSA makes a serving certificate of each RSA hierarchy that this hub has.
func (h *hub) buildRSA(ctx context.Context, names pki.Names) error {
	old, err := pki.ParseNames(h.cfg.LegacyHosts)
	if err != nil {
		return err
	}
	h.rsa = map[issuer.RSA]*issuer.Serving{}
	for kind, names := range map[issuer.RSA]pki.Names{issuer.Modern: names, issuer.Legacy: old} {
		if h.issuer.RSARoot(kind) == nil || kind == issuer.Legacy && h.cfg.Legacy == "" {
			continue
		}
		if h.rsa[kind], err = issuer.NewRSAServing(ctx, h.issuer, kind, names, servingLifetime); err != nil {
			return err
		}
	}
	return nil
}

// rootText is the root of an RSA hierarchy as PEM, empty where there is none.
func (h *hub) rootText(kind issuer.RSA) string {
	if root := h.issuer.RSARoot(kind); root != nil {
		return string(pki.EncodeCerts(root))
	}
	return ""
}

// legacyDoor is the gateway's door for the legacy listener; none without one.
func (h *hub) legacyDoor(l net.Listener) ([]gateway.Door, error) {
	if l == nil {
		return nil, nil
	}
	s := h.rsa[issuer.Legacy]
	if s == nil {
		return nil, errors.New("the legacy listener has no authority: make one with 'holdfast hub legacy enable'")
	}
	cfg, err := tlspolicy.LegacyMQTT(tlspolicy.Listener{
		Certificate: s.Certificate, Trust: h.trust.current, Now: time.Now, Verify: h.marked,
	})
	if err != nil {
		return nil, err
	}
	return []gateway.Door{{Name: legacyName, Listener: l, TLS: cfg}}, nil
}

// marked lets a handshake on the legacy listener succeed for devices of marked
// groups alone.
func (h *hub) marked(state tls.ConnectionState, peer pki.Peer) error {
	ctx, cancel := context.WithTimeout(context.Background(), gateway.AdmitTimeout) // crypto/tls hands none down
	defer cancel()
	g, err := h.fleet.GroupOf(ctx, peer)
	if err != nil {
		return err
	}
	return mayUse(g, state.Version, legacyName)
}

// mayUse refuses a way in that the group does not allow: the legacy listener,
// or TLS 1.2 on the main one.
func mayUse(g operator.Group, version uint16, door string) error {
	switch {
	case door == legacyName && !g.ThreadX:
		return fault.New(fault.Denied, "group %s is not marked legacy-threadx", g.ID)
	case door != legacyName && version < tls.VersionTLS13 && !g.TLS12:
		return fault.New(fault.Denied, "group %s demands TLS 1.3", g.ID)
	}
	return nil
}

// notOnLegacy refuses requests for certificates on the legacy listener: what
// its sessions say can be forged by who breaks them, and a certificate lasts.
func notOnLegacy(door string, t iothub.Request) error {
	if _, ok := t.(iothub.IssueCertificate); ok && door == legacyName {
		return fault.New(fault.Denied, "the legacy listener issues no certificates")
	}
	return nil
}
