package main

import (
	"strings"
	"testing"
)

const sample = `goos: linux
pkg: holdfast/hub/gateway
BenchmarkHandshake/ratio-2   1  10 ns/op  0.90 of-bare  0.80 of-bare-by-cpu
BenchmarkRevoke/busy=0-2       1   0 ns/op  60.0 p99-ms
pkg: holdfast/appraise
BenchmarkAppraise/bare/board-2  10  400 ns/op
BenchmarkAppraise/bare/board-2  10  600 ns/op
BenchmarkAppraise/appraise/board-2 10  250 ns/op
pkg: holdfast/test/bench
BenchmarkPublish/busy-2  1  90000 holdfast-acked/s  1.8 of-mosquitto  20 of-nats
`

func TestTableComparesWithThePromises(t *testing.T) {
	r, err := read(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	table(&b, r)
	for _, want := range []string{
		"(wall time) | 0.9 of bare | at least 0.85 | must | met |",
		"by processor time | 0.8 of bare | at least 0.85 | must | **missed** |",
		"idle | 60 ms | at most 50 | must | **missed** |",
		"board's evidence, of the bare library calls | 2 of bare | at least 0.8 | must | met |",
		"which keeps nothing | 1.8 of mosquitto | at least 1 | must | met |",
		"messages acknowledged: where we want to be | 1.8 of mosquitto | at least 2 | aim | **missed** |",
		"resident memory of an idle connection | - | at most 24 | aim | not measured in this run |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no line %q in\n%s", want, &b)
		}
	}
}

func TestReadRefusesWhatIsNoNumber(t *testing.T) {
	if _, err := read(strings.NewReader("BenchmarkX 1 x ns/op\n")); err == nil {
		t.Error("accepted")
	}
}
