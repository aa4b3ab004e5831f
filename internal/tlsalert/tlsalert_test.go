package tlsalert_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"holdfast/internal/tlsalert"
)

func TestRefused(t *testing.T) {
	remote := func(code tls.AlertError) error { return &net.OpError{Op: "remote error", Err: code} }
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"bad certificate":       {remote(42), true},
		"revoked, wrapped":      {fmt.Errorf("read: %w", remote(44)), true},
		"unknown CA":            {remote(48), true},
		"certificate required":  {remote(116), true},
		"hub's internal error":  {remote(80), false},
		"no common version":     {remote(70), false},
		"our own alert":         {&net.OpError{Op: "local error", Err: tls.AlertError(42)}, false},
		"connection refused":    {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, false},
		"end of the connection": {io.EOF, false},
		"nothing":               {nil, false},
	} {
		if got := tlsalert.Refused(tc.err); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
