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

// pairs are programs of ours, each before and after one line of it was changed.
// The line gets longer and with it what it is compiled to, so that the addresses
// of almost everything behind it change.
var pairs = []struct{ name, pkg, file, line, becomes string }{
	{"device", "./cmd/holdfast-device", "cmd/holdfast-device/enroll.go", `"%s in group %s\n", s.Device, s.Group)`,
		`"the device %s is enrolled now, in the group of the name %s, after %d\n", s.Device, s.Group, len(os.Args)*int(time.Now().Unix()))`},
	{"hub", "./cmd/holdfast", "cmd/holdfast/backup.go", `"keep the hub's seal file elsewhere: without it this cannot be restored")`,
		`"keep the hub's seal file at another place: without it this cannot be restored; it is "+time.Now().String())`},
}

// built builds a program as it is and with its line changed.
func built(b *testing.B, pkg, file, line, becomes string) (was, is []byte) {
	root, err := filepath.Abs("..")
	if err != nil {
		b.Fatal(err)
	}
	dir, path := b.TempDir(), filepath.Join(root, file)
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	if bytes.Count(text, []byte(line)) != 1 {
		b.Fatalf("%s does not have the line once that is to be changed: %s", file, line)
	}
	changed := filepath.Join(dir, "changed.go")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		b.Fatal(err)
	}
	for name, content := range map[string][]byte{changed: bytes.Replace(text, []byte(line), []byte(becomes), 1), filepath.Join(dir, "overlay.json"): overlay} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	build := func(flags ...string) []byte {
		out := filepath.Join(dir, "out")
		cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", out}, flags...), pkg)...)
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
	return build(), build("-overlay", filepath.Join(dir, "overlay.json"))
}

// BenchmarkDelta makes and applies the delta of a one-line change in a program;
// patch-KB is its size, image-MB that of the program.
func BenchmarkDelta(b *testing.B) {
	for _, p := range pairs {
		var was, is []byte
		var out bytes.Buffer
		b.Run("make/program="+p.name, func(b *testing.B) {
			if was == nil {
				was, is = built(b, p.pkg, p.file, p.line, p.becomes)
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
