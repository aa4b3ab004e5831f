package twin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/iothub"
	"holdfast/twin"
)

func parse(t testing.TB, s string) twin.Object {
	t.Helper()
	o, err := twin.Parse([]byte(s))
	if err != nil {
		t.Fatalf("parse %.200s: %v", s, err)
	}
	return o
}

func text(t testing.TB, o twin.Object) string {
	t.Helper()
	b, err := o.MarshalJSON()
	if err != nil || !json.Valid(b) {
		t.Fatalf("marshal: %s, %v", b, err)
	}
	return string(b)
}

func TestMerge(t *testing.T) {
	for _, c := range []struct{ base, patch, want string }{
		// the examples of RFC 7396, appendix A, whose target and patch are objects
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		// and ours
		{`{"a":1}`, `{}`, `{"a":1}`},
		{`{"a":1}`, `{"a":{"b":true}}`, `{"a":{"b":true}}`},
		{`{"a":{"b":1,"c":{"d":2}}}`, `{"a":{"c":{"d":null,"e":[null,{"f":null}]}}}`, `{"a":{"b":1,"c":{"e":[null,{"f":null}]}}}`},
	} {
		base := twin.Merge(nil, parse(t, c.base))
		before := text(t, base)
		if got := text(t, twin.Merge(base, parse(t, c.patch))); got != c.want {
			t.Errorf("merge %s into %s: %s, want %s", c.patch, c.base, got, c.want)
		}
		if after := text(t, base); after != before {
			t.Errorf("merge %s changed its base %s into %s", c.patch, before, after)
		}
	}
}

func TestParseKeepsValues(t *testing.T) {
	for _, s := range []string{
		`{"i":4503599627370495,"n":-4503599627370496}`,
		`{"f":0.1,"g":1e-7,"h":1.10,"k":123456789012345678901.5,"z":-0}`,
		`{"a":[1,"x",true,false,null,[],{}],"s":"ä\"\\\n<&>"}`,
		`{"with-dash":{"ünï":"ö"}}`,
	} {
		if diff := cmp.Diff(s, text(t, parse(t, s))); diff != "" {
			t.Errorf("sent and kept:\n%s", diff)
		}
	}
}

func TestParseLeavesOutWhatIsTheHubs(t *testing.T) {
	got := text(t, parse(t, `{"$version":7,"a":1,"$metadata":{"$lastUpdated":"x","a":{}}}`))
	if got != `{"a":1}` {
		t.Errorf("parsed %s", got)
	}
}

func nested(levels int) string {
	return strings.Repeat(`{"a":`, levels) + `1` + strings.Repeat(`}`, levels)
}

func TestParseRefuses(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name, in, path string
		rule           twin.Rule
		code           iothub.Code
	}{
		{"nothing", ``, "", twin.Syntax, 400012},
		{"text", `hello`, "", twin.Syntax, 400012},
		{"cut off", `{"a":1`, "", twin.Syntax, 400012},
		{"cut off in array", `{"a":[1`, "", twin.Syntax, 400012},
		{"two documents", `{} {}`, "", twin.Syntax, 400012},
		{"garbage behind", `{}x`, "", twin.Syntax, 400012},
		{"name twice", `{"a":1,"a":2}`, "", twin.Syntax, 400012},
		{"name twice, escaped", `{"a":1,"\u0061":2}`, "", twin.Syntax, 400012},
		{"broken UTF-8", "{\"a\":\"\xff\"}", "", twin.Syntax, 400012},
		{"half a surrogate", `{"a":"\ud800"}`, "", twin.Syntax, 400012},
		{"comment", `{"a":1/*x*/}`, "", twin.Syntax, 400012},
		{"leading zero", `{"a":01}`, "", twin.Syntax, 400012},
		{"NaN", `{"a":NaN}`, "", twin.Syntax, 400012},
		{"array", `[1]`, "", twin.Shape, 400012},
		{"null", `null`, "", twin.Shape, 400012},
		{"string", `"x"`, "", twin.Shape, 400012},
		{"name with dot", `{"a":{"b.c":1}}`, "a", twin.Name, 400004},
		{"name with dollar", `{"$x":1}`, "", twin.Name, 400004},
		{"version below", `{"a":{"$version":1}}`, "a", twin.Name, 400004},
		{"name with space", `{"a b":1}`, "", twin.Name, 400004},
		{"name with NUL", `{"a\u0000b":1}`, "", twin.Name, 400004},
		{"name with DEL", `{"a\u007fb":1}`, "", twin.Name, 400004},
		{"name with C1 control", `{"a\u0085b":1}`, "", twin.Name, 400004},
		{"name of a deletion", `{"a.b":null}`, "", twin.Name, 400004},
		{"no name", `{"":1}`, "", twin.Name, 400004},
		{"long name", `{"` + long(1025) + `":1}`, "", twin.Name, 400004},
		{"name in array", `{"a":[0,{"b.c":1}]}`, "a.1", twin.Name, 400004},
		{"long string", `{"a":{"b":"` + long(4097) + `"}}`, "a.b", twin.Value, 400004},
		{"long string in array", `{"a":["` + long(4097) + `"]}`, "a.0", twin.Value, 400004},
		{"big integer", `{"a":4503599627370496}`, "a", twin.Value, 400004},
		{"small integer", `{"a":-4503599627370497}`, "a", twin.Value, 400004},
		{"huge integer", `{"a":99999999999999999999}`, "a", twin.Value, 400004},
		{"infinite", `{"a":1e400}`, "a", twin.Value, 400004},
		{"long number", `{"a":0.` + strings.Repeat("1", 64) + `}`, "a", twin.Value, 400004},
		{"deep", nested(12), "a.a.a.a.a.a.a.a.a.a.a", twin.Depth, 400004},
		{"deep arrays", `{"a":` + strings.Repeat("[", 11) + strings.Repeat("]", 11) + `}`, "a.0.0.0.0.0.0.0.0.0.0", twin.Depth, 400004},
		{"very deep", strings.Repeat(`{"a":`, 50000), "a.a.a.a.a.a.a.a.a.a.a", twin.Depth, 400004},
		{"much text", `{"a":"` + long(twin.MaxText) + `"}`, "", twin.Size, 413001},
	} {
		_, err := twin.Parse([]byte(c.in))
		e, ok := errors.AsType[*twin.Error](err)
		if !ok || e.Rule != c.rule || e.Path != c.path || e.Code() != c.code {
			t.Errorf("%s: %#v, want rule %s at %q", c.name, err, c.rule, c.path)
		}
	}
}

