// Command promises holds the output of the benchmarks against what the project
// promises of its speed, and prints a table in Markdown. A must is a promise,
// an aim is where we want to be; both are compared with a limit measured in the
// same run, on the same machine.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// promise is a row of the table: a figure of the run and the bound it is under.
type promise struct {
	what   string
	figure func(run) (float64, bool)
	unit   string
	bound  float64
	least  bool // the bound is the least that is good, not the most
	must   bool
}

// promises are in the order of the table. Those of package test/bench are of
// the whole program, beside servers that others wrote.
func promises() []promise {
	const gateway, appraise = "holdfast/hub/gateway.Benchmark", "holdfast/appraise.Benchmark"
	const beside = "holdfast/test/bench.Benchmark"
	return []promise{
		{"mutual TLS 1.3 handshake and CONNECT, of a bare crypto/tls server (wall time)", metric(gateway+"Handshake/ratio", "of-bare"), "of bare", 0.85, true, true},
		{"the same by processor time", metric(gateway+"Handshake/ratio", "of-bare-by-cpu"), "of bare", 0.85, true, true},
		{"appraisal of a board's evidence, of the bare library calls", ratio(appraise+"Appraise/bare/board", appraise+"Appraise/appraise/board"), "of bare", 0.8, true, true},
		{"appraisal of a UEFI machine's evidence, of the bare library calls", ratio(appraise+"Appraise/bare/uefi", appraise+"Appraise/appraise/uefi"), "of bare", 0.8, true, true},
		{"verdicts recorded (appraised, stored, fsynced), one after another", metric("holdfast/hub/verifier.BenchmarkAttest", "verdicts/s"), "/s", 0, true, false},
		{"revocation to closed socket, p99, 1,000 sessions idle", metric(gateway+"Revoke/busy=0", "p99-ms"), "ms", 50, false, true},
		{"the same with 100 of them busy", metric(gateway+"Revoke/busy=100", "p99-ms"), "ms", 50, false, true},
		{"resident memory of an idle connection", metric(gateway+"Idle", "KiB/conn"), "KiB", 24, false, false},
		{"certificates issued (checked, recorded, fsynced), of bare x509.CreateCertificate", ratio("holdfast/hub/issuer.BenchmarkIssueOperational/bare", "holdfast/hub/issuer.BenchmarkIssueOperational/issuer"), "of bare", 0.5, true, false},
		{"messages acknowledged (fsynced), 50 connections with 16 in flight", metric(beside+"Publish/busy", "holdfast-acked/s"), "/s", 0, true, false},
		{"the same, of mosquitto, which keeps nothing", metric(beside+"Publish/busy", "of-mosquitto"), "of mosquitto", 1, true, true},
		{"messages acknowledged: where we want to be", metric(beside+"Publish/busy", "of-mosquitto"), "of mosquitto", 2, true, false},
		{"the same, of NATS, fsynced", metric(beside+"Publish/busy", "of-nats"), "of NATS", 10, true, true},
		{"one publisher with one in flight, of NATS, fsynced", metric(beside+"Publish/single", "of-nats"), "of NATS", 1, true, true},
		{"one publisher: the median time of a message, to that of NATS", metric(beside+"Publish/single", "p50-to-nats"), "of NATS", 1, false, false},
		{"handshake and CONNECT with the whole hub, of a bare crypto/tls server", metric(beside+"Connect", "of-bare"), "of bare", 0.85, true, true},
		{"the same by processor time of server and clients", metric(beside+"Connect", "of-bare-by-cpu"), "of bare", 0.85, true, true},
		{"resident memory of the whole hub for an idle connection with a subscription", metric(beside+"Idle", "holdfast-KiB/conn"), "KiB", 20, false, true},
		{"idle connection: where we want to be", metric(beside+"Idle", "holdfast-KiB/conn"), "KiB", 14, false, false},
		{"patches of reported properties (fsynced)", metric(beside+"Twin", "patches/s"), "/s", 0, true, false},
		{"methods called and answered", metric(beside+"Method", "calls/s"), "/s", 0, true, false},
		{"new devices registered by DPS, handshake included", metric(beside+"Register", "registrations/s"), "/s", 0, true, false},
		{"fleet page of 50 of 100,000 devices, p99, hub on one processor, 1,000 devices publishing", metric(beside+"Fleet/page", "p99-ms"), "ms", 100, false, true},
		{"dry-run of a policy over 100,000 postures, one processor", metric(beside+"Fleet/check/table", "s"), "s", 2, false, true},
		{"the same with a condition in CEL", metric(beside+"Fleet/check/condition", "s"), "s", 2, false, true},
		{"a rollout over 100,000 devices, each decision and report stored (fsynced)", metric("holdfast/hub/rollouts.BenchmarkRollout", "s/rollout"), "s", 0, true, false},
		{"its memory at most, beyond that of the hub", metric("holdfast/hub/rollouts.BenchmarkRollout", "MB-peak"), "MB", 0, true, false},
		{"delta of a one-line change in a Go program of 17 MB", metric("holdfast/delta.BenchmarkDelta/make/program=17MB", "patch-KB"), "KB", 1000, false, true},
		{"the same: where we want to be", metric("holdfast/delta.BenchmarkDelta/make/program=17MB", "patch-KB"), "KB", 200, false, false},
		{"hub serving an image, of net/http's file server over TLS", metric("holdfast/hub/repository.BenchmarkServe", "of-fileserver"), "of net/http", 0.8, true, true},
		{"the same by processor time", metric("holdfast/hub/repository.BenchmarkServe", "of-fileserver-by-cpu"), "of net/http", 0.8, true, true},
		{"an image written to the slot, synced and verified from it, of copy and SHA-256 of the same bytes", metric("holdfast/device/slots.BenchmarkInstall", "of-copy"), "of copy", 0.6, true, true},
		{"all rules over a firmware of 5 MB with debug information, by processor time", metric("holdfast/test/audit.BenchmarkAudit", "cpu-s"), "s", 2, false, true},
		{"the same: resident memory at most", metric("holdfast/test/audit.BenchmarkAudit", "MB-peak"), "MB", 200, false, true},
		{"the same: throughput, of sha256sum", metric("holdfast/test/audit.BenchmarkAudit", "of-sha256sum"), "of sha256sum", 0, true, false},
		{"the same: throughput, of readelf -a", metric("holdfast/test/audit.BenchmarkAudit", "of-readelf"), "of readelf", 0, true, false},
		{"all rules over a directory of 500 MB: memory of its own, to that of a tenth of it", metric("holdfast/test/audit.BenchmarkDirectory", "of-a-tenth"), "of a tenth's", 1.5, false, true},
		{"device program, stripped", metric("size", "MB"), "MB", 15, false, true},
		{"device program, resident while connected", metric("holdfast/test/durability.BenchmarkDevice", "MB-resident"), "MB", 30, false, true},
	}
}

