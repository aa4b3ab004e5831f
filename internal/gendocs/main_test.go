package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDocumentsAreFresh(t *testing.T) {
	for file, text := range documents() {
		want, err := text()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is stale; run \"make gen\" (-want +got):\n%s", file, diff)
		}
	}
}
