package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"holdfast/identity"
	"holdfast/operator"
)

func (c *console) referenceRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /references", c.show("references", c.references))
	mux.HandleFunc("POST /references", c.act("references", "add", c.references, c.addReference))
	mux.HandleFunc("POST /references/{group}/{digest}/remove", c.act("references", "remove", c.references, c.removeReference))
}

// referencesView is the Reference Values of one group.
type referencesView struct {
	Groups     []operator.Group
	Group      string
	References []operator.Reference
}

func (c *console) references(r *http.Request) (page, error) {
	v := referencesView{Group: r.FormValue("group")}
	if g := r.PathValue("group"); g != "" {
		v.Group = g
	}
	var err error
	if v.Groups, err = get[[]operator.Group](c, r, "/v1/groups"); err != nil {
		return page{}, err
	}
	if v.Group == "" && len(v.Groups) > 0 {
		v.Group = string(v.Groups[0].ID)
	}
	if v.Group != "" {
		v.References, err = get[[]operator.Reference](c, r, "/v1/references", "group", v.Group)
	}
	return page{Data: v}, err
}

func (c *console) addReference(r *http.Request) (outcome, error) {
	f := r.PostForm
	digest, err := identity.ParseDigest(strings.TrimSpace(f.Get("digest")))
	if err != nil {
		return outcome{}, mistyped("%s.", err.Error())
	}
	pcr, err := strconv.Atoi(strings.TrimSpace(f.Get("pcr")))
	if err != nil {
		return outcome{}, mistyped("The register is a number.")
	}
	ref := operator.Reference{Group: identity.Group(f.Get("group")), Kind: f.Get("kind"), PCR: pcr, Digest: digest,
		Name: strings.TrimSpace(f.Get("name")), Version: strings.TrimSpace(f.Get("version"))}
	err = c.ask(r, request{method: http.MethodPost, path: "/v1/references", body: ref}, nil)
	return outcome{to: "/references?" + url.Values{"group": {f.Get("group")}, "done": {"added"}}.Encode()}, err
}

func (c *console) removeReference(r *http.Request) (outcome, error) {
	group := r.PathValue("group")
	err := c.ask(r, request{method: http.MethodDelete, path: "/v1/references/" + url.PathEscape(group) + "/" + url.PathEscape(r.PathValue("digest"))}, nil)
	return outcome{to: "/references?" + url.Values{"group": {group}, "done": {"removed"}}.Encode()}, err
}
