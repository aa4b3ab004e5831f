// Package virtual is a whole board as files and processes: a software TPM,
// flash with two slots, fuses, a clock, a watchdog, and a boot ROM that
// verifies, measures and starts the firmware, which is a Linux program. It
// can be told to misbehave. The firmware reaches it through board/bus.
//
// A board is a directory:
//
//	board.json        fuses, faults, and how the firmware is started
//	flash/slot-a.img  MCUboot images; behind the end of the file the flash is
//	                  erased. slot-b.img is the other slot
//	flash/boot-record.img  which slot is active and which one is tried, twice
//	tpm/              the TPM's state
//	rtc.json          the clock's offset
//	data/             the firmware's own state, its working directory
//	run/              the running firmware, sockets
//	minimum           the least security version, as the TPM said at the last boot
//	console.log       what the firmware printed
package virtual

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/internal/flash"
	"holdfast/internal/swtpm"
	"holdfast/update"
)

// Fuses are what the boot ROM goes by. They are measured.
type Fuses struct {
	KeyHash         identity.Digest `json:"key_hash"`         // identity.KeyDigest of the key that signs images
	Verify          bool            `json:"verify"`           // whether images have to verify
	DebugLock       bool            `json:"debug_lock"`       // whether the debug port is closed
	Lifecycle       string          `json:"lifecycle"`        // such as "deployed"
	SecurityCounter uint32          `json:"security_counter"` // images below it are refused; not measured

	// CounterIndex is the NV counter of the TPM that raises SecurityCounter, by
	// what it has counted beyond CounterBase. 0: there is none. A board whose
	// counter is missing does not boot.
	CounterIndex uint32 `json:"counter_index,omitempty"`
	CounterBase  uint64 `json:"counter_base,omitempty"`
}

// Faults are ways to misbehave beside those that fuses allow (an open debug
// port, a boot ROM that does not verify).
type Faults struct {
	StuckClock bool `json:"stuck_clock"` // the clock stands still
	BadEntropy bool `json:"bad_entropy"` // the noise source says the same all the time
	NoTPM      bool `json:"no_tpm"`
}

// Settings are a board's board.json.
type Settings struct {
	Fuses    Fuses    `json:"fuses"`
	Faults   Faults   `json:"faults"`
	Args     []string `json:"args"`                // of the firmware; "{data}" becomes the path of data/
	Env      []string `json:"env"`                 // of the firmware, as "NAME=value"; it gets nothing else but HOLDFAST_BOARD
	Counters []uint32 `json:"counters"`            // NV indices that the firmware certifies in each attestation
	Hardware string   `json:"hardware,omitempty"`  // revision of the board, as releases name them
	SlotSize int64    `json:"slot_size,omitempty"` // of each slot, in bytes, whole sectors of 4 KiB; 0: 64 MiB
}

// Config says what to make.
type Config struct {
	Dir      string // of the board; it must not exist or be empty
	Settings Settings
	SlotA    []byte   // MCUboot image; required
	SlotB    []byte   // MCUboot image; may be empty
	CA       swtpm.CA // of the TPM's maker; required unless Faults.NoTPM
	// Provision is what the maker does with a new board's TPM; it may change
	// the settings. It is not called for a board without one, and may be nil.
	Provision func(tpm transport.TPM, s *Settings) error
}

// Create makes a board. A board that it could not finish has no board.json
// and can be made again.
func Create(ctx context.Context, cfg Config) error {
	if len(cfg.SlotA) == 0 {
		return errors.New("create board: slot A has no image")
	}
	p := paths(cfg.Dir)
	if _, err := os.Stat(p.settings()); err == nil {
		return fmt.Errorf("create board: there is one in %s", cfg.Dir)
	}
	for _, dir := range []string{p.flash(), p.data(), p.run()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create board: %w", err)
		}
	}
	if !cfg.Settings.Faults.NoTPM {
		if err := cfg.makeTPM(ctx, p); err != nil {
			return fmt.Errorf("create board: %w", err)
		}
	}
	if size := cfg.Settings.slotSize(); max(int64(len(cfg.SlotA)), int64(len(cfg.SlotB))) > size || size%sectorSize != 0 {
		return fmt.Errorf("create board: slots of %d bytes: want whole sectors of %d, and room for the images", size, sectorSize)
	}
	for slot, image := range map[string][]byte{SlotA: cfg.SlotA, SlotB: cfg.SlotB} {
		if len(image) == 0 {
			continue
		}
		if err := atomicfile.Write(p.slot(slot), image, 0o600); err != nil {
			return fmt.Errorf("create board: %w", err)
		}
	}
	if err := begin(p); err != nil {
		return fmt.Errorf("create board: %w", err)
	}
	if err := saveRTC(p, rtcFile{Stood: time.Now().UTC()}); err != nil {
		return fmt.Errorf("create board: %w", err)
	}
	if err := SaveSettings(cfg.Dir, cfg.Settings); err != nil {
		return fmt.Errorf("create board: %w", err)
	}
	return nil
}

// makeTPM makes the board's TPM and has its maker provision it.
func (c *Config) makeTPM(ctx context.Context, p paths) error {
	if err := swtpm.Create(ctx, p.tpm(), c.CA); err != nil || c.Provision == nil {
		return err
	}
	tpm, err := swtpm.Start(ctx, p.tpm())
	if err != nil {
		return err
	}
	defer tpm.Kill() // does nothing after Stop
	conn, err := tpm.Open()
	if err != nil {
		return err
	}
	if err := errors.Join(c.Provision(conn, &c.Settings), conn.Close()); err != nil {
		return err
	}
	return tpm.Stop()
}

// begin writes a new board's boot record: slot A is the active one.
func begin(p paths) error {
	f, err := flash.Open(p.record(), recordSize, sectorSize)
	if err != nil {
		return err
	}
	_, err = update.Save(flash.Pair{Area: f}, update.Record{Active: update.A})
	return errors.Join(err, f.Close())
}

// LoadSettings reads a board's settings.
func LoadSettings(dir string) (Settings, error) {
	var s Settings
	text, err := os.ReadFile(paths(dir).settings())
	if err != nil {
		return s, fmt.Errorf("settings of board: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("settings of board: %s: %w", paths(dir).settings(), err)
	}
	return s, nil
}

// SaveSettings replaces a board's settings. They count from its next boot.
func SaveSettings(dir string, s Settings) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("settings of board: %w", err)
	}
	return atomicfile.Write(paths(dir).settings(), append(text, '\n'), 0o600)
}

// paths is a board's directory.
type paths string

func (p paths) in(name string) string { return filepath.Join(string(p), name) }
func (p paths) settings() string      { return p.in("board.json") }
func (p paths) flash() string         { return p.in("flash") }
func (p paths) record() string        { return filepath.Join(p.flash(), "boot-record.img") }
func (p paths) tpm() string           { return p.in("tpm") }
func (p paths) rtc() string           { return p.in("rtc.json") }
func (p paths) data() string          { return p.in("data") }
func (p paths) run() string           { return p.in("run") }
func (p paths) minimum() string       { return p.in("minimum") }
func (p paths) console() string       { return p.in("console.log") }

// slot returns the path of a slot's image.
func (p paths) slot(name string) string {
	return filepath.Join(p.flash(), map[string]string{SlotA: "slot-a.img", SlotB: "slot-b.img"}[name])
}

// DataDir is the directory of the firmware's own state.
func DataDir(dir string) string { return paths(dir).data() }
