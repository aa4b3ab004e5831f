package unpack

import (
	"path"
	"slices"
	"strings"

	"holdfast/audit/csource"
	"holdfast/audit/subject"
	"holdfast/finding"
)

// maxIncludes bounds how deep configurations include one another.
const maxIncludes = 32

// configure reads the configurations, once all files are known that they may
// include and all commands that define macros for them.
func (u *unpacker) configure(s *subject.Subject) {
	headers := map[string][]*subject.Source{}
	for _, h := range s.Sources {
		base := subject.Base(h.Name)
		headers[base] = append(headers[base], h)
	}
	for _, f := range s.Files {
		if f.Kind != subject.Header && f.Kind != subject.Kconfig {
			continue
		}
		t := csource.NewTable()
		if err := subject.Guard(func() { u.table(t, f, s.Commands, headers) }); err != nil {
			s.Troubles = append(s.Troubles, finding.Trouble{Location: finding.InFile(f.Name), Message: "cannot be read: " + err.Error()})
			continue
		}
		if t.Trouble != nil {
			s.Troubles = append(s.Troubles, *t.Trouble)
		}
		name := family(f.Name)
		if name == "" {
			name = subject.Base(f.Name)
		}
		s.Configs = append(s.Configs, &subject.Config{File: f.Name, Family: name, Macros: t})
	}
}

// table reads one configuration.
func (u *unpacker) table(t *csource.Table, f *subject.File, commands []subject.Command, headers map[string][]*subject.Source) {
	if f.Kind == subject.Kconfig {
		t.ReadKconfig(f.Name, f.Text())
		base := subject.Base(f.Name)
		t.Complete = base == ".config" || base == "sdkconfig" // others say only what differs from defaults
		return
	}
	define(t, commands)
	t.Read(f.Name, f.Text(), includer(headers), csource.Limits{Includes: maxIncludes, Lines: u.Limits.Defines})
}

// includer finds an included file among the input: beside the file that asks,
// or the only one whose path ends in the name.
func includer(headers map[string][]*subject.Source) csource.Includer {
	return func(from, name string) (string, string, bool) {
		candidates := headers[path.Base(name)]
		beside := path.Join(path.Dir(from), name)
		i := slices.IndexFunc(candidates, func(h *subject.Source) bool { return h.Name == beside })
		if i < 0 {
			candidates = slices.DeleteFunc(slices.Clone(candidates), func(h *subject.Source) bool {
				return h.Name != name && !strings.HasSuffix(h.Name, "/"+name) && !strings.HasSuffix(h.Name, "!"+name)
			})
			i = len(candidates) - 1
			if len(candidates) > 1 {
				return "", "", false
			}
		}
		if i < 0 {
			return "", "", false
		}
		return candidates[i].Name, candidates[i].Text(), true
	}
}

// define adds the macros of the command lines: those that every compilation of
// C defines alike for sure, others as unsure. With commands at hand nothing
// else is defined.
func define(t *csource.Table, commands []subject.Command) {
	type definition struct {
		csource.Macro
		times int
		alike bool
	}
	all := map[string]*definition{}
	compilations := 0
	for _, c := range commands {
		if c.Source == "" || language(c.Source) == "asm" {
			continue
		}
		compilations++
		seen := map[string]bool{}
		for _, d := range c.Args.Defines() {
			m := all[d.Name]
			if m == nil {
				m = &definition{alike: true, Macro: csource.Macro{Value: d.Value, State: csource.Undefined, Location: c.Location}}
				all[d.Name] = m
			}
			m.alike = m.alike && m.Value == d.Value
			if !seen[d.Name] && !d.Undef {
				m.times++
			}
			seen[d.Name] = true
		}
	}
	t.Complete = compilations > 0
	for name, d := range all {
		t.ReadDefine(name, d.Value, d.times == 0, d.Location)
		if m, ok := t.Lookup(name); ok && d.times > 0 && (d.times < compilations || !d.alike) {
			m.Sure = false
			if d.times < compilations {
				m.State = csource.Unsure
			}
			t.Set(m)
		}
	}
}
