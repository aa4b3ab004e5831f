// Package buildlog reads how a program was built: compile_commands.json (Clang's
// JSON compilation database) and the lines that make, ninja and others print.
// Commands are split as a POSIX shell would, without expanding anything, and
// none is run.
package buildlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"

	"holdfast/audit/subject"
	"holdfast/finding"
)

// maxCommands bounds the commands of a file, maxLine the bytes of a line of a
// log, maxWords the words of a command.
const (
	maxCommands = 500_000
	maxLine     = 1 << 20
	maxWords    = 50_000
)

// entry is one of compile_commands.json.
type entry struct {
	Directory string   `json:"directory"`
	File      string   `json:"file"`
	Command   string   `json:"command"`
	Arguments []string `json:"arguments"`
	Output    string   `json:"output"`
}

// ParseCommands reads compile_commands.json.
func ParseCommands(file string, data []byte) ([]subject.Command, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("not a list of commands: %v", err)
	}
	var all []subject.Command
	for d.More() {
		if len(all) == maxCommands {
			return all, fmt.Errorf("more than %d commands", maxCommands)
		}
		at := d.InputOffset()
		var e entry
		if err := d.Decode(&e); err != nil {
			return all, fmt.Errorf("command %d: %w", len(all), err)
		}
		words := e.Arguments
		if len(words) == 0 {
			words = Split(e.Command)
		}
		if len(words) == 0 || len(words) > maxWords {
			continue
		}
		c := command(words)
		c.Location = finding.InFile(file)
		c.Offset = at
		c.Dir, c.Source = e.Directory, e.File
		if e.Output != "" {
			c.Output = e.Output
		}
		all = append(all, c)
	}
	return all, nil
}

// compilers match the last element of a program's name.
var compilers = regexp.MustCompile(`^(?:[A-Za-z0-9_.+]+-)*(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|armclang|armcc|iccarm|ld|ld\.lld|ld\.bfd|lld|armlink|ilinkarm)(?:-[0-9.]+)?(?:\.exe)?$`)

// warning matches what compilers say of a line of source.
var warning = regexp.MustCompile(`^(.+?):(\d+):(?:\d+:)? (?:fatal )?(warning|error): (.*)$`)

// ParseLog reads the output of a build: its commands, and what the compilers
// warned of.
func ParseLog(file, text string) ([]subject.Command, *subject.Log) {
	log := &subject.Log{File: file}
	var all []subject.Command
	dir := ""
	n := 0
	for line := range logical(text) {
		n = line.number
		if rest, ok := entering(line.text); ok {
			dir = rest
			continue
		}
		if m := warning.FindStringSubmatch(line.text); m != nil && len(line.text) < maxLine {
			log.Say(finding.AtLine(file, n), m[3], m[1]+":"+m[2]+": "+m[4])
			continue
		}
		for _, words := range Commands(line.text) {
			if len(all) == maxCommands {
				return all, log
			}
			if words[0] == "cd" && len(words) == 2 {
				dir = words[1]
			}
			if !compilers.MatchString(path.Base(strings.ReplaceAll(words[0], `\`, "/"))) {
				continue
			}
			c := command(words)
			c.Location, c.Dir = finding.AtLine(file, n), dir
			all = append(all, c)
		}
	}
	return all, log
}

// entering returns the directory of make's "Entering directory 'x'".
func entering(line string) (string, bool) {
	_, rest, ok := strings.Cut(line, ": Entering directory ")
	return strings.Trim(rest, "`'\""), ok && strings.HasPrefix(line, "make")
}

// logicalLine is a line with those that are joined to it.
type logicalLine struct {
	number int // of its first line
	text   string
}

// logical yields the lines of a log, joined where one ends in a backslash.
// Longer ones than anybody writes are dropped.
func logical(text string) func(func(logicalLine) bool) {
	return func(yield func(logicalLine) bool) {
		n, first := 0, 1
		var joined strings.Builder
		for line := range strings.Lines(text) {
			n++
			line = strings.TrimRight(line, "\r\n")
			if more, ok := strings.CutSuffix(line, `\`); ok && joined.Len()+len(more) < maxLine {
				joined.WriteString(more)
				joined.WriteByte(' ')
				continue
			}
			if joined.Len() > 0 {
				line = joined.String() + line
				joined.Reset()
			}
			if len(line) < maxLine && !yield(logicalLine{first, line}) {
				return
			}
			first = n + 1
		}
	}
}

// command sorts the words of a command.
func command(words []string) subject.Command {
	c := subject.Command{Compiler: words[0], Args: words[1:], Links: true}
	inputs := false
	for i := 0; i < len(c.Args); i++ {
		a := c.Args[i]
		switch {
		case a == "-o" && i+1 < len(c.Args):
			i++
			c.Output = c.Args[i]
		case takesNext(a):
			i++
		case a == "-c" || a == "-S" || a == "-E" || a == "-M" || a == "-MM" || a == "-fsyntax-only" || a == "--version" || a == "-v":
			c.Links = false
		case strings.HasPrefix(a, "-"):
		case isSource(a):
			inputs = true
			if c.Source == "" {
				c.Source = a
			}
		default:
			inputs = true
		}
	}
	c.Links = c.Links && inputs
	return c
}

// takesNext reports whether the word after an argument belongs to it.
func takesNext(a string) bool {
	switch a {
	case "-I", "-D", "-U", "-include", "-imacros", "-isystem", "-iquote", "-idirafter", "-L", "-l", "-T", "-x", "-MF", "-MT", "-MQ", "-Xlinker", "-Xassembler", "-Xclang", "-arch", "-target", "-u", "-z", "--param", "-Map", "-m", "--sysroot":
		return true
	}
	return false
}

// isSource reports whether a name is of a file that is compiled.
func isSource(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".c", ".cc", ".cpp", ".cxx", ".c++", ".s", ".sx", ".asm":
		return true
	}
	return false
}
