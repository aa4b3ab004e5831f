// Package pki has the rules of Holdfast's certificates: which authorities
// exist, what each may issue, what a certificate request may ask for, and when
// a certificate proves who a peer is. It is pure: keys and the time arrive as
// arguments, and only crypto/rand is read.
//
// One root signs four intermediates, one for each [Class] of certificate. An
// intermediate has path length 0, the extended key usage and the policy OID of
// its class alone; the one for servers is bound to the hub's names as well. A
// listener does not trust the root: it trusts the intermediates of the classes
// it serves ([Trust]), so a certificate of another class is a stranger to it.
//
// Keys are ECDSA P-256 throughout: it is the curve that RFC 7925 requires of
// constrained devices, and some of them verify no other. Those that verify RSA
// alone have a hierarchy of their own ([NewRSAServers]), for servers only.
package pki

import (
	"crypto/x509"
	"fmt"
)

// Class is what a certificate is for.
type Class string

// The classes. Birth, Operational, Server and Operator have an intermediate of
// their own; Maker certificates come from a device maker's authority.
const (
	Birth       Class = "birth"       // IDevID (IEEE 802.1AR): who a device is, for its whole life
	Operational Class = "operational" // LDevID: what a device operates with, for hours
	Server      Class = "server"      // the hub's listeners
	Operator    Class = "operator"    // people and machines that operate the fleet
	Maker       Class = "maker"       // a device's certificate of a registered maker's CA
	SelfSigned  Class = "self-signed" // a device's own word, known by the SHA-256 of its certificate
)

// Classes lists those that have an intermediate, in a fixed order.
func Classes() []Class { return []Class{Birth, Operational, Server, Operator} }

// PolicyArc is the private arc of the policy OIDs. It is derived from the UUID
// b014f6ec-0135-460d-a493-76541dffc293 (ITU-T X.667), so it is unique without
// a registration; its last component does not fit 32 bits, which is why the
// policies are [x509.OID] values and not asn1.ObjectIdentifier ones.
const PolicyArc = "2.25.234052981366298630756529962231936303763"

// Policy returns the certificate policy OID that every certificate of the
// class carries: PolicyArc.1 to PolicyArc.4. Maker has none.
func (c Class) Policy() (x509.OID, error) {
	for i, class := range Classes() {
		if class == c {
			return x509.ParseOID(fmt.Sprintf("%s.%d", PolicyArc, i+1))
		}
	}
	return x509.OID{}, fmt.Errorf("class %q has no policy", c)
}

// usage is the one extended key usage of a class.
func (c Class) usage() x509.ExtKeyUsage {
	if c == Server {
		return x509.ExtKeyUsageServerAuth
	}
	return x509.ExtKeyUsageClientAuth
}

// hasPolicy reports whether cert carries the policy of class and no other.
func hasPolicy(cert *x509.Certificate, class Class) bool {
	want, err := class.Policy()
	return err == nil && len(cert.Policies) == 1 && cert.Policies[0].Equal(want)
}
