package measure_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/measure"

	"github.com/google/go-cmp/cmp"
)

func TestCatalogueIsComplete(t *testing.T) {
	var ids []measure.ID
	for _, m := range measure.Catalogue() {
		ids = append(ids, m.ID)
		for name, text := range map[string]string{
			"title": m.Title, "section": m.Section, "hardware": m.Hardware, "runtime": m.Runtime,
			"application": m.Application, "proof": m.Proof, "remedy": m.Remedy,
		} {
			if strings.TrimSpace(text) == "" {
				t.Errorf("%s has no %s", m.ID, name)
			}
		}
		for _, sentence := range []string{m.Hardware, m.Runtime, m.Application, m.Proof, m.Remedy} {
			if !strings.HasSuffix(sentence, ".") {
				t.Errorf("%s: %q is not a sentence", m.ID, sentence)
			}
		}
		if g, err := measure.ParseGrade(string(m.Best)); err != nil || g == measure.None {
			t.Errorf("%s: best grade %q", m.ID, m.Best)
		}
	}
	if diff := cmp.Diff(measure.IDs(), ids); diff != "" {
		t.Errorf("the catalogue differs from IDs (-want +got):\n%s", diff)
	}
	if len(ids) != 32 {
		t.Errorf("the catalogue has %d measures, want 32", len(ids))
	}
}

func TestIDsAreUniqueAndWellFormed(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+\.[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[measure.ID]bool{}
	for _, id := range measure.IDs() {
		if seen[id] || !form.MatchString(string(id)) {
			t.Errorf("id %q is malformed or stands twice", id)
		}
		seen[id] = true
	}
}

func TestEachMeasureHasItsOwnSection(t *testing.T) {
	seen := map[string]measure.ID{}
	for _, m := range measure.Catalogue() {
		if other := seen[m.Section]; other != "" {
			t.Errorf("%s and %s name the same section %q", other, m.ID, m.Section)
		}
		seen[m.Section] = m.ID
	}
}

func TestParseAndFind(t *testing.T) {
	for _, id := range measure.IDs() {
		got, err := measure.Parse(string(id))
		if err != nil || got != id {
			t.Errorf("Parse(%q) = %q, %v", id, got, err)
		}
		if m, ok := measure.Find(id); !ok || m.ID != id {
			t.Errorf("Find(%q) = %q, %v", id, m.ID, ok)
		}
	}
	for _, s := range []string{"", "firmware", "firmware.secure-boot ", "Firmware.Secure-Boot", "take.watchdog"} {
		if id, err := measure.Parse(s); err == nil {
			t.Errorf("Parse(%q) = %q, want an error", s, id)
		}
		if _, ok := measure.Find(measure.ID(s)); ok {
			t.Errorf("Find(%q) found something", s)
		}
	}
}

func TestCatalogueIsTheCallersOwn(t *testing.T) {
	c := measure.Catalogue()
	c[0].Title = "changed"
	c[0].Standards.PSA[0] = "changed"
	if m := measure.Catalogue()[0]; m.Title == "changed" || m.Standards.PSA[0] == "changed" {
		t.Error("a caller's change shows in the next catalogue")
	}
}

var (
	psaGoals = []string{
		"Unique Identification", "Security Lifecycle", "Attestation", "Secure Boot", "Secure Update",
		"Anti-Rollback", "Isolation", "Interaction", "Secure Storage", "Cryptographic and Trusted Services",
	}
	sevenProperties = []string{
		"Hardware Root of Trust", "Defense in Depth", "Small Trusted Computing Base", "Dynamic Compartments",
		"Passwordless Authentication", "Error Reporting", "Renewable Security",
	}
	sesip = []string{
		"Attestation of Platform Genuineness", "Attestation of Platform State", "Audit Log Generation and Storage",
		"Authenticated Access Control", "Cryptographic Key Generation", "Cryptographic KeyStore",
		"Cryptographic Operation", "Cryptographic Random Number Generation", "Reliable Index",
		"Secure Communication Enforcement", "Secure Communication Support", "Secure Debugging",
		"Secure Initialization of Platform", "Secure Storage", "Secure Update of Application",
		"Secure Update of Platform", "Software Attacker Resistance: Isolation of Application Parts",
		"Verification of Platform Instance Identity",
	}
	iec  = regexp.MustCompile(`^(CR [1-7]|EDR [23])\.[0-9]{1,2}( RE\([123]\))?$`)
	etsi = regexp.MustCompile(`^5\.([1-9]|1[0-3])-[0-9]{1,2}$`)
	cra  = regexp.MustCompile(`^(I\(1\)|I\(2\)\([a-m]\)|II\([1-8]\))$`)
	fips = regexp.MustCompile(`^(7\.[0-9]{1,2}(\.[0-9]){0,2}|Annex [A-F])$`)
)

func TestStandardsAreClauseIDs(t *testing.T) {
	in := func(set []string) func(string) bool { return func(s string) bool { return slices.Contains(set, s) } }
	for _, m := range measure.Catalogue() {
		s := m.Standards
		for _, c := range []struct {
			name    string
			clauses []string
			valid   func(string) bool
		}{
			{"PSA", s.PSA, in(psaGoals)},
			{"SESIP", s.SESIP, in(sesip)},
			{"seven properties", s.SevenProperties, in(sevenProperties)},
			{"IEC 62443-4-2", s.IEC62443, iec.MatchString},
			{"ETSI EN 303 645", s.ETSI, etsi.MatchString},
			{"CRA", s.CRA, cra.MatchString},
			{"FIPS 140-3", s.FIPS140, fips.MatchString},
		} {
			for i, clause := range c.clauses {
				if !c.valid(clause) || slices.Contains(c.clauses[:i], clause) {
					t.Errorf("%s: %s has no clause %q, or it stands twice", m.ID, c.name, clause)
				}
			}
		}
	}
}

func TestEveryGoalAndPropertyIsMatched(t *testing.T) {
	goals, properties := map[string]bool{}, map[string]bool{}
	for _, m := range measure.Catalogue() {
		for _, s := range m.Standards.PSA {
			goals[s] = true
		}
		for _, s := range m.Standards.SevenProperties {
			properties[s] = true
		}
	}
	if len(goals) != len(psaGoals) || len(properties) != len(sevenProperties) {
		t.Errorf("%d of %d PSA goals and %d of %d properties appear", len(goals), len(psaGoals), len(properties), len(sevenProperties))
	}
}
