package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/spf13/cobra"

	"holdfast/device/board/virtual"
	"holdfast/device/keys"
	"holdfast/identity"
	"holdfast/internal/atomicfile"
	"holdfast/internal/swtpm"
	"holdfast/mcuboot"
	"holdfast/pki"
	"holdfast/update"
)

// counterIndex is the NV counter that a virtual board's firmware certifies.
const counterIndex = 0x01500010

func boardCmd(io stdio) *cobra.Command {
	return noun("board", "Make and run virtual boards, with a software TPM each",
		boardImageCmd(io), boardCreateCmd(io), boardShowCmd(io), boardRunCmd(io), boardTamperCmd(io))
}

func boardImageCmd(io stdio) *cobra.Command {
	var program, version, key, out string
	var counter uint32
	cmd := &cobra.Command{
		Use:     "image --program FILE --version V --key FILE --out FILE",
		Short:   "Sign a Linux program as firmware of virtual boards (MCUboot's format)",
		Example: "  holdfast board image --program bin/holdfast-device --version 1.1.0 --key firmware.key --out fw.img",
		Args:    noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&program, "program", "", "the program (required)")
	f.StringVar(&version, "version", "", "version of the firmware, as 1.2.3 (required)")
	f.StringVar(&key, "key", "", "file of the signing key, PKCS#8 PEM, ECDSA P-256 (required)")
	f.StringVar(&out, "out", "", "file to write (required)")
	f.Uint32Var(&counter, "security-version", 1, "security counter: a board refuses images below its own")
	cmd.RunE = func(*cobra.Command, []string) error {
		v, err := mcuboot.ParseVersion(version)
		if err != nil {
			return usagef("--version: %w", err)
		}
		payload, err := os.ReadFile(program)
		if err != nil {
			return fmt.Errorf("read the program: %w", err)
		}
		text, err := os.ReadFile(key)
		if err != nil {
			return fmt.Errorf("read the signing key: %w", err)
		}
		signer, err := pki.ParseKey(text)
		if err != nil {
			return fmt.Errorf("signing key %s: %w", key, err)
		}
		img, err := mcuboot.Build(virtual.Payload(payload), v, counter, signer)
		if err != nil {
			return fmt.Errorf("sign firmware: %w", err)
		}
		return atomicfile.Write(out, img, 0o644)
	}
	return required(cmd, "program", "version", "key", "out")
}

// boardSheet is what an operator registers of a board.
type boardSheet struct {
	EK      []byte          `json:"ek,omitempty"`       // public area of the endorsement key
	TPMRoot string          `json:"tpm_root,omitempty"` // certificate of the TPM maker's root, PEM
	BootROM identity.Digest `json:"boot_rom"`           // what the boot ROM measures of itself

	Hardware string         `json:"hardware,omitempty"` // revision, as releases name them
	Minimum  *uint32        `json:"minimum,omitempty"`  // least security version, when it was last switched on; none before the first time
	Record   *update.Record `json:"record,omitempty"`   // which slot boots, and how the last trial ended
}

