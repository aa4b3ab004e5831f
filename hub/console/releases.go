package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"holdfast/operator"
	"holdfast/release"
)

func (c *console) releaseRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /releases", c.show("releases", c.releases))
	mux.HandleFunc("GET /releases/{product}/{version}", c.show("release", c.release))
}

// releasesView is what is published, and how the repository stands.
type releasesView struct {
	Product  string // only of this one; empty: all
	Products []release.Product
	Releases []operator.Release // by product, the newest version first
	Roles    []role
	Keys     operator.Repository
	Problem  *problem // why there are no roles; nil for whoever may not ask
}

// role is a role of the repository and what somebody should know of it.
type role struct {
	Name string
	operator.RepositoryRole
}

// Online reports whether the hub signs it, and renews it by itself.
func (r role) Online() bool { return r.Name == "snapshot" || r.Name == "timestamp" }

// soon is how long before the end of what release keys have signed people are
// told: as long as the hub's first alert.
const soon = 30 * 24 * time.Hour

// State says how the role stands: "good", "fair" when its end is near, "bad"
// when it has ended.
func (r role) State() string {
	switch left := time.Until(r.Expires); {
	case left <= 0:
		return "bad"
	case left <= soon && !r.Online():
		return "fair"
	}
	return "good"
}

// Advice says what to do, if there is anything.
func (r role) Advice() string {
	switch state := r.State(); {
	case state == "bad" && r.Online():
		return "The hub has not renewed it: its log says why. Devices install nothing until it does."
	case state == "bad":
		return "Devices install nothing under it: sign a new one and publish it."
	case state == "fair":
		return "Only its signers can renew it: sign a new one and publish it."
	}
	return ""
}

// Tally says how many of the keys of a kind have signed: "2 of 3".
func (r role) Tally(kind string) string {
	signed, all := 0, 0
	for _, k := range r.Keys {
		if k.Kind == kind {
			all++
			if k.Signed {
				signed++
			}
		}
	}
	return fmt.Sprintf("%d of %d", signed, all)
}

// rolesOf puts what signers have to care for first: root, targets, products, and
// then what the hub renews.
func rolesOf(repo operator.Repository) []role {
	out := make([]role, 0, len(repo.Roles))
	for name, r := range repo.Roles {
		out = append(out, role{name, r})
	}
	place := func(r role) int {
		if i := slices.Index([]string{"root", "targets", "", "snapshot", "timestamp"}, r.Name); i >= 0 {
			return i
		}
		return 2
	}
	slices.SortFunc(out, func(a, b role) int { return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.Name, b.Name)) })
	return out
}

func (c *console) releases(r *http.Request) (page, error) {
	v := releasesView{Product: r.URL.Query().Get("product")}
	all, err := get[[]operator.Release](c, r, "/v1/releases")
	if err != nil {
		return page{}, err
	}
	for _, rel := range slices.Backward(all) {
		if !slices.Contains(v.Products, rel.Product) {
			v.Products = append(v.Products, rel.Product)
		}
		if v.Product == "" || v.Product == string(rel.Product) {
			v.Releases = append(v.Releases, rel)
		}
	}
	slices.Sort(v.Products)
	slices.SortStableFunc(v.Releases, func(a, b operator.Release) int { return cmp.Compare(a.Product, b.Product) })
	if operator.From(r.Context()).Groups == nil {
		repo := partOf[operator.Repository](c, r, "/v1/repository")
		v.Keys, v.Roles, v.Problem = repo.Value, rolesOf(repo.Value), repo.Problem
	}
	return page{Data: v, Live: changes}, nil
}

// releaseView is a release, who signed for it, and where it was rolled out.
type releaseView struct {
	operator.Release
	Role     *role // of its product; nil for whoever may not ask
	Rollouts part[[]operator.Rollout]
}

func (c *console) release(r *http.Request) (page, error) {
	product, version := r.PathValue("product"), r.PathValue("version")
	rel, err := get[operator.Release](c, r, "/v1/releases/"+url.PathEscape(product)+"/"+url.PathEscape(version))
	if err != nil {
		return page{}, err
	}
	v := releaseView{Release: rel, Rollouts: partOf[[]operator.Rollout](c, r, "/v1/rollouts", "product", product, "limit", strconv.Itoa(rolloutPage))}
	v.Rollouts.Value = slices.DeleteFunc(v.Rollouts.Value, func(o operator.Rollout) bool { return o.Version != rel.Version })
	if operator.From(r.Context()).Groups == nil {
		if at, ok := partOf[operator.Repository](c, r, "/v1/repository").Value.Roles[product]; ok {
			v.Role = &role{product, at}
		}
	}
	return page{Data: v, Live: changes}, nil
}

// size writes a number of bytes as people read it.
func size(n int64) string {
	const unit = 1024
	switch {
	case n < unit:
		return fmt.Sprintf("%d bytes", n)
	case n < unit*unit:
		return fmt.Sprintf("%.1f KiB", float64(n)/unit)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(unit*unit))
}
