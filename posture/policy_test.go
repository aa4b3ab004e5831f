package posture_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/measure"
	"holdfast/posture"
)

func TestParsePolicyRefuses(t *testing.T) {
	req := func(s string) string { return `{"name":"p","require":[` + s + `]}` }
	debug := `{"measure":"app.debug","grade":"attested"}`
	tests := []struct{ name, in, want string }{
		{"nothing", ``, "EOF"},
		{"null", `null`, "name"},
		{"a list", `[]`, "array"},
		{"two values", `{"name":"p"} {}`, "after top-level value"},
		{"no name", `{}`, "name: "},
		{"a bad name", `{"name":"A B"}`, "name: "},
		{"negative version", `{"name":"p","version":-1}`, "version: -1"},
		{"unknown member", `{"name":"p","grade":"attested"}`, `"grade"`},
		{"member in other case", `{"Name":"p"}`, `"Name"`},
		{"member twice", `{"name":"p","name":"q"}`, `duplicate object member name "name"`},
		{"unknown member of a requirement", req(`{"measure":"app.debug","grade":"attested","age":"1h"}`), `"age" within "/require/0"`},
		{"unknown measure", req(debug + `,{"measure":"app.debugging","grade":"attested"}`), `require[1]: measure: measure "app.debugging"`},
		{"no measure", req(`{"grade":"attested"}`), `require[0]: measure`},
		{"unknown grade", req(`{"measure":"app.debug","grade":"sworn"}`), `require[0]: grade: grade "sworn"`},
		{"no grade", req(`{"measure":"app.debug"}`), `require[0]: grade`},
		{"grade none", req(`{"measure":"app.debug","grade":"none"}`), `require[0]: grade: none demands nothing`},
		{"measure twice", req(debug + `,{"measure":"app.watchdog","grade":"claimed"},` + debug), `require[2]: measure "app.debug" is already required by require[0]`},
		{"negative age", req(`{"measure":"app.debug","grade":"attested","max_age":"-1h"}`), `/require/0/max_age`},
		{"age without unit", req(`{"measure":"app.debug","grade":"attested","max_age":"25"}`), `/require/0/max_age`},
		{"age as number", req(`{"measure":"app.debug","grade":"attested","max_age":25}`), `/require/0/max_age`},
		{"negative full lifetime", `{"name":"p","full_lifetime":"-24h"}`, "/full_lifetime"},
		{"negative short lifetime", `{"name":"p","short_lifetime":"-1h"}`, "/short_lifetime"},
		{"short more than full", `{"name":"p","full_lifetime":"2h","short_lifetime":"3h"}`, "short_lifetime: 3h0m0s is more than"},
		{"short more than the default of full", `{"name":"p","short_lifetime":"25h"}`, "short_lifetime: 25h0m0s is more than"},
		{"full beyond reason", `{"name":"p","full_lifetime":"100000h"}`, "full_lifetime"},
		{"too long", `{"name":"` + strings.Repeat("p", posture.MaxPolicy) + `"}`, "bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := posture.ParsePolicy([]byte(tt.in))
			if err == nil {
				t.Fatalf("accepted as %+v", p)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestParsePolicyFillsLifetimes(t *testing.T) {
	tests := []struct {
		in          string
		full, short time.Duration
	}{
		{`{"name":"p"}`, 24 * time.Hour, time.Hour},
		{`{"name":"p","full_lifetime":"48h"}`, 48 * time.Hour, time.Hour},
		{`{"name":"p","full_lifetime":"30m"}`, 30 * time.Minute, 30 * time.Minute},
		{`{"name":"p","full_lifetime":"2h","short_lifetime":"2h"}`, 2 * time.Hour, 2 * time.Hour},
	}
	for _, tt := range tests {
		p, err := posture.ParsePolicy([]byte(tt.in))
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if time.Duration(p.FullLifetime) != tt.full || time.Duration(p.ShortLifetime) != tt.short {
			t.Errorf("%s: lifetimes %v and %v, want %s and %s", tt.in, p.FullLifetime, p.ShortLifetime, tt.full, tt.short)
		}
	}
}

func TestBuiltinPolicies(t *testing.T) {
	if _, err := posture.Builtin("strict"); err == nil {
		t.Error("a policy that does not exist was found")
	}
	for _, name := range []string{posture.Standard, posture.Bench, posture.Lenient} {
		p := builtin(t, name)
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		back, err := posture.ParsePolicy(b)
		if err != nil {
			t.Fatalf("%s does not parse: %v", name, err)
		}
		if d := cmp.Diff(p, back); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if n := len(builtin(t, posture.Standard).Require); n != 17 {
		t.Errorf("standard demands %d measures, want 17", n)
	}
	if p := builtin(t, posture.Bench); p.Demands(measure.FirmwareSecureBoot) || len(p.Require) != 16 {
		t.Errorf("bench: %+v", p)
	}
	if p := builtin(t, posture.Lenient); len(p.Require) != 0 {
		t.Errorf("lenient: %+v", p)
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, name := range []string{posture.Standard, posture.Bench, posture.Lenient} {
		p, err := posture.Builtin(name)
		if err != nil {
			f.Fatal(err)
		}
		b, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"name":"p","require":[{"measure":"app.debug","grade":"attested","max_age":"25h","grace_unknown":true}],"short_lifetime":"5m"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := posture.ParsePolicy(b)
		if err != nil {
			return
		}
		if p.Short() <= 0 || p.Short() > p.Full() || p.Full() > posture.MaxLifetime {
			t.Errorf("lifetimes %s and %s", p.Short(), p.Full())
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := posture.ParsePolicy(again); err != nil || !cmp.Equal(p, back) {
			t.Errorf("%s does not read back: %v", again, err)
		}
		posture.Decide(p, posture.Subject{}, nil, time.Unix(0, 0), false)
	})
}
