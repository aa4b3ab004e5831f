package hub

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestCrowdIsBounded: who comes beyond the limit is closed at once, and whoever
// leaves makes room.
func TestCrowdIsBounded(t *testing.T) {
	for name, c := range map[string]struct{ limit, each int }{"of all": {2, 9}, "of one address": {9, 2}} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			crowd := newCrowd(l, c.limit, c.each)
			accepted := make(chan net.Conn, 9)
			go func() {
				defer close(accepted)
				for {
					conn, err := crowd.Accept()
					if err != nil {
						return
					}
					accepted <- conn
				}
			}()
			dial := func() net.Conn {
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				conn.SetDeadline(time.Now().Add(time.Minute))
				return conn
			}
			dial()
			dial()
			first, second := <-accepted, <-accepted
			if _, err := dial().Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("beyond the limit: %v", err)
			}
			first.Close()
			first.Close() // counts once
			dial()
			third := <-accepted
			if _, err := dial().Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("beyond the limit again: %v", err)
			}
			second.Close()
			third.Close()
			l.Close()
			if _, open := <-accepted; open || crowd.total != 0 || len(crowd.from) != 0 {
				t.Errorf("%d connections of %v are left", crowd.total, crowd.from)
			}
		})
	}
}
