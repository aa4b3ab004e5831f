package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// SoftHSM says where a software token is that has one P-256 key.
type SoftHSM struct {
	Module string // the PKCS#11 library
	Token  string // label
	Key    string // label
	PIN    string
}

// NewSoftHSM makes a PKCS#11 token in software, for this test alone.
func NewSoftHSM(t *testing.T) SoftHSM {
	t.Helper()
	util, openssl := Need(t, "softhsm2-util"), Need(t, "openssl")
	dir := t.TempDir()
	conf, key := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	s := SoftHSM{Module: "/usr/lib/softhsm/libsofthsm2.so", Token: "releases", Key: "release-1", PIN: "1234"}
	for _, args := range [][]string{
		{openssl, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key},
		{util, "--init-token", "--free", "--label", s.Token, "--pin", s.PIN, "--so-pin", "5678"},
		{util, "--import", key, "--token", s.Token, "--label", s.Key, "--id", "01", "--pin", s.PIN},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return s
}
