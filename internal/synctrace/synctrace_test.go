package synctrace_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"holdfast/internal/synctrace"
)

const (
	sock  = "9<TCPv6:[[::ffff:127.0.0.1]:8883->[::ffff:127.0.0.1]:39952]>"
	other = "7<TCP:[127.0.0.1:8883->127.0.0.1:40000]>"
	state = "11</state/msgs/1.blk>"
)

// trace numbers lines as strace does; each "PID text" gets the next microsecond.
func trace(lines ...string) string {
	var b strings.Builder
	for i, l := range lines {
		pid, text, _ := strings.Cut(l, " ")
		fmt.Fprintf(&b, "%s 1700000000.%06d %s\n", pid, i, text)
	}
	return b.String()
}

func at(us int) time.Time { return time.Unix(1700000000, int64(us)*1000) }

func TestCheck(t *testing.T) {
	read, ack := `1 read(`+sock+`, ""..., 4096) = 140`, `1 write(`+sock+`, ""..., 4) = 4`
	write, sync := `2 pwrite64(`+state+`, ""..., 140, 0) = 140`, `2 fdatasync(`+state+`) = 0`
	for _, tt := range []struct {
		name  string
		lines []string
		acks  int
		want  string // reason of the violation
	}{
		{"in order", []string{read, write, sync, ack}, 1, ""},
		{"fsync", []string{read, write, `2 fsync(` + state + `) = 0`, ack}, 1, ""},
		{"twice", []string{read, write, sync, ack, read, write, sync, ack}, 2, ""},
		{"interrupted calls", []string{
			`1 read(` + sock + `,  <unfinished ...>`, `2 futex(0x1, FUTEX_WAIT) = 0`, `1 <... read resumed>""..., 4096) = 140`,
			`2 pwrite64(` + state + `, ""..., 140, 0 <unfinished ...>`, `2 <... pwrite64 resumed>) = 140`,
			`2 fdatasync(` + state + ` <unfinished ...>`, `2 <... fdatasync resumed>) = 0`, ack}, 1, ""},
		{"a group of two", []string{read, `1 read(` + other + `, ""..., 9) = 9`, write, sync, ack, `1 write(` + other + `, ""..., 9) = 9`}, 2, ""},
		{"answer that never returned", []string{read, write, sync, `1 write(` + sock + `, ""..., 4 <unfinished ...>`}, 1, ""},
		{"answer after one that could not be sent", []string{read, `1 write(` + sock + `, ""..., 4) = -1 EAGAIN (Try again)`, write, sync, ack}, 1, ""},
		{"answer in two writes", []string{read, write, sync, ack, ack}, 1, ""},

		{"nothing written", []string{read, ack}, 1, "before anything was written"},
		{"no sync", []string{read, write, ack}, 1, "before what was written was synced"},
		{"sync too late", []string{read, write, ack, sync}, 1, "before what was written was synced"},
		{"sync of an older write", []string{write, read, sync, ack}, 1, "before anything was written"},
		{"sync began before the write ended", []string{read, `2 pwrite64(` + state + `, ""..., 1, 0 <unfinished ...>`,
			`3 fdatasync(` + state + `) = 0`, `2 <... pwrite64 resumed>) = 140`, ack}, 1, "before what was written was synced"},
		{"sync returned after the answer began", []string{read, write, `2 fdatasync(` + state + ` <unfinished ...>`, ack,
			`2 <... fdatasync resumed>) = 0`}, 1, "before what was written was synced"},
		{"sync failed", []string{read, write, `2 fdatasync(` + state + `) = -1 EIO (Input/output error)`, ack}, 1, "synced"},
		{"sync of another file", []string{read, write, `2 fdatasync(12</state/other>) = 0`, ack}, 1, "synced"},
		{"file elsewhere", []string{read, `2 write(3</statement/log>, ""..., 1) = 1`, `2 fsync(3</statement/log>) = 0`, ack}, 1, "anything"},
		{"second answer early", []string{read, write, sync, ack, read, ack}, 2, "before anything was written"},
		{"early answer that never returned", []string{read, write, `1 write(` + sock + `, ""..., 4 <unfinished ...>`}, 1, "synced"},
		{"sync that never returned", []string{read, write, `2 fdatasync(` + state + ` <unfinished ...>`, ack}, 1, "synced"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls, err := synctrace.Parse(strings.NewReader(trace(tt.lines...)))
			if err != nil {
				t.Fatal(err)
			}
			server := netip.MustParseAddrPort("127.0.0.1:8883")
			acks, found := synctrace.Check(calls, synctrace.Rule{Dir: "/state", Server: server})
			if acks != tt.acks {
				t.Errorf("%d acknowledgements, want %d", acks, tt.acks)
			}
			if (tt.want == "") != (len(found) == 0) || len(found) > 1 {
				t.Fatalf("found %v, want %q", found, tt.want)
			}
			if len(found) == 1 && !strings.Contains(found[0].String(), tt.want) {
				t.Errorf("found %v, want %q", found, tt.want)
			}
		})
	}
}

