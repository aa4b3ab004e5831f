package fleet

import (
	"context"
	"crypto/x509"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"holdfast/birth"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
	"holdfast/posture/policy"
	"holdfast/release"
)

// The limits of a group and of the registered authorities.
const (
	maxIDs    = 1024 // ids and patterns of a group
	maxCAs    = 256
	maxCAName = 64
)

// Groups returns the groups by name.
func (f *Fleet) Groups(ctx context.Context) ([]operator.Group, error) { return f.cfg.Store.Groups(ctx) }

// Group returns a group, or a fault of kind NotFound.
func (f *Fleet) Group(ctx context.Context, id identity.Group) (operator.Group, error) {
	return f.group(ctx, id)
}

func (f *Fleet) group(ctx context.Context, id identity.Group) (operator.Group, error) {
	f.mu.Lock()
	g, ok := f.groups[id]
	f.mu.Unlock()
	if ok {
		return g, nil
	}
	gs, err := f.cfg.Store.Groups(ctx)
	if err != nil {
		return operator.Group{}, err
	}
	for _, g := range gs {
		if g.ID == id {
			g.Policy = f.bound(ctx, g)
			f.mu.Lock()
			defer f.mu.Unlock()
			if now, ok := f.groups[id]; ok {
				return now, nil // SetGroup was here meanwhile
			}
			f.groups[id] = g
			return g, nil
		}
	}
	return operator.Group{}, fault.New(fault.NotFound, "there is no group %q", id)
}

// bound compiles the conditions of a group's policy. One that was accepted once
// and does not compile any more leaves its conditions unmet.
func (f *Fleet) bound(ctx context.Context, g operator.Group) posture.Policy {
	p, err := policy.Bind(g.Policy)
	if err != nil {
		f.log.ErrorContext(ctx, "conditions of a policy", "group", g.ID, "err", err)
		return g.Policy
	}
	return p
}

// remember keeps a group in memory: each decision needs one, and only SetGroup
// changes them. What is remembered is never changed itself.
func (f *Fleet) remember(g operator.Group) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups[g.ID] = g
	delete(f.gauges, g.ID)
}

// SetGroup makes a group or changes one. Without a policy a new group gets the
// standard one and an existing group keeps its own. A change takes effect at
// once: every device of the group is decided on again.
func (f *Fleet) SetGroup(ctx context.Context, by string, id identity.Group, s operator.SetGroup) (operator.Group, error) {
	if _, err := identity.ParseGroup(string(id)); err != nil {
		return operator.Group{}, fault.New(fault.Invalid, "%w", err)
	}
	defer f.lockRegistry()()
	old, err := f.group(ctx, id)
	exists := err == nil
	if err != nil && fault.Of(err) != fault.NotFound {
		return operator.Group{}, err
	}
	g := operator.Group{ID: id, Simulation: s.Simulation, FileKeys: s.FileKeys, TLS12: s.TLS12, SelfSigned: s.SelfSigned, ThreadX: s.ThreadX, Limits: s.Limits,
		MakerCAs: slices.Compact(slices.Sorted(slices.Values(s.MakerCAs))), IDs: slices.Compact(slices.Sorted(slices.Values(s.IDs)))}
	if g.Policy, err = policyOf(s, old.Policy, exists); err != nil {
		return operator.Group{}, err
	}
	if g.Product, err = productOf(s.Product, old.Product); err != nil {
		return operator.Group{}, err
	}
	if err := f.checkGroup(ctx, g); err != nil {
		return operator.Group{}, err
	}
	return g, f.saveGroup(ctx, by, g, old)
}

// saveGroup writes a group that was old and acts on it. The caller holds the
// registry's lock.
func (f *Fleet) saveGroup(ctx context.Context, by string, g, old operator.Group) error {
	event := Event{Kind: KindGroup, Details: map[string]any{"by": by, "group": g}}
	if err := f.cfg.Store.SaveGroup(ctx, g, []Event{event}); err != nil {
		return err
	}
	f.remember(g)
	f.handOver(ctx)
	return f.redecide(ctx, g, old)
}

// productOf reads the product that a group gets: without one it keeps its own.
func productOf(s string, old release.Product) (release.Product, error) {
	switch s {
	case "":
		return old, nil
	case operator.NoProduct:
		return "", nil
	}
	p, err := release.ParseProduct(s)
	if err != nil {
		return "", fault.New(fault.Invalid, "%w", err)
	}
	return p, nil
}

