package audit_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/testkit"
)

// delta is what one build has beyond its base.
type delta struct {
	label string            // names it; "": the rest does
	flags []string          // of the command
	drop  []string          // flags of the base that it leaves out
	edits []edit            // of sources
	files map[string]string // that are put beside the sources
	given map[string][]byte // files that are judged beside what is built
	// settings are added to those of the base.
	settings string
}

// edit replaces a literal of a file, which must be there once.
type edit struct{ file, old, new string }

// with is a delta of the command alone.
func with(flags ...string) delta { return delta{flags: flags} }

// change is a delta of one literal.
func change(file, old, new string) delta { return delta{edits: []edit{{file, old, new}}} }

// base is what a pair of builds has in common.
type base struct {
	name    string
	compile []string // the command; nil: nothing is built
	// units are sources that are compiled apart first, each by the command with
	// -c, and linked by the command with link.
	units, link []string
	sources     string // directory of testdata that is copied
	// inputs are the files that are judged, of the directory of the build.
	inputs []string
	// settings are those of .holdfast-audit.yaml.
	settings string
	// wrong are rules that fail by what the base is for.
	wrong []string
	// keep says that the command and what it printed are to be judged, as
	// compile_commands.json and build.log.
	keep bool
}

// strict are flags that a release of firmware has.
var strict = []string{"-Os", "-ffreestanding", "-fno-builtin", "-ffunction-sections", "-fdata-sections", "-fstack-protector-strong", "-Wall", "-Wextra", "-Werror"}

// declared is what the makers say of the firmware.
const declared = "version: 1.4.2\nmodules: []\nports: []\n"

var thumb = []string{"-mcpu=cortex-m4", "-mthumb"}

// linked are the flags of a link without a C library.
var linked = []string{"-nostdlib", "-Wl,--gc-sections", "-Wl,--build-id", "-Wl,-Map=app.map", "-T", "firmware.ld", "-o", "app.elf"}

