package bench_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serveVariable makes this test binary a server: the kind and a directory.
const serveVariable = "HOLDFAST_BENCH_SERVE"

func TestMain(m *testing.M) {
	if kind := os.Getenv(serveVariable); kind != "" {
		fmt.Fprintln(os.Stderr, serve(kind, os.Args[len(os.Args)-1]))
		os.Exit(1)
	}
	code := m.Run()
	removePrograms()
	os.Exit(code)
}

// serve is a server until it is killed.
func serve(kind, dir string) error {
	f := filesIn(dir)
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	ca, caErr := os.ReadFile(f.ca)
	if err := errors.Join(err, caErr); err != nil {
		return err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(),
		Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true}
	cfg.ClientCAs.AppendCertsFromPEM(ca)
	if kind == "nats" {
		return serveNATS(cfg, dir)
	}
	return serveBare(cfg)
}

func serveNATS(cfg *tls.Config, dir string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	s, err := server.NewServer(&server.Options{
		ServerName: "bench", Host: "127.0.0.1", Port: -1, NoSigs: true, JetStream: true, StoreDir: filepath.Join(dir, "nats"), SyncAlways: true,
		MaxConn: 65536, MQTT: server.MQTTOpts{Host: "127.0.0.1", Port: port, TLSConfig: cfg, TLSTimeout: 30},
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		return errors.New("the NATS server does not get ready")
	}
	fmt.Println("address", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	s.WaitForShutdown()
	return errors.New("the NATS server ended")
}

// serveBare answers CONNECT and SUBSCRIBE, and acknowledges all else by its
// size, which it takes from the first message of a connection.
func serveBare(cfg *tls.Config) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("address", l.Addr())
	for {
		raw, err := l.Accept()
		if err != nil {
			return err
		}
		go bareSession(tls.Server(raw, cfg))
	}
}

func bareSession(conn *tls.Conn) {
	defer conn.Close()
	buf := make([]byte, 4<<10)
	if _, err := conn.Read(buf); err != nil {
		return
	}
	if _, err := conn.Write([]byte{0x20, 2, 0, 0}); err != nil {
		return
	}
	for pending, size := 0, 0; ; {
		n, err := conn.Read(buf)
		if err != nil || n < 2 {
			return
		}
		if size == 0 && buf[0] == 0x82 {
			_, err = conn.Write([]byte{0x90, 3, buf[2], buf[3], 0})
			if err != nil {
				return
			}
			continue
		}
		if size == 0 {
			size = messageSize(buf)
		}
		acks := make([]byte, 0, 4*window)
		for pending += n; pending >= size; pending -= size {
			acks = append(acks, 0x40, 2, 0, 1)
		}
		if _, err := conn.Write(acks); err != nil {
			return
		}
	}
}

// messageSize is how long the packet is that b begins with; the remaining
// length of those sent here takes one or two bytes.
func messageSize(b []byte) int {
	if b[1] < 0x80 {
		return 2 + int(b[1])
	}
	return 3 + int(b[1]&0x7f) + int(b[2])<<7
}
