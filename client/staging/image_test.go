package staging

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"holdfast/mcuboot"
)

// bootable is an image in MCUboot's format.
func bootable(t testing.TB, version string, counter uint32) []byte {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	v := must[mcuboot.Version](t)(mcuboot.ParseVersion(version))
	return must[[]byte](t)(mcuboot.Build([]byte("program"), v, counter, key))
}
