package csource_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/audit/csource"
)

var limits = csource.Limits{Includes: 8, Lines: 1000}

func read(text string) *csource.Table {
	t := csource.NewTable()
	t.Read("tx_user.h", text, nil, limits)
	return t
}

func TestTokens(t *testing.T) {
	const text = "int a = 0x1fUL; // rand()\n/* srand();\n */ s = \"a\\\"b//c\"; #no\n  # define X(a) \\\n  a /* y */ + 1 // z\nL'x' a->b 1e+5\n"
	var got []string
	for tok := range csource.Tokens(text) {
		got = append(got, tok.Text)
		if tok.Kind != csource.Directive && text[tok.Offset:tok.Offset+len(tok.Text)] != tok.Text {
			t.Errorf("%q is not at %d", tok.Text, tok.Offset)
		}
	}
	want := []string{"int", "a", "=", "0x1fUL", ";", "s", "=", `"a\"b//c"`, ";", "#", "no", "# define X(a)     a   + 1", "L'x'", "a", "->", "b", "1e+5"}
	for i := range got {
		got[i] = strings.Join(strings.Fields(got[i]), " ")
	}
	for i := range want {
		want[i] = strings.Join(strings.Fields(want[i]), " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLinesOfTokens(t *testing.T) {
	for tok := range csource.Tokens("a /*\n\n*/ b \\\n c\n#define \\\n x\nd") {
		want := map[string]int{"a": 1, "b": 3, "c": 4, "d": 7}[tok.Text]
		if tok.Kind == csource.Directive {
			want = 5
		}
		if tok.Line != want {
			t.Errorf("%q in line %d, want %d", tok.Text, tok.Line, want)
		}
	}
}

func TestStates(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       csource.State
	}{
		{"absent", "", csource.Undefined},
		{"plain", "#define X", csource.Defined},
		{"zero is defined", "#define X 0", csource.Defined},
		{"commented out", "/*\n#define X\n*/", csource.Undefined},
		{"commented line", "// #define X", csource.Undefined},
		{"comment joined to the next line", "// \\\n#define X", csource.Undefined},
		{"undefined again", "#define X\n#undef X", csource.Undefined},
		{"if 0", "#if 0\n#define X\n#endif", csource.Undefined},
		{"else of if 0", "#if 0\n#else\n#define X\n#endif", csource.Defined},
		{"elif", "#define A 2\n#if A == 1\n#elif A == 2\n#define X\n#else\n#undef X\n#endif", csource.Defined},
		{"guard", "#ifndef TX_USER_H\n#define TX_USER_H\n#define X\n#endif", csource.Defined},
		{"guard with defined", "#if !defined(TX_USER_H)\n#define TX_USER_H\n#define X\n#endif", csource.Defined},
		{"who knows", "#ifdef __GNUC__\n#define X\n#endif", csource.Unsure},
		{"either way", "#ifdef __GNUC__\n#define X 1\n#else\n#define X 2\n#endif", csource.Unsure},
		{"by default", "#ifndef X\n#define X 1\n#endif", csource.Defined},
		{"perhaps undefined", "#define X\n#ifdef DEBUG\n#undef X\n#endif", csource.Unsure},
		{"short circuit", "#if 0 && FOO\n#define X\n#endif", csource.Undefined},
		{"not short circuit", "#if 1 && FOO\n#define X\n#endif", csource.Unsure},
		{"C++", "#ifdef __cplusplus\n#define X\n#endif", csource.Undefined},
		{"nested", "#if 0\n#if 1\n#define X\n#endif\n#else\n#endif", csource.Undefined},
		{"joined", "#def\\\nine X", csource.Undefined},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := read(c.text).State("X"); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestCompleteTableKnowsWhatIsAbsent(t *testing.T) {
	table := csource.NewTable()
	table.Complete = true
	table.Read("a.h", "#ifdef DEBUG\n#define X\n#endif\n#ifdef __GNUC__\n#define Y\n#endif", nil, limits)
	if table.State("X") != csource.Undefined || table.State("Y") != csource.Unsure {
		t.Errorf("X %s, Y %s", table.State("X"), table.State("Y"))
	}
}

func TestInt(t *testing.T) {
	table := read("#define A 2\n#define B (A * 3u)\n#define C C\n#define D E\n#define E D\n#define F(x) 1\n#define G\n#define H 1 ? 'a' : 0\n#define I 1/0\n#define J 1 << 80\n#define K -7 % 4 == -3 && ~0 == -1 && !0")
	for name, want := range map[string]csource.Value{
		"A": {N: 2, Known: true}, "B": {N: 6, Known: true}, "C": {}, "D": {}, "F": {}, "G": {}, "H": {N: 'a', Known: true}, "I": {}, "J": {}, "K": {N: 1, Known: true}, "none": {},
	} {
		n, known := table.Int(name)
		if known != want.Known || known && n != want.N {
			t.Errorf("%s is %d, %v", name, n, known)
		}
	}
}

func TestHostileExpressionsEnd(t *testing.T) {
	doubling := "#define A0 1\n"
	for _, i := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"} {
		prev := string(i[0] - 1)
		doubling += "#define A" + i + " (" + strings.Repeat("A"+prev+"+", 20) + "1)\n"
	}
	if _, known := read(doubling).Int("A9"); known {
		t.Error("an expression of billions of words has a value")
	}
	for _, s := range []string{strings.Repeat("(", 100_000), strings.Repeat("!", 100_000) + "1", strings.Repeat("1?", 50_000)} {
		if v := csource.NewTable().Eval(s); v.Known {
			t.Errorf("%.10s... is known", s)
		}
	}
}

// TestHostileConditionsEnd asks a thousand times for a sum of thousands.
func TestHostileConditionsEnd(t *testing.T) {
	text := "#define A (" + strings.Repeat("1+", 9000) + "1)\n#define B (" + strings.Repeat("1+", 100_000) + "1)\n"
	for range 490 {
		text += "#if A\n#endif\n"
	}
	table := read(text + "#if B\n#define X\n#endif")
	if got := table.State("X"); got != csource.Unsure {
		t.Errorf("X is %s", got)
	}
}

func TestIncludes(t *testing.T) {
	files := map[string]string{
		"port.h":  "#define PORT 1\n#include \"loop.h\"\n",
		"loop.h":  "#include \"port.h\"\n#define LOOP\n",
		"maybe.h": "#ifndef MAYBE_H\n#define MAYBE_H\n#define MAYBE\n#endif\n",
	}
	table := csource.NewTable()
	table.Read("tx_user.h", "#include \"port.h\"\n#include <none.h>\n#ifdef WHO_KNOWS\n#include \"maybe.h\"\n#endif\n", func(_, name string) (string, string, bool) {
		text, ok := files[name]
		return name, text, ok
	}, limits)
	if table.State("PORT") != csource.Defined || table.State("LOOP") != csource.Defined || table.State("MAYBE") != csource.Unsure {
		t.Errorf("PORT %s, LOOP %s, MAYBE %s", table.State("PORT"), table.State("LOOP"), table.State("MAYBE"))
	}
	if !slices.Equal(table.Missing, []string{"none.h"}) {
		t.Errorf("missing %q", table.Missing)
	}
	if m, _ := table.Lookup("PORT"); m.Location.String() != "port.h:1" {
		t.Errorf("PORT is at %s", m.Location)
	}
}

func TestBrokenConfigurationsAreTroubles(t *testing.T) {
	deep := csource.NewTable()
	deep.Read("a.h", "#include \"a.h\"", func(from, _ string) (string, string, bool) {
		return from + "x", "#include \"a.h\"", true
	}, limits)
	big := csource.NewTable()
	big.Read("a.h", strings.Repeat("#include \"big.h\"\n", 900), func(_, _ string) (string, string, bool) { return "big.h", strings.Repeat(" ", 1<<20), true }, limits)
	for name, table := range map[string]*csource.Table{
		"big":   big,
		"open":  read("#if 1"),
		"close": read("#endif"),
		"long":  read(strings.Repeat("#define X\n", limits.Lines+1)),
		"deep":  deep,
	} {
		if table.Trouble == nil {
			t.Errorf("%s: no trouble", name)
		}
	}
}

func TestKconfig(t *testing.T) {
	table := csource.NewTable()
	table.ReadKconfig(".config", "# comment\nCONFIG_A=y\nCONFIG_B=n\n# CONFIG_C is not set\nCONFIG_D=\"x=y\"\r\nCONFIG_E=0x10\nFOO=y\nCONFIG_F =1\n")
	var got []string
	for _, m := range table.All() {
		got = append(got, m.Name+" "+m.State.String()+" "+m.Value+" "+m.Location.String())
	}
	want := []string{
		"CONFIG_A defined 1 .config:2", "CONFIG_B undefined  .config:3", "CONFIG_C undefined  .config:4",
		"CONFIG_D defined \"x=y\" .config:5", "CONFIG_E defined 0x10 .config:6", "CONFIG_F defined 1 .config:8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n, ok := table.Int("CONFIG_E"); n != 16 || !ok {
		t.Errorf("CONFIG_E is %d", n)
	}
}

func FuzzTokens(f *testing.F) {
	f.Add("#define X \"a\\\n/* */ b\nL'a' 0x1p-3 a<<=b \\")
	f.Add("/*")
	f.Fuzz(func(t *testing.T, text string) {
		last := -1
		for tok := range csource.Tokens(text) {
			if tok.Offset <= last {
				t.Fatal("tokens do not advance")
			}
			last = tok.Offset
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add("#ifndef A\n#define A (1+B)\n#elif defined(B) && A\n#undef A\n#else\n#endif\n#include <x.h>\n")
	f.Fuzz(func(t *testing.T, text string) {
		table := csource.NewTable()
		table.Read("a.h", text, func(_, name string) (string, string, bool) { return name, text, len(name) < 4 }, csource.Limits{Includes: 4, Lines: 200})
		table.ReadKconfig(".config", text)
		for _, m := range table.All() {
			table.Int(m.Name)
		}
	})
}
