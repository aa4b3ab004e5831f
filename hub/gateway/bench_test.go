package gateway_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/mqtt"
)

// bare is the limit that the gateway is measured against: a crypto/tls server
// with the same configuration that answers CONNECT and acknowledges packets of
// a known size, without looking at them.
func bare(b *testing.B, a *authority, size int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	cfg := a.serverTLS(b)
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go serveBare(tls.Server(raw, cfg), size)
		}
	}()
	return l.Addr().String()
}

func serveBare(conn *tls.Conn, size int) {
	defer conn.Close()
	buf := make([]byte, 4<<10)
	if _, err := conn.Read(buf); err != nil {
		return
	}
	conn.Write([]byte{0x20, 2, 0, 0})
	for pending := 0; ; {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		var acks []byte
		for pending += n; pending >= size; pending -= size {
			acks = append(acks, 0x40, 2, 0, 1)
		}
		conn.Write(acks)
	}
}

// connect does a full handshake and CONNECT.
func connect(addr string, cfg *tls.Config, id string) (*tls.Conn, error) {
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	hello, err := (&mqtt.Connect{ClientID: id, Clean: true}).Append(nil)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	var ack [4]byte
	if _, err := io.ReadFull(conn, ack[:]); err != nil || ack != [4]byte{0x20, 2, 0, 0} {
		return nil, fmt.Errorf("CONNACK %x: %w", ack, err)
	}
	return conn, nil
}

