package bench_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/pki"
)

// authority certifies the devices, and the servers that are not the hub: those
// by an intermediate as the hub has one, so that clients have the same work.
type authority struct {
	leaf    tls.Certificate // its own
	servers tls.Certificate // the intermediate
	pool    *x509.CertPool
}

func newAuthority(b testing.TB) *authority {
	a := &authority{pool: x509.NewCertPool()}
	a.leaf = sign(b, tls.Certificate{}, &x509.Certificate{Subject: pkix.Name{CommonName: "Sensor maker"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	a.servers = sign(b, a.leaf, &x509.Certificate{Subject: pkix.Name{CommonName: "Servers"}, IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign})
	a.pool.AddCert(a.leaf.Leaf)
	return a
}

// sign certifies a new key; by itself where there is no authority.
func sign(b testing.TB, by tls.Certificate, template *x509.Certificate) tls.Certificate {
	b.Helper()
	key, err := pki.NewKey()
	if err != nil {
		b.Fatal(err)
	}
	template.SerialNumber = new(big.Int).SetBytes([]byte(rand.Text()[:15]))
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	template.BasicConstraintsValid = true
	parent, signer := by.Leaf, by.PrivateKey
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		b.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}
}

// device is a device's id and certificate.
type device struct {
	id   string
	cert tls.Certificate
}

func (a *authority) devices(b testing.TB, name string, n int) []device {
	b.Helper()
	ds := make([]device, n)
	for i := range ds {
		id := fmt.Sprintf("%s-%04d", name, i)
		ds[i] = device{id, sign(b, a.leaf, &x509.Certificate{Subject: pkix.Name{CommonName: id},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})}
	}
	return ds
}

// files are where writeServer puts what a server needs.
type files struct{ ca, cert, key string }

func filesIn(dir string) files {
	return files{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")}
}

// writeServer writes a server's certificate, its key and the authority.
func (a *authority) writeServer(b testing.TB, dir string) files {
	b.Helper()
	cert := sign(b, a.servers, &x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		b.Fatal(err)
	}
	f := filesIn(dir)
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	const certificate = "CERTIFICATE"
	for path, text := range map[string][]byte{
		f.ca:   encode(certificate, a.leaf.Certificate[0]),
		f.cert: append(encode(certificate, cert.Certificate[0]), encode(certificate, a.servers.Certificate[0])...),
		f.key:  encode("PRIVATE KEY", key),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return f
}
