// Package synctrace reads what strace saw of a program and finds
// acknowledgements that left before the data they promise was on disk.
//
// The order of system calls is that of the lines: a call ended before another
// began when its last line stands above the other's first. Clock times join
// the trace with what a client saw, see Window.
package synctrace

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Args returns the arguments with which strace writes a trace that Parse
// reads to the file out. The command to trace follows them.
func Args(out string) []string {
	return []string{"-f", "-ttt", "-yy", "-s", "0", "-e", "signal=none", "-o", out, "-e",
		"trace=read,readv,recvfrom,recvmsg,write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync"}
}

// Call is one system call on a file or socket.
type Call struct {
	PID        int
	Name       string
	Path       string         // of a file
	Local      netip.AddrPort // of a TCP connection
	Remote     netip.AddrPort
	At         time.Time // when it began
	Start, End int       // its first and last line; End is 0 when it never returned
	Result     int64     // -1 for an error
}

// String returns the call as it is shown in violations.
func (c Call) String() string {
	on := c.Path
	if c.Remote.IsValid() {
		on = fmt.Sprintf("%s->%s", c.Local, c.Remote)
	}
	return fmt.Sprintf("line %d: %s(%s) = %d", c.Start, c.Name, on, c.Result)
}

func (c Call) reads() bool {
	return strings.HasPrefix(c.Name, "read") || strings.HasPrefix(c.Name, "recv")
}

func (c Call) writes() bool {
	return strings.Contains(c.Name, "write") || strings.HasPrefix(c.Name, "send")
}

func (c Call) syncs() bool { return c.Name == "fsync" || c.Name == "fdatasync" }

var (
	line    = regexp.MustCompile(`^(\d+) +(\d+)\.(\d{6}) (.*)$`)
	began   = regexp.MustCompile(`^(\w+)\((\d+)<(.*?)>(?:[,)]| )`)
	resumed = regexp.MustCompile(`^<\.\.\. (\w+) resumed>`)
	result  = regexp.MustCompile(` = (-?\d+)[^=]*$`)
)

// Parse reads a trace that strace wrote with Args. Lines that are about
// neither files nor sockets are skipped; a line that is cut short, as the last
// one of a killed program may be, is too.
func Parse(r io.Reader) ([]Call, error) {
	var calls []Call
	open := map[int]int{} // process id: index of the call that has not returned
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		m := line.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, fmt.Errorf("trace line %d: %w", n, err)
		}
		at, err := clock(m[2], m[3])
		if err != nil {
			return nil, fmt.Errorf("trace line %d: %w", n, err)
		}
		if resumed.MatchString(m[4]) {
			if i, ok := open[pid]; ok {
				calls[i].finish(m[4], n)
				delete(open, pid)
			}
			continue
		}
		c, ok := begin(m[4])
		if !ok {
			continue
		}
		c.PID, c.At, c.Start = pid, at, n
		if strings.HasSuffix(m[4], "<unfinished ...>") {
			open[pid] = len(calls)
		} else {
			c.finish(m[4], n)
		}
		calls = append(calls, c)
	}
	return calls, lines.Err()
}

func clock(sec, usec string) (time.Time, error) {
	s, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	us, err := strconv.ParseInt(usec, 10, 64)
	return time.Unix(s, us*1000), err
}

func begin(text string) (Call, bool) {
	m := began.FindStringSubmatch(text)
	if m == nil {
		return Call{}, false
	}
	c := Call{Name: m[1]}
	proto, ends, isSocket := strings.Cut(m[3], ":[")
	if !isSocket {
		c.Path = strings.TrimSuffix(m[3], " (deleted)")
		return c, true
	}
	local, remote, ok := strings.Cut(strings.TrimSuffix(ends, "]"), "->")
	if !ok || !strings.HasPrefix(proto, "TCP") {
		return Call{}, false
	}
	c.Local, c.Remote = address(local), address(remote)
	return c, c.Remote.IsValid()
}

// address returns an invalid address for what is none.
func address(s string) netip.AddrPort {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (c *Call) finish(text string, n int) {
	m := result.FindStringSubmatch(text)
	if m == nil {
		return
	}
	v, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return
	}
	c.End, c.Result = n, v
}