// SetProduct gives a group that names none its product, as a rollout does that
// begins in it. It is a fault of kind Conflict where the group has another.
func (f *Fleet) SetProduct(ctx context.Context, by string, id identity.Group, p release.Product) error {
	if _, err := release.ParseProduct(string(p)); err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	defer f.lockRegistry()()
	g, err := f.group(ctx, id)
	switch {
	case err != nil:
		return err
	case g.Product == p:
		return nil
	case g.Product != "":
		return fault.New(fault.Conflict, "group %s is of product %s, not %s", id, g.Product, p)
	}
	old := g
	g.Product = p
	return f.saveGroup(ctx, by, g, old)
}

// policyOf reads the policy that s asks for, with the version that it gets.
func policyOf(s operator.SetGroup, old posture.Policy, exists bool) (posture.Policy, error) {
	p, err := newPolicy(s)
	switch {
	case err != nil:
		return p, err
	case p.Name == "" && exists:
		return old, nil
	case exists:
		return succeed(p, old)
	case p.Name == "":
		if p, err = posture.Builtin(posture.Standard); err != nil {
			return p, err
		}
	}
	p.Version = max(1, p.Version)
	return p, nil
}

// newPolicy reads the policy that s brings, or the zero one.
func newPolicy(s operator.SetGroup) (p posture.Policy, err error) {
	switch {
	case s.PolicyName != "" && (len(s.Policy) > 0 || s.Text != ""), len(s.Policy) > 0 && s.Text != "":
		return p, fault.New(fault.Invalid, "give a policy's name, a policy or its text, not both")
	case len(s.Policy) > 0:
		p, err = policy.Parse(s.Policy)
	case s.Text != "":
		p, err = policy.Parse([]byte(s.Text))
	case s.PolicyName != "":
		p, err = posture.Builtin(s.PolicyName)
		p.Version = 0 // it gets the group's next
	}
	if err != nil {
		return p, fault.New(fault.Invalid, "%w", err)
	}
	return p, nil
}

// succeed gives p its version as the successor of old. The versions of a
// group's policies only go up: what was made from an old copy is refused.
func succeed(p, old posture.Policy) (posture.Policy, error) {
	same := p
	same.Version = old.Version
	switch {
	case same.Equal(old) && (p.Version == 0 || p.Version == old.Version):
		return same, nil // nothing changes
	case p.Version == 0:
		p.Version = old.Version + 1
	case p.Version <= old.Version:
		return p, fault.New(fault.Conflict, "policy %s has version %d, and the group has version %d: only a higher one replaces it, or one that does not say", p.Name, p.Version, old.Version)
	}
	return p, nil
}

// checkGroup refuses a group whose makers' CAs do not exist, or whose ids
// could be another group's too: a certificate must lead to one group.
func (f *Fleet) checkGroup(ctx context.Context, g operator.Group) error {
	if err := g.Limits.Check(); err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	if len(g.IDs) > maxIDs {
		return fault.New(fault.Invalid, "group has %d ids, at most %d are allowed", len(g.IDs), maxIDs)
	}
	for _, p := range g.IDs {
		if _, err := identity.ParseDevice(strings.TrimSuffix(p, "*")); err != nil {
			return fault.New(fault.Invalid, "id pattern %q: want a device id, or its beginning and \"*\": %w", p, err)
		}
	}
	cas, err := f.cfg.Store.CAs(ctx)
	if err != nil {
		return err
	}
	for _, name := range g.MakerCAs {
		if !slices.ContainsFunc(cas, func(ca operator.CA) bool { return ca.Name == name && ca.Kind == kindMaker }) {
			return fault.New(fault.NotFound, "there is no maker's CA %q", name)
		}
	}
	groups, err := f.cfg.Store.Groups(ctx)
	if err != nil {
		return err
	}
	for _, other := range groups {
		if p, q, ok := overlap(g.IDs, other.IDs); ok && other.ID != g.ID {
			return fault.New(fault.Conflict, "id pattern %q overlaps %q of group %s", p, q, other.ID)
		}
	}
	return nil
}

// overlap finds a pattern of each list that some id matches both of.
func overlap(as, bs []string) (a, b string, ok bool) {
	for _, a := range as {
		for _, b := range bs {
			pa, wildA := strings.CutSuffix(a, "*")
			pb, wildB := strings.CutSuffix(b, "*")
			if a == b || wildA && strings.HasPrefix(pb, pa) || wildB && strings.HasPrefix(pa, pb) {
				return a, b, true
			}
		}
	}
	return "", "", false
}