func boardCreateCmd(io stdio) *cobra.Command {
	var slotA, slotB, key, ca, hardware string
	var noTPM, noVerify, openDebug, stuckClock, badEntropy bool
	cmd := &cobra.Command{
		Use:   "create DIR --slot-a IMAGE --key PUB --tpm-ca DIR",
		Short: "Make a board: flash, fuses and a TPM",
		Long: `Make a virtual board in DIR and print what an operator registers of it. The key in
the fuses is the public half of the one that signs its firmware. TPMs made with the
same --tpm-ca directory come from one simulated TPM maker, whose root is printed too.`,
		Example: "  holdfast board create var/board-1 --slot-a fw.img --key firmware.pub --tpm-ca var/tpm-maker --json",
		Args:    nArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&slotA, "slot-a", "", "firmware image of slot A (required)")
	f.StringVar(&slotB, "slot-b", "", "firmware image of slot B")
	f.StringVar(&key, "key", "", "public key that signs firmware, PEM (required)")
	f.StringVar(&ca, "tpm-ca", "", "directory of the simulated TPM maker; made when missing")
	f.StringVar(&hardware, "hardware", "", "revision of the board: releases for others are refused")
	f.BoolVar(&noTPM, "no-tpm", false, "make it without a TPM: its keys are then in files")
	f.BoolVar(&noVerify, "no-verify", false, "the boot ROM starts images without verifying them")
	f.BoolVar(&openDebug, "open-debug", false, "leave the debug port open")
	f.BoolVar(&stuckClock, "stuck-clock", false, "the clock stands still")
	f.BoolVar(&badEntropy, "bad-entropy", false, "the noise source is broken")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		cfg := virtual.Config{Dir: a[0], CA: swtpm.CA{Dir: ca}, Settings: virtual.Settings{
			Fuses:  virtual.Fuses{Verify: !noVerify, DebugLock: !openDebug, Lifecycle: "deployed"},
			Faults: virtual.Faults{NoTPM: noTPM, StuckClock: stuckClock, BadEntropy: badEntropy},
			Args:   []string{"run", "--state", "{data}"}, Hardware: hardware,
		}}
		if !noTPM {
			if ca == "" {
				return usagef("--tpm-ca is required, except with --no-tpm")
			}
		}
		if err := readBoard(&cfg, slotA, slotB, key); err != nil {
			return err
		}
		least, err := leastVersion(cfg)
		if err != nil {
			return err
		}
		if noTPM {
			cfg.Settings.Fuses.SecurityCounter = least
		}
		cfg.Provision = func(tpm transport.TPM, s *virtual.Settings) error {
			return provisionTPM(tpm, s, cfg, least)
		}
		if err := virtual.Create(cmd.Context(), cfg); err != nil {
			return fmt.Errorf("make the board: %w", err)
		}
		return showBoard(io, a[0], *asJSON)
	}
	return required(cmd, "slot-a", "key")
}

