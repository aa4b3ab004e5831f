package csource

import (
	"strings"

	"holdfast/finding"
)

// ReadKconfig adds to the table what a .config of Zephyr, ESP-IDF or Linux
// says: "CONFIG_X=y" defines it as 1, as the header made from it does, and
// "CONFIG_X=n" and "# CONFIG_X is not set" say that it is not defined. Other
// values stay as they are, with their quotes.
func (t *Table) ReadKconfig(file, text string) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		m := Macro{State: Defined, Sure: true, Location: finding.AtLine(file, n)}
		if name, ok := strings.CutSuffix(line, " is not set"); ok {
			m.Name, m.State = strings.TrimSpace(strings.TrimPrefix(name, "#")), Undefined
		} else if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			m.Name, m.Value = strings.TrimSpace(name), strings.TrimSpace(value)
		}
		if !strings.HasPrefix(m.Name, "CONFIG_") || firstWord(m.Name) != m.Name {
			continue
		}
		switch m.Value {
		case "y", "m":
			m.Value = "1"
		case "n":
			m.Value, m.State = "", Undefined
		}
		t.Set(m)
	}
}

// ReadDefine adds a -D or -U of a command line.
func (t *Table) ReadDefine(name, value string, undef bool, at finding.Location) {
	name, params, _ := strings.Cut(name, "(")
	if firstWord(name) != name || name == "" {
		return
	}
	m := Macro{Name: name, State: Defined, Value: value, Sure: true, Params: params != "", Location: at}
	if undef {
		m.State, m.Value = Undefined, ""
	}
	t.Set(m)
}
