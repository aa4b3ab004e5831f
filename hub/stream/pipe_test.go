package stream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answers is a server that says hello as NATS does, and answers each message
// with the next of its lines, in which %s stands for where the answer goes.
// After the last one it says nothing more.
func answers(t *testing.T, lines ...string) *pipe {
	dial := func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			in := bufio.NewReader(theirs)
			fmt.Fprintf(theirs, "INFO {}\r\n")
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				switch f := strings.Fields(line); f[0] {
				case "PING":
					fmt.Fprintf(theirs, "PONG\r\n")
				case "PUB":
					var n int
					fmt.Sscan(f[3], &n)
					if _, err := io.CopyN(io.Discard, in, int64(n)+2); err != nil {
						return
					}
					if len(lines) == 0 {
						continue
					}
					line := lines[0]
					if lines = lines[1:]; line == "" {
						return // closes the connection
					}
					io.WriteString(theirs, line)
				}
			}
		}()
		return ours, nil
	}
	p := &pipe{dial: dial, timeout: time.Second}
	t.Cleanup(p.close)
	return p
}

func message(body string) string {
	return fmt.Sprintf("MSG %s 1 %d\r\n%s\r\n", inbox, len(body), body)
}

func TestPipeKnowsWhatIsStored(t *testing.T) {
	good := message(`{"stream":"MESSAGES","seq":17}`)
	for name, tc := range map[string]struct{ answer, want string }{
		"stored":                  {good, ""},
		"with more":               {message(`{"stream":"MESSAGES","domain":"x","seq":3}`), ""},
		"after a line":            {"INFO {}\r\n" + good, ""},
		"after a ping":            {"PING\r\n" + good, ""},
		"disk full":               {message(`{"error":{"code":503,"err_code":10077,"description":"no space left on device"},"stream":"MESSAGES","seq":0}`), "no space left"},
		"no number":               {message(`{"stream":"MESSAGES"}`), "without a number"},
		"number 0":                {message(`{"stream":"MESSAGES","seq":0}`), "without a number"},
		"number that is none":     {message(`{"stream":"MESSAGES","seq":x}`), "answer of JetStream"},
		"no JSON":                 {message(`+OK`), "answer of JetStream"},
		"nobody listens":          {"HMSG " + inbox + " 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", "NATS/1.0 503"},
		"protocol error":          {"-ERR 'Maximum Payload Violation'\r\n", "Maximum Payload"},
		"too long":                {fmt.Sprintf("MSG %s 1 %d\r\n", inbox, maxAnswer+1), "answer of"},
		"line without an end":     {strings.Repeat("x", maxAnswer+1), bufio.ErrBufferFull.Error()},
		"silence":                 {"\r\n", "timed out"},
		"closed connection":       {"", io.EOF.Error()},
		"stored, error beside it": {message(`{"stream":"MESSAGES","seq":17,"error":{"code":500,"description":"odd"}}`), "odd"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := answers(t, tc.answer, good)
				err := p.publish([]byte("group"), func() error { return nil })
				if (err != nil) != (tc.want != "") || err != nil && !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("error %v, want %q", err, tc.want)
				}
				if err := p.publish(make([]byte, onePiece+1), func() error { return nil }); err != nil {
					t.Errorf("the next one: %v", err)
				}
			})
		})
	}
}

// While nothing comes back the store is asked how it is.
func TestPipeAsksWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, broken := answers(t), errors.New("disk is gone")
		began := time.Now()
		if err := p.publish(nil, func() error { return broken }); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took != checkInterval {
			t.Errorf("after %v", took)
		}
	})
}

// A patient message does not rouse the committer at once, and is not forgotten.
func TestPatientMessageWaitsForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1<<20, 1<<20, nil)
		began := time.Now()
		for range 2 {
			if err := q.add(&sample()[0], true, func(error) {}); err != nil {
				t.Fatal(err)
			}
		}
		<-q.wake
		if took := time.Since(began); took != company {
			t.Errorf("roused after %v", took)
		}
		if g := q.take(); g == nil || len(g.done) != 2 {
			t.Errorf("group %v", g)
		}
		if err := q.add(&sample()[0], true, func(error) {}); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if err := q.add(&sample()[0], false, func(error) {}); err != nil {
			t.Fatal(err)
		}
		<-q.wake
		if g := q.take(); time.Since(began) != 0 || len(g.done) != 2 {
			t.Error("who waits is kept waiting, or goes alone")
		}
	})
}
