package main

import "testing"

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"ä<&>"}`:             `{"a":"ä<&>"}`,
		"{\"a\":\"\u009b2J\x7f\"}": `{"a":"\u009b2J\u007f"}`,
	} {
		if got := printable([]byte(in)); got != want {
			t.Errorf("%q is printed as %s, want %s", in, got, want)
		}
	}
}
