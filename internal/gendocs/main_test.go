package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMeasuresDocIsFresh(t *testing.T) {
	want, err := measuresDoc()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../" + measuresFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is stale; run \"make gen\" (-want +got):\n%s", measuresFile, diff)
	}
}
