package gateway_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/hub/gateway"
	"holdfast/internal/testkit"
	"holdfast/iothub"
)

// mosquitto prepares a command of the mosquitto clients, which we did not
// write, with the certificate of a device.
func (b *bench) mosquitto(t *testing.T, program, device string, args ...string) *exec.Cmd {
	t.Helper()
	path, dir := testkit.Need(t, program), t.TempDir()
	cert := b.device(t, device)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, kind string, der []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	_, port, err := net.SplitHostPort(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, path, append([]string{
		"-h", "localhost", "-p", port, "-V", "mqttv311",
		"--cafile", file("ca.pem", "CERTIFICATE", b.cert.Raw),
		"--cert", file("cert.pem", "CERTIFICATE", cert.Certificate[0]),
		"--key", file("key.pem", "PRIVATE KEY", key),
	}, args...)...)
}

func TestMosquittoPublishes(t *testing.T) {
	b := start(t, &fakeHub{})
	cmd := b.mosquitto(t, "mosquitto_pub", "sensor-01", "-i", "sensor-01", "-q", "1", "-l",
		"-u", "hub.example.com/sensor-01/?api-version=2021-04-12", "-t", "devices/sensor-01/messages/events/%24.ct=text%2Fplain")
	const lines = 500
	cmd.Stdin = strings.NewReader(strings.Repeat("21.5 degrees\n", lines))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.hub.awaitClosed(t, gateway.Left, "")
	if n := b.hub.stored(); n != lines {
		t.Fatalf("%d messages stored, want %d", n, lines)
	}
	if m := b.hub.messages[lines-1]; string(m.Body) != "21.5 degrees" || m.System["content-type"] != "text/plain" || m.Device != "sensor-01" {
		t.Errorf("stored %+v", m)
	}
}

func TestMosquittoSubscribes(t *testing.T) {
	hub := &fakeHub{}
	b := start(t, hub)
	hub.note(func() {
		hub.watch = func(s *gateway.Session, filter string) {
			if filter == iothub.DeviceboundFilter(s.Device()) {
				b.Publish(s.Device(), "devices/sensor-01/messages/devicebound/a=b", []byte("wake up"))
			}
		}
	})
	cmd := b.mosquitto(t, "mosquitto_sub", "sensor-01", "-i", "sensor-01", "-c", "-q", "1", "-C", "1", "-v",
		"-t", "devices/+/messages/devicebound/#")
	out, err := cmd.CombinedOutput()
	if want := "devices/sensor-01/messages/devicebound/a=b wake up\n"; err != nil || string(out) != want {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}

func TestMosquittoPublishes5(t *testing.T) {
	b := start(t, &fakeHub{})
	cmd := b.mosquitto(t, "mosquitto_pub", "sensor-01", "-V", "5", "-i", "sensor-01", "-q", "1", "-l",
		"-t", "devices/sensor-01/messages/events/a=b", "-D", "publish", "content-type", "text/plain",
		"-D", "publish", "user-property", "site", "north", "-D", "connect", "session-expiry-interval", "60")
	const lines = 500
	cmd.Stdin = strings.NewReader(strings.Repeat("21.5 degrees\n", lines))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.hub.awaitClosed(t, gateway.Left, "")
	if n := b.hub.stored(); n != lines {
		t.Fatalf("%d messages stored, want %d", n, lines)
	}
	if m := b.hub.messages[0]; m.System["content-type"] != "text/plain" || m.Properties["site"] != "north" || m.Properties["a"] != "b" {
		t.Errorf("stored %+v", m)
	}
}

func TestMosquittoSubscribes5(t *testing.T) {
	hub := &fakeHub{}
	b := start(t, hub)
	done := make(chan error, 1)
	hub.note(func() {
		hub.watch = func(s *gateway.Session, filter string) {
			bag := iothub.Bag{{Key: "a", Value: "b"}, {Key: "$.ct", Value: "text/plain"}}
			m := gateway.Delivery{Topic: iothub.Devicebound{Device: s.Device(), Bag: bag}, Body: []byte("wake up"), Done: func(err error) { done <- err }}
			if _, err := b.Deliver(s.Device(), m); err != nil {
				t.Error(err)
			}
		}
	})
	cmd := b.mosquitto(t, "mosquitto_sub", "sensor-01", "-V", "5", "-i", "sensor-01", "-c", "-x", "60", "-q", "1", "-C", "1",
		"-F", "%t %q %P %C %p", "-t", "devices/+/messages/devicebound/#")
	out, err := cmd.CombinedOutput()
	if want := "devices/sensor-01/messages/devicebound/a=b&%24.ct=text%2Fplain 1 a:b $.ct:text/plain text/plain wake up\n"; err != nil || string(out) != want {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.hub.awaitClosed(t, gateway.Left, "")
	if k, _, _ := b.hub.Load(t.Context(), "sensor-01"); len(k.Subscriptions) != 1 || k.Expiry != 60 {
		t.Errorf("kept %+v", k)
	}
}

func TestMosquittoRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"another device's topic", []string{"-i", "sensor-01", "-q", "1", "-t", "devices/sensor-02/messages/events/"}, "sensor-02"},
		{"another client id", []string{"-i", "sensor-02", "-q", "1", "-t", "devices/sensor-02/messages/events/"}, "certificate is of sensor-01"},
		{"quality of service 2", []string{"-i", "sensor-01", "-q", "2", "-t", "devices/sensor-01/messages/events/"}, "quality of service 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, &fakeHub{})
			cmd := b.mosquitto(t, "mosquitto_pub", "sensor-01", append(c.args, "-m", "x")...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := func() bool { return len(b.hub.refusals)+len(b.hub.closed) > 0 }
			b.hub.await(t, "the refusal", ended)
			cmd.Process.Kill() // some would try again for ever
			cmd.Wait()
			b.hub.mu.Lock()
			defer b.hub.mu.Unlock()
			var err error
			if len(b.hub.closed) > 0 {
				err = b.hub.closed[0].err
			} else {
				err = b.hub.refusals[0].Err
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || len(b.hub.messages) > 0 {
				t.Errorf("refused: %v, want %q; %d messages", err, c.want, len(b.hub.messages))
			}
		})
	}
}
