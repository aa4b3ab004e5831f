package bus

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"holdfast/device/board"
	"holdfast/internal/flash"
)

// patience is how long the board may take to answer.
const patience = 10 * time.Second

// Attach connects to the virtual board whose socket is at path.
func Attach(path string) (*board.Board, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("attach to board: %w", err)
	}
	c := &client{conn: conn, lines: bufio.NewReaderSize(conn, 1<<16)}
	b, err := c.board()
	if err != nil {
		return nil, fmt.Errorf("attach to board: %w", errors.Join(err, conn.Close()))
	}
	return b, nil
}

func (c *client) board() (*board.Board, error) {
	r, err := c.call(Request{Op: OpHello})
	if err != nil {
		return nil, err
	}
	h := r.Hello
	if h == nil {
		return nil, errors.New("the board does not say what it has")
	}
	b := &board.Board{
		Name: "virtual", Entropy: noise{c}, EntropySource: h.EntropySource, RTC: rtc{c},
		Watchdog: watchdog{c}, Boot: h.Boot, Counters: h.Counters, Missing: h.Missing,
		Hardware: h.Hardware, Reset: c.reset,
	}
	closers := []io.Closer{c.conn}
	b.Close = func() error { return closeAll(closers) }
	if b.Missing == nil {
		b.Missing = map[string]string{}
	}
	if s, files, err := c.slots(h); err == nil {
		b.Slots, closers = s, append(closers, files...)
	} else {
		b.Missing["slots"] = err.Error()
	}
	if cpu, err := os.Open("/proc/cpuinfo"); err == nil {
		b.Features = board.Features(cpu)
		_ = cpu.Close() // only read
	}
	if h.TPM == "" {
		return b, nil
	}
	if b.TPM, err = linuxudstpm.Open(h.TPM); err != nil {
		return nil, fmt.Errorf("TPM: %w", err)
	}
	b.Features = slices.Sorted(slices.Values(append(b.Features, "tpm")))
	closers = append(closers, b.TPM)
	return b, nil
}

func closeAll(closers []io.Closer) error {
	var err error
	for _, c := range closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// slots opens the flash. The slot that was booted cannot be written.
func (c *client) slots(h *Hello) (*board.Slots, []io.Closer, error) {
	s := h.Slots
	if s == nil {
		return nil, nil, errors.New("the board does not say where its flash is")
	}
	var opened []io.Closer
	area := func(path string, size int64, slot string) (flash.Area, error) {
		open := flash.Open
		if slot == h.Boot.Slot {
			open = flash.OpenReadOnly
		}
		f, err := open(path, size, s.Sector)
		if err != nil {
			return nil, err
		}
		opened = append(opened, f)
		return f, nil
	}
	a, errA := area(s.A, s.Size, "A")
	b, errB := area(s.B, s.Size, "B")
	record, errRecord := area(s.Record, s.RecordSize, "record")
	if err := errors.Join(errA, errB, errRecord); err != nil {
		return nil, nil, errors.Join(err, closeAll(opened))
	}
	out := &board.Slots{A: a, B: b, Record: record, KeyHash: s.KeyHash, CounterIndex: s.CounterIndex, CounterBase: s.CounterBase}
	if s.CounterIndex == 0 {
		out.Fuses = fuses{c}
	}
	return out, opened, nil
}

type fuses struct{ *client }

func (f fuses) Minimum() (uint32, error) {
	reply, err := f.call(Request{Op: OpFuses})
	if err != nil {
		return 0, err
	}
	return reply.SecurityVersion, nil
}

func (f fuses) Burn() error {
	_, err := f.call(Request{Op: OpBurn})
	return err
}

// client is the firmware's end of the bus.
type client struct {
	mu    sync.Mutex // one request at a time
	conn  net.Conn
	lines *bufio.Reader
}

func (c *client) call(req Request) (*Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, fmt.Errorf("board: %s: %w", req.Op, err)
	}
	if err := json.NewEncoder(c.conn).Encode(req); err != nil {
		return nil, fmt.Errorf("board: %s: %w", req.Op, err)
	}
	line, err := ReadLine(c.lines)
	if err != nil {
		return nil, fmt.Errorf("board: %s: %w", req.Op, err)
	}
	var reply Reply
	if err := json.Unmarshal(line, &reply); err != nil {
		return nil, fmt.Errorf("board: %s: %w", req.Op, err)
	}
	switch reply.Error {
	case "":
		return &reply, nil
	case board.ErrNotArmed.Error():
		return nil, fmt.Errorf("board: %s: %w", req.Op, board.ErrNotArmed)
	}
	return nil, fmt.Errorf("board: %s: %s", req.Op, reply.Error)
}

// ReadLine reads one line of at most MaxLine bytes.
func ReadLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxLine {
			return nil, fmt.Errorf("line longer than %d bytes", MaxLine)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func (c *client) reset(reason string) error {
	_, err := c.call(Request{Op: OpReset, Reason: reason})
	return err
}

type rtc struct{ *client }

func (r rtc) Now() (time.Time, error) {
	reply, err := r.call(Request{Op: OpRTCNow})
	if err != nil {
		return time.Time{}, err
	}
	return reply.Time, nil
}

func (r rtc) Set(t time.Time) error {
	_, err := r.call(Request{Op: OpRTCSet, Time: t})
	return err
}

type watchdog struct{ *client }

func (w watchdog) Arm(timeout time.Duration) error {
	_, err := w.call(Request{Op: OpArm, Timeout: timeout})
	return err
}

func (w watchdog) Feed() error {
	_, err := w.call(Request{Op: OpFeed})
	return err
}

type noise struct{ *client }

// Read implements io.Reader.
func (n noise) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	reply, err := n.call(Request{Op: OpEntropy, Size: min(len(p), MaxEntropy)})
	if err != nil {
		return 0, err
	}
	if len(reply.Noise) == 0 || len(reply.Noise) > len(p) {
		return 0, fmt.Errorf("board: entropy: %d bytes, asked for %d", len(reply.Noise), len(p))
	}
	return copy(p, reply.Noise), nil
}
