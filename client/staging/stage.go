package staging

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/fault"
	"holdfast/tuf"
	"holdfast/tuf/author"
)

// Lifetime is how long metadata is valid where the signer does not say: from the
// next midnight, UTC, so that signers of one day sign the same bytes.
const Lifetime = 365 * 24 * time.Hour

// Signer is a key that signs, by the name that people have for it.
type Signer struct {
	Name string
	author.Signer
}

// Options are what a command that signs may be told.
type Options struct {
	Now     time.Time
	Expires time.Time // of what is signed; zero: what the draft says, else Lifetime
}

// Staged says what a command did.
type Staged struct {
	Signed   []string `json:"signed"`   // "pump 3 by release-1.key"
	Changes  []string `json:"changes"`  // what the draft changes of what is settled
	Complete bool     `json:"complete"` // it may be published
}

// lifetime says when a role's next file expires.
type lifetime func(role string) time.Time

// desk is what a command works on.
type desk struct {
	state
	settled shelf // what is complete
	full    shelf // with the draft
	opt     Options
}

// work runs do on the directory and saves the state that it leaves.
func (d *Dir) work(opt Options, do func(*desk) error) (Staged, error) {
	unlock, err := d.lock()
	if err != nil {
		return Staged{}, err
	}
	defer unlock()
	w, err := d.desk(opt)
	if err != nil {
		return Staged{}, err
	}
	before := w.state
	w.Draft = maps.Clone(before.Draft)
	if err := do(w); err != nil {
		return Staged{}, err
	}
	if w.full, err = read(w.all()); err != nil {
		return Staged{}, err
	}
	out := Staged{Changes: changes(w.settled.content, w.full.content), Complete: len(w.missing()) == 0}
	if maps.EqualFunc(before.Draft, w.Draft, slices.Equal) && maps.EqualFunc(before.Settled, w.Settled, slices.Equal) {
		return out, nil
	}
	return out, d.save(w.state)
}

func (d *Dir) desk(opt Options) (*desk, error) {
	s, err := d.load()
	if err != nil {
		return nil, err
	}
	w := &desk{state: s, opt: opt}
	if w.settled, err = read(s.Settled); err != nil {
		return nil, err
	}
	w.full, err = read(s.all())
	return w, err
}

// Stage makes an edit part of the draft and signs it. When the draft says it
// already, in the same bytes, the signatures join those that are there; that is
// what a further signer does. A draft that others have signed is never changed:
// one that is complete is settled, and the edit begins the next.
func (d *Dir) Stage(e Edit, opt Options, signers ...Signer) (Staged, error) {
	var signed []string
	out, err := d.work(opt, func(w *desk) error {
		if err := e.check(w); err != nil {
			return err
		}
		docs, want, err := w.drawAll(e, signers)
		if errors.Is(err, errSettled) {
			if err := w.settle(); err != nil {
				return err
			}
			docs, want, err = w.drawAll(e, signers)
		}
		if err != nil {
			return err
		}
		signed, err = w.sign(docs, want, signers)
		return err
	})
	out.Signed = signed
	return out, err
}

// errSettled says that an edit changes a draft that is complete.
var errSettled = errors.New("the draft is complete")

// settle makes the draft, which is complete, what the next one begins with.
func (w *desk) settle() error {
	w.Settled, w.Draft = w.newest(), map[string][]byte{}
	var err error
	w.settled, err = read(w.Settled)
	w.full = w.settled
	return err
}

// drawAll returns the documents of all roles that an edit has to do with, and
// what they say.
func (w *desk) drawAll(e Edit, signers []Signer) (map[string]*author.Document, content, error) {
	want := w.full.content.clone()
	touched, err := e.apply(&want)
	if err != nil {
		return nil, want, err
	}
	docs := map[string]*author.Document{}
	if !e.renews && w.says(want, touched) {
		return docs, want, nil
	}
	for _, role := range append(touched, w.alone(e)...) {
		if docs[role], err = w.draw(want, role, e, signers); err != nil {
			return nil, want, err
		}
	}
	return docs, want, nil
}

// says reports whether roles are settled and say what is wanted already.
func (w *desk) says(want content, roles []string) bool {
	for _, role := range roles {
		have := w.full.docs[role]
		if have == nil || have.Version > w.settled.version(role) {
			return false
		}
		doc, err := want.document(role, have.Version, func(string) time.Time { return have.Expires })
		if err != nil || !doc.Same(have) {
			return false
		}
	}
	return true
}

// draw returns the document of a role that is to be signed: the draft's where it
// says the same, else a new one in its place.
func (w *desk) draw(want content, role string, e Edit, signers []Signer) (*author.Document, error) {
	next := w.settled.version(role) + 1
	doc, err := want.document(role, next, w.expiry())
	if err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	have := w.full.docs[role]
	switch {
	case have == nil || have.Version < next:
		return doc, nil
	case !have.Same(doc) && len(w.missing()) == 0:
		return nil, errSettled
	case !have.Same(doc):
		if !onlyBy(have, signers) {
			return nil, fault.New(fault.Conflict, "%s of the draft says something else and others have signed it: it takes their signatures, or 'holdfast release discard'", have.FileName())
		}
		return doc, nil
	case !onlyBy(have, signers) && !w.nothingElse(have, e):
		return nil, fault.New(fault.Conflict, "%s of the draft changes more than this: see 'holdfast release status', and sign all of it with 'holdfast release countersign'", have.FileName())
	}
	return have, nil
}

