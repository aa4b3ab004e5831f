package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/audit"
	"holdfast/audit/checks"
	"holdfast/audit/process"
	"holdfast/audit/report"
	"holdfast/fault"
	"holdfast/finding"
	"holdfast/internal/atomicfile"
	"holdfast/pki"
	"holdfast/statement"
)

// auditFlags are how an audit was asked for.
type auditFlags struct {
	images, evidence, ignore               []string
	format, out, base, settings            string
	baseline, writeBaseline, failOn        string
	revision, key, statement, explain      string
	mcuboot, attest, listRules, all, color bool
	json                                   bool
}

func auditCmd(io stdio) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit INPUT...",
		Short: "Judge firmware against the whole checklist before it ships",
		Long: `Read programs (ELF), images (Intel HEX, SREC, UF2, MCUboot, raw binaries), linker
maps, compile_commands.json, build logs, C sources and configuration headers,
archives and directories, and judge them by rules. Nothing of them is executed.
A rule that cannot decide says unknown, never pass. What is found but accepted
stands in ` + audit.SettingsName + ` (with a reason and an end) or in a baseline.

With --attest the report is signed with an auditor's key, together with the
evidence of how the firmware was made. A hub that knows the key holds it against
what devices attest: that takes --image with what is flashed, and the auditor
must have shown that it carries the program.

The exit code is 3 when something new is at or above --fail-on.`,
		Example: `  holdfast audit build/app.elf build/app.map src/ --image app.bin
  holdfast audit firmware.hex --format html --out report.html
  holdfast audit app.elf --baseline audit-baseline.json --fail-on high
  holdfast audit app.elf --image app.bin --revision 1f2e3d --evidence fuzz=fuzz.json --attest --key auditor.key
  holdfast audit --explain TX-STACK-01`,
		RunE: func(cmd *cobra.Command, inputs []string) error {
			if f.json {
				f.format = string(report.JSON)
			}
			switch {
			case f.listRules:
				return listRules(cmd.OutOrStdout(), f.format == string(report.JSON))
			case f.explain != "":
				return explainRule(cmd.OutOrStdout(), f.explain)
			case len(inputs) == 0:
				return usagef("there is nothing to judge: name files or directories")
			}
			return f.run(cmd.Context(), io, inputs)
		},
	}
	f.register(cmd)
	return cmd
}

func (f *auditFlags) register(cmd *cobra.Command) {
	set := cmd.Flags()
	set.StringSliceVar(&f.images, "image", nil, "what is flashed: shown to carry the program, or not")
	set.BoolVar(&f.mcuboot, "mcuboot", false, "files of unknown form are MCUboot images")
	set.StringVar(&f.base, "base", "", "load address of raw binaries, as 0x08000000")
	set.StringSliceVar(&f.ignore, "ignore", nil, "pattern of files in directories that are not read")
	set.StringVar(&f.format, "format", string(report.Text), "text, json, sarif or html")
	set.BoolVar(&f.json, "json", false, "the same as --format json")
	set.StringVar(&f.out, "out", "", "write the report to this file")
	set.BoolVarP(&f.all, "all", "a", false, "show what is known, suppressed and undecided too (text)")
	set.BoolVar(&f.color, "color", false, "colour the text even where it is no terminal")
	set.StringVar(&f.settings, "settings", "", "file with settings (default "+audit.SettingsName+" where there is one)")
	set.StringVar(&f.baseline, "baseline", "", "what was found before: only what is new fails")
	set.StringVar(&f.writeBaseline, "write-baseline", "", "write what was found to this file, for --baseline")
	set.StringVar(&f.failOn, "fail-on", "", "least severity of a new finding that makes the exit code 3: info, low, medium, high, critical (default high)")
	set.StringArrayVar(&f.evidence, "evidence", nil, "evidence of how it was made, as KIND=FILE: "+kindsText())
	set.StringVar(&f.revision, "revision", "", "revision of the source, which evidence has to name")
	set.BoolVar(&f.attest, "attest", false, "sign a statement of what was found")
	set.StringVar(&f.key, "key", "", "auditor's private key, PEM")
	set.StringVar(&f.statement, "statement", "audit.dsse.json", "where to write the signed statement")
	set.BoolVar(&f.listRules, "list-rules", false, "list the rules")
	set.StringVar(&f.explain, "explain", "", "explain a rule")
}