// bases returns what pairs start from. Flags of the compiler are left out of
// the debug information (-gno-record-gcc-switches), so that rules of programs
// and rules of commands are asked apart.
func bases(t testing.TB) map[string]base {
	t.Helper()
	arm, host := testkit.Need(t, "arm-none-eabi-gcc"), testkit.Need(t, "gcc")
	debug := []string{"-g", "-gno-record-gcc-switches"}
	firmware := func(name, core string) base {
		return base{name: name, sources: "firmware", inputs: []string{"app.elf", "app.map"}, settings: declared,
			compile: slices.Concat([]string{arm, "-mcpu=" + core, "-mthumb"}, debug, strict), units: []string{"board.c", "kernel.c", "library.c", "rand.c", "app.c"}, link: linked}
	}
	m0 := firmware("m0", "cortex-m0")
	m0.settings += "core: cortex-m0\n"
	hosted := []string{"-O2", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fcf-protection", "-fPIE", "-Wall", "-Wextra", "-Werror"}
	return map[string]base{
		"m4":  firmware("m4", "cortex-m4"),
		"m33": firmware("m33", "cortex-m33"),
		"m0":  m0,
		"host": {name: "host", sources: "host", inputs: []string{"app"}, settings: declared,
			compile: slices.Concat([]string{host}, hosted, []string{"-pie", "-Wl,-z,relro,-z,now,-z,noexecstack,-z,notext,--build-id", "-Wl,-z,ibt,-z,shstk", "-o", "app", "app.c"})},
		"command": {name: "command", sources: "firmware", inputs: []string{"compile_commands.json", "build.log"}, keep: true,
			compile: slices.Concat([]string{arm, "-mcpu=cortex-m4", "-mthumb"}, strict, []string{"-c", "-o", "app.o", "app.c"})},
		"host-command": {name: "host-command", sources: "host", inputs: []string{"compile_commands.json", "build.log"}, keep: true,
			compile: slices.Concat([]string{host}, hosted, []string{"-c", "-o", "app.o", "app.c"})},
		"producer": {name: "producer", sources: "firmware", inputs: []string{"app.o"},
			compile: slices.Concat([]string{arm, "-mcpu=cortex-m4", "-mthumb", "-g"}, strict, []string{"-c", "-o", "app.o", "kernel.c"})},
		"source": {name: "source", sources: "source", inputs: []string{"app.c"}, compile: []string{host, "-std=gnu11", "-fsyntax-only", "-ffreestanding", "app.c"}},
		"threadx": {name: "threadx", sources: "config/threadx", inputs: []string{"tx_user.h", "nx_user.h", "nx_secure_user.h", "compile_commands.json", "agent.o"},
			settings: "modules: [snmp]\n", wrong: []string{"NET-PLAIN-01"}, // it has SNMP in it
			compile: []string{arm, "-mcpu=cortex-m4", "-mthumb", "-Os"}, units: []string{"agent.c"}},
		"freertos": {name: "freertos", sources: "config/freertos", inputs: []string{"."}},
		"mbedtls":  {name: "mbedtls", sources: "config/mbedtls", inputs: []string{"."}},
		"zephyr":   {name: "zephyr", sources: "config/zephyr", inputs: []string{"."}},
		"espidf":   {name: "espidf", sources: "config/espidf", inputs: []string{"."}},
		"given":    {name: "given", settings: declared},
		"map": {name: "map", sources: "firmware", inputs: []string{"app.map"}, settings: declared,
			compile: []string{"sh", "-c", `arm-none-eabi-gcc ` + strings.Join(slices.Concat(thumb, strict), " ") + ` "$@" -c board.c kernel.c library.c rand.c app.c &&
arm-none-eabi-ar rcs libc.a library.o rand.o && arm-none-eabi-gcc ` + strings.Join(slices.Concat(thumb, linked), " ") + ` board.o kernel.o app.o libc.a`, "build"}},
		"go": {name: "go", sources: "go", inputs: []string{"app"}, settings: declared, wrong: []string{"MEM-PIE-01"}, compile: []string{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", "app"}},
	}
}

// make builds into a directory and returns what is to be judged.
func (b base) make(dir string, d delta) ([]string, error) {
	if b.sources != "" {
		if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", b.sources))); err != nil {
			return nil, err
		}
	}
	for _, e := range d.edits {
		if err := e.apply(dir); err != nil {
			return nil, err
		}
	}
	for name, text := range d.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	var inputs []string
	for _, name := range b.inputs {
		inputs = append(inputs, filepath.Join(dir, name))
	}
	for _, name := range slices.Sorted(maps.Keys(d.given)) {
		if err := os.WriteFile(filepath.Join(dir, name), d.given[name], 0o600); err != nil {
			return nil, err
		}
		inputs = append(inputs, filepath.Join(dir, name))
	}
	if b.compile == nil {
		return inputs, nil
	}
	return inputs, b.run(dir, d)
}

// run runs the command.
func (b base) run(dir string, d delta) error {
	left := func(a string) bool { return slices.Contains(d.drop, a) }
	args := slices.DeleteFunc(slices.Concat(b.compile, d.flags), left)
	for _, unit := range b.units {
		if err := object(dir, unit, args); err != nil {
			return err
		}
	}
	if len(b.units) > 0 && len(b.link) == 0 {
		return nil
	}
	args = slices.DeleteFunc(slices.Concat(b.compile, b.link, d.flags), left)
	for _, unit := range b.units {
		args = append(args, objectOf(unit))
	}
	out, err := command(dir, args)
	if err != nil || !b.keep {
		return err
	}
	return keep(dir, args, out)
}

// command runs a compiler.
func command(dir string, args []string) ([]byte, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return out, nil
}

func objectOf(unit string) string { return strings.TrimSuffix(unit, ".c") + ".o" }

// objects are units that were compiled, by their texts and commands.
var objects sync.Map // of func() ([]byte, error)

// object compiles a unit, or takes what the same text and command made before.
// Macros that a unit does not name are left out of its command: they change
// nothing of it.
func object(dir, unit string, args []string) error {
	text, err := os.ReadFile(filepath.Join(dir, unit))
	if err != nil {
		return err
	}
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "-D"), "=")
		return strings.HasPrefix(a, "-D") && !strings.Contains(string(text), name)
	})
	args = append(args, "-c", "-o", objectOf(unit), unit)
	key := strings.Join(args, "\x00") + "\x00" + string(text)
	if strings.Contains(key, "-DEMBED=") {
		embedded, err := os.ReadFile(filepath.Join(dir, "embedded.h"))
		if err != nil {
			return err
		}
		key += string(embedded)
	}
	made, _ := objects.LoadOrStore(key, sync.OnceValues(func() ([]byte, error) {
		if _, err := command(dir, args); err != nil {
			return nil, err
		}
		return os.ReadFile(filepath.Join(dir, objectOf(unit)))
	}))
	b, err := made.(func() ([]byte, error))()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, objectOf(unit)), b, 0o600)
}

// keep writes a command and what it printed, as builds do.
func keep(dir string, args []string, out []byte) error {
	args = append([]string{filepath.Base(args[0])}, args[1:]...)
	if err := os.WriteFile(filepath.Join(dir, "build.log"), append([]byte(strings.Join(args, " ")+"\n"), out...), 0o600); err != nil {
		return err
	}
	type entry struct {
		Directory string   `json:"directory"`
		Arguments []string `json:"arguments"`
		File      string   `json:"file"`
	}
	text, err := json.Marshal([]entry{{dir, args, "app.c"}})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "compile_commands.json"), text, 0o600)
}

func (e edit) apply(dir string) error {
	name := filepath.Join(dir, e.file)
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), e.old); n != 1 {
		return fmt.Errorf("%s has %q %d times, want once", e.file, e.old, n)
	}
	return os.WriteFile(name, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o600)
}
