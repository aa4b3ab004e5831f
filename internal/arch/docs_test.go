package arch_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatsNameRealTests keeps docs/THREATS.md honest: what it says is shown
// by a test is shown by a test that exists.
func TestThreatsNameRealTests(t *testing.T) {
	exists := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.File.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.IsTest() {
				exists[s.Dir()+"."+f.Name.Name] = true
			}
		}
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs", "THREATS.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z/]+\\.(?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(doc), -1)
	if len(named) < 30 {
		t.Fatalf("docs/THREATS.md names %d tests; has its form changed?", len(named))
	}
	for _, m := range named {
		if !exists[m[1]] {
			t.Errorf("docs/THREATS.md names %s, which does not exist", m[1])
		}
	}
}

// TestSetupInstallsWhatTestsNeed holds scripts/setup to the tests: each program
// that one of them names to testkit.Need has a line there.
func TestSetupInstallsWhatTestsNeed(t *testing.T) {
	setup, err := os.ReadFile(filepath.Join(root, "scripts", "setup"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources(t) {
		for _, n := range find(s.File, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			return ok && len(call.Args) == 2 && selects(call.Fun, "testkit", "Need")
		}) {
			lit, ok := n.(*ast.CallExpr).Args[1].(*ast.BasicLit)
			if !ok {
				continue
			}
			program := strings.Trim(lit.Value, `"`)
			if !regexp.MustCompile(`(?m)^\s+` + regexp.QuoteMeta(program) + `\s`).Match(setup) {
				t.Errorf("%s needs %s, which scripts/setup does not install", s.At(n), program)
			}
		}
	}
}

// TestLinksLead checks that links between the documents lead to a file.
func TestLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		doc, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(doc), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			}
		}
	}
}
