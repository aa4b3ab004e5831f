package console

import (
	"net/http"
	"net/url"
	"strings"

	"holdfast/operator"
)

func (c *console) authorityRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /authorities", c.show("authorities", c.authorities))
	mux.HandleFunc("POST /authorities", c.act("authorities", "add", c.authorities, c.addAuthority))
	mux.HandleFunc("POST /authorities/{name}/verify", func(w http.ResponseWriter, r *http.Request) {
		c.act("authorities", "verify "+r.PathValue("name"), c.authorities, c.verifyAuthority)(w, r)
	})
}

// authoritiesView is the authorities and the hub's own roots.
type authoritiesView struct {
	CAs []operator.CA
	Hub part[operator.Hub]
}

func (c *console) authorities(r *http.Request) (page, error) {
	cas, err := get[[]operator.CA](c, r, "/v1/cas")
	return page{Data: authoritiesView{cas, partOf[operator.Hub](c, r, "/v1/hub")}, Live: changes}, err
}

func (c *console) addAuthority(r *http.Request) (outcome, error) {
	f := r.PostForm
	ca := operator.CA{Name: strings.TrimSpace(f.Get("name")), Kind: f.Get("kind"), PEM: f.Get("pem")}
	if ca.Kind == "endorsement" {
		ca.Class = f.Get("class")
	}
	err := c.ask(r, request{method: http.MethodPost, path: "/v1/cas", body: ca}, nil)
	return outcome{to: "/authorities", done: "added"}, err
}

// verifyAuthority shows that somebody holds the key, or asks for a new
// challenge where the field is empty.
func (c *console) verifyAuthority(r *http.Request) (outcome, error) {
	err := c.ask(r, request{method: http.MethodPost, path: "/v1/cas/" + url.PathEscape(r.PathValue("name")) + "/verify",
		body: operator.Proof{PEM: r.PostForm.Get("pem")}}, nil)
	return outcome{to: "/authorities", done: "saved"}, err
}
