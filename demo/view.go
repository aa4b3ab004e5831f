package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// progress is what has been said of a device so far.
type progress struct {
	device    operator.Device
	born      bool
	attested  string
	serial    string
	connected bool
	status    posture.Status
}

// refusalReported tells whether a reason speaks of a refused slot.
func refusalReported(reason string) bool { return strings.Contains(reason, "refused slot") }

// refresh reads the fleet and says what is new.
func (s *stage) refresh(ctx context.Context) error {
	ds, err := s.client.Devices(ctx, "", "")
	if err != nil {
		return err
	}
	for _, d := range ds {
		for _, p := range s.players {
			if string(d.ID) == p.id {
				s.news(p, d)
			}
		}
	}
	return nil
}

// news says what changed about a device since the last look.
func (s *stage) news(p *player, d operator.Device) {
	was := p.seen
	now := progress{device: d, born: !d.Born.IsZero(), connected: d.Connected, status: d.Status, serial: was.serial, attested: was.attested}
	if now.born && !was.born {
		s.say(p.id, "born: its birth certificate was issued %s", d.Born.Local().Format(time.TimeOnly))
	}
	if r := row(d, measure.IdentityAttestation); r.Verdict != measure.Unknown {
		now.attested = string(r.Verdict) + r.Reason
		if now.attested != was.attested {
			s.say(p.id, "attested: %s (%s)", r.Verdict, r.Reason)
		}
	}
	if c := d.Certificate; c != nil && c.Serial != was.serial {
		now.serial = c.Serial
		s.say(p.id, "certificate for %s", time.Duration(c.Lifetime)*time.Second)
	}
	if now.connected && !was.connected {
		s.say(p.id, "connected")
	}
	if now.status != was.status && now.status != posture.Offline && now.status != "" {
		s.say(p.id, "is %s%s", now.status, because(d))
	}
	p.seen = now
}

func because(d operator.Device) string {
	if d.Reason == "" {
		return ""
	}
	return ": " + d.Reason
}

// printTable prints the fleet once.
func (s *stage) printTable() {
	fmt.Fprintln(s.Talk)
	s.table(s.Talk)
}

// table prints a line per device: status, and measures passed, failed, unknown.
func (s *stage) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DEVICE\tGROUP\tSTATUS\tPASS\tFAIL\tUNKNOWN\tCERTIFICATE\tWHAT IT IS")
	for _, p := range s.players {
		d := p.seen.device
		n := map[measure.Verdict]int{}
		for _, r := range d.Posture {
			n[r.Verdict]++
		}
		life := "-"
		if d.Certificate != nil {
			life = (time.Duration(d.Certificate.Lifetime) * time.Second).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", p.id, p.group, d.Status, n[measure.Pass], n[measure.Fail], n[measure.Unknown], life, p.what)
	}
	_ = t.Flush() // an error of a terminal has nobody to be told
}

// draw shows the live table in place, where there is a screen.
func (s *stage) draw() {
	if s.Screen == nil {
		return
	}
	var b strings.Builder
	b.WriteString("\x1b[s\x1b[H\x1b[J") // save, home, clear
	fmt.Fprintf(&b, "Holdfast  %s  (Ctrl-C ends)\n\n", time.Now().Format(time.TimeOnly))
	s.table(&b)
	fmt.Fprintf(&b, "\nexport HOLDFAST_PROFILE=%s\nbin/holdfast fleet show pump-03\n", s.profile())
	_, _ = io.WriteString(s.Screen, b.String())
}
