package elfread_test

import (
	"slices"
	"testing"
)

func TestCallsOfEveryMachine(t *testing.T) {
	for _, tc := range toolchains(t) {
		for _, optimise := range []string{"-O0", "-O2"} {
			t.Run(tc.name+optimise, func(t *testing.T) {
				p := open(t, build(t, tc, firmware, "-g", optimise))
				if p.Arch != tc.arch || p.Bits != tc.bits || p.Big != tc.big {
					t.Errorf("%s, %d bits, big %v", p.Arch, p.Bits, p.Big)
				}
				for _, c := range [][2]string{{"self", "self"}, {"self", "leaf"}, {"ping", "pong"}, {"pong", "ping"}, {"big", "leaf"}, {"packets", "leaf"}, {"start", "big"}, {"start", "through"}, {"start", "leaf"}, {"_start", "start"}} {
					var to []string
					for _, call := range p.Calls.From(c[0]) {
						to = append(to, call.To)
					}
					inlined := c[0] == "_start" && optimise == "-O2"
					if !slices.Contains(to, c[1]) && !inlined {
						t.Errorf("%s calls %q, not %s", c[0], to, c[1])
					}
				}
				if got := p.Calls.Recursive(); len(got) != 2 || !slices.Equal(got[0], []string{"ping", "pong"}) || !slices.Equal(got[1], []string{"self"}) {
					t.Errorf("recursive: %q", got)
				}
				if !p.Calls.Taken["taken"] || p.Calls.Used("unused") {
					t.Errorf("taken: %v, unused is used: %v", p.Calls.Taken, p.Calls.Used("unused"))
				}
			})
		}
	}
}
