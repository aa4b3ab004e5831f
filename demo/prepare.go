package demo

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"holdfast/client"
	"holdfast/fault"
	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/operator"
	"holdfast/pki"
)

// ports are where the hub of the story listens, on loopback.
type ports struct {
	MQTT, HTTPS, Operator int
}

const host = "127.0.0.1"

// choosePorts takes the standard ports where they are free, others where not.
func choosePorts() (ports, error) {
	var p ports
	for _, c := range []struct {
		at   *int
		want int
	}{{&p.MQTT, 8883}, {&p.HTTPS, 8443}, {&p.Operator, 9443}} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(c.want)))
		if err != nil {
			l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
		}
		if err != nil {
			return p, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // all are held until all are chosen
		*c.at = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

func (p ports) free() bool {
	for _, n := range []int{p.MQTT, p.HTTPS, p.Operator} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(n)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

func (s *stage) path(parts ...string) string {
	return filepath.Join(append([]string{s.State}, parts...)...)
}

func (s *stage) log(name string) string      { return s.path("logs", name+".log") }
func (s *stage) profile() string             { return s.path("hub", "operator", "profile.json") }
func (s *stage) boardDir(p *player) string   { return s.path("boards", p.id) }
func (s *stage) image(version string) string { return s.path("firmware", "pump-fw-"+version+".img") }
func (s *stage) say(id, format string, a ...any) {
	s.voice.say(fmt.Sprintf("%-10s %s", id, fmt.Sprintf(format, a...)))
}

// startHub makes the hub when there is none yet, starts it and waits until it
// answers.
func (s *stage) startHub(ctx context.Context) error {
	for _, dir := range []string{"logs", "offline", "boards", "firmware"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	if !s.story.Ports.free() || s.story.Ports == (ports{}) {
		p, err := choosePorts()
		if err != nil {
			return err
		}
		s.story.Ports = p
		if err := s.story.save(); err != nil {
			return err
		}
	}
	if err := s.initHub(ctx); err != nil {
		return err
	}
	var err error
	s.hub, err = start("hub", s.log("hub"), nil, s.Program, "hub", "run", "--state", s.path("hub"),
		"--mqtt", addr(s.story.Ports.MQTT), "--https", addr(s.story.Ports.HTTPS), "--operator", addr(s.story.Ports.Operator))
	if err != nil {
		return err
	}
	if err := client.Redirect(s.profile(), "https://"+addr(s.story.Ports.Operator)); err != nil {
		return err
	}
	if s.client, err = client.Open(s.profile()); err != nil {
		return err
	}
	return s.awaitHub(ctx)
}

func addr(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// initHub makes a hub whose root key leaves it at once.
func (s *stage) initHub(ctx context.Context) error {
	if _, err := os.Stat(s.profile()); err == nil {
		return nil
	}
	if err := os.RemoveAll(s.path("hub")); err != nil { // a half-made one
		return err
	}
	if err := os.RemoveAll(s.path("offline", "root.key")); err != nil {
		return err
	}
	_, err := run(ctx, s.Program, "hub", "init", "--state", s.path("hub"), "--host", "localhost", "--host", host,
		"--root-out", s.path("offline", "root.key"), "--operator", addr(s.story.Ports.Operator))
	if err == nil {
		s.say("hub", "made; its root key is in %s and not in the hub", s.path("offline", "root.key"))
	}
	return err
}

// awaitHub waits until the hub answers its operator.
func (s *stage) awaitHub(ctx context.Context) error {
	for {
		_, err := s.client.Hub(ctx)
		if err == nil {
			s.say("hub", "up: MQTT %s, HTTPS %s, operator API %s", addr(s.story.Ports.MQTT), addr(s.story.Ports.HTTPS), addr(s.story.Ports.Operator))
			return nil
		}
		select {
		case <-s.hub.done:
			return fmt.Errorf("the hub ended: %v (see %s)", s.hub.err, s.log("hub"))
		case <-ctx.Done():
			return fmt.Errorf("wait for the hub: %w", err)
		case <-pause():
		}
	}
}

// prepare builds firmware and boards and registers them as an operator would.
// Every step may be done again after an interruption.
func (s *stage) prepare(ctx context.Context) error {
	for _, r := range roles() {
		s.players = append(s.players, &player{role: r})
	}
	if err := s.buildFirmware(ctx); err != nil {
		return err
	}
	if err := s.beginReleases(ctx); err != nil {
		return fmt.Errorf("begin releases: %w", err)
	}
	for _, p := range s.players {
		if p.maker {
			continue
		}
		if err := s.buildBoard(ctx, p); err != nil {
			return fmt.Errorf("make the board of %s: %w", p.id, err)
		}
	}
	if err := s.registerGroups(ctx); err != nil {
		return err
	}
	if err := s.registerReferences(ctx); err != nil {
		return err
	}
	for _, p := range s.players {
		if !s.story.Registered[p.id] {
			if err := s.registerDevice(ctx, p); err != nil {
				return fmt.Errorf("register %s: %w", p.id, err)
			}
			s.story.Registered[p.id] = true
			if err := s.story.save(); err != nil {
				return err
			}
		}
		if p.maker {
			continue
		}
		if err := s.provision(ctx, p); err != nil {
			return fmt.Errorf("provision %s: %w", p.id, err)
		}
	}
	return nil
}

// buildFirmware signs the device program as the firmware of both slots. The
// signing key stays offline: the hub never sees it.
func (s *stage) buildFirmware(ctx context.Context) error {
	keyFile := s.path("offline", "firmware.key")
	key, err := loadOrMakeKey(keyFile)
	if err != nil {
		return err
	}
	for _, f := range []firmware{slotA, slotB, good, broken} {
		if _, err := os.Stat(s.image(f.version)); err == nil {
			continue
		}
		program, err := s.program(f)
		if err != nil {
			return err
		}
		if _, err := run(ctx, s.Program, "board", "image", "--program", program, "--version", f.version, "--security-version", strconv.Itoa(f.security), "--key", keyFile, "--out", s.image(f.version)); err != nil {
			return err
		}
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return atomicfile.Write(s.path("firmware", "firmware.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
}

// loadOrMakeKey reads a private key, or makes one.
func loadOrMakeKey(path string) (crypto.Signer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, err
	}
	key, err := pki.ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func makeKey(path string) (crypto.Signer, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	b, err := pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, atomicfile.Write(path, b, 0o600)
}

// boardInfo is what 'holdfast board create' and 'board show' print.
type boardInfo struct {
	EK      []byte          `json:"ek"`       // public area of the endorsement key; empty without a TPM
	BootROM identity.Digest `json:"boot_rom"` // what its boot ROM measures of itself
	TPMRoot string          `json:"tpm_root"` // root of the simulated TPM maker, PEM
}

// buildBoard makes a player's board, or reads what it is.
func (s *stage) buildBoard(ctx context.Context, p *player) error {
	dir := s.boardDir(p)
	if runJSON(ctx, &p.board, s.Program, "board", "show", dir, "--json") == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil { // a half-made one
		return err
	}
	args := []string{"board", "create", dir, "--json", "--slot-a", s.image(slotA.version), "--slot-b", s.image(slotB.version),
		"--key", s.path("firmware", "firmware.pub"), "--tpm-ca", s.path("tpm-maker")}
	if p.noTPM {
		args = append(args, "--no-tpm")
	}
	if p.noVerify {
		args = append(args, "--no-verify")
	}
	if err := runJSON(ctx, &p.board, s.Program, args...); err != nil {
		return err
	}
	s.say(p.id, "board made: %s", p.what)
	return nil
}

// registerGroups makes the groups and registers the authorities they need.
func (s *stage) registerGroups(ctx context.Context) error {
	if err := s.makeMaker(); err != nil {
		return err
	}
	maker, err := os.ReadFile(s.path("maker", "root.pem"))
	if err != nil {
		return err
	}
	for _, ca := range []operator.CA{
		{Name: "simulated-tpm-maker", Kind: "endorsement", Class: "software", PEM: s.players[0].board.TPMRoot},
		{Name: "sensor-maker", Kind: "maker", PEM: string(maker)},
	} {
		if _, err := s.client.AddCA(ctx, ca); err != nil && fault.Of(err) != fault.Conflict {
			return fmt.Errorf("register %s: %w", ca.Name, err)
		}
	}
	for id, g := range map[identity.Group]operator.SetGroup{
		"pumps":   {PolicyName: "standard", Simulation: true, Product: product},
		"bench":   {PolicyName: "bench", Simulation: true, Product: product},
		"valves":  {PolicyName: "standard"},
		"sensors": {PolicyName: "lenient", MakerCAs: []string{"sensor-maker"}, IDs: []string{"sensor-*"}},
	} {
		if _, err := s.client.SetGroup(ctx, id, g); err != nil {
			return fmt.Errorf("group %s: %w", id, err)
		}
	}
	return nil
}

// registerReferences tells the hub which boot ROM is known good. What firmware
// is, it knows from what is published.
func (s *stage) registerReferences(ctx context.Context) error {
	for _, group := range []identity.Group{"pumps", "bench"} {
		rom := operator.Reference{Group: group, Kind: "boot-rom", PCR: 0, Digest: s.players[0].board.BootROM, Name: "virtual boot ROM"}
		if err := s.client.AddReference(ctx, rom); err != nil && fault.Of(err) != fault.Conflict {
			return fmt.Errorf("reference of the boot ROM: %w", err)
		}
	}
	return s.publish(ctx, slotB, slotA)
}

// registerDevice tells the hub which device will come as which id.
func (s *stage) registerDevice(ctx context.Context, p *player) error {
	d := operator.AddDevice{ID: identity.Device(p.id), Group: identity.Group(p.group), EK: p.board.EK, Token: p.noTPM}
	added, err := s.client.AddDevice(ctx, d)
	if err != nil && fault.Of(err) == fault.Conflict && !p.noTPM {
		err = nil // registered before an interruption
	}
	if err != nil {
		return err
	}
	if added.Token != "" {
		if err := atomicfile.Write(s.token(p), []byte(added.Token+"\n"), 0o600); err != nil {
			return err
		}
	}
	s.say(p.id, "registered in group %s", p.group)
	return nil
}

func (s *stage) token(p *player) string { return s.path("offline", p.id+".token") }

// provision puts the hub's address and root, and the claim, into a board: the
// ports may be others than in the last run.
func (s *stage) provision(ctx context.Context, p *player) error {
	args := []string{"enroll", "--provision-only", "--state", filepath.Join(s.boardDir(p), "data"), "--hub", host, "--https-port", strconv.Itoa(s.story.Ports.HTTPS),
		"--mqtt-port", strconv.Itoa(s.story.Ports.MQTT), "--trust", s.path("hub", "root.pem")}
	if p.noTPM {
		args = append(args, "--token-file", s.token(p))
	} else {
		args = append(args, "--release-root", s.releaseRoot(), "--product", product)
	}
	_, err := run(ctx, s.Device, args...)
	return err
}
