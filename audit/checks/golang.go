package checks

import (
	"bytes"
	"debug/buildinfo"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
	"holdfast/measure"
)

// goRules judge programs of Go, whose compiler and runtime do what C needs
// flags and care for.
func goRules() []Rule {
	return []Rule{{
		ID: "GO-BOUNDS-01", Measure: measure.MemoryBuffers, Bullets: []string{"avoid.buffer-overflows", "take.check-input"},
		Severity: finding.High, Confidence: finding.Certain,
		Title:   "a Go program was compiled without bounds checks, or has C in it",
		Why:     "Go checks each index and each slice; without that, and in C that it calls, an overflow goes unnoticed.",
		Section: "Memory buffer checking", CWE: []string{"CWE-120"}, Fix: "Build with CGO_ENABLED=0 and without -gcflags=-B.",
		Bad: "go build -gcflags=-B", Good: "CGO_ENABLED=0 go build",
		Judge: judgeGoPrograms(func(p *subject.Program, r *Ruling) {
			switch flags, known := goSetting(p, "-gcflags"); {
			case !known:
				r.Unknown("%s does not say how it was built", p.File)
			case unchecked(flags):
				r.Found(finding.InFile(p.File), "the program was compiled without bounds checks")
			default:
				r.Pass("%s is Go alone, with bounds checks", p.File)
			}
		}),
	}, {
		ID: "GO-STACK-01", Measure: measure.MemoryStack, Bullets: []string{"take.memory-checking"},
		Severity: finding.High, Confidence: finding.Certain,
		Title:   "a Go program has C in it, whose stacks nobody checks",
		Why:     "Each function of Go looks whether its frame fits, and moves the stack where it does not; C does not.",
		Section: "Enable runtime stack checking", CWE: []string{"CWE-121"}, Fix: "Build with CGO_ENABLED=0, or compile the C in it with -fstack-protector-strong.",
		Bad: "CGO_ENABLED=1 go build", Good: "CGO_ENABLED=0 go build",
		Judge: judgeGoPrograms(func(p *subject.Program, r *Ruling) { r.Pass("%s is Go alone: each function checks its stack", p.File) }),
	}}
}

// judgeGoPrograms judges the programs of Go by a function that is told of those
// without any C.
func judgeGoPrograms(alone func(*subject.Program, *Ruling)) func(*subject.Subject, *Ruling) {
	return func(s *subject.Subject, r *Ruling) {
		r.Idle("no program of Go")
		for _, p := range s.Programs {
			if !goProgram(p) {
				continue
			}
			switch cgo, known := goSetting(p, "CGO_ENABLED"); {
			case len(p.Needed) > 0:
				r.Found(finding.InFile(p.File), "the program is linked with %s", few(append([]string{}, p.Needed...)))
			case cgo == "1" && p.Has("_cgo_init"):
				r.Found(finding.InFile(p.File), "the program has C in it")
			case !known:
				r.Unknown("%s does not say how it was built", p.File)
			default:
				alone(p, r)
			}
		}
	}
}

// goSetting returns a setting of the build that a Go program carries, and
// whether it carries any. One that is not named was not set.
func goSetting(p *subject.Program, name string) (string, bool) {
	info, err := buildinfo.Read(bytes.NewReader(p.Data))
	if err != nil || len(info.Settings) == 0 {
		return "", false
	}
	for _, s := range info.Settings {
		if s.Key == name {
			return s.Value, true
		}
	}
	return "", true
}

// unchecked reports whether -gcflags switch the bounds checks off.
func unchecked(flags string) bool {
	for _, f := range strings.FieldsFunc(flags, func(r rune) bool { return r == ' ' || r == '=' || r == '"' || r == '\'' }) {
		if f == "-B" {
			return true
		}
	}
	return false
}
