package console

import (
	"net/http"
	"net/url"
)

// headers are in every answer. The policy allows nothing but files of this
// origin: no inline script or style, no frame, no other site.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), geolocation=(), microphone=(), payment=(), usb=(), publickey-credentials-create=(self), publickey-credentials-get=(self)",
	"Cache-Control":                "no-store",
}

// guard puts the headers in every answer and refuses what another site has a
// browser ask.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for k, v := range headers {
			w.Header().Set(k, v)
		}
		if foreign(r) {
			http.Error(w, "This was asked by another site, which may not.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// foreign reports whether another site asks: a change that is not from a page
// of this origin, or anything but a person following a link. A browser says
// so itself in Sec-Fetch-Site; one that does not is asked for its Origin.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate"
	}
	if site != "" {
		return site != "same-origin"
	}
	origin, err := url.Parse(r.Header.Get("Origin"))
	return err != nil || origin.Host == "" || origin.Host != r.Host
}
