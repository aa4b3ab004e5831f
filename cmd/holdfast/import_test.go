package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
)

func TestImport(t *testing.T) {
	var mu sync.Mutex
	got := map[identity.Device]operator.AddDevice{}
	var out bytes.Buffer
	i := &importer{log: &out, add: func(_ context.Context, d operator.AddDevice) (operator.AddedDevice, error) {
		mu.Lock()
		defer mu.Unlock()
		if _, known := got[d.ID]; known {
			return operator.AddedDevice{}, fault.New(fault.Conflict, "exists")
		}
		if d.Group == "gone" {
			return operator.AddedDevice{}, fault.New(fault.NotFound, "there is no group")
		}
		got[d.ID] = d
		return operator.AddedDevice{}, nil
	}}
	err := i.run(t.Context(), strings.NewReader(`{"id":"meter-1","group":"meters","maker_ca":"maker"}

{"id":"meter-1","group":"meters","maker_ca":"maker"}
{"id":"meter-2","group":"meters"}
{"id":"meter-3","group":"gone"}
{"id":"meter-4","group":"meters","token":true}
{"id":"a/b","group":"meters"}
{"id":"meter-5","group":"Meters"}
{"id":"meter-6","group":"meters"}{}
not JSON
`))
	if err == nil || i.added != 2 || i.known != 1 || i.failed != 6 || got["meter-1"].MakerCA != "maker" {
		t.Errorf("%v: %d added, %d known, %d failed: %v", err, i.added, i.known, i.failed, got)
	}
	for _, want := range []string{"line 5: there is no group", "line 7:", "line 10:", "2 registered, 1 known already, 6 failed\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q does not say %q", out.String(), want)
		}
	}
}

func TestImportStopsWhenTheHubIsGone(t *testing.T) {
	i := &importer{log: &bytes.Buffer{}, add: func(context.Context, operator.AddDevice) (operator.AddedDevice, error) {
		return operator.AddedDevice{}, fault.New(fault.Unavailable, "reach the hub")
	}}
	err := i.run(t.Context(), strings.NewReader(strings.Repeat(`{"id":"meter-1","group":"meters"}`+"\n", 10000)))
	if fault.Of(err) != fault.Unavailable || i.failed > 1000 {
		t.Errorf("%d lines failed: %v", i.failed, err)
	}
}
