package board_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/board"
)

func TestFeatures(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"x86", "processor\t: 0\nflags\t\t: fpu aes sha_ni rdrand rdseed pclmulqdq\n\nprocessor\t: 1\nflags\t: sha512\n", []string{"aes", "ghash", "rng", "sha2"}},
		{"arm", "Features\t: fp asimd aes pmull sha1 sha2\n", []string{"aes", "ghash", "sha2"}},
		{"none", "processor : 0\n", nil},
		{"empty", "", nil},
	} {
		if diff := cmp.Diff(c.want, board.Features(strings.NewReader(c.text))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