// readBoard reads the files that a board is made of.
func readBoard(cfg *virtual.Config, slotA, slotB, key string) error {
	var err error
	if cfg.SlotA, err = os.ReadFile(slotA); err != nil {
		return fmt.Errorf("read the image of slot A: %w", err)
	}
	if slotB != "" {
		if cfg.SlotB, err = os.ReadFile(slotB); err != nil {
			return fmt.Errorf("read the image of slot B: %w", err)
		}
	}
	text, err := os.ReadFile(key)
	if err != nil {
		return fmt.Errorf("read the firmware key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("firmware key %s: no PEM block", key)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("firmware key %s: %w", key, err)
	}
	cfg.Settings.Fuses.KeyHash, err = identity.KeyDigest(pub)
	return err
}

// The files beside a board that say what a maker would print on its box: the
// TPM itself belongs to the firmware once the board runs.
const (
	ekFile      = "ek.pub"
	tpmRootFile = "tpm-root.pem"
)

// maxFactory is the highest security version that a board can be made with:
// its counter is raised one by one.
const maxFactory = 1000

// leastVersion is the security version that a new board begins with: that of
// the oldest image in it.
func leastVersion(cfg virtual.Config) (uint32, error) {
	least := uint32(math.MaxUint32)
	for slot, image := range map[string][]byte{"A": cfg.SlotA, "B": cfg.SlotB} {
		if len(image) == 0 {
			continue
		}
		img, err := mcuboot.Parse(image)
		if err != nil {
			return 0, fmt.Errorf("image of slot %s: %w", slot, err)
		}
		least = min(least, img.SecurityCounter)
	}
	if least > maxFactory {
		return 0, fmt.Errorf("images of security version %d: a board is made with %d at most", least, maxFactory)
	}
	return least, nil
}

// provisionTPM makes the security counter in a new board's TPM, which the
// fuses name from then on, and keeps what the TPM is beside the board.
func provisionTPM(tpm transport.TPM, s *virtual.Settings, cfg virtual.Config, least uint32) error {
	tmp, err := os.MkdirTemp("", "holdfast-board-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	k, err := keys.Open(keys.Config{TPM: tpm, Dir: tmp})
	if err != nil {
		return err
	}
	if err := k.DefineCounter(counterIndex); err != nil {
		return err
	}
	if s.Fuses.CounterBase, err = k.ReadCounter(counterIndex); err != nil {
		return err
	}
	for range least {
		if _, err := k.IncrementCounter(counterIndex); err != nil {
			return err
		}
	}
	s.Fuses.CounterIndex, s.Counters = counterIndex, []uint32{counterIndex}
	root, err := os.ReadFile(cfg.CA.RootFile())
	if err != nil {
		return fmt.Errorf("read the TPM maker's root: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(cfg.Dir, tpmRootFile), root, 0o644); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(cfg.Dir, ekFile), k.EKPublic(), 0o644)
}

// showBoard prints what an operator registers of a board.
func showBoard(io stdio, dir string, asJSON bool) error {
	sheet, err := inspect(dir)
	if err != nil {
		return err
	}
	return show(io.Out, asJSON, sheet, func(w writer) {
		fmt.Fprintf(w, "boot ROM\t%s\n", sheet.BootROM)
		if sheet.EK != nil {
			fmt.Fprintf(w, "EK\t%s\n", identity.Sum(sheet.EK))
		}
		if sheet.Hardware != "" {
			fmt.Fprintf(w, "hardware\t%s\n", sheet.Hardware)
		}
		if sheet.Minimum != nil {
			fmt.Fprintf(w, "least security version\t%d\n", *sheet.Minimum)
		}
		printRecord(w, sheet.Record)
	})
}

// printRecord prints a board's boot record.
func printRecord(w writer, r *update.Record) {
	fmt.Fprintf(w, "boots\tslot %s\n", r.First())
	if t := r.Trial; t != nil {
		state := "next"
		if t.Tried {
			state = "running"
		}
		fmt.Fprintf(w, "trial\t%s in slot %s, %s\n", t.Version, t.Slot, state)
	}
	if r.Last.Result != update.None {
		fmt.Fprintf(w, "last trial\t%s %s\n", r.Last.Version, strings.TrimSpace(r.Last.Result.String()+" "+r.Last.Reason))
	}
}

// inspect reads what an operator registers of a board.
func inspect(dir string) (boardSheet, error) {
	var sheet boardSheet
	settings, err := virtual.LoadSettings(dir)
	if err != nil {
		return sheet, err
	}
	record, err := virtual.Record(dir)
	if err != nil {
		return sheet, err
	}
	sheet.Hardware, sheet.Record = settings.Hardware, &record
	if sheet.Minimum, err = virtual.Minimum(dir); err != nil {
		return sheet, err
	}
	if sheet.BootROM, err = virtual.ROMDigest(); err != nil || settings.Faults.NoTPM {
		return sheet, err
	}
	root, err := os.ReadFile(filepath.Join(dir, tpmRootFile))
	if err != nil {
		return sheet, err
	}
	sheet.TPMRoot = string(root)
	sheet.EK, err = os.ReadFile(filepath.Join(dir, ekFile))
	return sheet, err
}

func boardShowCmd(io stdio) *cobra.Command {
	cmd := &cobra.Command{Use: "show DIR", Short: "Show what an operator registers of a board", Example: "  holdfast board show var/board-1 --json", Args: nArgs(1)}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, a []string) error {
		return showBoard(io, a[0], *asJSON)
	}
	return cmd
}

func boardRunCmd(io stdio) *cobra.Command {
	return &cobra.Command{
		Use:   "run DIR",
		Short: "Power a board on until it is told to stop",
		Long: `Power a board on: its boot ROM verifies and measures a slot and starts the firmware
there, after each reset anew. What happens is printed as JSON, one event a line; what
the firmware prints goes to stderr.`,
		Example: "  holdfast board run var/board-1",
		Args:    nArgs(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			enc := json.NewEncoder(io.Out)
			return virtual.Run(cmd.Context(), virtual.RunConfig{Dir: a[0], Console: io.Err, Event: func(e virtual.Event) {
				_ = enc.Encode(e) // nobody listens: the board runs on
			}})
		},
	}
}

func boardTamperCmd(io stdio) *cobra.Command {
	var slot string
	cmd := &cobra.Command{
		Use:     "tamper DIR",
		Short:   "Modify the firmware in a board's flash, as an attacker would",
		Example: "  holdfast board tamper var/board-1 --slot A",
		Args:    nArgs(1),
	}
	cmd.Flags().StringVar(&slot, "slot", virtual.SlotA, "the slot: A or B")
	cmd.RunE = func(_ *cobra.Command, a []string) error {
		if slot != virtual.SlotA && slot != virtual.SlotB {
			return usagef("--slot %q: want A or B", slot)
		}
		if err := virtual.Tamper(a[0], slot); err != nil {
			return err
		}
		fmt.Fprintf(io.Err, "modified slot %s of %s\n", slot, a[0])
		return nil
	}
	return cmd
}