func kindsText() string {
	var all []string
	for _, k := range process.Kinds() {
		all = append(all, string(k)+" ("+k.Info()+")")
	}
	return strings.Join(all, ", ")
}

// run judges the inputs and shows what was found.
func (f *auditFlags) run(ctx context.Context, io stdio, inputs []string) error {
	cfg, format, least, err := f.config(inputs)
	if err != nil {
		return err
	}
	var key crypto.Signer
	if f.attest {
		if key, err = f.loadKey(); err != nil {
			return err
		}
	}
	bar := newAuditBar(io.Err)
	cfg.Progress = bar.show
	r, err := audit.Run(ctx, cfg)
	bar.clear()
	if errors.Is(err, audit.ErrChanged) {
		return fault.Hide(fault.Integrity, err.Error(), err)
	}
	if err != nil {
		return err
	}
	if err := f.write(io, format, r); err != nil {
		return err
	}
	if f.attest {
		if err := f.sign(ctx, io, r, key); err != nil {
			return err
		}
	}
	if n := r.New(least); n > 0 {
		return fault.New(fault.Integrity, "%d findings at or above %s", n, least)
	}
	return nil
}

// config reads the files that say how to judge.
func (f *auditFlags) config(inputs []string) (cfg audit.Config, format report.Format, least finding.Severity, err error) {
	cfg = audit.Config{Inputs: inputs, Images: f.images, Revision: f.revision, Signed: f.attest, Program: "holdfast " + version, Now: time.Now()}
	cfg.Read.MCUboot, cfg.Read.Ignore = f.mcuboot, f.ignore
	if format, err = report.ParseFormat(f.format); err != nil {
		return cfg, "", "", usageError{err}
	}
	if f.base != "" {
		if cfg.Read.Base, err = strconv.ParseUint(f.base, 0, 64); err != nil {
			return cfg, "", "", usagef("--base %q: want a number as 0x08000000", f.base)
		}
		cfg.Read.Based = true
	}
	if cfg.Settings, err = f.loadSettings(); err != nil {
		return cfg, "", "", err
	}
	if f.baseline != "" {
		text, err := os.ReadFile(f.baseline)
		if err != nil {
			return cfg, "", "", fmt.Errorf("read baseline: %w", err)
		}
		if cfg.Baseline, err = audit.ParseBaseline(f.baseline, text); err != nil {
			return cfg, "", "", err
		}
	}
	if cfg.Evidence, err = f.loadEvidence(); err != nil {
		return cfg, "", "", err
	}
	least, err = f.least(cfg.Settings)
	return cfg, format, least, err
}

// least is the least severity that fails: of the command line, the settings,
// or high.
func (f *auditFlags) least(s audit.Settings) (finding.Severity, error) {
	for _, said := range []string{f.failOn, s.FailOn} {
		if said == "" {
			continue
		}
		least, err := finding.ParseSeverity(said)
		if err != nil {
			return "", usageError{fmt.Errorf("--fail-on: %w", err)}
		}
		return least, nil
	}
	return finding.High, nil
}

// loadSettings reads the settings that were named, or those that are here.
func (f *auditFlags) loadSettings() (audit.Settings, error) {
	file := f.settings
	if file == "" {
		file = audit.SettingsName
	}
	text, err := os.ReadFile(file)
	if f.settings == "" && errors.Is(err, fs.ErrNotExist) {
		return audit.Settings{}, nil
	}
	if err != nil {
		return audit.Settings{}, fmt.Errorf("read settings: %w", err)
	}
	return audit.ParseSettings(file, text)
}

func (f *auditFlags) loadEvidence() ([]process.Piece, error) {
	var all []process.Piece
	for _, e := range f.evidence {
		name, file, ok := strings.Cut(e, "=")
		if !ok {
			return nil, usagef("--evidence %q: want KIND=FILE", e)
		}
		kind, err := process.ParseKind(name)
		if err != nil {
			return nil, usageError{fmt.Errorf("--evidence: %w", err)}
		}
		in, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read evidence: %w", err)
		}
		data, err := io.ReadAll(io.LimitReader(in, process.MaxSize+1))
		in.Close() // only read
		if err != nil {
			return nil, fmt.Errorf("read evidence %s: %w", file, err)
		}
		all = append(all, process.Piece{Kind: kind, File: file, Data: data})
	}
	return all, nil
}

