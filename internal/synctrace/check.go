package synctrace

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Window is one exchange as a client saw it: it took Sent before it began to
// send a request whose answer is a promise, with nothing else under way on the
// connection, and Received after it had the answer. So each write of the
// program on that connection within the window is (part of) the promise, also
// where the bytes are encrypted.
type Window struct {
	Client         netip.AddrPort // the client's end of the connection
	Sent, Received time.Time
}

// Rule says what a trace is checked for. A write on a connection is covered
// when, after the request, something was written to one of the state's files,
// and then an fsync or fdatasync of that file returned 0, both before the write.
type Rule struct {
	// Dir is the directory of the state's files, with links resolved; Files, in
	// its place, what their paths begin with, as those of a database and its
	// journals do.
	Dir     string
	Files   string
	Windows []Window // the exchanges; nil: each answer on each connection to Server
	Server  netip.AddrPort
}

// Violation is an acknowledgement that came too early, or an exchange in which
// none was found.
type Violation struct {
	Ack    Call
	Window Window
	Reason string
}

// String describes the violation.
func (v Violation) String() string {
	if v.Ack.Name == "" {
		return fmt.Sprintf("exchange of %s at %s: %s", v.Window.Client, v.Window.Sent.Format("15:04:05.000000"), v.Reason)
	}
	return fmt.Sprintf("%s: %s", v.Ack, v.Reason)
}

// Check returns how many acknowledgements it looked at, and those that were
// not covered.
func Check(calls []Call, rule Rule) (acks int, found []Violation) {
	if rule.Windows == nil {
		return rule.checkServer(calls)
	}
	for _, w := range rule.Windows {
		n, vs := rule.checkWindow(calls, w)
		acks += n
		found = append(found, vs...)
	}
	return acks, found
}

func (r Rule) checkWindow(calls []Call, w Window) (acks int, found []Violation) {
	for _, c := range calls {
		inside := !c.At.Before(w.Sent.Truncate(time.Microsecond)) && !c.At.After(w.Received)
		if c.Remote != w.Client || !c.writes() || !inside {
			continue
		}
		acks++
		since := func(f Call) bool { return !f.At.Before(w.Sent.Truncate(time.Microsecond)) }
		if why := r.uncovered(calls, c, since); why != "" {
			found = append(found, Violation{c, w, why})
		}
	}
	if acks == 0 {
		found = append(found, Violation{Window: w, Reason: "the trace has no answer"})
	}
	return acks, found
}

// checkServer takes the first write after a read to be the acknowledgement of
// what was read: each connection must have one request under way at a time.
func (r Rule) checkServer(calls []Call) (acks int, found []Violation) {
	request := map[netip.AddrPort]int{} // client: last line of the read that has no answer yet
	for _, c := range calls {
		if c.Local != r.Server {
			continue
		}
		if c.reads() && c.End > 0 && c.Result > 0 {
			request[c.Remote] = c.End
		}
		read, ok := request[c.Remote]
		if !ok || !c.writes() || c.Result < 0 { // one that never returned may have sent
			continue
		}
		delete(request, c.Remote)
		acks++
		since := func(f Call) bool { return f.Start > read }
		if why := r.uncovered(calls, c, since); why != "" {
			found = append(found, Violation{Ack: c, Reason: why})
		}
	}
	return acks, found
}

// holds reports whether a file is part of the state.
func (r Rule) holds(path string) bool {
	if r.Files != "" {
		return strings.HasPrefix(path, r.Files)
	}
	return strings.HasPrefix(path, strings.TrimSuffix(r.Dir, "/")+"/")
}

// uncovered says why an acknowledgement is not covered, or "".
func (r Rule) uncovered(calls []Call, ack Call, since func(Call) bool) string {
	written := map[string]int{} // file: last line of its first write since the request
	for _, c := range calls {
		if c.Start >= ack.Start {
			break
		}
		if !r.holds(c.Path) || c.End == 0 || c.Result < 0 || !since(c) {
			continue
		}
		first, ok := written[c.Path]
		switch {
		case c.writes() && !ok:
			written[c.Path] = c.End
		case c.syncs() && ok && c.Start > first && c.End < ack.Start:
			return ""
		}
	}
	if len(written) == 0 {
		return "acknowledged before anything was written"
	}
	return "acknowledged before what was written was synced"
}
