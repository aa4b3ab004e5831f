// Package audit judges firmware against the whole checklist: it reads what it
// is given (audit/unpack), judges it by rules (audit/checks) and by evidence of
// how it was made (audit/process), and says what it found in one report.
package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"holdfast/audit/checks"
	"holdfast/audit/process"
	"holdfast/audit/subject"
	"holdfast/audit/unpack"
	"holdfast/finding"
	"holdfast/identity"
	"holdfast/statement"
)

// Config says what to judge, and by what.
type Config struct {
	// Inputs are files and directories. Required.
	Inputs []string
	// Images are the files that are flashed. Each is held against the programs
	// among the inputs: only where one carries the other is a statement about
	// what a device measures.
	Images []string
	// Read says how files are read.
	Read     unpack.Options
	Settings Settings
	Baseline Baseline
	// Evidence of how the firmware was made, for Revision of its source. It
	// counts where Signed says that the report will be signed with it.
	Evidence []process.Piece
	Revision string
	Signed   bool
	// Rules to judge by; nil: all.
	Rules   []checks.Rule
	Program string    // name and version of this program
	Now     time.Time // for certificates and suppressions
	// Progress is told how far the audit is, from any goroutine; it may be nil.
	Progress func(Progress)
}

// Progress is how far an audit is.
type Progress struct {
	Reading     bool
	Done, Total int64 // bytes while reading, then rules
}

// ErrChanged is the error of an input that changed while it was judged.
var ErrChanged = errors.New("the input changed while it was judged")

// Run judges the inputs.
func Run(ctx context.Context, cfg Config) (*finding.Report, error) {
	if len(cfg.Inputs) == 0 {
		return nil, errors.New("audit: there is nothing to judge")
	}
	if cfg.Rules == nil {
		cfg.Rules = checks.All()
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Progress) {}
	}
	s, err := cfg.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	s.Declared = cfg.Settings.declared()
	s.Declared.Now = cfg.Now
	report := &finding.Report{
		Schema: finding.SchemaID, Auditor: cfg.Program, Rules: checks.Digest(cfg.Rules), Revision: cfg.Revision,
		Inputs: s.Input(), Images: images(s), Troubles: s.Troubles, Findings: []finding.Finding{},
	}
	if err := cfg.judge(ctx, s, report); err != nil {
		return nil, err
	}
	if changed := s.Changed(); len(changed) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrChanged, changed[0])
	}
	return report, nil
}

// open reads inputs and images together.
func (c Config) open(ctx context.Context) (*subject.Subject, error) {
	read := c.Read
	read.Ignore = slices.Concat(read.Ignore, c.Settings.Ignore)
	read.Progress = func(done, total int64) { c.Progress(Progress{Reading: true, Done: done, Total: total}) }
	names := slices.Clone(c.Inputs)
	for _, i := range c.Images {
		if !slices.Contains(names, i) {
			names = append(names, i)
		}
	}
	return unpack.Open(ctx, names, read)
}

// judge fills in what rules and evidence come to.
func (c Config) judge(ctx context.Context, s *subject.Subject, report *finding.Report) error {
	var done atomic.Int64
	findings, results, err := checks.Judge(ctx, s, c.Rules, func(checks.Rule) {
		c.Progress(Progress{Done: done.Add(1), Total: int64(len(c.Rules))})
	})
	if err != nil {
		return err
	}
	grounds := checks.GroundsOf(c.Rules, results)
	for _, p := range c.Evidence {
		if !c.Signed {
			grounds = append(grounds, process.Unsigned(p))
			continue
		}
		g, e := process.Judge(p, c.Revision, c.Now)
		grounds = append(grounds, g)
		report.Evidence = append(report.Evidence, e)
	}
	c.Baseline.mark(findings)
	report.Troubles = append(report.Troubles, c.Settings.suppress(findings, c.Now)...)
	if findings != nil {
		report.Findings = findings
	}
	report.Results, report.Rows, report.Bullets = results, checks.Rows(grounds), checks.Bullets(grounds)
	return nil
}

// images returns the images of a subject, each with the program that it was
// shown to carry.
func images(s *subject.Subject) []finding.Image {
	var all []finding.Image
	for _, i := range s.Images {
		img := finding.Image{File: i.File, Measured: i.Measured}
		for _, p := range s.Programs {
			if unpack.Match(p, i) == nil {
				img.Matches = p.File
				break
			}
		}
		all = append(all, img)
	}
	return all
}

// Statement returns what a report says to others, to be signed.
func Statement(r *finding.Report, now time.Time) *statement.Statement {
	s := &statement.Statement{
		Type: statement.Type, PredicateType: statement.PredicateType,
		Predicate: statement.Predicate{
			Auditor: r.Auditor, Rules: r.Rules, Time: now.UTC().Truncate(time.Second), Revision: r.Revision,
			Images: r.Images, Rows: r.Rows, Bullets: r.Bullets, Findings: r.Counts(), Evidence: r.Evidence,
		},
	}
	s.Subject = subjects(r)
	return s
}

// maxSubjects is how many files a statement names one by one. Of more, the
// others are named together.
const maxSubjects = 1000

// subjects are the files that were judged and the images they yield.
func subjects(r *finding.Report) []statement.Subject {
	var all []statement.Subject
	add := func(name string, d identity.Digest) {
		x := statement.Subject{Name: name}
		x.Digest.SHA256 = d
		all = append(all, x)
	}
	for _, i := range r.Images {
		add(i.File, i.Measured)
	}
	rest := sha256.New()
	for n, i := range r.Inputs {
		if n < maxSubjects || slices.ContainsFunc(r.Images, func(img finding.Image) bool { return img.Matches == i.File }) {
			add(i.File, i.SHA256)
			continue
		}
		fmt.Fprintf(rest, "%q %s\n", i.File, i.SHA256)
	}
	if n := len(r.Inputs) - maxSubjects; n > 0 {
		add(fmt.Sprintf("the other %d files, by the SHA-256 of their names and digests", n), identity.Digest(rest.Sum(nil)))
	}
	return all
}
