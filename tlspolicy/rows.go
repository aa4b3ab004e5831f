package tlspolicy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"holdfast/measure"
	"holdfast/pki"
)

// AlgorithmPolicy is the version of the algorithm policy that Rows and
// pki.StrongCertificate apply.
const AlgorithmPolicy = 1

// Protocol is what a session carries.
type Protocol string

// The protocols of the device plane.
const (
	MQTT  Protocol = "mqtt"
	HTTPS Protocol = "https"
)

// Facts are what the hub saw of a TLS session.
type Facts struct {
	Protocol Protocol
	Version  uint16      // tls.VersionTLS13
	Suite    uint16      // tls.TLS_AES_128_GCM_SHA256
	Group    tls.CurveID // 0: no ephemeral key exchange

	Peer      pki.Peer // zero where no certificate was shown
	Key       string   // of the peer's certificate, as pki.KeyText
	Signature x509.SignatureAlgorithm
	Weak      error // why key or signature are too weak, or nil
}

// Describe reads the facts of a session from its state and its verified peer.
func Describe(state tls.ConnectionState, peer pki.Peer, protocol Protocol) Facts {
	f := Facts{Protocol: protocol, Version: state.Version, Suite: state.CipherSuite, Group: state.CurveID, Peer: peer}
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		f.Key, f.Signature = pki.KeyText(leaf.PublicKey), leaf.SignatureAlgorithm
		f.Weak = pki.StrongCertificate(leaf)
	}
	return f
}

// LogValue gives the names of what was negotiated.
func (f Facts) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("version", tls.VersionName(f.Version)),
		slog.String("suite", tls.CipherSuiteName(f.Suite)),
		slog.String("group", f.Group.String()),
		slog.String("class", string(f.Peer.Class)),
		slog.String("key", f.Key),
	)
}

// Rows judges a session. Everything in it the hub saw itself, so the grade is
// observed and the time now.
func Rows(f Facts, now time.Time) []measure.Row {
	rows := []measure.Row{
		row(measure.ProtocolTLS, now, f.version),
		row(measure.ProtocolX509, now, f.x509),
		row(measure.ProtocolCipherSuites, now, f.suite),
		row(measure.ProtocolMutualTLS, now, f.mutual),
		row(measure.CryptoAlgorithms, now, f.algorithms),
	}
	if f.Protocol == MQTT {
		rows = append(rows, row(measure.ProtocolMQTTTLS, now, f.mqtt))
	}
	return rows
}

func row(id measure.ID, now time.Time, judge func() (bool, string)) measure.Row {
	pass, reason := judge()
	verdict := measure.Fail
	if pass {
		verdict = measure.Pass
	}
	return measure.Row{Measure: id, Verdict: verdict, Grade: measure.Observed, Reason: reason, Time: now.UTC()}
}

func (f Facts) version() (bool, string) {
	text := tls.VersionName(f.Version) + " negotiated"
	if Legacy(f.Suite) {
		text += mend13
	}
	return f.Version >= tls.VersionTLS13, text
}

func (f Facts) x509() (bool, string) {
	if f.Peer.Class == "" {
		return false, "no client certificate"
	}
	if f.Peer.Class == pki.SelfSigned {
		return false, fmt.Sprintf("self-signed certificate %s, known by its SHA-256 alone: no authority answers for it, and none can revoke it", f.Peer.Serial)
	}
	checked := "chain, validity, usages, policy and name verified"
	if f.Peer.Class == pki.Maker {
		checked = "chain, validity and usages verified"
	}
	return true, fmt.Sprintf("%s certificate %s until %s: %s", f.Peer.Class, f.Peer.Serial,
		f.Peer.NotAfter.UTC().Format(time.RFC3339), checked)
}

// suite passes an ephemeral key exchange on an approved group with AEAD.
func (f Facts) suite() (bool, string) {
	text := tls.CipherSuiteName(f.Suite) + " with " + f.groupText()
	if Legacy(f.Suite) {
		text += fmt.Sprintf(mend, tls.CipherSuiteName(f.Suite))
	}
	return f.strongSuite() && f.strongGroup(), text
}

func (f Facts) groupText() string {
	switch f.Group {
	case 0:
		return "no ephemeral key exchange"
	case tls.X25519MLKEM768:
		return "X25519MLKEM768 (hybrid post-quantum)"
	}
	return f.Group.String() + " (classical)"
}

func (f Facts) strongSuite() bool {
	if f.Version >= tls.VersionTLS13 {
		return slices.Contains([]uint16{
			tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
		}, f.Suite)
	}
	return slices.Contains(suites12(), f.Suite)
}

func (f Facts) strongGroup() bool { return slices.Contains(groups(), f.Group) }

func (f Facts) mutual() (bool, string) {
	if f.Peer.Class == "" {
		return false, "the client showed no certificate"
	}
	return true, fmt.Sprintf("hub and device each proved a key: the device as %q with its %s certificate", f.Peer.Name, f.Peer.Class)
}

func (f Facts) algorithms() (bool, string) {
	policy := fmt.Sprintf("algorithm policy %d: ", AlgorithmPolicy)
	switch {
	case f.Version < tls.VersionTLS12:
		return false, policy + tls.VersionName(f.Version) + " uses MD5 or SHA-1"
	case !f.strongSuite():
		return false, policy + tls.CipherSuiteName(f.Suite) + " is not approved"
	case !f.strongGroup():
		return false, policy + f.groupText() + " is not approved"
	case f.Weak != nil:
		return false, policy + f.Weak.Error()
	case f.Peer.Class == "":
		return false, policy + "no certificate to judge"
	}
	return true, fmt.Sprintf("%s%s, %s, %s certificate signed with %s", policy,
		tls.CipherSuiteName(f.Suite), f.groupText(), f.Key, f.Signature)
}

func (f Facts) mqtt() (bool, string) {
	return f.Version >= tls.VersionTLS12, "MQTT inside " + tls.VersionName(f.Version) + "; the hub has no other MQTT listener"
}
