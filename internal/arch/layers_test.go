package arch_test

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// layer says where a package stands. A package may import those of the layers
// that its own may see, and no others.
type layer string

const (
	words     layer = "words"     // types and their forms: no I/O, no clock
	rules     layer = "rules"     // pure decisions: time arrives as an argument
	mechanism layer = "mechanism" // internal: helps with I/O, knows nothing of devices
	hubSide   layer = "hub"
	devSide   layer = "device"
	audSide   layer = "audit"
	imgSide   layer = "image"
	client    layer = "client" // the hub's API from outside
	story     layer = "demo"   // drives the finished programs
	programs  layer = "cmd"
	tests     layer = "test"
)

// sees lists, for each layer, the other layers that it may import.
var sees = map[layer][]layer{
	words:     {},
	rules:     {words},
	mechanism: {words},
	hubSide:   {words, rules, mechanism},
	devSide:   {words, rules, mechanism},
	audSide:   {words, rules, mechanism},
	imgSide:   {words, rules, mechanism},
	client:    {words, rules, mechanism},
	story:     {words, rules, mechanism, client},
	programs:  {words, rules, mechanism, hubSide, devSide, audSide, imgSide, client, story},
	tests:     {words, rules, mechanism, hubSide, devSide, audSide, imgSide, client, story, programs},
}

// room is an entry of the table of layers: a package, and with it everything
// below it that has no entry of its own.
type room struct {
	path  string
	layer layer
}

// table has every top-level package. Words may import the words above them.
var table = []room{
	{"fault", words},
	{"identity", words},
	{"measure", words},
	{"evidence", words},
	{"finding", words},
	{"mcuboot", words},
	{"release", words},
	{"mqtt", words},
	{"iothub", words},
	{"dps", words},
	{"logs", words},

	{"pki", rules},
	{"tlspolicy", rules},
	{"access", rules},
	{"birth", rules},
	{"appraise", rules},
	{"posture", rules},
	{"delta", rules},
	{"tuf", rules},
	{"update", rules},
	{"rollout", rules},
	{"statement", rules},
	{"twin", rules},
	{"ledger", rules},
	{"detect", rules},
	{"operator", rules}, // the operator API's words: they speak of postures and the ledger

	{"hub", hubSide},
	{"device", devSide},
	{"audit", audSide},
	{"image", imgSide},

	{"client", client},
	{"demo", story},
	{"cmd", programs},
	{"test", tests},

	{"internal", mechanism},
	{"internal/gendocs", programs}, // a program too, though nobody installs it
}

// joiners are the packages that may import other rooms of their own side,
// beside the side's root, which joins them all.
var joiners = map[string]string{
	"hub/store": "returns its consumers' types",
}

// place returns the entry of the table that a package belongs to.
func place(pkg string) (room, bool) {
	var found room
	for _, r := range table {
		if (pkg == r.path || strings.HasPrefix(pkg, r.path+"/")) && len(r.path) > len(found.path) {
			found = r
		}
	}
	return found, found.path != ""
}

// position returns the place of an entry in the table.
func position(r room) int { return slices.Index(table, r) }

// mayImport says why one package of the module may not import another, or "".
func mayImport(from, to string) string {
	a, _ := place(from)
	b, ok := place(to)
	switch {
	case !ok:
		return to + " is not in the table of layers"
	case support(to) && !support(from) && a.layer != tests:
		return "only tests import what helps tests"
	case a.layer != b.layer:
		if slices.Contains(sees[a.layer], b.layer) {
			return ""
		}
		return string(a.layer) + " may not import " + string(b.layer)
	case a.layer == words && position(b) > position(a):
		return "words may import only the words above them in the table"
	case a.layer == hubSide || a.layer == devSide:
		return sideways(from, to)
	}
	return ""
}

// sideways says why one package of a side may not import another, or "". The
// root of the side joins its rooms; rooms do not know one another or the root.
func sideways(from, to string) string {
	a, b := roomOf(from), roomOf(to)
	switch {
	case a == b, !strings.Contains(from, "/"), support(from):
		return ""
	case joiners[a] != "" && strings.Contains(to, "/"):
		return ""
	}
	return "rooms of one side may not import one another; their root joins them"
}

// support reports whether a package helps tests, as its name then says:
// "appraise/appraisetest".
func support(pkg string) bool { return strings.HasSuffix(pkg, "test") && pkg != "test" }

// roomOf returns the room of a package: "hub/store" for "hub/store/schema".
func roomOf(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	return path.Join(parts[:min(2, len(parts))]...)
}

func TestImportsFollowTheLayers(t *testing.T) {
	for _, p := range goList(t, "-e", "./...") {
		from, _ := rel(p.ImportPath)
		if _, ok := place(from); !ok {
			t.Errorf("package %q is in no layer: enter it in the table of internal/arch/layers_test.go", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := rel(imported)
			if !ours {
				continue
			}
			if why := mayImport(from, to); why != "" {
				t.Errorf("%s imports %s: %s", from, to, why)
			}
		}
	}
}

func TestMayImport(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"posture", "measure", true},
		{"measure", "posture", false},
		{"evidence", "measure", true},
		{"measure", "evidence", false},
		{"pki", "internal/atomicfile", false},
		{"hub/gateway", "mqtt", true},
		{"hub/gateway", "internal/backoff", true},
		{"hub/gateway", "hub/stream", false},
		{"hub/gateway", "hub", false},
		{"hub/gateway", "device/link", false},
		{"hub", "hub/gateway", true},
		{"hub/store", "hub/gateway", true},
		{"hub/store", "hub", false},
		{"device/board/virtual", "device/board", true},
		{"device/agent", "device/link", false},
		{"device", "device/link", true},
		{"device", "hub", false},
		{"device/hubtest", "device/link", true},
		{"device/link", "device/hubtest", false},
		{"appraise", "appraise/appraisetest", false},
		{"client", "hub/api", false},
		{"demo", "client", true},
		{"demo", "hub", false},
		{"cmd/holdfast", "demo", true},
		{"internal/testkit", "hub", false},
		{"internal/gendocs", "measure", true},
		{"hub", "elsewhere", false},
	} {
		if why := mayImport(c.from, c.to); (why == "") != c.ok {
			t.Errorf("%s -> %s: %q, want allowed %v", c.from, c.to, why, c.ok)
		}
	}
}

// noIO are the packages of the standard library that words and rules do not
// import themselves. (That crypto/x509 pulls some in is not their doing.)
var noIO = []string{
	"database/sql", "net", "net/http", "net/http/httptest", "net/rpc", "net/smtp",
	"os", "os/exec", "os/signal", "os/user", "syscall", "io/ioutil",
}

func TestWordsAndRulesDoNoIO(t *testing.T) {
	for _, p := range goList(t, "-e", "./...") {
		from, _ := rel(p.ImportPath)
		if r, _ := place(from); r.layer != words && r.layer != rules {
			continue
		}
		for _, imported := range p.Imports {
			if slices.Contains(noIO, imported) {
				t.Errorf("%s imports %s: words and rules do no I/O", from, imported)
			}
		}
	}
}

func TestOnlyProgramsKnowTheCommandLineLibrary(t *testing.T) {
	for _, p := range goList(t, "-e", "./...") {
		from, _ := rel(p.ImportPath)
		if !strings.HasPrefix(from, "cmd/") && slices.Contains(p.Imports, "github.com/spf13/cobra") {
			t.Errorf("%s imports cobra, which belongs in cmd alone", from)
		}
	}
}
