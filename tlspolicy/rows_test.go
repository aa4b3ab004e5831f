package tlspolicy_test

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/measure"
	"holdfast/pki"
	"holdfast/tlspolicy"
)

func TestRows(t *testing.T) {
	good := tlspolicy.Facts{
		Protocol: tlspolicy.MQTT, Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Group: tls.X25519MLKEM768,
		Peer: pki.Peer{Class: pki.Operational, Name: "pump-01", Device: "pump-01"}, Key: "ECDSA P-256",
	}
	tls12 := func(f *tlspolicy.Facts, suite uint16, group tls.CurveID) {
		f.Version, f.Suite, f.Group = tls.VersionTLS12, suite, group
	}
	for _, tc := range []struct {
		name  string
		spoil func(*tlspolicy.Facts)
		fails []measure.ID
	}{
		{"as it should be", func(*tlspolicy.Facts) {}, nil},
		{"classical group", func(f *tlspolicy.Facts) { f.Group = tls.CurveP256 }, nil},
		{"weak group", func(f *tlspolicy.Facts) { f.Group = 0x0013 },
			[]measure.ID{measure.ProtocolCipherSuites, measure.CryptoAlgorithms}},
		{"TLS 1.2, ECDHE and AEAD", func(f *tlspolicy.Facts) {
			tls12(f, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.X25519)
		}, []measure.ID{measure.ProtocolTLS}},
		{"TLS 1.2, CBC", func(f *tlspolicy.Facts) {
			tls12(f, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.X25519)
		}, []measure.ID{measure.ProtocolTLS, measure.ProtocolCipherSuites, measure.CryptoAlgorithms}},
		{"TLS 1.2, static RSA", func(f *tlspolicy.Facts) {
			tls12(f, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, 0)
		}, []measure.ID{measure.ProtocolTLS, measure.ProtocolCipherSuites, measure.CryptoAlgorithms}},
		{"TLS 1.1", func(f *tlspolicy.Facts) {
			f.Version, f.Suite = tls.VersionTLS11, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA
		}, []measure.ID{measure.ProtocolTLS, measure.ProtocolCipherSuites, measure.CryptoAlgorithms, measure.ProtocolMQTTTLS}},
		{"no certificate", func(f *tlspolicy.Facts) { f.Peer = pki.Peer{} },
			[]measure.ID{measure.ProtocolX509, measure.ProtocolMutualTLS, measure.CryptoAlgorithms}},
		{"weak certificate", func(f *tlspolicy.Facts) { f.Weak = errors.New("SHA-1") }, []measure.ID{measure.CryptoAlgorithms}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			facts := good
			tc.spoil(&facts)
			now := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
			var fails []measure.ID
			for _, row := range tlspolicy.Rows(facts, now) {
				if row.Grade != measure.Observed || row.Reason == "" || !row.Time.Equal(now) {
					t.Errorf("row %+v", row)
				}
				if row.Verdict != measure.Pass {
					fails = append(fails, row.Measure)
				}
			}
			if diff := cmp.Diff(tc.fails, fails); diff != "" {
				t.Errorf("failing rows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDescribeARealSession(t *testing.T) {
	h := newHub(t)
	state, err, _ := handshake(t, must(tlspolicy.DeviceMQTT(h.listener()))(t), h.client(t, h.operational(t)))
	if err != nil {
		t.Fatal(err)
	}
	peer := must(tlspolicy.Peer(&state, h.trust, h.now))(t)
	rows := tlspolicy.Rows(tlspolicy.Describe(state, peer, tlspolicy.MQTT), h.now)
	if len(rows) != 6 {
		t.Errorf("%d rows, want 6", len(rows))
	}
	for _, row := range rows {
		if row.Verdict != measure.Pass {
			t.Errorf("%+v", row)
		}
	}
	for _, row := range tlspolicy.Rows(tlspolicy.Describe(state, peer, tlspolicy.HTTPS), h.now) {
		if row.Measure == measure.ProtocolMQTTTLS {
			t.Error("an HTTPS session says something about MQTT")
		}
	}
}
