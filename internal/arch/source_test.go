package arch_test

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// selects reports whether n is a selector pkg.name for one of names.
func selects(n ast.Node, pkg string, names ...string) bool {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg && slices.Contains(names, sel.Sel.Name)
}

// find returns the nodes below n that match.
func find(n ast.Node, match func(ast.Node) bool) []ast.Node {
	var found []ast.Node
	ast.Inspect(n, func(n ast.Node) bool {
		if n != nil && match(n) {
			found = append(found, n)
		}
		return true
	})
	return found
}

func TestWordsAndRulesHaveNoClock(t *testing.T) {
	for _, s := range sources(t) {
		if r, _ := place(s.Dir()); s.IsTest() || r.layer != words && r.layer != rules {
			continue
		}
		for _, n := range find(s.File, func(n ast.Node) bool {
			return selects(n, "time", "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick")
		}) {
			t.Errorf("%s reads the clock: words and rules take the time as an argument", s.At(n))
		}
	}
}

// TestOnlyTLSPolicyWritesTLSConfigs lets others hold a *tls.Config and pass it
// on, but not make one.
func TestOnlyTLSPolicyWritesTLSConfigs(t *testing.T) {
	for _, s := range sources(t) {
		if s.IsTest() || s.Dir() == "tlspolicy" || strings.HasPrefix(s.Path, "test/") {
			continue
		}
		pointedTo := map[ast.Node]bool{}
		for _, n := range find(s.File, func(n ast.Node) bool { _, ok := n.(*ast.StarExpr); return ok }) {
			pointedTo[n.(*ast.StarExpr).X] = true
		}
		for _, n := range find(s.File, func(n ast.Node) bool { return selects(n, "tls", "Config") && !pointedTo[n] }) {
			t.Errorf("%s makes a tls.Config: only package tlspolicy does", s.At(n))
		}
	}
}

func TestNoInitFunctions(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.File.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: no init functions; let main or New do it", s.At(f))
			}
		}
	}
}

// TestNoSleepInTests allows time.Sleep in a function that makes a bubble, or
// that waits for one (synctest.Wait panics elsewhere): there it is how fake time
// moves. Outside, a test waits for a condition.
func TestNoSleepInTests(t *testing.T) {
	for _, s := range sources(t) {
		if !s.IsTest() {
			continue
		}
		for _, d := range s.File.Decls {
			if len(find(d, func(n ast.Node) bool { return selects(n, "synctest", "Test", "Wait") })) > 0 {
				continue
			}
			for _, n := range find(d, func(n ast.Node) bool { return selects(n, "time", "Sleep") }) {
				t.Errorf("%s sleeps outside a synctest bubble: wait for a condition", s.At(n))
			}
		}
	}
}

func TestEachPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range sources(t) {
		if s.IsTest() {
			continue
		}
		comments[s.Dir()] = comments[s.Dir()]
		if s.File.Doc != nil {
			comments[s.Dir()] = append(comments[s.Dir()], s.Path)
		}
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("package %s has %d package comments, want one: %s", dir, len(files), strings.Join(files, " "))
		}
	}
}
