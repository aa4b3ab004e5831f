// Package swtpmtest gives tests a running software TPM.
package swtpmtest

import (
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/internal/swtpm"
	"holdfast/internal/testkit"
)

// Machine is a software TPM that belongs to a test.
type Machine struct {
	*swtpm.TPM
	CA  swtpm.CA // its maker
	Dir string   // its state

	t testing.TB
}

// New creates a TPM, with a maker's CA of its own, and powers it on until the
// test ends. The test is skipped where swtpm is missing.
func New(t testing.TB) *Machine {
	t.Helper()
	testkit.Need(t, "swtpm")
	testkit.Need(t, "swtpm_setup")
	testkit.Need(t, "swtpm_localca")
	return NewUnder(t, swtpm.CA{Dir: t.TempDir()})
}

// NewUnder is New with the CA of a maker that several TPMs share.
func NewUnder(t testing.TB, ca swtpm.CA) *Machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := swtpm.Create(t.Context(), dir, ca); err != nil {
		t.Fatal(err)
	}
	m := &Machine{CA: ca, Dir: dir, t: t}
	m.on()
	t.Cleanup(func() { m.Kill() })
	return m
}

// Connect returns a connection to the TPM.
func (m *Machine) Connect() transport.TPMCloser {
	m.t.Helper()
	tpm, err := m.Open()
	if err != nil {
		m.t.Fatal(err)
	}
	return tpm
}

// Reset powers the TPM off in order and on again. The socket's path stays.
func (m *Machine) Reset() {
	m.t.Helper()
	if err := m.Stop(); err != nil {
		m.t.Fatal(err)
	}
	m.on()
}

// Cut powers the TPM off without a warning, and on again.
func (m *Machine) Cut() {
	m.t.Helper()
	m.Kill()
	m.on()
}

func (m *Machine) on() {
	m.t.Helper()
	tpm, err := swtpm.Start(m.t.Context(), m.Dir)
	if err != nil {
		m.t.Fatal(err)
	}
	m.TPM = tpm
}
