package swtpm_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/internal/swtpm"
	"holdfast/internal/swtpm/swtpmtest"
	"holdfast/internal/testkit"
)

// TestMain lets the test binary play the parent that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SWTPM_TEST_PARENT"); dir != "" {
		t, err := swtpm.Start(context.Background(), dir)
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(t.Socket())
		select {}
	}
	os.Exit(m.Run())
}

func clock(t *testing.T, tpm transport.TPM) tpm2.TPMSClockInfo {
	t.Helper()
	r, err := tpm2.ReadClock{}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return r.CurrentTime.ClockInfo
}

func pcr(t *testing.T, tpm transport.TPM, n uint) []byte {
	t.Helper()
	r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(n)}}}}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return r.PCRValues.Digests[0].Buffer
}

func TestResetClearsPCRsAndCounts(t *testing.T) {
	m := swtpmtest.New(t)
	tpm := m.Connect()
	before := clock(t, tpm)
	extend := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: 4, Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
			{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}
	if _, err := extend.Execute(tpm); err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 32)
	if bytes.Equal(pcr(t, tpm, 4), zero) {
		t.Fatal("PCR 4 is zero after extending it")
	}
	m.Reset()
	tpm = m.Connect()
	if got := pcr(t, tpm, 4); !bytes.Equal(got, zero) {
		t.Errorf("PCR 4 after reset is %x", got)
	}
	after := clock(t, tpm)
	if after.ResetCount != before.ResetCount+1 {
		t.Errorf("resetCount %d after %d", after.ResetCount, before.ResetCount)
	}
	m.Cut()
	if cut := clock(t, m.Connect()); cut.ResetCount <= after.ResetCount {
		t.Errorf("resetCount %d after %d and a power cut", cut.ResetCount, after.ResetCount)
	}
}

func TestMakerSharesOneCA(t *testing.T) {
	a := swtpmtest.New(t)
	root, err := os.ReadFile(a.CA.RootFile())
	if err != nil {
		t.Fatal(err)
	}
	swtpmtest.NewUnder(t, a.CA)
	again, err := os.ReadFile(a.CA.RootFile())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(root, again) {
		t.Error("the second TPM changed the maker's root")
	}
	block, _ := pem.Decode(root)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.IsCA {
		t.Error("the maker's root is not a CA")
	}
}

func TestCreateAtTheSameTime(t *testing.T) {
	testkit.Need(t, "swtpm_setup")
	ca := swtpm.CA{Dir: t.TempDir()}
	var wg sync.WaitGroup
	for range 4 {
		dir := t.TempDir()
		wg.Go(func() {
			if err := swtpm.Create(t.Context(), dir, ca); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestCreateRefusesNoCA(t *testing.T) {
	if err := swtpm.Create(t.Context(), t.TempDir(), swtpm.CA{}); err == nil {
		t.Error("created a TPM without a maker")
	}
}

func TestStartRefusesNothing(t *testing.T) {
	if _, err := swtpm.Start(t.Context(), t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("start without a TPM: %v", err)
	}
}

func TestLongPath(t *testing.T) {
	m := swtpmtest.New(t)
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Rename(m.Dir, long); err != nil {
		t.Fatal(err)
	}
	tpm, err := swtpm.Start(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	if len(tpm.Socket()) > 107 {
		t.Errorf("socket path has %d bytes", len(tpm.Socket()))
	}
	if err := tpm.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(tpm.Socket())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("runtime directory is left behind: %v", err)
	}
}

func TestDiesWithKilledParent(t *testing.T) {
	m := swtpmtest.New(t)
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "SWTPM_TEST_PARENT="+m.Dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.HasPrefix(line, "error") {
		t.Fatal(line, err)
	}
	if err := parent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tpm, err := swtpm.Start(ctx, m.Dir) // works only once the orphan has let go of the state
	if err != nil {
		t.Fatal(err)
	}
	tpm.Kill()
}