func TestParseTakesWhatIsJustAllowed(t *testing.T) {
	for _, s := range []string{
		nested(11), // ten levels below the section
		`{"` + strings.Repeat("x", 1024) + `":"` + strings.Repeat("y", 4096) + `"}`,
		`{"a":1e20}`,
		" {} \n",
	} {
		if _, err := twin.Parse([]byte(s)); err != nil {
			t.Errorf("%.60s: %v", s, err)
		}
	}
}

func TestBytes(t *testing.T) {
	for s, want := range map[string]int{
		`{}`: 0, `{"abc":1}`: 11, `{"a":true,"b":"xyz"}`: 9, `{"a":{"bb":{"c":1.5}}}`: 12, `{"a":[1,2,"x"]}`: 18, `{"ä":"ö"}`: 4,
		`{"a":["",[],{}]}`: 4, `{"a":[null]}`: 5,
	} {
		if got := parse(t, s).Bytes(); got != want {
			t.Errorf("%s counts %d, want %d", s, got, want)
		}
	}
}

func TestApply(t *testing.T) {
	tw := twin.New()
	do := func(c twin.Change) {
		t.Helper()
		var err error
		if tw, err = tw.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	tag := tw.ETag()
	do(twin.Change{Section: twin.Reported, Patch: parse(t, `{"v":1}`)})
	if tw.ETag() != tag {
		t.Error("what the device reports changes the ETag")
	}
	do(twin.Change{Section: twin.Desired, Patch: parse(t, `{"a":1,"b":{"c":2}}`)})
	if tw.ETag() == tag {
		t.Error("desired properties do not change the ETag")
	}
	tag = tw.ETag()
	do(twin.Change{Section: twin.Tags, Patch: parse(t, `{"site":"A"}`)})
	if tw.ETag() == tag {
		t.Error("tags do not change the ETag")
	}
	do(twin.Change{Section: twin.Desired, Patch: parse(t, `{"x":1,"y":null}`), Replace: true})
	do(twin.Change{Section: twin.Desired})
	const want = `{"desired":{"x":1,"$version":4},"reported":{"v":1,"$version":2}}`
	if got := string(tw.Document()); got != want {
		t.Errorf("document %s, want %s", got, want)
	}
	if got := string(twin.New().Document()); got != `{"desired":{"$version":1},"reported":{"$version":1}}` {
		t.Errorf("new document %s", got)
	}
}

func TestApplyRefusesWhatGetsTooLarge(t *testing.T) {
	for s, limit := range map[twin.Section]int{twin.Tags: 8 << 10, twin.Desired: 32 << 10, twin.Reported: 32 << 10} {
		tw := twin.New()
		var err error
		for i := 0; err == nil && i < 100; i++ {
			patch := twin.Object{fmt.Sprintf("k%02d", i): strings.Repeat("x", 1021)}
			if tw, err = tw.Apply(twin.Change{Section: s, Patch: patch}); err == nil && (i+1)*1024 > limit {
				t.Errorf("%s takes %d bytes", s, (i+1)*1024)
			}
			if err != nil && i != limit/1024 {
				t.Errorf("%s is full after %d KiB: %v", s, i, err)
			}
		}
		e, ok := errors.AsType[*twin.Error](err)
		if !ok || e.Rule != twin.Size || e.Code() != iothub.CodeTooLarge {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func FuzzPatch(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":null}`, `{"a":{"b":[1,null,{"c":"x"}]},"d":1.50}`, `{"a":1,"a":2}`, `[`, nested(11), nested(12), `{"$version":1,"ä":"\ud83d\ude00"}`} {
		for _, u := range []string{`{"a":{"b":1}}`, `{"a":2,"d":null}`} {
			f.Add([]byte(s), []byte(u))
		}
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		a, errA := twin.Parse(first)
		b, errB := twin.Parse(second)
		if errA != nil || errB != nil {
			return
		}
		again := parse(t, text(t, a))
		if diff := cmp.Diff(a, again); diff != "" {
			t.Errorf("written and read:\n%s", diff)
		}
		base := twin.Merge(nil, a)
		once := twin.Merge(base, b)
		if diff := cmp.Diff(once, twin.Merge(once, b)); diff != "" {
			t.Errorf("merged twice:\n%s", diff)
		}
		if diff := cmp.Diff(base, twin.Merge(base, twin.Object{})); diff != "" {
			t.Errorf("merged nothing:\n%s", diff)
		}
		if diff := cmp.Diff(base, twin.Merge(base, base)); diff != "" {
			t.Errorf("merged with itself:\n%s", diff)
		}
		if null(once) {
			t.Errorf("null is kept: %s", text(t, once))
		}
		parse(t, text(t, once)) // what is kept can be sent
	})
}

// null reports whether an object has a member that is null, outside of arrays.
func null(o twin.Object) bool {
	for _, v := range o {
		if below, ok := v.(twin.Object); v == nil || ok && null(below) {
			return true
		}
	}
	return false
}
