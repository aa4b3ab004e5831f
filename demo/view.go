package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"holdfast/client"
	"holdfast/measure"
	"holdfast/operator"
	"holdfast/posture"
)

// progress is what the story tells of a device.
type progress struct {
	device    operator.Device
	born      bool
	attested  string // verdict and reason; empty before any
	serial    string // of its operational certificate
	connected bool
	status    posture.Status
}

// look reads off a device what the story tells of it.
func look(d operator.Device) progress {
	p := progress{device: d, born: !d.Born.IsZero(), connected: d.Connected, status: d.Status}
	if r := row(d, measure.IdentityAttestation); r.Verdict != measure.Unknown {
		p.attested = fmt.Sprintf("%s (%s)", r.Verdict, r.Reason)
	}
	if d.Certificate != nil {
		p.serial = d.Certificate.Serial
	}
	return p
}

// refusalReported tells whether a reason speaks of a refused slot.
func refusalReported(reason string) bool { return strings.Contains(reason, "refused slot") }

// refresh reads the fleet and says what is new.
func (s *stage) refresh(ctx context.Context) error { return s.each(ctx, s.news) }

// recall takes in how far each device got in an earlier run, so that only what
// happens now is news. How each stands is told again.
func (s *stage) recall(ctx context.Context) error {
	return s.each(ctx, func(p *player, d operator.Device) {
		p.seen = look(d)
		p.seen.status = ""
	})
}

// each reads the fleet and hands every player what the hub knows of it.
func (s *stage) each(ctx context.Context, do func(*player, operator.Device)) error {
	ds, err := s.client.Devices(ctx, "", "")
	if err != nil {
		return err
	}
	for _, d := range ds {
		for _, p := range s.players {
			if string(d.ID) == p.id {
				do(p, d)
			}
		}
	}
	return nil
}

// news says what changed about a device since the last look.
func (s *stage) news(p *player, d operator.Device) {
	was, now := p.seen, look(d)
	if now.born && !was.born {
		s.say(p.id, "born: its birth certificate was issued %s", d.Born.Local().Format(time.TimeOnly))
	}
	if now.attested != "" && now.attested != was.attested {
		s.say(p.id, "attested: %s", now.attested)
	}
	if now.serial != "" && now.serial != was.serial {
		s.say(p.id, "certificate for %s", time.Duration(d.Certificate.Lifetime)*time.Second)
	}
	if now.connected && !was.connected {
		s.say(p.id, "connected")
	}
	if now.status != was.status && now.status != "" && (now.status != posture.Offline || was.connected) {
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

// The terminal's own words: to another screen that cuts long lines, and back;
// and that screen cleared.
const (
	enterScreen = "\x1b[?1049h\x1b[?7l"
	leaveScreen = "\x1b[?7h\x1b[?1049l"
	clearScreen = "\x1b[H\x1b[J"
)

// live switches to the live table, where there is a screen, and returns what
// switches back.
func (s *stage) live() (leave func()) {
	if s.Screen == nil {
		return func() {}
	}
	s.voice.mute(true)
	_, _ = io.WriteString(s.Screen, enterScreen)
	return func() {
		_, _ = io.WriteString(s.Screen, leaveScreen)
		s.voice.mute(false)
		s.printTable()
	}
}

// draw shows the live table in place, and below it what happened last.
func (s *stage) draw() {
	if s.Screen == nil {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%sHoldfast  %s\n\n", clearScreen, time.Now().Format(time.TimeOnly))
	s.table(&b)
	fmt.Fprintf(&b, "\n%s\n", s.invitation())
	for _, line := range s.voice.last() {
		b.WriteString("\n" + line)
	}
	_, _ = io.WriteString(s.Screen, b.String())
}

// openConsole makes the link that a person opens to see the fleet in a browser.
func (s *stage) openConsole(ctx context.Context) error {
	c, err := client.Open(s.profile()) // a new connection: who makes a link proves anew who it is
	if err == nil {
		s.link, err = c.NewLink(ctx, "")
	}
	if err != nil {
		return fmt.Errorf("make a login link: %w", err)
	}
	return nil
}

// invitation says what to try while the fleet is up.
func (s *stage) invitation() string {
	program := nearby(s.Program)
	return fmt.Sprintf("Everything stays up. Ctrl-C ends it; the same command resumes the same fleet.\n%s\nIn another terminal:\n"+
		"  export HOLDFAST_PROFILE=%s\n  %s fleet show pump-03\n  %s events --follow", s.consoleAt(time.Now()), nearby(s.profile()), program, program)
}

// consoleAt says how to open the console: by the link while it is good.
func (s *stage) consoleAt(now time.Time) string {
	at, _, _ := strings.Cut(s.link.URL, "/login")
	text := fmt.Sprintf("The console is at %s (your browser does not know its root, %s).\n", at, nearby(s.path("hub", "root.pem")))
	if now.Before(s.link.Expires) {
		return text + fmt.Sprintf("This link logs in once, until %s:\n  %s", s.link.Expires.Local().Format(time.TimeOnly), s.link.URL)
	}
	return text + "For a link that logs in, run '" + nearby(s.Program) + " login' in another terminal."
}

// nearby names a file from the working directory where it is below that.
func nearby(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return rel
}

// remembered is how many lines the live view shows of what happened.
const remembered = 8

// voice says what happens, from several goroutines: to a writer, or while the
// live table is up into a short memory.
type voice struct {
	out io.Writer

	mu    sync.Mutex
	muted bool
	lines []string
}

func (v *voice) say(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.muted {
		fmt.Fprintln(v.out, line)
		return
	}
	v.lines = append(v.lines, time.Now().Format(time.TimeOnly)+"  "+line)
	v.lines = v.lines[max(0, len(v.lines)-remembered):]
}

func (v *voice) mute(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.muted = on
}

func (v *voice) last() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.lines)
}
