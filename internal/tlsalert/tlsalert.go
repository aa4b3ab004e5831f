// Package tlsalert reads the alerts that a TLS peer ends a handshake with.
package tlsalert

import (
	"crypto/tls"
	"errors"
	"net"
)

// refusals are the alerts that say "not with this certificate" (RFC 8446
// section 6.2).
var refusals = []tls.AlertError{
	42,  // bad_certificate
	43,  // unsupported_certificate
	44,  // certificate_revoked
	45,  // certificate_expired
	46,  // certificate_unknown
	48,  // unknown_ca
	49,  // access_denied
	116, // certificate_required
}

// Refused reports whether err is the peer's alert that it does not take our
// certificate. With TLS 1.3 a client meets it at its first read, after its own
// side of the handshake has succeeded.
func Refused(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return false
	}
	for _, a := range refusals {
		if op.Err.Error() == a.Error() { // crypto/tls does not export the type it uses here
			return true
		}
	}
	return false
}
