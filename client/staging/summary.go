package staging

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/fault"
	"holdfast/internal/keyfile"
	"holdfast/release"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// changes says in lines what after changes of before.
func changes(before, after content) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if after.root.Version > before.root.Version {
		add("root %d: %s, until %s", after.root.Version, quorumChange(before.root.Release, after.root.Release), day(after.root.Expires))
		if !after.root.Snapshot.Equal(before.root.Snapshot) || !after.root.Timestamp.Equal(before.root.Timestamp) {
			add("root %d: the hub's keys are snapshot %x, timestamp %x", after.root.Version, after.root.Snapshot, after.root.Timestamp)
		}
	}
	if after.targets.Version > before.targets.Version {
		add("targets %d: until %s", after.targets.Version, day(after.targets.Expires))
		for _, d := range after.targets.Products {
			was, ok := before.targets.Delegation(d.Product)
			if !ok || !was.Signers.Equal(d.Signers) {
				add("targets %d: %s is signed by %s", after.targets.Version, d.Product, quorumChange(was.Signers, d.Signers))
			}
		}
	}
	for _, name := range roles(after.products) {
		p, was := after.products[release.Product(name)], before.products[release.Product(name)]
		if p.Version > was.Version {
			add("%s %d: until %s", name, p.Version, day(p.Expires))
			out = append(out, releaseChanges(before, p)...)
		}
	}
	return out
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func quorumChange(before, after author.Quorum) string {
	added, removed := after.Without(before), before.Without(after)
	var parts []string
	if n := len(added.Classical); n > 0 {
		parts = append(parts, fmt.Sprintf("%d new keys", n))
	}
	if n := len(removed.Classical); n > 0 {
		parts = append(parts, fmt.Sprintf("without %d keys", n))
	}
	return strings.Join(append(parts, fmt.Sprintf("%d of %d keys", after.Threshold, len(after.Classical))), ", ")
}

func releaseChanges(before content, p author.Product) []string {
	var out []string
	for _, r := range p.Releases {
		was, ok := before.find(r.Target)
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("%s %d: release %s", p.Name, p.Version, describe(r)))
		case r.Withdrawn != was.Withdrawn:
			out = append(out, fmt.Sprintf("%s %d: %s is withdrawn: %s", p.Name, p.Version, r.Version, r.Withdrawn))
		case !same(was, r):
			out = append(out, fmt.Sprintf("%s %d: %s is CHANGED to %s", p.Name, p.Version, r.Version, describe(r)))
		}
	}
	for _, was := range before.products[p.Name].Releases {
		if !slices.ContainsFunc(p.Releases, func(r release.Release) bool { return r.Version == was.Version }) {
			out = append(out, fmt.Sprintf("%s %d: %s is GONE", p.Name, p.Version, was.Version))
		}
	}
	return out
}

// describe says in one line what is signed of a release.
func describe(r release.Release) string {
	parts := []string{fmt.Sprintf("%s, security version %d, %d bytes, SHA-256 %s, measured %s", r.Version, r.SecurityVersion, r.Image.Length, r.Image.SHA256, r.Measured)}
	if len(r.Hardware) > 0 {
		parts = append(parts, "for "+strings.Join(r.Hardware, " "))
	}
	for _, q := range r.Requires {
		parts = append(parts, fmt.Sprintf("after %s %s", q.Product, q.Version))
	}
	parts = append(parts, fmt.Sprintf("health %s within %s", strings.Join(r.Health.Checks, " "), r.Health.Deadline()))
	if r.SBOM != nil {
		parts = append(parts, "SBOM "+r.SBOM.SHA256.String())
	}
	if r.Audit != nil {
		parts = append(parts, "audit "+r.Audit.SHA256.String())
	}
	if r.Withdrawn != "" {
		parts = append(parts, "withdrawn: "+r.Withdrawn)
	}
	return strings.Join(parts, ", ")
}

