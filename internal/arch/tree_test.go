package arch_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "holdfast"

var rewrite = flag.Bool("rewrite", false, "write the lists of linked packages anew")

// root is the root of the repository as seen from this directory.
const root = "../.."

// listed is what the go command says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// rel returns an import path below the module's, "" for the module itself,
// and whether it belongs to the module.
func rel(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// goList runs go list for the platform that releases are built for, so that
// the answer is the same on every machine.
func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Imports"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.Bytes())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// source is a parsed Go file. Path is relative to the root, with slashes.
type source struct {
	Path string
	File *ast.File
	Set  *token.FileSet
}

func (s source) Dir() string  { return path.Dir(s.Path) }
func (s source) IsTest() bool { return strings.HasSuffix(s.Path, "_test.go") }

// At returns "file:line" of a node.
func (s source) At(n ast.Node) string {
	return s.Path + ":" + strconv.Itoa(s.Set.Position(n.Pos()).Line)
}

// sources parses every Go file of the tree.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if hidden := strings.HasPrefix(d.Name(), ".") && name != root; hidden || skipped(name) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		short, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		all = append(all, source{Path: filepath.ToSlash(short), File: f, Set: set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// skipped names the directories that hold no source of ours.
func skipped(name string) bool {
	switch filepath.Base(name) {
	case "testdata", "vendor":
		return true
	}
	return name == filepath.Join(root, "var") || name == filepath.Join(root, "bin")
}
