package demo

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// pause is the interval between two looks at something that is starting.
func pause() <-chan time.Time { return time.After(100 * time.Millisecond) }

// power starts a player's process: its board, or for the maker's device
// mosquitto_pub.
func (s *stage) power(p *player) error {
	var err error
	if p.maker {
		p.proc, err = s.startSensor(p)
		return err
	}
	p.proc, err = start(p.id, s.log(p.id), func(line []byte) { s.boardEvent(p, line) }, s.Program, "board", "run", s.boardDir(p))
	return err
}

// boardEvent shows what a board says of its boot.
func (s *stage) boardEvent(p *player, line []byte) {
	var e struct {
		Event, Slot, Version, Cause, Reason string
	}
	if json.Unmarshal(line, &e) != nil {
		return
	}
	switch e.Event {
	case "booted":
		s.say(p.id, "booted slot %s, firmware %s", e.Slot, e.Version)
	case "refused":
		s.say(p.id, "boot ROM refused slot %s: %s", e.Slot, e.Reason)
	case "reset":
		s.say(p.id, "reset: %s", e.Cause)
	case "halted":
		s.say(p.id, "halted: %s", e.Reason)
	}
}

// checkPrograms refuses to begin where a program of others is missing.
func checkPrograms() error {
	for _, p := range []struct{ name, pkg string }{
		{"swtpm", "swtpm"}, {"swtpm_setup", "swtpm-tools"}, {"mosquitto_pub", "mosquitto-clients"},
	} {
		if _, err := exec.LookPath(p.name); err != nil {
			return fmt.Errorf("the demo needs %s (Debian package %s; 'make run' installs it): %w", p.name, p.pkg, err)
		}
	}
	return nil
}

// startSensor starts a client that we did not write. It publishes each line
// of its input, at QoS 1, over one mutual TLS session.
func (s *stage) startSensor(p *player) (*process, error) {
	proc, err := start(p.id, s.log(p.id), nil, "mosquitto_pub", "-h", host, "-p", strconv.Itoa(s.story.Ports.MQTT), "-V", "mqttv311",
		"--cafile", s.path("hub", "root.pem"), "--cert", s.path("maker", p.id+".pem"), "--key", s.path("maker", p.id+".key"),
		"-i", p.id, "-q", "1", "-t", "devices/"+p.id+"/messages/events/", "-l")
	if err != nil {
		return nil, err
	}
	go feed(proc)
	return proc, nil
}

// feed writes a line of telemetry every few seconds until the process ends.
func feed(proc *process) {
	began := time.Now()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		if _, err := fmt.Fprintf(proc.in, "{\"uptime\":%d}\n", int(time.Since(began).Seconds())); err != nil {
			return
		}
		select {
		case <-proc.done:
			return
		case <-tick.C:
		}
	}
}