// storm connects n times, 32 at a time, and returns how long that took.
func storm(b *testing.B, addr string, devices []*tls.Config, n int) time.Duration {
	began := time.Now()
	var group sync.WaitGroup
	work := make(chan int)
	for i := range 32 {
		group.Go(func() {
			for range work {
				conn, err := connect(addr, devices[i], fmt.Sprintf("pump-%02d", i))
				if err != nil {
					b.Error(err)
					continue
				}
				conn.NetConn().Close()
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	group.Wait()
	return time.Since(began)
}

// BenchmarkHandshake is mutual TLS 1.3 with CONNECT, both ends in this process.
// ratio takes turns, so that what else the machine does falls on both.
func BenchmarkHandshake(b *testing.B) {
	holdfast := start(b, &fakeHub{})
	limit := bare(b, holdfast.authority, 1)
	var devices []*tls.Config
	for i := range 32 {
		devices = append(devices, holdfast.clientTLS(holdfast.device(b, fmt.Sprintf("pump-%02d", i))))
	}
	for name, addr := range map[string]string{"holdfast": holdfast.addr, "bare": limit} {
		b.Run(name, func(b *testing.B) {
			took := storm(b, addr, devices, b.N)
			b.ReportMetric(float64(b.N)/took.Seconds(), "conns/s")
		})
	}
	b.Run("ratio", func(b *testing.B) {
		var wall, cpu []float64
		for b.Loop() {
			before := cpuTime(b)
			of := storm(b, limit, devices, 100).Seconds()
			between := cpuTime(b)
			wall = append(wall, of/storm(b, holdfast.addr, devices, 100).Seconds())
			cpu = append(cpu, float64(between-before)/float64(cpuTime(b)-between))
		}
		b.ReportMetric(median(wall), "of-bare")
		b.ReportMetric(median(cpu), "of-bare-by-cpu")
	})
}

// cpuTime is what this process used so far. On a machine that others use too
// it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkRevoke measures from the call of Revoke until the device sees the
// end, with 1000 sessions open, none or 100 of them publishing.
func BenchmarkRevoke(b *testing.B) {
	for _, busy := range []int{0, 100} {
		b.Run(fmt.Sprintf("busy=%d", busy), func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				took = append(took, revokeRound(b, busy)...)
			}
			slices.Sort(took)
			b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
			b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
			b.ReportMetric(ms(took[len(took)-1]), "max-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func revokeRound(b *testing.B, busy int) []time.Duration {
	g := start(b, &fakeHub{})
	defer g.stop()
	conns := openMany(b, g.addr, g.authority, 1000)
	stop := make(chan struct{})
	var noise sync.WaitGroup
	for i := range busy {
		noise.Go(func() { publishEvery(conns[999-i], 999-i, 2*time.Millisecond, stop) })
	}
	var took []time.Duration
	for i := range 400 {
		ended := make(chan time.Time)
		go func() {
			_, _ = io.Copy(io.Discard, conns[i])
			ended <- time.Now()
		}()
		began := time.Now()
		if !g.Revoke(deviceOf(i)) {
			b.Fatalf("no session of %d", i)
		}
		took = append(took, (<-ended).Sub(began))
	}
	close(stop)
	noise.Wait()
	for _, c := range conns {
		c.NetConn().Close()
	}
	return took
}

func publishEvery(c *tls.Conn, i int, every time.Duration, stop chan struct{}) {
	packet, _ := (&mqtt.Publish{Topic: "devices/" + string(deviceOf(i)) + "/messages/events/", Payload: make([]byte, 128), QoS: 1, ID: 1}).Append(nil)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if _, err := c.Write(packet); err != nil {
			return
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			return
		}
	}
}

// openMany opens the sessions of n devices.
func openMany(b testing.TB, addr string, a *authority, n int) []*tls.Conn {
	conns := make([]*tls.Conn, n)
	var group sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			id := string(deviceOf(i))
			conn, err := connect(addr, a.clientTLS(a.device(b, id)), id)
			if err != nil {
				b.Error(err)
				return
			}
			conns[i] = conn
		})
	}
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return conns
}

// BenchmarkPublish is acknowledged messages of 128 bytes, 50 connections with
// 16 in flight, and a sink that has stored everything at once.
func BenchmarkPublish(b *testing.B) {
	const conns, flight = 50, 16
	packet := func(i int) []byte {
		p, err := (&mqtt.Publish{Topic: "devices/" + string(deviceOf(i)) + "/messages/events/", Payload: make([]byte, 128), QoS: 1, ID: 1}).Append(nil)
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	a := newAuthority(b)
	run := func(name, addr string) {
		b.Run(name, func(b *testing.B) {
			cs := openMany(b, addr, a, conns)
			began := time.Now()
			var group sync.WaitGroup
			rounds := b.N/(conns*flight) + 1
			for i, c := range cs {
				group.Go(func() {
					burst, acks := slices.Repeat(packet(i), flight), make([]byte, 4*flight)
					for range rounds {
						c.Write(burst)
						if _, err := io.ReadFull(c, acks); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(rounds*conns*flight)/time.Since(began).Seconds(), "msgs/s")
			for _, c := range cs {
				c.NetConn().Close()
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	hub := &fakeHub{forget: true}
	run("holdfast", startOn(b, l, a, hub).addr)
	run("bare", bare(b, a, len(packet(0))))
}

// clientsVariable makes the test binary the other end of BenchmarkIdle: the
// directory with the authority and the address.
const clientsVariable = "GATEWAY_TEST_IDLE_CLIENTS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(clientsVariable); dir != "" {
		if err := idleClients(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// BenchmarkIdle is the growth of this process's resident memory by sessions
// that do nothing, whose clients are in another process.
func BenchmarkIdle(b *testing.B) {
	const conns = 2000
	for b.Loop() {
		g := start(b, &fakeHub{})
		before := resident(b)
		clients := exec.Command(os.Args[0])
		clients.Env = append(os.Environ(), clientsVariable+"="+handOver(b, g, conns))
		clients.Stderr = os.Stderr
		in, err := clients.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := clients.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := clients.Start(); err != nil {
			b.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
			b.Fatalf("clients said %q, %v", line, err)
		}
		if n := len(g.Sessions()); n != conns {
			b.Fatalf("%d sessions are open", n)
		}
		b.ReportMetric(float64(resident(b)-before)/conns/1024, "KiB/conn")
		in.Close()
		clients.Wait()
		g.stop()
	}
	b.ReportMetric(0, "ns/op")
}

// resident returns the resident bytes of this process, after giving back what
// is free, as the gateway does itself once it is quiet.
func resident(b *testing.B) int {
	for range 3 {
		debug.FreeOSMemory()
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// handOver writes what idleClients needs.
func handOver(b *testing.B, g *bench, conns int) string {
	dir := b.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(g.key)
	if err != nil {
		b.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.cert.Raw, Headers: map[string]string{"addr": g.addr, "conns": strconv.Itoa(conns)}})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(filepath.Join(dir, "authority.pem"), text, 0o600); err != nil {
		b.Fatal(err)
	}
	return dir
}

func idleClients(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "authority.pem"))
	if err != nil {
		return err
	}
	first, text := pem.Decode(text)
	second, _ := pem.Decode(text)
	if first == nil || second == nil {
		return errors.New("no authority")
	}
	a := &authority{pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(first.Bytes); err != nil {
		return err
	}
	a.pool.AddCert(a.cert)
	key, err := x509.ParsePKCS8PrivateKey(second.Bytes)
	if err != nil {
		return err
	}
	a.key = key.(*ecdsa.PrivateKey)
	n, err := strconv.Atoi(first.Headers["conns"])
	if err != nil {
		return err
	}
	testing.Benchmark(func(b *testing.B) { openIdle(b, first.Headers["addr"], a, n) })
	return errors.New("clients could not connect")
}

func openIdle(b *testing.B, addr string, a *authority, n int) {
	subscribe, err := (&mqtt.Subscribe{ID: 1, Filters: []mqtt.Filter{{Filter: "$hub/posture/#"}, {Filter: "$hub/attest/res/#"}}}).Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	conns := openMany(b, addr, a, n)
	for _, c := range conns {
		if _, err := c.Write(subscribe); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
			b.Fatal(err)
		}
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}
