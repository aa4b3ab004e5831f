package token_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"holdfast/internal/token"
)

func answer(r token.Request) (token.Answer, error) {
	if r.Op != token.OpList {
		return token.Answer{}, errors.New("no such operation")
	}
	return token.Answer{Tokens: []string{r.Module}}, nil
}

func TestServeAnswersEachLine(t *testing.T) {
	var out bytes.Buffer
	in := `{"op":"list","module":"m"}` + "\n" + `{"op":"burn"}` + "\n" + `{"op":"list","extra":1}` + "\n{\n"
	if err := token.Serve(strings.NewReader(in), &out, answer); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || lines[0] != `{"tokens":["m"]}` {
		t.Fatalf("%q", lines)
	}
	for i, want := range []string{"no such operation", "unknown field", "EOF"} {
		if !strings.Contains(lines[i+1], want) {
			t.Errorf("%s, want %q", lines[i+1], want)
		}
	}
}

func TestServeRefusesLongLines(t *testing.T) {
	var out bytes.Buffer
	if err := token.Serve(strings.NewReader(strings.Repeat("x", token.MaxLine+1)), &out, answer); err == nil {
		t.Error("read it")
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(`{"op":"sign","module":"m","digest":"AAAA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		_ = token.Serve(bytes.NewReader(b), &out, answer)
	})
}
