package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/operator"
)

// product is what the pumps run.
const product = "pump"

// firmware is a version of the pumps' firmware.
type firmware struct {
	version  string
	security int
	bad      bool // a program that ends as soon as it starts
}

// The firmware of the story: what is in the slots at first, and what comes.
var (
	slotB   = firmware{version: "1.0.0", security: 1}
	slotA   = firmware{version: "1.1.0", security: 1}
	good    = firmware{version: "1.2.0", security: 2}
	broken  = firmware{version: "1.3.0", security: 3, bad: true}
	signers = []string{"release-1.key", "release-2.key", "release-3.key"}
)

// threshold is how many of the signers have to sign.
const threshold = 2

func (s *stage) signer(name string) string { return s.path("offline", name) }

// release runs 'holdfast release VERB' as the signers do, on their machine.
func (s *stage) release(ctx context.Context, verb string, args ...string) error {
	all := append([]string{"--profile", s.profile(), "release", verb, "--dir", s.path("offline", "releases")}, args...)
	_, err := run(ctx, s.Program, all...)
	return err
}

// beginReleases makes the signers' keys and the repository's first root, which
// every board gets before it first starts.
func (s *stage) beginReleases(ctx context.Context) error {
	if _, err := os.Stat(s.releaseRoot()); err == nil {
		return nil
	}
	if err := os.RemoveAll(s.path("offline", "releases")); err != nil { // half-made ones
		return err
	}
	var keys []string
	for _, name := range signers {
		keys = append(keys, s.signer(name))
		if err := errors.Join(os.RemoveAll(s.signer(name)), os.RemoveAll(s.signer(name)+".pub")); err != nil {
			return err
		}
	}
	if err := atomicfile.Write(s.path("offline", "passphrase"), []byte(rand.Text()+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.release(ctx, "init", "--threshold", strconv.Itoa(threshold), "--keys", strings.Join(keys, ","), "--passphrase-file", s.path("offline", "passphrase")); err != nil {
		return err
	}
	if err := s.addAuditor(ctx); err != nil {
		return err
	}
	if err := s.release(ctx, "root", "--out", s.releaseRoot()); err != nil {
		return err
	}
	s.say("releases", "%d of %d keys sign them; the keys are in %s and not in the hub", threshold, len(signers), s.path("offline"))
	return nil
}

// releaseRoot is the root that boards are provisioned with.
func (s *stage) releaseRoot() string { return s.path("offline", "1.root.json") }

// publish has the signers sign firmware, and publishes it.
func (s *stage) publish(ctx context.Context, all ...firmware) error {
	var news []firmware
	for _, f := range all {
		if s.story.Published[f.version] {
			continue
		}
		if err := s.audit(ctx, f); err != nil {
			return fmt.Errorf("audit %s %s: %w", product, f.version, err)
		}
		for _, key := range signers[:threshold] {
			if err := s.signFirmware(ctx, f, key); err != nil {
				return fmt.Errorf("sign %s %s: %w", product, f.version, err)
			}
		}
		news = append(news, f)
	}
	if len(news) == 0 {
		return nil
	}
	if err := s.release(ctx, "publish"); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	for _, f := range news {
		s.story.Published[f.version] = true
		s.say("releases", "%s %s published, audited, signed by %s", product, f.version, strings.Join(signers[:threshold], " and "))
	}
	return s.story.save()
}

func (s *stage) signFirmware(ctx context.Context, f firmware, key string) error {
	return s.release(ctx, "sign", s.image(f.version), "--product", product, "--version", f.version, "--security-version", strconv.Itoa(f.security),
		"--health-deadline", "2m", "--audit", s.statement(f), "--key", s.signer(key), "--passphrase-file", s.path("offline", "passphrase"))
}

// audit has the auditor judge firmware, and sign what was found. The hub then
// takes it with the release. Nothing critical may be in it.
func (s *stage) audit(ctx context.Context, f firmware) error {
	_, err := run(ctx, s.Program, "audit", s.image(f.version), "--image", s.image(f.version), "--fail-on", "critical",
		"--format", "html", "--out", s.path("firmware", "pump-fw-"+f.version+".html"),
		"--attest", "--key", s.path("offline", "auditor.key"), "--statement", s.statement(f))
	return err
}

func (s *stage) statement(f firmware) string {
	return s.path("firmware", "pump-fw-"+f.version+".dsse.json")
}

// addAuditor makes the auditor's key and tells the hub that what it signs
// counts.
func (s *stage) addAuditor(ctx context.Context) error {
	key := s.path("offline", "auditor.key")
	if err := errors.Join(os.RemoveAll(key), os.RemoveAll(key+".pub")); err != nil {
		return err
	}
	_, _ = run(ctx, s.Program, "--profile", s.profile(), "auditor", "remove", "auditor") // of an attempt that was interrupted: mostly there is none
	for _, args := range [][]string{{"auditor", "keygen", key}, {"--profile", s.profile(), "auditor", "add", "auditor", key + ".pub"}} {
		if _, err := run(ctx, s.Program, args...); err != nil {
			return err
		}
	}
	s.say("auditor", "its key is registered: what it signs of firmware counts")
	return nil
}

// program is what a version of the firmware runs.
func (s *stage) program(f firmware) (string, error) {
	if f.bad {
		return exec.LookPath("false")
	}
	return s.Device, nil
}

// act is a part of the story about updates.
type act struct {
	name string
	play func(context.Context) error
}

// acts are the updates, in their order. Each is played once in a fleet's life.
func (s *stage) acts() []act {
	return []act{{"update", s.actUpdate}, {"broken", s.actBroken}, {"older", s.actOlder}}
}

// playActs plays the acts that have not been played.
func (s *stage) playActs(ctx context.Context) error {
	for _, a := range s.acts() {
		if slices.Contains(s.story.Acts, a.name) || slices.ContainsFunc(s.pumps(), func(p *player) bool { return aside(p.seen.device) }) {
			continue
		}
		if err := a.play(ctx); err != nil {
			return fmt.Errorf("%w: act %q: %w", ErrNotArrived, a.name, err)
		}
		s.story.Acts = append(s.story.Acts, a.name)
		if err := s.story.save(); err != nil {
			return err
		}
	}
	return nil
}

// end is where a player must have come before the updates: a slot that was
// modified is written anew by the first of them.
func (s *stage) end(p *player) func(operator.Device) error {
	if p.group == "pumps" && slices.Contains(s.story.Acts, "update") {
		return trustedForLong
	}
	return p.role.end
}

// pumps are the players that take updates.
func (s *stage) pumps() []*player {
	var all []*player
	for _, p := range s.players {
		if p.group == "pumps" {
			all = append(all, p)
		}
	}
	return all
}

// actUpdate brings a good release to all pumps.
func (s *stage) actUpdate(ctx context.Context) error {
	if err := s.publish(ctx, good); err != nil {
		return err
	}
	r, err := s.rollout(ctx, good, "--group", "pumps", "--canary", "30%", "--step", "100%", "--soak", "1s")
	if err != nil {
		return err
	}
	if err := s.follow(ctx, r, "finished"); err != nil {
		return err
	}
	for _, p := range s.pumps() {
		if _, err := s.await(ctx, p, runs(good)); err != nil {
			return err
		}
	}
	return nil
}

// actBroken brings a release that ends as soon as it starts to one pump, which
// goes back by itself; the rollout halts. Then the signers take it back.
func (s *stage) actBroken(ctx context.Context) error {
	if err := s.publish(ctx, broken); err != nil {
		return err
	}
	r, err := s.rollout(ctx, broken, "--device", "pump-02", "--soak", "0s", "--halt-on", "0%")
	if err != nil {
		return err
	}
	if err := s.follow(ctx, r, "halted"); err != nil {
		return err
	}
	if _, err := s.await(ctx, s.players[1], runs(good)); err != nil {
		return err
	}
	for _, key := range signers[:threshold] {
		if err := s.release(ctx, "withdraw", product, broken.version, "--reason", "it ends as soon as it starts", "--key", s.signer(key), "--passphrase-file", s.path("offline", "passphrase")); err != nil {
			return err
		}
	}
	if err := s.release(ctx, "publish"); err != nil {
		return err
	}
	s.say("releases", "%s %s withdrawn", product, broken.version)
	return nil
}

// actOlder offers one pump what it ran before, as somebody would who has the
// hub in his hands: it refuses.
func (s *stage) actOlder(ctx context.Context) error {
	r, err := s.rollout(ctx, slotA, "--device", "pump-01", "--soak", "0s", "--halt-on", "0%", "--older-unsafe")
	if err != nil {
		return err
	}
	if err := s.follow(ctx, r, "halted"); err != nil {
		return err
	}
	_, err = s.await(ctx, s.players[0], runs(good))
	return err
}

// runs is satisfied by a device that attests a version and is trusted.
func runs(f firmware) func(operator.Device) error {
	return func(d operator.Device) error {
		if err := trustedForLong(d); err != nil {
			return err
		}
		if !strings.HasSuffix(d.Release, " "+f.version) {
			return fmt.Errorf("attests %q, not %s", d.Release, f.version)
		}
		return nil
	}
}

// rollout starts a rollout, as an operator does.
func (s *stage) rollout(ctx context.Context, f firmware, args ...string) (operator.Rollout, error) {
	var r operator.Rollout
	err := runJSON(ctx, &r, s.Program, append([]string{"--profile", s.profile(), "rollout", "start", product, f.version, "--json"}, args...)...)
	if err == nil {
		s.say("rollout", "%s %s starts: %s", product, f.version, r.ID)
	}
	return r, err
}

// follow tells of a rollout until it is in a stage.
func (s *stage) follow(ctx context.Context, r operator.Rollout, stage string) error {
	told := map[identity.Device]string{}
	for {
		now, err := s.client.Rollout(ctx, r.ID)
		if err != nil {
			return err
		}
		if err := s.tellDevices(ctx, r.ID, told); err != nil {
			return err
		}
		if err := s.refresh(ctx); err != nil {
			return err
		}
		switch now.Stage {
		case stage:
			s.say("rollout", "%s %s %s: %s", r.Product, r.Version, stage, now.Reason)
			return nil
		case "finished", "halted", "superseded":
			return fmt.Errorf("rollout %s is %s, not %s: %s", r.ID, now.Stage, stage, now.Reason)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("rollout %s is %s, not %s: %w", r.ID, now.Stage, stage, ctx.Err())
		case <-s.hub.done:
			return fmt.Errorf("the hub ended: %v (see %s)", s.hub.err, s.log("hub"))
		case <-pause():
		}
	}
}

// tellDevices says where devices of a rollout have come to since they were last
// told of.
func (s *stage) tellDevices(ctx context.Context, id string, told map[identity.Device]string) error {
	ds, err := s.client.RolloutDevices(ctx, id, "", 100)
	if err != nil {
		return err
	}
	for _, d := range ds {
		text := strings.TrimSpace(d.State + " " + d.Step)
		if d.Reason != "" {
			text += ": " + d.Reason
		}
		if told[d.Device] != text && d.State != "waiting" {
			told[d.Device] = text
			s.say(string(d.Device), "%s", text)
		}
	}
	return nil
}