// run has the figures of a run: benchmark, then unit.
type run map[string]map[string]float64

func metric(bench, unit string) func(run) (float64, bool) {
	return func(r run) (float64, bool) {
		v, ok := r[bench][unit]
		return v, ok
	}
}

// ratio is how many times as fast as bare a benchmark is.
func ratio(bare, ours string) func(run) (float64, bool) {
	return func(r run) (float64, bool) {
		a, okA := r[bare]["ns/op"]
		b, okB := r[ours]["ns/op"]
		return a / b, okA && okB && b > 0
	}
}

// procs is the number of processors that go test puts behind a name.
var procs = regexp.MustCompile(`-\d+$`)

// read reads what go test printed. Where a benchmark ran more than once the
// median counts.
func read(in io.Reader) (run, error) {
	all := map[string]map[string][]float64{}
	pkg := ""
	s := bufio.NewScanner(in)
	for s.Scan() {
		f := strings.Fields(s.Text())
		switch {
		case len(f) == 2 && f[0] == "pkg:":
			pkg = f[1]
		case len(f) >= 4 && strings.HasPrefix(f[0], "Benchmark"):
			name := pkg + "." + procs.ReplaceAllString(f[0], "")
			for i := 2; i+1 < len(f); i += 2 {
				v, err := strconv.ParseFloat(f[i], 64)
				if err != nil {
					return nil, fmt.Errorf("line %q: %w", s.Text(), err)
				}
				if all[name] == nil {
					all[name] = map[string][]float64{}
				}
				all[name][f[i+1]] = append(all[name][f[i+1]], v)
			}
		}
	}
	r := run{}
	for name, units := range all {
		r[name] = map[string]float64{}
		for unit, vs := range units {
			r[name][unit] = median(vs)
		}
	}
	return r, s.Err()
}

// median returns the middle of vs, which has at least one element.
func median(vs []float64) float64 {
	s := slices.Sorted(slices.Values(vs))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// table prints the promises and how they came out.
func table(w io.Writer, r run) {
	fmt.Fprintln(w, "| what | figure | bound | | |\n|---|---|---|---|---|")
	for _, p := range promises() {
		kind := "aim"
		if p.must {
			kind = "must"
		}
		v, ok := p.figure(r)
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", p.what, text(v, p.unit, ok), p.limit(), kind, p.outcome(v, ok))
	}
}

func text(v float64, unit string, ok bool) string {
	if !ok {
		return "-"
	}
	return strconv.FormatFloat(v, 'g', 3, 64) + " " + unit
}

func (p promise) limit() string {
	switch {
	case p.bound == 0:
		return "-"
	case p.least:
		return fmt.Sprintf("at least %g", p.bound)
	}
	return fmt.Sprintf("at most %g", p.bound)
}

func (p promise) outcome(v float64, ok bool) string {
	switch {
	case !ok:
		return "not measured in this run"
	case p.bound == 0:
		return ""
	case p.least == (v >= p.bound) || v == p.bound:
		return "met"
	}
	return "**missed**"
}

// deviceSize adds the size of the device program to a run.
func deviceSize(r run, path string) {
	if info, err := os.Stat(path); err == nil {
		r["size"] = map[string]float64{"MB": float64(info.Size()) / 1e6}
	}
}

func main() {
	r, err := read(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	deviceSize(r, "bin/holdfast-device")
	table(os.Stdout, r)
}