// alone returns the roles that an edit has to do with when it is all there is:
// those that a further signer signs, although the draft has them already.
func (w *desk) alone(e Edit) []string {
	c := w.settled.content.clone()
	touched, err := e.apply(&c)
	if err != nil {
		return nil // what it is about is in the draft alone
	}
	return touched
}

// nothingElse reports whether a document of the draft is what the edit alone
// makes of what is settled.
func (w *desk) nothingElse(have *author.Document, e Edit) bool {
	c := w.settled.content.clone()
	if _, err := e.apply(&c); err != nil {
		return false
	}
	doc, err := c.document(have.Role, have.Version, func(string) time.Time { return have.Expires })
	return err == nil && doc.Same(have)
}

// expiry returns when what is drawn expires.
func (w *desk) expiry() lifetime {
	return func(role string) time.Time {
		have := w.full.docs[role]
		switch {
		case !w.opt.Expires.IsZero():
			return w.opt.Expires
		case have != nil && have.Version > w.settled.version(role):
			return have.Expires
		}
		return w.opt.Now.UTC().Truncate(24 * time.Hour).Add(24*time.Hour + Lifetime)
	}
}

// onlyBy reports whether nobody but signers has signed a document.
func onlyBy(d *author.Document, signers []Signer) bool {
	mine := map[string]bool{}
	for _, s := range signers {
		if id, err := author.ID(s.Classical.Public()); err == nil {
			mine[id] = true
		}
		if s.MLDSA != nil {
			mine[tuf.MLDSAKeyID(s.MLDSA.PublicKey())] = true
		}
	}
	return !slices.ContainsFunc(d.Signers(), func(id string) bool { return !mine[id] })
}

// sign adds each signer's signatures to the documents that name the key, and
// puts them into the draft.
func (w *desk) sign(docs map[string]*author.Document, want content, signers []Signer) ([]string, error) {
	var signed []string
	for _, s := range signers {
		before := len(signed)
		for _, role := range roles(docs) {
			quorums := []author.Quorum{want.signers(role)}
			if role == tuf.Root {
				quorums = append(quorums, w.settled.root.Release)
			}
			if !named(s, quorums) {
				continue
			}
			if err := docs[role].SignFor(s.Signer, quorums...); err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
			signed = append(signed, fmt.Sprintf("%s %d by %s", role, docs[role].Version, s.Name))
		}
		if len(signed) == before && len(docs) > 0 {
			return nil, fault.New(fault.Denied, "the key %s is none of those that sign this", s.Name)
		}
	}
	for _, doc := range docs {
		b, err := doc.Bytes()
		if err != nil {
			return nil, err
		}
		w.Draft[doc.FileName()] = b
	}
	return signed, nil
}

func named(s Signer, quorums []author.Quorum) bool {
	return slices.ContainsFunc(quorums, func(q author.Quorum) bool {
		classical, post := q.Holds(s.Signer)
		return classical || post
	})
}

// missing says whose signatures the next repository lacks.
func (w *desk) missing() []string {
	var out []string
	for _, role := range roles(w.full.docs) {
		doc := w.full.docs[role]
		quorums := []author.Quorum{w.full.signers(role)}
		if role == tuf.Root && w.settled.root.Version > 0 && doc.Version > w.settled.root.Version {
			quorums = append(quorums, w.settled.root.Release)
		}
		for i, q := range quorums {
			s, of := doc.Signed(q), ""
			if s.Complete() {
				continue
			}
			if i > 0 {
				of = " of the keys before"
			}
			out = append(out, fmt.Sprintf("%s has %d classical and %d ML-DSA signatures%s, want %d of each", doc.FileName(), len(s.Classical), len(s.MLDSA), of, q.Threshold))
		}
	}
	return out
}

// Countersign signs all of the draft, once accept has agreed to what it changes.
func (d *Dir) Countersign(opt Options, accept func(changes []string) error, signers ...Signer) (Staged, error) {
	if err := d.need(); err != nil {
		return Staged{}, err
	}
	var signed []string
	out, err := d.work(opt, func(w *desk) error {
		docs := map[string]*author.Document{}
		for role, doc := range w.full.docs {
			if doc.Version > w.settled.version(role) {
				docs[role] = doc
			}
		}
		if len(docs) == 0 {
			return fault.New(fault.NotFound, "there is no draft to sign")
		}
		if err := accept(changes(w.settled.content, w.full.content)); err != nil {
			return err
		}
		var err error
		signed, err = w.sign(docs, w.full.content, signers)
		return err
	})
	out.Signed = signed
	return out, err
}

// Discard drops the draft with its signatures. What is settled stays.
func (d *Dir) Discard() error {
	if err := d.need(); err != nil {
		return err
	}
	_, err := d.work(Options{}, func(w *desk) error {
		clear(w.Draft)
		return nil
	})
	return err
}
