package buildlog_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/audit/buildlog"
	"holdfast/audit/subject"
)

func TestSplit(t *testing.T) {
	for text, want := range map[string][]string{
		`gcc -DA="x y" '-DB=\"' a\ b.c ""`: {"gcc", "-DA=x y", `-DB=\"`, "a b.c", ""},
		`gcc "-DV=\"1\"" "C:\x"`:           {"gcc", `-DV="1"`, `C:\x`},
		`'open`:                            {"open"},
		`a\`:                               {`a\`},
		"":                                 nil,
	} {
		if diff := cmp.Diff(want, buildlog.Split(text)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestParseCommands(t *testing.T) {
	got, err := buildlog.ParseCommands("compile_commands.json", []byte(`[
{"directory":"/b","file":"src/main.c","command":"/opt/arm-none-eabi-gcc -DX=1 -U Y -DZ -O2 -fno-plt -fstack-protector-strong -Wl,-z,now -o main.o -c src/main.c"},
{"directory":"/b","file":"b.c","arguments":["clang","-O0","-O3","b.c"],"output":"b"}]`))
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	c := got[0]
	if c.Compiler != "/opt/arm-none-eabi-gcc" || c.Source != "src/main.c" || c.Output != "main.o" || c.Links || c.Dir != "/b" || c.File != "compile_commands.json" {
		t.Errorf("%+v", c)
	}
	if diff := cmp.Diff([]subject.Define{{Name: "X", Value: "1"}, {Name: "Y", Value: "1", Undef: true}, {Name: "Z", Value: "1"}}, c.Args.Defines()); diff != "" {
		t.Error(diff)
	}
	if on, said := c.Args.Switch("f", "plt"); on || !said {
		t.Error("-fno-plt is not seen")
	}
	if diff := cmp.Diff(subject.Flags{"-z", "now"}, c.Args.Linker()); diff != "" {
		t.Error(diff)
	}
	if o, _ := got[1].Args.Last("-O"); o != "3" || !got[1].Links || got[1].Output != "b" {
		t.Errorf("%+v", got[1])
	}
}

func TestRefusals(t *testing.T) {
	for _, text := range []string{"", "{}", "[1]", `[{"command":1}]`, `[{"command":"gcc`} {
		if _, err := buildlog.ParseCommands("c", []byte(text)); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

func TestParseLog(t *testing.T) {
	commands, log := buildlog.ParseLog("build.log", `make[1]: Entering directory '/src/fw'
[ 12%] Building C object main.c.o
arm-none-eabi-gcc -c -Wall \
   -O2 main.c -o main.o
main.c:12:5: warning: unused variable 'x' [-Wunused-variable]
main.c:13: error: no
echo gcc is a word here
cd sub && gcc-12 a.o b.o -o app -Wl,--gc-sections; ls
accc -c x.c
`)
	var got []string
	for _, c := range commands {
		got = append(got, strings.Join([]string{c.Location.String(), c.Dir, c.Compiler, c.Source, c.Output}, " "))
	}
	want := []string{"build.log:3 /src/fw arm-none-eabi-gcc main.c main.o", "build.log:8 sub gcc-12  app"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !commands[1].Links || commands[0].Links {
		t.Error("what links is mistaken")
	}
	if len(log.Warnings) != 1 || log.Errors != 1 || log.Warnings[0].Message != "main.c:12: unused variable 'x' [-Wunused-variable]" || log.Warnings[0].Line != 5 {
		t.Errorf("%+v", log)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`[{"directory":"/b","file":"a.c","command":"gcc -c 'a.c'"}]`)
	f.Add("gcc -c a.c \\\n-o \"b\nmake: Entering directory `x'\n")
	f.Fuzz(func(t *testing.T, text string) {
		commands, _ := buildlog.ParseLog("log", text)
		more, _ := buildlog.ParseCommands("json", []byte(text))
		for _, c := range append(commands, more...) {
			c.Args.Defines()
			c.Args.Linker()
		}
	})
}