// Status is what a staging directory has.
type Status struct {
	Roles    []RoleStatus `json:"roles"`
	Changes  []string     `json:"changes"` // what the draft changes of what is settled
	Missing  []string     `json:"missing"` // signatures
	Complete bool         `json:"complete"`
	Draft    bool         `json:"draft"` // something is not settled
}

// RoleStatus is the newest file of a role.
type RoleStatus struct {
	Role      string    `json:"role"`
	Version   int64     `json:"version"`
	Expires   time.Time `json:"expires"`
	Draft     bool      `json:"draft"`
	Digest    string    `json:"digest"` // SHA-256 of what is signed
	Threshold int       `json:"threshold"`
	Signed    []string  `json:"signed"`  // by whom, both halves
	Missing   []string  `json:"missing"` // who may sign still
}

// Status says what is signed by whom, and what is missing.
func (d *Dir) Status() (Status, error) {
	if err := d.need(); err != nil {
		return Status{}, err
	}
	w, err := d.desk(Options{})
	if err != nil {
		return Status{}, err
	}
	names, err := d.names()
	if err != nil {
		return Status{}, err
	}
	out := Status{Changes: changes(w.settled.content, w.full.content), Missing: w.missing(), Draft: len(w.Draft) > 0}
	out.Complete = len(out.Missing) == 0
	for _, role := range roles(w.full.docs) {
		doc, q := w.full.docs[role], w.full.signers(role)
		sum := sha256.Sum256(doc.Message())
		r := RoleStatus{Role: role, Version: doc.Version, Expires: doc.Expires, Draft: doc.Version > w.settled.version(role),
			Digest: hex.EncodeToString(sum[:]), Threshold: q.Threshold}
		r.Signed, r.Missing = signedBy(doc, q, names)
		out.Roles = append(out.Roles, r)
	}
	return out, nil
}

// FirstRoot returns the first root, which devices are provisioned with, once
// enough have signed it.
func (d *Dir) FirstRoot() ([]byte, error) {
	if err := d.need(); err != nil {
		return nil, err
	}
	w, err := d.desk(Options{})
	if err != nil {
		return nil, err
	}
	root := w.Settled[firstRoot]
	if root == nil && len(w.missing()) == 0 {
		root = w.Draft[firstRoot]
	}
	if root == nil {
		return nil, fault.New(fault.Conflict, "the first root has too few signatures: see 'holdfast release status'")
	}
	return root, nil
}

// signedBy names the keys of a quorum that have signed, and those that have not.
func signedBy(doc *author.Document, q author.Quorum, names map[string]string) (signed, missing []string) {
	got := doc.Signed(q)
	have := append(got.Classical, got.MLDSA...)
	halves := map[string]int{}
	for _, k := range q.Classical {
		if id, err := author.ID(k); err == nil {
			halves[nameOf(id, names)] += count(slices.Contains(have, id))
		}
	}
	for _, k := range q.MLDSA {
		id := tuf.MLDSAKeyID(k)
		halves[nameOf(id, names)] += count(slices.Contains(have, id))
	}
	for _, name := range roles(halves) {
		if halves[name] > 0 {
			signed = append(signed, name)
		} else {
			missing = append(missing, name)
		}
	}
	return signed, missing
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func nameOf(id string, names map[string]string) string {
	if n := names[id]; n != "" {
		return n
	}
	return "key " + id[:min(12, len(id))]
}

// names returns the names of the keys in the directory, by key id.
func (d *Dir) names() (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(d.path, keysName, "*.pub"))
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, f := range files {
		k, err := keyfile.Load(f)
		if err != nil {
			return nil, err
		}
		id, err := author.ID(k.Public.Classical)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(filepath.Base(f), ".pub")
		names[id], names[tuf.MLDSAKeyID(k.Public.MLDSA)] = name, name
	}
	return names, nil
}

// Name keeps the name of a key, for Status.
func (d *Dir) Name(name string, k *keyfile.Key) error {
	b, err := k.PublicHalf().Marshal()
	if err != nil {
		return err
	}
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return d.put(filepath.Join(keysName, filepath.Base(name)+".pub"), b)
}
