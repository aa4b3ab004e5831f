package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"holdfast/fault"
	"holdfast/identity"
	"holdfast/operator"
)

// The limits of an import.
const (
	maxImportLine = 4 << 10 // bytes
	importWorkers = 8       // requests at a time
	showErrors    = 20      // lines that failed are shown up to this many
)

func fleetImportCmd(io stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Register many devices before they come",
		Long: `Register devices from a file with a JSON object a line: "id", "group" and, where
one maker's CA of the group alone may certify the device, "maker_ca". "-" reads
standard input. A device that is registered already is passed over, so that an
import can be repeated; a line that fails does not stop the others. A line:

  {"id":"meter-7","group":"meters","maker_ca":"maker"}`,
		Example: "  holdfast fleet import devices.jsonl",
		Args:    nArgs(1),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		in, err := openInput(io, a[0])
		if err != nil {
			return fmt.Errorf("read the devices: %w", err)
		}
		defer in.Close()
		c, err := connect(cmd)
		if err != nil {
			return err
		}
		i := &importer{add: c.AddDevice, log: io.Err}
		err = i.run(cmd.Context(), in)
		if *asJSON {
			counts := map[string]int{"registered": i.added, "known": i.known, "failed": i.failed}
			err = errors.Join(err, show(io.Out, true, counts, nil))
		}
		return err
	}
	return cmd
}

// openInput opens a file, or takes standard input for "-".
func openInput(in stdio, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(in.In), nil
	}
	return os.Open(name)
}

// importer registers devices and counts what became of them.
type importer struct {
	add func(context.Context, operator.AddDevice) (operator.AddedDevice, error)
	log io.Writer

	mu                   sync.Mutex
	added, known, failed int
}

func (i *importer) run(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxImportLine)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(importWorkers)
	n := 0
	for lines.Scan() && ctx.Err() == nil {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		d, err := importLine(line)
		number := n
		if err != nil {
			i.done(number, err)
			continue
		}
		work.Go(func() error {
			_, err := i.add(ctx, d)
			i.done(number, err)
			if fault.Of(err) == fault.Unavailable && err != nil {
				return err // the hub is gone: the other lines would fail alike
			}
			return nil
		})
	}
	err := errors.Join(work.Wait(), scanned(lines.Err(), n+1))
	i.report("\n")
	if err != nil {
		return fmt.Errorf("import, after line %d: %w", n, err)
	}
	if i.failed > 0 {
		return fmt.Errorf("%d of %d lines failed", i.failed, i.added+i.known+i.failed)
	}
	return nil
}

// scanned says which line could not be read.
func scanned(err error, line int) error {
	if errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d bytes", line, maxImportLine)
	}
	return err
}

// importLine reads a line. What it does not know is a mistake.
func importLine(line []byte) (operator.AddDevice, error) {
	var in struct {
		ID      string `json:"id"`
		Group   string `json:"group"`
		MakerCA string `json:"maker_ca"`
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return operator.AddDevice{}, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return operator.AddDevice{}, errors.New("something follows the object")
	}
	id, err := identity.ParseDevice(in.ID)
	if err != nil {
		return operator.AddDevice{}, err
	}
	group, err := identity.ParseGroup(in.Group)
	return operator.AddDevice{ID: id, Group: group, MakerCA: in.MakerCA}, err
}

// done counts a line.
func (i *importer) done(line int, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case err == nil:
		i.added++
	case fault.Of(err) == fault.Conflict:
		i.known++
	default:
		if i.failed++; i.failed <= showErrors {
			fmt.Fprintf(i.log, "\rline %d: %v\n", line, err)
		}
	}
	if (i.added+i.known+i.failed)%100 == 0 {
		i.report("\r")
	}
}

func (i *importer) report(end string) {
	fmt.Fprintf(i.log, "%d registered, %d known already, %d failed%s", i.added, i.known, i.failed, end)
}
