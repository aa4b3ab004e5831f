package delta_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/delta"
)

// subject is a program of ours, before and after one line of it was changed. The line
// gets longer and with it what it is compiled to, so that the addresses of almost
// everything behind it change.
type subject struct {
	name, pkg, ldflags  string
	file, line, becomes string
	more                string // another file of it, for its size
}

func subjects() []subject {
	const enroll, line = "cmd/holdfast-device/enroll.go", `"%s in group %s\n", s.Device, s.Group)`
	const becomes = `"the device %s is enrolled now, in the group of the name %s, after %d\n", s.Device, s.Group, len(os.Args)*int(time.Now().Unix()))`
	return []subject{
		{name: "device", pkg: "./cmd/holdfast-device", ldflags: "-s -w", file: enroll, line: line, becomes: becomes},
		{name: "17MB", pkg: "./cmd/holdfast-device", ldflags: "-w", file: enroll, line: line, becomes: becomes, more: "package main\n\nimport _ \"modernc.org/sqlite\"\n"},
		{name: "hub", pkg: "./cmd/holdfast", ldflags: "-s -w", file: "cmd/holdfast/backup.go",
			line:    `"keep the hub's seal file elsewhere: without it this cannot be restored")`,
			becomes: `"keep the hub's seal file at another place: without it this cannot be restored; it is "+time.Now().String())`},
	}
}

// built builds a program as it is and with its line changed.
func (p subject) built(b *testing.B) (was, is []byte) {
	root, err := filepath.Abs("..")
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(root, p.file)
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	if bytes.Count(text, []byte(p.line)) != 1 {
		b.Fatalf("%s does not have the line once that is to be changed: %s", p.file, p.line)
	}
	changed := bytes.Replace(text, []byte(p.line), []byte(p.becomes), 1)
	return p.build(b, root, text), p.build(b, root, changed)
}

// build builds the program with its file as given.
func (p subject) build(b *testing.B, root string, text []byte) []byte {
	dir := b.TempDir()
	files := map[string][]byte{"file.go": text}
	replaced := map[string]string{filepath.Join(root, p.file): filepath.Join(dir, "file.go")}
	if p.more != "" {
		files["more.go"] = []byte(p.more)
		replaced[filepath.Join(root, filepath.Dir(p.file), "more.go")] = filepath.Join(dir, "more.go")
	}
	var err error
	if files["overlay.json"], err = json.Marshal(map[string]any{"Replace": replaced}); err != nil {
		b.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", p.ldflags, "-overlay", filepath.Join(dir, "overlay.json"), "-o", out, p.pkg)
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, text)
	}
	image, err := os.ReadFile(out)
	if err != nil {
		b.Fatal(err)
	}
	return image
}

// BenchmarkDelta makes and applies the delta of a one-line change in a program;
// patch-KB is its size, image-MB that of the program.
func BenchmarkDelta(b *testing.B) {
	for _, p := range subjects() {
		var was, is []byte
		var out bytes.Buffer
		b.Run("make/program="+p.name, func(b *testing.B) {
			if was == nil {
				was, is = p.built(b)
			}
			b.SetBytes(int64(len(is)))
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				if _, err := delta.Make(b.Context(), bytes.NewReader(was), int64(len(was)), bytes.NewReader(is), int64(len(is)), &out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(out.Len())/1e3, "patch-KB")
			b.ReportMetric(float64(len(is))/1e6, "image-MB")
		})
		b.Run("apply/program="+p.name, func(b *testing.B) {
			if out.Len() == 0 {
				b.Skip("no patch was made")
			}
			b.SetBytes(int64(len(is)))
			b.ReportAllocs()
			for b.Loop() {
				if err := delta.Apply(bytes.NewReader(was), int64(len(was)), bytes.NewReader(out.Bytes()), io.Discard, delta.Limits{Length: int64(len(is))}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
