package bench_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/dps"
	"holdfast/identity"
	"holdfast/mqtt"
	"holdfast/operator"
)

// rounds is how often each server has its turn, so that what else the machine
// does falls on all; the median counts.
const rounds = 3

// figures are the values of each round by what they are of.
type figures map[string][]float64

func (f figures) add(name string, v float64) { f[name] = append(f[name], v) }

// of adds how the hub's values stand to another's, round by round.
func (f figures) of(name, other, what string) {
	for i, v := range f["holdfast-"+what] {
		f.add(name, v/f[other+"-"+what][i])
	}
}

func (f figures) report(b *testing.B) {
	for name, vs := range f {
		s := slices.Sorted(slices.Values(vs))
		b.ReportMetric(s[len(s)/2], name)
	}
	b.ReportMetric(0, "ns/op")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkPublish is messages of 128 bytes, quality of service 1, until they
// are acknowledged: "busy" on 50 connections with 16 in flight each, "single"
// on one connection with one in flight. The hub and NATS have synced each.
func BenchmarkPublish(b *testing.B) {
	a := newAuthority(b)
	for _, load := range []struct {
		name          string
		conns, flight int
		turn          time.Duration
	}{{"busy", 50, window, 2 * time.Second}, {"single", 1, 1, 2 * time.Second}} {
		b.Run(load.name, func(b *testing.B) {
			ps, ds, f := startAll(b, a), a.devices(b, "sensor", load.conns), figures{}
			for b.Loop() {
				for range rounds {
					for _, p := range ps {
						ss := p.openAll(b, ds)
						publish(b, ss, load.flight, load.turn/8) // warm
						rate, p50, p99 := publish(b, ss, load.flight, load.turn).rate(load.turn)
						f.add(p.name+"-acked/s", rate)
						f.add(p.name+"-p50-ms", ms(p50))
						f.add(p.name+"-p99-ms", ms(p99))
						for _, s := range ss {
							s.drop()
						}
					}
				}
			}
			for _, p := range ps[1:] {
				f.of("of-"+p.name, p.name, "acked/s")
			}
			f.of("p50-to-nats", "nats", "p50-ms")
			f.report(b)
		})
	}
}

// BenchmarkConnect is full handshakes of mutual TLS 1.3 with CONNECT. The
// processor time is that of server and clients together for each: what bounds
// the rate on a machine that does nothing else, however busy this one is.
func BenchmarkConnect(b *testing.B) {
	const workers = 32
	a := newAuthority(b)
	ps, ds, f := startAll(b, a), a.devices(b, "sensor", workers), figures{}
	for _, s := range ps[0].openAll(b, ds) { // so that the hub knows them
		s.drop()
	}
	for b.Loop() {
		for range rounds {
			for _, p := range ps {
				spent, began := p.processor(b), time.Now()
				rate := repeat(b, workers, 1500*time.Millisecond, func(w int) error {
					s, err := p.open(ds[w], &mqtt.Connect{Clean: true})
					if err == nil {
						s.drop()
					}
					return err
				})
				f.add(p.name+"-conns/s", rate)
				f.add(p.name+"-conns/cpu-s", rate*float64(time.Since(began))/float64(p.processor(b)-spent))
			}
		}
	}
	for _, p := range ps[1:] {
		f.of("of-"+p.name, p.name, "conns/s")
	}
	f.of("of-bare-by-cpu", "bare", "conns/cpu-s")
	f.report(b)
}

// BenchmarkIdle is what connections with one subscription, which do nothing,
// add to the resident memory of a server that knows their devices already.
func BenchmarkIdle(b *testing.B) {
	const conns, warm = 2000, 50
	a := newAuthority(b)
	ps, ds, f := startAll(b, a), a.devices(b, "sensor", conns), figures{}
	for b.Loop() {
		for _, s := range ps[0].openAll(b, ds) {
			s.drop()
		}
		ps[0].restart(b)
		for _, p := range ps {
			for _, s := range p.openAll(b, ds[:warm]) {
				s.drop()
			}
		}
		before := settled(b, ps)
		var all []*session
		for _, p := range ps {
			ss := p.openAll(b, ds)
			for _, s := range ss {
				if err := s.subscribe("devices/"+s.id+"/messages/devicebound/#", mqtt.AtMostOnce); err != nil {
					b.Fatal(err)
				}
			}
			all = append(all, ss...)
		}
		for i, after := range settled(b, ps) {
			f.add(ps[i].name+"-KiB/conn", float64(after-before[i])/conns)
		}
		for _, s := range all {
			s.drop()
		}
	}
	f.report(b)
}

// settled waits until no server gives memory back any more, and returns what
// each has, in KiB.
func settled(b testing.TB, ps []*peer) []int {
	b.Helper()
	const quiet, most = 4 * time.Second, 15 * time.Second
	least := make([]int, len(ps))
	began, shrunk := time.Now(), time.Now()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for now := began; now.Sub(shrunk) < quiet && now.Sub(began) < most; now = <-tick.C {
		for i, p := range ps {
			if r := p.resident(b); least[i] == 0 || r < least[i]*99/100 {
				least[i], shrunk = r, now
			}
		}
	}
	for i, p := range ps {
		least[i] = p.resident(b)
	}
	return least
}

// BenchmarkTwin is patches of reported properties, one in flight on each of 50
// connections, each on disk before it is answered.
func BenchmarkTwin(b *testing.B) {
	const conns = 50
	a := newAuthority(b)
	hub := startHub(b, a)
	ss := hub.openAll(b, a.devices(b, "sensor", conns))
	for _, s := range ss {
		if err := s.subscribe("$iothub/twin/res/#", mqtt.AtMostOnce); err != nil {
			b.Fatal(err)
		}
	}
	f, n := figures{}, make([]int, conns)
	for b.Loop() {
		f.add("patches/s", repeat(b, conns, 2*time.Second, func(w int) error {
			n[w]++
			answer, err := ask[*mqtt.Publish](ss[w], &mqtt.Publish{Topic: "$iothub/twin/PATCH/properties/reported/?$rid=1", Payload: fmt.Appendf(nil, `{"n":%d}`, n[w])})
			if err == nil && !strings.HasPrefix(answer.Topic, "$iothub/twin/res/204/") {
				err = fmt.Errorf("%s %s", answer.Topic, answer.Payload)
			}
			return err
		}))
	}
	f.report(b)
}

// BenchmarkMethod is an operator's calls of methods until the device's answer
// is back, 16 callers and as many devices.
func BenchmarkMethod(b *testing.B) {
	const callers = 16
	a := newAuthority(b)
	hub := startHub(b, a)
	ds := a.devices(b, "sensor", callers)
	for _, s := range hub.openAll(b, ds) {
		if err := s.subscribe("$iothub/methods/POST/#", mqtt.AtMostOnce); err != nil {
			b.Fatal(err)
		}
		if err := s.SetReadDeadline(time.Time{}); err != nil {
			b.Fatal(err)
		}
		go answer(s)
		b.Cleanup(s.drop)
	}
	f := figures{}
	for b.Loop() {
		f.add("calls/s", repeat(b, callers, 2*time.Second, func(w int) error {
			r, err := hub.operator.CallMethod(b.Context(), identity.Device(ds[w].id), "ping", operator.CallMethod{})
			if err == nil && r.Status != 200 {
				err = fmt.Errorf("answer %+v", r)
			}
			return err
		}))
	}
	f.report(b)
}

// answer answers each call of a method until the session ends.
func answer(s *session) {
	for {
		p, err := s.receive()
		if err != nil {
			return
		}
		if call, ok := p.(*mqtt.Publish); ok {
			_, id, _ := strings.Cut(call.Topic, "?$rid=")
			if s.send(&mqtt.Publish{Topic: "$iothub/methods/res/200/?$rid=" + id, Payload: []byte(`{}`)}) != nil {
				return
			}
		}
	}
}

// BenchmarkRegister is new devices that provision themselves: handshake,
// registration, and the question for its outcome.
func BenchmarkRegister(b *testing.B) {
	const workers, each = 16, 150
	a := newAuthority(b)
	hub := startHub(b, a)
	f := figures{}
	for round := 0; b.Loop(); round++ {
		ds, n := a.devices(b, fmt.Sprintf("meter-%d", round), workers*each), make([]int, workers)
		f.add("registrations/s", repeat(b, workers, 1500*time.Millisecond, func(w int) error {
			if n[w] == each {
				return fmt.Errorf("more than %d registrations", len(ds))
			}
			n[w]++
			return hub.register(ds[w*each+n[w]-1])
		}))
	}
	f.report(b)
}

// register has a device provision itself.
func (s *station) register(d device) error {
	user := s.scope + "/registrations/" + d.id + "/api-version=2019-03-31"
	x, err := s.open(d, &mqtt.Connect{Clean: true, Username: &user})
	if err != nil {
		return err
	}
	defer x.drop()
	if err := x.subscribe("$dps/registrations/res/#", mqtt.AtMostOnce); err != nil {
		return err
	}
	var p dps.Progress
	got, err := ask[*mqtt.Publish](x, &mqtt.Publish{Topic: "$dps/registrations/PUT/iotdps-register/?$rid=1"})
	if err == nil {
		err = json.Unmarshal(got.Payload, &p)
	}
	if err != nil {
		return err
	}
	got, err = ask[*mqtt.Publish](x, &mqtt.Publish{Topic: "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=" + string(p.Operation)})
	if err == nil {
		err = json.Unmarshal(got.Payload, &p)
	}
	if err == nil && p.Status != dps.Assigned {
		err = fmt.Errorf("%s: %s %s", d.id, got.Topic, got.Payload)
	}
	return err
}