func (f *auditFlags) loadKey() (crypto.Signer, error) {
	if f.key == "" {
		return nil, usagef("--attest wants --key with an auditor's private key")
	}
	text, err := os.ReadFile(f.key)
	if err != nil {
		return nil, fmt.Errorf("read auditor's key: %w", err)
	}
	key, err := pki.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("auditor's key %s: %w", f.key, err)
	}
	return key, nil
}

// write shows the report, or writes it to a file, and the baseline.
func (f *auditFlags) write(io stdio, format report.Format, r *finding.Report) error {
	o := report.Options{Verbose: f.all, Color: f.color}
	if out, ok := io.Out.(*os.File); ok && f.out == "" && isTerminal(out) && os.Getenv("NO_COLOR") == "" {
		o.Color = true
	}
	if f.out == "" {
		if err := report.Write(io.Out, format, r, o); err != nil {
			return err
		}
	} else {
		var b bytes.Buffer
		if err := report.Write(&b, format, r, o); err != nil {
			return err
		}
		if err := atomicfile.Write(f.out, b.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
		fmt.Fprintln(io.Err, "report written to", f.out)
	}
	if f.writeBaseline == "" {
		return nil
	}
	text, err := json.MarshalIndent(audit.NewBaseline(r), "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(f.writeBaseline, append(text, '\n'), 0o644)
}

// sign writes the signed statement.
func (f *auditFlags) sign(ctx context.Context, io stdio, r *finding.Report, key crypto.Signer) error {
	envelope, err := statement.Sign(ctx, audit.Statement(r, time.Now()), key)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(f.statement, append(envelope, '\n'), 0o644); err != nil {
		return fmt.Errorf("write statement: %w", err)
	}
	fmt.Fprintln(io.Err, "statement written to", f.statement)
	for _, i := range r.Images {
		if i.Matches == "" {
			fmt.Fprintf(io.Err, "note: %s carries none of the programs; the hub will not take the statement for it\n", i.File)
		}
	}
	if len(r.Images) == 0 {
		fmt.Fprintln(io.Err, "note: without --image the statement is about no device's firmware")
	}
	return nil
}

// ruleInfo is a rule as --list-rules --format json shows it.
type ruleInfo struct {
	ID       string   `json:"id"`
	Measure  string   `json:"measure"`
	Bullets  []string `json:"bullets"`
	Severity string   `json:"severity"`
	Title    string   `json:"title"`
	Why      string   `json:"why"`
	Section  string   `json:"section"`
	CWE      []string `json:"cwe"`
	Fix      string   `json:"fix"`
}

func infoOf(r checks.Rule) ruleInfo {
	return ruleInfo{r.ID, string(r.Measure), r.Bullets, string(r.Severity), r.Title, r.Why, r.Section, r.CWE, r.Fix}
}

func listRules(out io.Writer, asJSON bool) error {
	rules := checks.All()
	var all []ruleInfo
	for _, r := range rules {
		all = append(all, infoOf(r))
	}
	return show(out, asJSON, all, func(w io.Writer) {
		fmt.Fprintln(w, "RULE\tSEVERITY\tMEASURE\tTITLE")
		for _, r := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.ID, r.Severity, r.Measure, r.Title)
		}
	})
}

func explainRule(out io.Writer, id string) error {
	r, ok := checks.Find(strings.ToUpper(id))
	if !ok {
		return usagef("there is no rule %q: see --list-rules", id)
	}
	fmt.Fprintf(out, "%s  %s\n\n%s\n\nseverity    %s, %s\nmeasure     %s\nchecklist   %s\nsource      %s\nweaknesses  %s\n\nTo mend it: %s\n\nWrong:\n%s\n\nRight:\n%s\n",
		r.ID, r.Title, r.Why, r.Severity, r.Confidence, r.Measure, strings.Join(r.Bullets, ", "), r.Section, strings.Join(r.CWE, ", "), r.Fix, indent(r.Bad), indent(r.Good))
	return nil
}

func indent(s string) string { return "    " + strings.ReplaceAll(s, "\n", "\n    ") }
