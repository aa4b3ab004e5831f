package release_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/identity"
	"holdfast/mcuboot"
	"holdfast/release"
)

func good() release.Release {
	return release.Release{
		Target: release.Target{
			Product: "pump", Version: mcuboot.Version{Major: 1, Minor: 4}, SecurityVersion: 7,
			Measured: identity.Sum([]byte("measured")), Hardware: []string{"rev-b"},
			Requires: []release.Requirement{{Product: "pump", Version: mcuboot.Version{Major: 1}}},
			Health:   release.Health{Checks: []string{release.CheckHub, release.CheckAttested}, Seconds: 600},
			SBOM:     &release.Blob{Length: 10, SHA256: identity.Sum([]byte("sbom"))},
		},
		Image: release.Blob{Length: 1000, SHA256: identity.Sum([]byte("image"))},
	}
}

func TestReleaseSurvivesJSON(t *testing.T) {
	text, err := json.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	var back release.Release
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(good(), back); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := back.Check(); err != nil {
		t.Error(err)
	}
	if got := back.Path(); got != "pump/pump-1.4.0.img" {
		t.Errorf("path %s", got)
	}
}

func TestReleaseRefuses(t *testing.T) {
	for want, spoil := range map[string]func(*release.Release){
		"product":                func(r *release.Release) { r.Product = "Pump" },
		"version 0.0.0":          func(r *release.Release) { r.Version = mcuboot.Version{} },
		"security version":       func(r *release.Release) { r.SecurityVersion = 0 },
		"measured digest":        func(r *release.Release) { r.Measured = identity.Digest{} },
		"hardware revisions":     func(r *release.Release) { r.Hardware = make([]string, 33) },
		"hardware revision \"\"": func(r *release.Release) { r.Hardware = []string{""} },
		"reason":                 func(r *release.Release) { r.Withdrawn = "a\nb" },
		"longer than":            func(r *release.Release) { r.Withdrawn = strings.Repeat("a", release.MaxText+1) },
		"requirement":            func(r *release.Release) { r.Requires[0].Product = "targets" },
		"SBOM":                   func(r *release.Release) { r.SBOM.Length = 0 },
		"audit":                  func(r *release.Release) { r.Audit = &release.Blob{Length: 1} },
		"health check":           func(r *release.Release) { r.Health.Checks = []string{"luck"} },
		"health deadline":        func(r *release.Release) { r.Health.Seconds = 0 },
		"86401":                  func(r *release.Release) { r.Health.Seconds = 86401 },
		"image of 0":             func(r *release.Release) { r.Image.Length = 0 },
		"a digest":               func(r *release.Release) { r.Image.SHA256 = identity.Digest{} },
	} {
		r := good()
		spoil(&r)
		err := r.Check()
		if want == "86401" {
			want = "health deadline"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestParseProductRefuses(t *testing.T) {
	for _, s := range []string{"", "Pump", "1pump", "a/b", "..", "root", "timestamp", strings.Repeat("a", 33), "pump\n"} {
		if p, err := release.ParseProduct(s); err == nil {
			t.Errorf("took %q as %q", s, p)
		}
	}
}

func TestAttackOf(t *testing.T) {
	err := fmt.Errorf("update: %w", release.Refuse(release.Rollback, errors.New("version 3, seen 4")))
	if got := release.AttackOf(err); got != release.Rollback {
		t.Errorf("attack %q", got)
	}
	if got := err.Error(); got != "update: rollback: version 3, seen 4" {
		t.Error(got)
	}
	if got := release.AttackOf(errors.New("other")); got != "" {
		t.Errorf("attack %q", got)
	}
}

func TestRuns(t *testing.T) {
	r := good()
	if !r.Runs("rev-b") || r.Runs("rev-a") {
		t.Error("revisions do not count")
	}
	r.Hardware = nil
	if !r.Runs("rev-a") {
		t.Error("no revisions: all are meant")
	}
}
