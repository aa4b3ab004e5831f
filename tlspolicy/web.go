package tlspolicy

import (
	"crypto/tls"
	"crypto/x509"
)

// Web is the policy towards servers that are not the hub's own: TLS 1.2 at
// least, and the given roots alone; the system's where there are none.
func Web(roots ...*x509.Certificate) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, CurvePreferences: groups()}
	if len(roots) > 0 {
		c.RootCAs = x509.NewCertPool()
		for _, r := range roots {
			c.RootCAs.AddCert(r)
		}
	}
	return c
}
