package clock_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/device/clock"
)

var build = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

type rtc struct {
	now time.Time
	err error
}

func (r *rtc) Now() (time.Time, error) { return r.now, r.err }

func open(t *testing.T, path string, r clock.Reader) *clock.Clock {
	t.Helper()
	c, err := clock.Open(clock.Config{Path: path, Build: build, RTC: r})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStateOfTheClock(t *testing.T) {
	later := build.Add(time.Hour)
	for name, tc := range map[string]struct {
		rtc   clock.Reader
		now   time.Time
		state string
	}{
		"none":           {nil, build, clock.Floor},
		"unreadable":     {&rtc{err: errors.New("no battery")}, build, clock.Floor},
		"1970":           {&rtc{now: time.Unix(5, 0)}, build, clock.Unknown},
		"just too early": {&rtc{now: build.Add(-1)}, build, clock.Unknown},
		"at the floor":   {&rtc{now: build}, build, clock.RTC},
		"running":        {&rtc{now: later}, later, clock.RTC},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, filepath.Join(t.TempDir(), "floor.json"), tc.rtc)
			if now, state := c.Now(); !now.Equal(tc.now) || state != tc.state {
				t.Errorf("%v %s, want %v %s", now, state, tc.now, tc.state)
			}
		})
	}
}

func TestFloorNeverGoesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "floor.json")
	c := open(t, path, nil)
	high := build.Add(1000 * time.Hour)
	for _, at := range []time.Time{high, build, {}} {
		if err := c.Commit(at); err != nil {
			t.Fatal(err)
		}
		if now, _ := c.Now(); now.Before(build) || at.Equal(high) && !now.Equal(high) {
			t.Errorf("floor %v after committing %v", now, at)
		}
	}
	old, err := clock.Open(clock.Config{Path: path, Build: build.Add(-9000 * time.Hour)}) // an older program
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := old.Now(); !now.Equal(high) {
		t.Errorf("after a restart the floor is %v, want %v", now, high)
	}
}

func TestBuildTimeIsCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "floor.json")
	open(t, path, nil)
	old, err := clock.Open(clock.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := old.Now(); !now.Equal(build) {
		t.Errorf("floor %v, want the newer program's build time", now)
	}
}

func TestUnreadableFloorIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "floor.json")
	for _, text := range []string{"", "{", `{"floor":"soon"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := clock.Open(clock.Config{Path: path, Build: build}); err == nil {
			t.Errorf("%q: opened", text)
		}
	}
	if _, err := clock.Open(clock.Config{Path: filepath.Join(path, "x"), Build: build}); err == nil {
		t.Error("opened below a file")
	}
}

func certificate(t *testing.T, from, to time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestJudge(t *testing.T) {
	day := 24 * time.Hour
	current := certificate(t, build.Add(30*day), build.Add(60*day)) // made after the program was built
	expired := certificate(t, build.Add(-60*day), build.Add(-day))
	for name, tc := range map[string]struct {
		rtc  clock.Reader
		cert *x509.Certificate
		ok   bool
	}{
		"clock known, certificate valid":     {&rtc{now: build.Add(40 * day)}, current, true},
		"clock known, not yet valid":         {&rtc{now: build.Add(day)}, current, false},
		"clock known, expired":               {&rtc{now: build.Add(70 * day)}, current, false},
		"clock wrong, certificate of later":  {&rtc{now: time.Unix(0, 0)}, current, true},
		"no clock, certificate of later":     {nil, current, true},
		"no clock, expired before the floor": {nil, expired, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, filepath.Join(t.TempDir(), "floor.json"), tc.rtc)
			roots := x509.NewCertPool()
			roots.AddCert(tc.cert)
			err := c.Judge(func(now time.Time) error {
				_, err := tc.cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
				return err
			})
			if (err == nil) != tc.ok {
				t.Errorf("verify: %v", err)
			}
		})
	}
}

func TestJudgeEnds(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "floor.json"), nil)
	calls := 0
	err := c.Judge(func(now time.Time) error {
		calls++
		return x509.CertificateInvalidError{Cert: &x509.Certificate{NotBefore: now.Add(time.Hour)}, Reason: x509.Expired}
	})
	if err == nil || calls > 5 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestJudgeRemembersWhatItFound(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "floor.json"), nil)
	later := &x509.Certificate{NotBefore: build.Add(time.Hour)}
	calls := 0
	verify := func(now time.Time) error {
		calls++
		if now.Before(later.NotBefore) {
			return x509.CertificateInvalidError{Cert: later, Reason: x509.Expired}
		}
		return nil
	}
	for range 3 {
		if err := c.Judge(verify); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 4 {
		t.Errorf("%d calls for three judgements, want 4", calls)
	}
	if now, _ := c.Now(); !now.Equal(build) {
		t.Errorf("the floor is %v: nothing authenticated has raised it", now)
	}
}

func TestExpired(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "floor.json"), nil)
	if !c.Expired(build.Add(-1)) || c.Expired(build.Add(time.Hour)) {
		t.Error("a certificate is judged by something other than the floor")
	}
}