// A database's journal is a file beside it: it is part of the state, the
// stream in the same directory is not.
func TestCheckFiles(t *testing.T) {
	for file, want := range map[string]string{"/state/hub.db": "", "/state/hub.db-wal": "", "/state/msgs/1.blk": "anything"} {
		text := trace(`1 read(`+sock+`, ""..., 9) = 9`, `2 pwrite64(11<`+file+`>, ""..., 9, 0) = 9`,
			`2 fsync(11<`+file+`>) = 0`, `1 write(`+sock+`, ""..., 4) = 4`)
		calls, err := synctrace.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		rule := synctrace.Rule{Files: "/state/hub.db", Server: netip.MustParseAddrPort("127.0.0.1:8883")}
		acks, found := synctrace.Check(calls, rule)
		if acks != 1 || (want == "") != (len(found) == 0) || want != "" && !strings.Contains(found[0].String(), want) {
			t.Errorf("%s: %d acknowledgements, %v, want %q", file, acks, found, want)
		}
	}
}

func TestCheckWindows(t *testing.T) {
	text := trace(
		`1 read(`+sock+`, ""..., 4096) = 900`, // the handshake
		`1 write(`+sock+`, ""..., 4) = 4`,
		`1 read(`+sock+`, ""..., 4096) = 140`, // 2: a publish
		`2 pwrite64(`+state+`, ""..., 140, 0) = 140`,
		`2 fdatasync(`+state+`) = 0`,
		`1 write(`+sock+`, ""..., 4) = 4`,
		`1 write(`+other+`, ""..., 4) = 4`,
		`1 read(`+sock+`, ""..., 4096) = 140`, // 7: another
		`1 write(`+sock+`, ""..., 4) = 4`,
	)
	calls, err := synctrace.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	client := netip.MustParseAddrPort("127.0.0.1:39952")
	for _, tt := range []struct {
		sent, received, acks int
		want                 string
	}{
		{2, 6, 1, ""},
		{7, 9, 1, "before anything was written"},
		{9, 12, 0, "no answer"},
	} {
		rule := synctrace.Rule{Dir: "/state/", Windows: []synctrace.Window{{Client: client, Sent: at(tt.sent), Received: at(tt.received)}}}
		acks, found := synctrace.Check(calls, rule)
		if acks != tt.acks || (tt.want == "") != (len(found) == 0) || tt.want != "" && !strings.Contains(found[0].String(), tt.want) {
			t.Errorf("from %d: %d acknowledgements, %v", tt.sent, acks, found)
		}
	}
}

func TestParseSkipsWhatItDoesNotKnow(t *testing.T) {
	calls, err := synctrace.Parse(strings.NewReader(`
garbage
1 1700000000.000001 +++ exited with 0 +++
1 1700000000.000002 --- SIGURG {si_signo=SIGURG} ---
1 1700000000.000003 read(5<UNIX:[123->124]>, ""..., 9) = 9
1 1700000000.000004 read(5<socket:[83625]>, ""..., 9) = 9
1 1700000000.000005 <... read resumed>"", 9) = 9
1 1700000000.000006 write(2</dev/null<char 1:3>>, ""..., 9) = 9
1 1700000000.000007 fsync(4</a (deleted)>) = 0
1 1700000000.000008 fsync(4</a b>, c>
1 17000000`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range calls {
		got = append(got, c.Name+" "+c.Path)
	}
	if want := "write /dev/null<char 1:3>, fsync /a, fsync /a b"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", strings.Join(got, ", "), want)
	}
}
