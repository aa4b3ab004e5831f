package subject

import (
	"strings"

	"holdfast/finding"
)

// Flags are the arguments of a compiler or a linker, in their order.
type Flags []string

// Has reports whether an argument is there, word for word.
func (f Flags) Has(flag string) bool {
	for _, a := range f {
		if a == flag {
			return true
		}
	}
	return false
}

// Last returns what follows a prefix in the last argument that has it:
// Last("-O") of "-O0 -O2" is "2".
func (f Flags) Last(prefix string) (value string, said bool) {
	for i := len(f) - 1; i >= 0; i-- {
		if rest, ok := strings.CutPrefix(f[i], prefix); ok {
			return rest, true
		}
	}
	return "", false
}

// Switch returns how the last of -fNAME and -fno-NAME (or -m, -W: kind is the
// letter) left a switch, and whether either is there: Switch("f", "plt").
func (f Flags) Switch(kind, name string) (on, said bool) {
	for i := len(f) - 1; i >= 0; i-- {
		switch f[i] {
		case "-" + kind + name:
			return true, true
		case "-" + kind + "no-" + name:
			return false, true
		}
	}
	return false, false
}

// Linker returns the arguments that the compiler passes on to the linker:
// those in "-Wl,a,b" and after -Xlinker.
func (f Flags) Linker() Flags {
	var all Flags
	for i, a := range f {
		if rest, ok := strings.CutPrefix(a, "-Wl,"); ok {
			all = append(all, strings.Split(rest, ",")...)
		}
		if a == "-Xlinker" && i+1 < len(f) {
			all = append(all, f[i+1])
		}
	}
	return all
}

// Define is a -D or -U of a command.
type Define struct {
	Name  string
	Value string // "1" where none is given, as the standard has it
	Undef bool
}

// Defines returns the macros that the arguments define and undefine, in order.
func (f Flags) Defines() []Define {
	var all []Define
	for i := 0; i < len(f); i++ {
		a := f[i]
		if len(a) < 2 || a[0] != '-' || a[1] != 'D' && a[1] != 'U' {
			continue
		}
		text := a[2:]
		if text == "" && i+1 < len(f) {
			i++
			text = f[i]
		}
		name, value, given := strings.Cut(text, "=")
		if !given {
			value = "1"
		}
		all = append(all, Define{Name: name, Value: value, Undef: a[1] == 'U'})
	}
	return all
}

// Command is one run of a compiler or linker.
type Command struct {
	finding.Location // where it stands: in compile_commands.json or a build log

	Compiler string // "arm-none-eabi-gcc"
	Args     Flags  // without the compiler
	Dir      string // where it ran
	Source   string // the file that it compiled; empty: it linked, or is not known
	Output   string
	Links    bool // it made a program: no -c, -S or -E
}

// Log is what a build printed.
type Log struct {
	File     string
	Warnings []Warning // the first thousand
	Count    int       // of warnings in all
	Errors   int
}

// Warning is what a compiler said of a line of source.
type Warning struct {
	finding.Location        // in the log
	Message          string // "main.c:12: unused variable 'x' [-Wunused-variable]"
}

// Say adds what a compiler said: a "warning" or an "error".
func (l *Log) Say(at finding.Location, kind, message string) {
	const most = 1000
	if kind == "error" {
		l.Errors++
		return
	}
	if l.Count++; len(l.Warnings) < most {
		l.Warnings = append(l.Warnings, Warning{at, message})
	}
}
