package audit_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast/audit/checks"
)

var write = flag.Bool("write", false, "write the table of docs/AUDIT.md anew")

// document has the table between two marks.
const (
	document = "../../docs/AUDIT.md"
	begin    = "<!-- written by go test ./test/audit -run TestProofs -write -->\n"
	end      = "<!-- end of what is written -->\n"
)

// unproven are the rules that no pair turns, and why.
var unproven = map[string]string{
	"BLD-SAN-01":  "never fails: that no command has sanitizers does not say that the tests have none",
	"GO-STACK-01": "a program of Go that has C in it is linked otherwise in many ways, and GO-BOUNDS-01 is about it too",
}

// tally counts what rules came to in all builds. What is wrong with a build is
// what its choice is about: every other rule has to leave it alone.
func tally(all []built, from map[string]base) map[string]*score {
	scores := map[string]*score{}
	for _, r := range checks.All() {
		scores[r.ID] = &score{}
	}
	rights := map[string]bool{}
	for _, b := range all {
		for id, s := range scores {
			ever := slices.Contains(slices.Concat(from[b.on].wrong, b.both), id)
			s.add(ever || slices.Contains(b.rules, id), b.bad.states[id])
			if key := fmt.Sprintf("%s %v %s", b.on, b.pair.good, id); !rights[key] {
				rights[key] = true
				s.add(ever, b.good.states[id])
			}
		}
	}
	return scores
}

// TestProofs: every rule is turned by a choice, or it is said why none does,
// and the table in the document is that of these builds.
func TestProofs(t *testing.T) {
	all := proven(t)
	scores := tally(all, bases(t))
	var table strings.Builder
	fmt.Fprintf(&table, "| rule | wrong builds that it finds | right builds that it fails | precision | recall |\n|---|---|---|---|---|\n")
	var without []string
	for _, r := range checks.All() {
		s := scores[r.ID]
		if s.hit+s.missed == 0 {
			without = append(without, r.ID)
			continue
		}
		fmt.Fprintf(&table, "| %s | %d of %d | %d | %s | %s |\n", r.ID, s.hit, s.hit+s.missed, s.wrong, share(s.hit, s.hit+s.wrong), share(s.hit, s.hit+s.missed))
	}
	for _, id := range without {
		if unproven[id] == "" {
			t.Errorf("no choice turns %s", id)
		}
	}
	table.WriteString("\nNo pair turns these:\n\n")
	for _, id := range without {
		fmt.Fprintf(&table, "- %s: %s\n", id, unproven[id])
	}
	compareDocument(t, table.String())
}

func share(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(n)/float64(of))
}

// compareDocument holds the table against that in the document, or writes it.
func compareDocument(t *testing.T, table string) {
	t.Helper()
	text, err := os.ReadFile(document)
	check(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	was, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the table", document)
	}
	if was == "\n"+table+"\n" {
		return
	}
	if !*write {
		t.Fatalf("the table in %s is stale: go test ./test/audit -run TestProofs -write", document)
	}
	check(t, os.WriteFile(document, []byte(before+begin+"\n"+table+"\n"+end+after), 0o644))
}
