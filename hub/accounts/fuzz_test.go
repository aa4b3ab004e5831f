package accounts

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzOwnPath: wherever somebody is sent after a login, it is a page of this
// hub, and the text is no header or markup.
func FuzzOwnPath(f *testing.F) {
	for _, s := range []string{"/", "/x?y=z#f", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb", "/%2f%2fevil", "/;//x", "/@evil", "/..//evil.example"} {
		f.Add(s)
	}
	hub := &url.URL{Scheme: "https", Host: "hub.example", Path: "/auth/oidc/callback"}
	f.Fuzz(func(t *testing.T, s string) {
		got := ownPath(s)
		at, err := hub.Parse(got)
		if err != nil || at.Host != "hub.example" || at.Scheme != "https" || at.User != nil {
			t.Errorf("%q leads to %q: %v, %v", s, got, at, err)
		}
		if !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//") || strings.ContainsAny(got, "\\\r\n\t \x00") {
			t.Errorf("%q leads to %q", s, got)
		}
		if ownPath(got) != got {
			t.Errorf("%q leads to %q, and that to %q", s, got, ownPath(got))
		}
	})
}

// FuzzSubject: what names an account has one form.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{"", "Ann@Example.com", "https://idp.example 7", "http://idp.example 7", "a@b@c", "a b@c", "\x00@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseSubject(s)
		if err != nil {
			return
		}
		again, err := parseSubject(got)
		if err != nil || again != got {
			t.Errorf("%q is %q, and that %q: %v", s, got, again, err)
		}
		if strings.Contains(got, " ") != strings.Contains(s, " ") || text(got, maxSubject) != got {
			t.Errorf("%q is %q", s, got)
		}
	})
}