// redecide decides again on the devices of a group that was old: first on those
// that have a session, which may have to be cut down. Where the policy alone is
// new, it leaves out those without a session that stand as before: what else is
// new of their decision is seen when they come.
func (f *Fleet) redecide(ctx context.Context, g, old operator.Group) error {
	was, now := posture.NewGauge(old.Policy), f.now()
	old.Policy = g.Policy
	policyAlone := reflect.DeepEqual(g, old)
	var live, others []identity.Device
	err := f.survey(ctx, func(p *panel) {
		for _, d := range p.dials {
			switch i := d.item; {
			case i.Group != g.ID:
			case i.live:
				live = append(live, i.ID)
			case policyAlone && was.Read(i.view(now), i.first(now)).Standing == p.gauges[d.group].Read(i.view(now), i.first(now)).Standing:
			default:
				others = append(others, i.ID)
			}
		}
	})
	if err != nil {
		return err
	}
	for _, id := range slices.Concat(live, others) {
		if err := f.recheck(ctx, id); err != nil {
			return fmt.Errorf("decide again on %s: %w", id, err)
		}
	}
	return nil
}

// The kinds of registered authorities.
const (
	kindMaker       = "maker"
	kindEndorsement = "endorsement"
)

// CAs returns the registered authorities by name.
func (f *Fleet) CAs(ctx context.Context) ([]operator.CA, error) { return f.cfg.Store.CAs(ctx) }

// AddCA registers a maker's CA or an endorsement root: a CA certificate that
// is neither weak nor expired, under a name and with a key that no other has.
func (f *Fleet) AddCA(ctx context.Context, by string, ca operator.CA) (operator.CA, error) {
	defer f.lockRegistry()()
	cert, err := f.checkCA(ctx, ca)
	if err != nil {
		return operator.CA{}, err
	}
	ca.Challenge, ca.Verified = "", time.Time{}
	if ca.Kind == kindMaker {
		ca.Challenge = pki.NewChallenge()
	}
	ca.Subject, ca.NotAfter, ca.PEM = cert.Subject.String(), cert.NotAfter.UTC(), string(pki.EncodeCerts(cert))
	event := Event{Kind: KindCA, Details: map[string]any{"by": by, "name": ca.Name, "kind": ca.Kind, "class": ca.Class,
		"subject": ca.Subject, "sha256": identity.Sum(cert.Raw)}}
	if err := f.saveCA(ctx, ca, []Event{event}); err != nil {
		return operator.CA{}, err
	}
	f.handOver(ctx)
	return ca, nil
}

func (f *Fleet) checkCA(ctx context.Context, ca operator.CA) (*x509.Certificate, error) {
	if ca.Name == "" || len(ca.Name) > maxCAName || strings.ContainsFunc(ca.Name, notInName) {
		return nil, fault.New(fault.Invalid, "name %q: want 1 to %d of letters, digits and \"-._\"", ca.Name, maxCAName)
	}
	endorsement := ca.Kind == kindEndorsement
	if !endorsement && ca.Kind != kindMaker {
		return nil, fault.New(fault.Invalid, "kind %q: want maker or endorsement", ca.Kind)
	}
	if classed := ca.Class == string(birth.Hardware) || ca.Class == string(birth.Software); classed != endorsement || !endorsement && ca.Class != "" {
		return nil, fault.New(fault.Invalid, "class %q: an endorsement root is hardware or software, a maker's CA has none", ca.Class)
	}
	cert, err := pki.ParseCert([]byte(ca.PEM))
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	if err := pki.CheckMakerCA(cert, f.now()); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	cas, err := f.cfg.Store.CAs(ctx)
	if err != nil {
		return nil, err
	}
	if len(cas) >= maxCAs {
		return nil, fault.New(fault.Invalid, "%d authorities are registered, no more are allowed", len(cas))
	}
	for _, other := range cas {
		if other.Name == ca.Name {
			return nil, fault.New(fault.Conflict, "an authority %q is registered already", ca.Name)
		}
		if c, err := pki.ParseCert([]byte(other.PEM)); err == nil && c.Equal(cert) {
			return nil, fault.New(fault.Conflict, "the certificate is registered already as %q", other.Name)
		}
	}
	return cert, nil
}

