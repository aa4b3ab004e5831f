package tuf_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/release"
	"holdfast/tuf"
)

func TestStateSurvivesAnInterruptionAfterEachFile(t *testing.T) {
	r := newRepo()
	first := r.copy()
	r.root.Signed.Version = 2
	r.publishRoot()
	r.addRelease("pump", "1.5.0")
	r.bump()
	for cut := range 6 { // files taken before the power goes: root, timestamp, snapshot, targets, pump, valve
		trust := r.open(t)
		if err := refresh(trust, first, known); err != nil {
			t.Fatal(err)
		}
		f := trust.Refresh(known, "pump", "valve")
		for taken := 0; taken < cut; {
			w, ok := f.Next()
			if !ok {
				t.Fatalf("no file after %d", taken)
			}
			if b, ok := r.files[w.Name]; !ok {
				if err := f.Absent(); err != nil {
					t.Fatal(err)
				}
			} else if err := f.Take(b); err != nil {
				t.Fatal(err)
			} else {
				taken++
			}
		}
		again := reopen(t, trust)
		if diff := cmp.Diff(trust.State(), again.State()); diff != "" {
			t.Errorf("cut at %d (-want +got):\n%s", cut, diff)
		}
		if cut > 1 && cut < 5 && installs(again, "pump", "1.4.0", known) {
			t.Errorf("cut at %d: installs from half of an update", cut)
		}
		if err := refresh(again, r.files, known); err != nil {
			t.Errorf("cut at %d: %v", cut, err)
		}
		if !installs(again, "pump", "1.5.0", known) {
			t.Errorf("cut at %d: the release is not there", cut)
		}
	}
}

// reopen keeps a state as a client may, as JSON, and opens it.
func reopen(t *testing.T, trust *tuf.Trust) *tuf.Trust {
	t.Helper()
	var s tuf.State
	if err := json.Unmarshal(must(json.Marshal(trust.State())), &s); err != nil {
		t.Fatal(err)
	}
	again, err := tuf.OpenTrust(s, tuf.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestStateThatHasExpiredOpens(t *testing.T) {
	r := newRepo()
	old := r.copy()
	r.bump()
	trust := reopen(t, r.opened(t))
	late := tuf.At(now.AddDate(2, 0, 0))
	_, err := trust.Find("pump", version("1.4.0"), late)
	refused(t, err, release.IndefiniteFreeze)
	r.root.Signed.Version, r.root.Signed.Expires = 2, now.AddDate(5, 0, 0)
	r.publishRoot()
	if err := trust.UpdateRoot(r.files["2.root.json"]); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"timestamp.json"} {
		refused(t, trust.UpdateTimestamp(old[f], late), release.Rollback, "version 2 has been seen")
		refused(t, trust.UpdateTimestamp(r.files[f], late), release.IndefiniteFreeze)
	}
}

func TestStateThatContradictsItselfIsRefused(t *testing.T) {
	r := newRepo()
	old := r.opened(t).State()
	r.bump()
	fresh := r.opened(t).State()
	stranger := strange().opened(t).State()
	for name, c := range map[string]struct {
		spoil  func(*tuf.State)
		attack release.Attack
		text   string
	}{
		"no root":                          {func(s *tuf.State) { s.Root = nil }, release.MalformedMetadata, "root"},
		"another root":                     {func(s *tuf.State) { s.Root = stranger.Root }, release.ArbitrarySoftware, "timestamp 2"},
		"timestamp of another":             {func(s *tuf.State) { s.Timestamp = stranger.Timestamp }, release.ArbitrarySoftware, "timestamp 1"},
		"snapshot without timestamp":       {func(s *tuf.State) { s.Timestamp = nil }, release.MixAndMatch, "no timestamp"},
		"older timestamp":                  {func(s *tuf.State) { s.Timestamp = old.Timestamp }, release.MixAndMatch, "snapshot 2: what is held too lists version 1"},
		"older snapshot":                   {func(s *tuf.State) { s.Timestamp, s.Snapshot = old.Timestamp, old.Snapshot }, release.MixAndMatch, "targets 2: what is held too lists version 1"},
		"products without targets":         {func(s *tuf.State) { s.Targets = nil }, release.MixAndMatch, "no targets"},
		"product under another's name":     {func(s *tuf.State) { s.Products["pump"] = s.Products["valve"] }, release.WrongProduct, "pump 2"},
		"product that nobody delegates":    {func(s *tuf.State) { s.Products["boiler"] = must(json.Marshal(empty(s.Products["pump"]))) }, release.ArbitrarySoftware, "boiler 2"},
		"product under the name of a role": {func(s *tuf.State) { s.Products["targets"] = s.Targets }, release.WrongProduct, "targets"},
		"torn":                             {func(s *tuf.State) { s.Products["pump"] = s.Products["pump"][:900] }, release.MalformedMetadata, "pump"},
		"rotten":                           {func(s *tuf.State) { s.Snapshot[len(s.Snapshot)-9] ^= 1 }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var s tuf.State
			if err := json.Unmarshal(must(json.Marshal(fresh)), &s); err != nil {
				t.Fatal(err)
			}
			c.spoil(&s)
			trust, err := tuf.OpenTrust(s, tuf.DefaultLimits())
			if err == nil || trust != nil || release.AttackOf(err) == "" {
				t.Fatalf("opened: %v", err)
			}
			if c.attack != "" {
				refused(t, err, c.attack, c.text)
			}
		})
	}
}

// empty returns a product's file without its targets.
func empty(b []byte) map[string]any {
	var f map[string]any
	_ = json.Unmarshal(b, &f)
	f["signed"].(map[string]any)["targets"] = map[string]any{}
	return f
}
