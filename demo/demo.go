// Package demo plays Holdfast's story on one machine: a hub and six devices,
// each a process of its own on a virtual board with a software TPM of its own.
// It drives the same programs and the same API that an operator uses, and
// holds no secret passage into the hub.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"holdfast/client"
	"holdfast/identity"
	"holdfast/internal/filelock"
	"holdfast/operator"
)

// Config says how to play.
type Config struct {
	State   string        // directory of everything the story leaves behind
	Program string        // the holdfast program
	Device  string        // the holdfast-device program, which is also the boards' firmware
	Once    bool          // end when every device arrived where it should
	Timeout time.Duration // longest time for that
	Talk    io.Writer     // progress, for a person
	Screen  io.Writer     // the live table; nil prints changes to Talk instead
}

// Report is the outcome: the fleet as the hub knows it.
type Report struct {
	Devices []operator.Device `json:"devices"`
}

// ErrNotArrived says that a device did not end where it should.
var ErrNotArrived = errors.New("the story did not end as it should")

// Run plays the story until its end (Once) or until ctx ends. The report is
// complete only when the error is nil or ErrNotArrived. Whatever happened,
// every process it started has ended when it returns.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := checkPrograms(); err != nil {
		return Report{}, err
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return Report{}, fmt.Errorf("state directory: %w", err)
	}
	unlock, err := filelock.Try(filepath.Join(cfg.State, "lock"))
	if err != nil {
		return Report{}, fmt.Errorf("lock the state directory %s: %w", cfg.State, err)
	}
	defer unlock()
	s, err := newStage(ctx, cfg)
	if err != nil {
		return Report{}, err
	}
	defer s.clear()
	arriving, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	if err := s.play(arriving); err != nil {
		return s.report(ctx), err
	}
	if err := s.playActs(arriving); err != nil {
		return s.report(ctx), err
	}
	s.printTable()
	if cfg.Once {
		return s.report(ctx), nil
	}
	if err := s.openConsole(ctx); err != nil {
		return Report{}, err
	}
	fmt.Fprintf(cfg.Talk, "\n%s\n\n", s.invitation())
	return Report{}, s.watch(ctx)
}

// stage is the running story.
type stage struct {
	Config
	hub     *process
	client  *client.Client
	story   *story
	players []*player
	voice   *voice
	link    operator.Link // logs a browser in to the console, once
}

// player is a device of the running story.
type player struct {
	role
	proc  *process
	board boardInfo
	seen  progress
}

// newStage starts the hub and registers what the story needs.
func newStage(ctx context.Context, cfg Config) (*stage, error) {
	s := &stage{Config: cfg, voice: &voice{out: cfg.Talk}}
	var err error
	if s.story, err = loadStory(filepath.Join(cfg.State, "story.json")); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{s.startHub, s.prepare, s.recall} {
		if err := step(ctx); err != nil {
			s.clear()
			return nil, err
		}
	}
	return s, nil
}

// clear ends every process, devices first.
func (s *stage) clear() {
	s.voice.say("stopping")
	for _, p := range s.players {
		if p.proc != nil {
			_ = p.proc.in.Close()
		}
	}
	for _, p := range s.players {
		if p.proc != nil {
			p.proc.stop()
		}
	}
	if s.hub != nil {
		s.hub.stop()
	}
}

// play starts every device and waits until each arrived where it must end.
func (s *stage) play(ctx context.Context) error {
	for _, p := range s.players {
		if err := s.power(p); err != nil {
			return err
		}
	}
	for _, p := range s.players {
		if !p.tamper || s.story.Tampered[p.id] {
			continue
		}
		arrived, err := s.await(ctx, p, trustedForLong)
		if err == nil && arrived {
			err = s.modify(ctx, p)
		}
		if err != nil {
			return err
		}
	}
	for _, p := range s.players {
		arrived, err := s.await(ctx, p, s.end(p))
		if err == nil && arrived && p.maker {
			err = s.awaitTelemetry(ctx, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// modify powers a board down, changes its flash and powers it up again.
func (s *stage) modify(ctx context.Context, p *player) error {
	s.say(p.id, "its flash is modified while it is off; it boots again")
	p.proc.stop()
	if _, err := run(ctx, s.Program, "board", "tamper", s.boardDir(p), "--slot", "A"); err != nil {
		return err
	}
	s.story.Tampered[p.id] = true
	if err := s.story.save(); err != nil {
		return err
	}
	return s.power(p)
}

// await waits until a device satisfies end, or says how it differs. It does not
// wait for one that an operator has put aside, unless it has to arrive (Once).
func (s *stage) await(ctx context.Context, p *player, end func(operator.Device) error) (arrived bool, err error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("was never seen")
	for {
		if err := s.refresh(ctx); err == nil {
			if last = end(p.seen.device); last == nil {
				return true, nil
			}
			if aside(p.seen.device) && !s.Once {
				s.say(p.id, "stays aside until 'holdfast fleet restore %s --reason WHY'", p.id)
				return false, nil
			}
		}
		select {
		case <-p.ended():
			return false, fmt.Errorf("%w: the process of %s ended: %v (see %s)", ErrNotArrived, p.id, p.proc.err, s.log(p.id))
		case <-s.hub.done:
			return false, fmt.Errorf("%w: the hub ended: %v (see %s)", ErrNotArrived, s.hub.err, s.log("hub"))
		case <-ctx.Done():
			return false, fmt.Errorf("%w: %s %w", ErrNotArrived, p.id, last)
		case <-tick.C:
		}
	}
}

// ended is closed when a player's process has ended.
func (p *player) ended() <-chan struct{} {
	if p.proc == nil {
		return nil
	}
	return p.proc.done
}

// awaitTelemetry waits until a message of the device is stored.
func (s *stage) awaitTelemetry(ctx context.Context, p *player) error {
	got := errors.New("arrived")
	err := s.client.Events(ctx, operator.EventQuery{Device: identity.Device(p.id), Kind: "telemetry", Follow: true}, func(operator.Event) error { return got })
	if errors.Is(err, got) {
		return nil
	}
	return fmt.Errorf("%w: no telemetry of %s arrived: %w", ErrNotArrived, p.id, err)
}

// watch shows the fleet until ctx ends or the hub does.
func (s *stage) watch(ctx context.Context) error {
	defer s.live()()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.hub.done:
			return fmt.Errorf("the hub ended: %v (see %s)", s.hub.err, s.log("hub"))
		case <-tick.C:
			if s.refresh(ctx) == nil {
				s.draw()
			}
		}
	}
}

// report asks the hub for the fleet once more.
func (s *stage) report(ctx context.Context) Report {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	ds, err := s.client.Devices(ctx, "", "")
	if err != nil {
		return Report{Devices: []operator.Device{}}
	}
	return Report{Devices: ds}
}