// VerifyCA takes in a proof that somebody holds the key of a maker's CA, or
// makes a new challenge where there is no proof to check. A challenge is good
// for one proof. A proof that fails is a fault of kind Integrity.
func (f *Fleet) VerifyCA(ctx context.Context, by, name string, proof operator.Proof) (operator.CA, error) {
	defer f.lockRegistry()()
	ca, cert, err := f.maker(ctx, name)
	if err != nil {
		return operator.CA{}, err
	}
	var es []Event
	if proof.PEM == "" {
		ca.Challenge = pki.NewChallenge()
	} else {
		if err := f.checkProof(ca, cert, proof); err != nil {
			return operator.CA{}, err
		}
		ca.Challenge, ca.Verified = "", f.now()
		es = []Event{{Kind: KindVerifyCA, Details: map[string]any{"by": by, "name": ca.Name, "sha256": identity.Sum(cert.Raw)}}}
	}
	if err := f.saveCA(ctx, ca, es); err != nil {
		return operator.CA{}, err
	}
	f.handOver(ctx)
	return ca, nil
}

func (f *Fleet) checkProof(ca operator.CA, cert *x509.Certificate, proof operator.Proof) error {
	if ca.Challenge == "" {
		return fault.New(fault.Conflict, "there is no challenge to %s: ask for one first", ca.Name)
	}
	p, err := pki.ParseCert([]byte(proof.PEM))
	if err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	if err := pki.CheckProof(p, cert, ca.Challenge, f.now()); err != nil {
		return fault.New(fault.Integrity, "proof for %s: %w", ca.Name, err)
	}
	return nil
}

// maker finds a maker's CA by its name.
func (f *Fleet) maker(ctx context.Context, name string) (found operator.CA, cert *x509.Certificate, err error) {
	err = f.eachCA(ctx, kindMaker, func(ca operator.CA, c *x509.Certificate) {
		if ca.Name == name {
			found, cert = ca, c
		}
	})
	if err == nil && cert == nil {
		err = fault.New(fault.NotFound, "there is no maker's CA %q", name)
	}
	return found, cert, err
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
}

// MakerAnchors returns the makers' CAs that some group lists: those that
// listeners trust to say who a device is.
func (f *Fleet) MakerAnchors(ctx context.Context) ([]pki.Anchor, error) {
	groups, err := f.cfg.Store.Groups(ctx)
	if err != nil {
		return nil, err
	}
	var anchors []pki.Anchor
	err = f.eachCA(ctx, kindMaker, func(ca operator.CA, cert *x509.Certificate) {
		listed := slices.ContainsFunc(groups, func(g operator.Group) bool { return slices.Contains(g.MakerCAs, ca.Name) })
		if listed {
			anchors = append(anchors, pki.Anchor{Class: pki.Maker, Cert: cert})
		}
	})
	return anchors, err
}

// EndorsementRoots returns the registered endorsement roots that are valid now.
func (f *Fleet) EndorsementRoots(ctx context.Context) ([]birth.Root, error) {
	var roots []birth.Root
	err := f.eachCA(ctx, kindEndorsement, func(ca operator.CA, cert *x509.Certificate) {
		roots = append(roots, birth.Root{Name: ca.Name, Class: birth.Class(ca.Class), Cert: cert})
	})
	return roots, err
}

// eachCA calls do with each authority of a kind.
func (f *Fleet) eachCA(ctx context.Context, kind string, do func(operator.CA, *x509.Certificate)) error {
	as, err := f.authorities(ctx)
	if err != nil {
		return err
	}
	for _, a := range as {
		if a.Kind == kind {
			do(a.CA, a.cert)
		}
	}
	return nil
}

// MakerCA returns the name of the maker's CA with that certificate, or a fault
// of kind Denied.
func (f *Fleet) MakerCA(ctx context.Context, anchor identity.Digest) (string, error) {
	return f.makerCA(ctx, anchor)
}

// makerCA returns the name of the maker's CA with that certificate.
func (f *Fleet) makerCA(ctx context.Context, anchor identity.Digest) (string, error) {
	var name string
	err := f.eachCA(ctx, kindMaker, func(ca operator.CA, cert *x509.Certificate) {
		if identity.Sum(cert.Raw) == anchor {
			name = ca.Name
		}
	})
	if err == nil && name == "" {
		err = fault.New(fault.Denied, "the maker's CA is not registered")
	}
	return name, err
}
