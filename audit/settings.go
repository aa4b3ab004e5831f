package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"go.yaml.in/yaml/v3"

	"holdfast/audit/subject"
	"holdfast/finding"
)

// SettingsName is the name of the file with settings, beside the firmware's
// sources.
const SettingsName = ".holdfast-audit.yaml"

// maxSettings is the largest file of settings or baseline in bytes.
const maxSettings = 16 << 20

// Settings are what .holdfast-audit.yaml says.
type Settings struct {
	Modules  []string      `yaml:"modules"`  // protocols that may be linked: mqtt, dhcp, dns, sntp, ...
	Ports    []string      `yaml:"ports"`    // that may listen: tcp/8883
	Core     string        `yaml:"core"`     // cortex-m4
	Language string        `yaml:"language"` // c, c++, rust, go
	Version  string        `yaml:"version"`  // of the firmware
	Ignore   []string      `yaml:"ignore"`   // patterns of files in directories
	FailOn   string        `yaml:"fail_on"`  // the least severity of a new finding that fails
	Suppress []Suppression `yaml:"suppress"`

	file string
}

// Suppression takes findings out of what fails, for a time. It proves nothing:
// the rule's verdict stays.
type Suppression struct {
	Rule        string `yaml:"rule"`
	File        string `yaml:"file"`        // pattern of the file's name; empty: all
	Symbol      string `yaml:"symbol"`      // empty: all
	Fingerprint string `yaml:"fingerprint"` // empty: all
	Reason      string `yaml:"reason"`
	Expires     string `yaml:"expires"` // the last day, as 2027-01-31

	until time.Time
}

// ParseSettings reads settings; file names them in errors.
func ParseSettings(file string, b []byte) (Settings, error) {
	s := Settings{file: file}
	if len(b) > maxSettings {
		return s, fmt.Errorf("%s: %d bytes: want %d at most", file, len(b), maxSettings)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return Settings{}, fmt.Errorf("%s: %w", file, err)
	}
	if s.FailOn != "" {
		if _, err := finding.ParseSeverity(s.FailOn); err != nil {
			return Settings{}, fmt.Errorf("%s: fail_on: %w", file, err)
		}
	}
	for i := range s.Suppress {
		if err := s.Suppress[i].check(); err != nil {
			return Settings{}, fmt.Errorf("%s: suppress %d: %w", file, i+1, err)
		}
	}
	return s, nil
}

func (s *Suppression) check() error {
	if s.Rule == "" && s.Fingerprint == "" {
		return errors.New("want a rule or a fingerprint")
	}
	if s.Reason == "" {
		return errors.New("want a reason")
	}
	if _, err := path.Match(s.File, ""); err != nil {
		return fmt.Errorf("file %q: %w", s.File, err)
	}
	day, err := time.Parse(time.DateOnly, s.Expires)
	if err != nil {
		return fmt.Errorf("expires %q: want a day as 2027-01-31", s.Expires)
	}
	s.until = day.AddDate(0, 0, 1)
	return nil
}

// covers reports whether the suppression is about a finding.
func (s Suppression) covers(f finding.Finding) bool {
	if s.Rule != "" && s.Rule != f.Rule || s.Symbol != "" && s.Symbol != f.Symbol || s.Fingerprint != "" && s.Fingerprint != f.Fingerprint {
		return false
	}
	if s.File == "" {
		return true
	}
	whole, _ := path.Match(s.File, f.File) // its form was checked
	base, _ := path.Match(s.File, subject.Base(f.File))
	return whole || base
}

// declared returns what the rules compare the firmware with.
func (s Settings) declared() subject.Declaration {
	return subject.Declaration{File: s.file, Modules: s.Modules, Ports: s.Ports, Core: s.Core, Language: s.Language, Version: s.Version}
}

// suppress marks the findings that suppressions cover, and returns as troubles
// those whose time is over and those that cover nothing.
func (s Settings) suppress(all []finding.Finding, now time.Time) []finding.Trouble {
	var troubles []finding.Trouble
	for i, by := range s.Suppress {
		used, over := false, !now.Before(by.until)
		for k := range all {
			if by.covers(all[k]) {
				used = true
				if !over && all[k].Suppressed == "" {
					all[k].Suppressed = by.Reason
				}
			}
		}
		name := fmt.Sprintf("suppression %d (%s%s)", i+1, by.Rule, by.Fingerprint)
		switch {
		case used && over:
			troubles = append(troubles, finding.Trouble{Location: finding.InFile(s.file), Message: name + " has expired on " + by.Expires})
		case !used:
			troubles = append(troubles, finding.Trouble{Location: finding.InFile(s.file), Message: name + " covers nothing: remove it"})
		}
	}
	return troubles
}
