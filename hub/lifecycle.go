package hub

import (
	"crypto/tls"
	"time"

	"holdfast/hub/gateway"
	"holdfast/iothub"
	"holdfast/pki"
)

// connected puts the beginning of a session into the stream. It does not wait.
func (h *hub) connected(p gateway.Peer, who pki.Peer, mode string) {
	h.teller.tell(iothub.NewConnected(p.Device, iothub.Connection{
		Session: p.Session, Remote: p.Remote, Class: string(who.Class), Mode: mode,
		TLS: tls.VersionName(p.Version), Suite: tls.CipherSuiteName(p.Suite), Group: p.Group.String(),
	}, time.Now()))
}

// disconnected is connected for the end.
func (h *hub) disconnected(s *gateway.Session, cause gateway.Cause) {
	h.teller.tell(iothub.NewDisconnected(s.Device(), iothub.Connection{Session: s.ID(), Remote: s.Peer().Remote, Cause: string(cause)}, time.Now()))
}
