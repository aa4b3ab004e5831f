package agent_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/agent"
	"holdfast/device/entropy"
	"holdfast/fault"
	"holdfast/pki"
	"holdfast/posture"
)

const events, logTopic = "devices/pump-01/messages/events/", "$hub/logs/"

// live runs f in a bubble beside an agent in w.
func live(t *testing.T, prepare func(w *world), f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if prepare != nil {
			prepare(w)
		}
		stop := w.start(t.Context())
		synctest.Wait()
		f(w)
		stop()
	})
}

func pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestLifeOfAHealthyDevice(t *testing.T) {
	live(t, func(w *world) { w.wrote(1) }, func(w *world) {
		equal(t, "phases", []string{"provisioned", "born", "attested", "certificate", "connected"}, w.phases())
		equal(t, "steps", []string{"birth key", "begin", "activate", "finish", "save issued", "birth key",
			"new key", "attest by birth", "sign evidence", "enroll by birth", "promote", "open by operational"}, w.steps())
		pass(time.Minute)
		s := w.last()
		if n := s.published(events); n != 12 {
			t.Errorf("%d readings in a minute, want 12", n)
		}
		if n := s.published(logTopic); n != 1 {
			t.Errorf("%d shipments of one record", n)
		}
		w.wrote(2)
		w.wrote(3)
		pass(3 * time.Second)
		if n := s.published(logTopic + "?$first=2"); n != 1 || len(w.waiting) != 0 {
			t.Errorf("%d shipments of two records, %d left", n, len(w.waiting))
		}
		st := w.state()
		if !w.forgot || st.Phase != agent.Connected || st.Device != "pump-01" || st.Group != "pumps" ||
			st.Certificate.Seconds < 3600 || st.Posture.Status != posture.Trusted {
			t.Errorf("status %+v, token forgotten: %t", st, w.forgot)
		}
	})
}

func TestFileKeyDoesNotAttest(t *testing.T) {
	live(t, func(w *world) { w.hasTPM = false }, func(w *world) {
		equal(t, "steps", []string{"birth key", "begin", "save issued", "birth key", "new key", "enroll by birth",
			"promote", "open by operational"}, w.steps())
		equal(t, "tokens", []string{"token-1"}, w.claimed)
	})
}

func TestRenewsBeforeExpiry(t *testing.T) {
	live(t, nil, func(w *world) {
		first := w.last()
		life := first.cert.NotAfter.Sub(first.cert.NotBefore)
		pass(life * 55 / 100)
		if w.last() != first {
			t.Fatal("renewed before 60 percent of the lifetime")
		}
		pass(life * 26 / 100)
		second := w.last()
		if second == first || second.class != "operational" || first.Err() == nil {
			t.Fatalf("not renewed after 81 percent of the lifetime: %v", w.steps())
		}
		if second.cert.SerialNumber.Cmp(first.cert.SerialNumber) == 0 ||
			pki.KeyText(second.cert.PublicKey) == "" || slices.Equal(second.cert.RawSubjectPublicKeyInfo, first.cert.RawSubjectPublicKeyInfo) {
			t.Error("renewed without a new key")
		}
		if !slices.Contains(w.steps(), "reenroll by operational") || !slices.Contains(w.steps(), "attest by operational") {
			t.Errorf("steps %v", w.steps())
		}
	})
}

func TestRenewsWhenTheHubHasABetterCertificate(t *testing.T) {
	live(t, func(w *world) {
		w.onOpen = func(s *session) {
			if len(w.sessions) == 1 {
				w.lifetime = 24 * time.Hour
				s.tell(posture.Degraded, true)
				return
			}
			s.tell(posture.Trusted, false)
		}
	}, func(w *world) {
		pass(time.Second)
		if st := w.state(); len(w.sessions) != 2 || st.Certificate.Seconds < 86400 || st.Phase != agent.Connected {
			t.Errorf("%d sessions, status %+v", len(w.sessions), st)
		}
	})
}

func TestEndlessRenewalsAreSpacedOut(t *testing.T) {
	live(t, func(w *world) { w.onOpen = func(s *session) { s.tell(posture.Degraded, true) } }, func(w *world) {
		pass(time.Hour)
		if n := len(w.sessions); n > 40 {
			t.Errorf("%d renewals in an hour", n)
		}
	})
}

func TestSessionAttestsAgain(t *testing.T) {
	live(t, func(w *world) { w.lifetime = 24 * time.Hour }, func(w *world) {
		pass(61 * time.Minute)
		steps := w.steps()
		if !slices.Contains(steps, "session nonce") || !slices.Contains(steps, "session evidence") {
			t.Errorf("steps %v", steps)
		}
	})
}

// Each step in turn fails three times before it works.
func TestHubThatDiesAtAnyStepIsOutlived(t *testing.T) {
	for _, step := range []string{"birth key", "begin", "activate", "finish", "save issued", "new key", "attest by birth",
		"sign evidence", "enroll by birth", "promote", "open by operational"} {
		for _, cause := range []error{
			fault.New(fault.Unavailable, "the hub does not answer"), fault.New(fault.Internal, "500"),
			fault.New(fault.Conflict, "nonce is gone"), errors.New("no space left on device"),
		} {
			t.Run(fmt.Sprintf("%s/%v", step, cause), func(t *testing.T) {
				left := 3
				live(t, func(w *world) {
					w.fail = func(op string) error {
						if op == step && left > 0 {
							left--
							return cause
						}
						return nil
					}
				}, func(w *world) {
					pass(time.Hour / 2)
					if st := w.state(); st.Phase != agent.Connected || left != 0 {
						t.Errorf("status %+v, %d failures left, steps %v", st, left, w.steps())
					}
				})
			})
		}
	}
}

// The device loses power at each step in turn and starts again.
func TestPowerCutAtAnyStepIsResumed(t *testing.T) {
	for _, step := range []string{"birth key", "begin", "activate", "finish", "save issued", "new key", "attest by birth",
		"enroll by birth", "promote", "open by operational"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				ctx, cut := context.WithCancel(t.Context())
				w.fail = func(op string) error {
					if op == step {
						cut()
						return context.Canceled
					}
					return nil
				}
				stop := w.start(ctx)
				synctest.Wait()
				stop()
				key := w.birthKey
				w.fail = func(string) error { return nil }
				stop = w.start(t.Context())
				synctest.Wait()
				if st := w.state(); st.Phase != agent.Connected || key != nil && w.birthKey != key {
					t.Errorf("status %+v, steps %v", st, w.steps())
				}
				stop()
			})
		})
	}
}

func TestAttestsBeforeConnectingAfterAReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.start(t.Context())
		synctest.Wait()
		stop()
		w.ops_ = nil
		stop = w.start(t.Context())
		synctest.Wait()
		equal(t, "steps", []string{"birth key", "attest by operational", "sign evidence", "open by operational"}, w.steps())
		stop()
	})
}

func TestUnknownClockRenewsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.clock = "unknown"
		stop := w.start(t.Context())
		synctest.Wait()
		stop()
		w.ops_ = nil
		stop = w.start(t.Context())
		synctest.Wait()
		if !slices.Contains(w.steps(), "reenroll by operational") {
			t.Errorf("steps %v", w.steps())
		}
		stop()
	})
}

func TestExpiredCertificateIsReplacedByWayOfBirth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.start(t.Context())
		synctest.Wait()
		stop()
		pass(48 * time.Hour)
		w.ops_ = nil
		stop = w.start(t.Context())
		synctest.Wait()
		if slices.Contains(w.steps(), "attest by operational") || !slices.Contains(w.steps(), "enroll by birth") || w.state().Phase != agent.Connected {
			t.Errorf("steps %v", w.steps())
		}
		stop()
	})
}

func TestDeniedBirthIsFinalAndRetriedSlowly(t *testing.T) {
	denied := fault.New(fault.Denied, "group demands a hardware root")
	live(t, func(w *world) {
		w.fail = func(op string) error {
			if op == "begin" {
				return denied
			}
			return nil
		}
	}, func(w *world) {
		pass(9 * time.Minute)
		begins := func() (n int) {
			for _, s := range w.steps() {
				if s == "begin" {
					n++
				}
			}
			return n
		}
		if st := w.state(); begins() != 1 || st.Phase != agent.Refused || st.Reason != denied.Error() {
			t.Errorf("%d attempts, status %+v", begins(), st)
		}
		pass(2 * time.Minute)
		if begins() != 2 {
			t.Errorf("%d attempts after eleven minutes", begins())
		}
		equal(t, "phases", []string{"provisioned", "refused"}, w.phases())
	})
}

func TestPendingIsAskedAgain(t *testing.T) {
	accepted := false
	live(t, func(w *world) {
		w.fail = func(op string) error {
			if op == "finish" && !accepted {
				return fault.New(fault.Pending, "an operator has to decide")
			}
			return nil
		}
	}, func(w *world) {
		pass(time.Hour)
		if st := w.state(); st.Phase != agent.Provisioned || st.Reason != "an operator has to decide" {
			t.Errorf("status %+v", st)
		}
		if n := len(w.steps()); n > 450 {
			t.Errorf("%d steps in an hour of waiting", n)
		}
		w.mu.Lock()
		accepted = true
		w.mu.Unlock()
		pass(5 * time.Minute)
		if st := w.state(); st.Phase != agent.Connected {
			t.Errorf("status %+v", st)
		}
	})
}

func TestNoKeyOnAnUnhealthySource(t *testing.T) {
	live(t, func(w *world) { w.healthy = &entropy.Failure{Source: "test", Test: "repetition count", Sample: 6} }, func(w *world) {
		pass(time.Hour)
		if len(w.steps()) != 0 || w.state().Phase != agent.Provisioned || !slices.Contains(w.phrases(), "entropy refused") {
			t.Errorf("steps %v, status %+v", w.steps(), w.state())
		}
	})
}

func TestSourceThatFailsLaterStopsRenewal(t *testing.T) {
	live(t, nil, func(w *world) {
		w.mu.Lock()
		w.healthy = entropy.ErrUnhealthy
		w.ops_ = nil
		w.mu.Unlock()
		pass(time.Hour)
		if slices.Contains(w.steps(), "new key") || !slices.Contains(w.phrases(), "renewal failed") {
			t.Errorf("steps %v", w.steps())
		}
	})
}

func TestUnacceptedEvidenceMeansQuarantineUntilItPasses(t *testing.T) {
	live(t, func(w *world) {
		w.verified = false
		w.onOpen = func(s *session) { s.tell(posture.Quarantined, false) }
	}, func(w *world) {
		pass(time.Minute)
		s := w.last()
		if s == nil || s.class != "birth" || w.state().Phase != agent.Quarantined {
			t.Fatalf("session %v, status %+v", s, w.state())
		}
		w.wrote(1)
		pass(20 * time.Minute)
		if s = w.last(); s.published(events) != 0 || s.published(logTopic) != 1 || s.class != "birth" {
			t.Errorf("in quarantine: %v", s.topics)
		}
		if n := len(w.steps()); n > 100 {
			t.Errorf("%d steps in twenty minutes of quarantine", n)
		}
		w.mu.Lock()
		w.verified = true
		w.onOpen = func(s *session) { s.tell(posture.Trusted, false) }
		w.mu.Unlock()
		pass(20 * time.Minute)
		if s = w.last(); s.class != "operational" || w.state().Phase != agent.Connected || s.published(events) == 0 {
			t.Errorf("after passing: %v, %+v", s, w.state())
		}
	})
}

func TestRefusedCertificateOpensAQuarantineSession(t *testing.T) {
	live(t, func(w *world) {
		w.fail = func(op string) error {
			if op == "open by operational" {
				return fault.New(fault.Denied, "the hub refuses the certificate")
			}
			return nil
		}
		w.onOpen = func(s *session) { s.tell(posture.Quarantined, false) }
	}, func(w *world) {
		pass(time.Second)
		if s := w.last(); s == nil || s.class != "birth" || w.state().Phase != agent.Quarantined {
			t.Errorf("session %v, status %+v", s, w.state())
		}
	})
}

// A hub that finds a device trusted and yet gives it no certificate must not be
// asked in a loop.
func TestHubThatContradictsItselfIsAskedSlowly(t *testing.T) {
	live(t, func(w *world) {
		w.fail = func(op string) error {
			switch op {
			case "enroll by birth", "reenroll by operational":
				return fault.New(fault.Denied, "no certificate is granted")
			}
			return nil
		}
	}, func(w *world) {
		pass(2 * time.Hour)
		if n := len(w.steps()); n > 250 {
			t.Errorf("%d steps in two hours", n)
		}
		w.mu.Lock()
		w.fail = func(string) error { return nil }
		w.mu.Unlock()
		pass(20 * time.Minute)
		if st := w.state(); st.Phase != agent.Connected {
			t.Errorf("status %+v", st)
		}
	})
}

func TestRevokedDeviceAsksSlowly(t *testing.T) {
	live(t, func(w *world) {
		w.fail = func(op string) error {
			switch op {
			case "attest by birth", "attest by operational", "open by operational", "open by birth", "begin":
				return fault.New(fault.Denied, "the device is revoked")
			}
			return nil
		}
	}, func(w *world) {
		pass(2 * time.Hour)
		if st := w.state(); st.Phase != agent.Refused {
			t.Errorf("status %+v", st)
		}
		if n := len(w.steps()); n > 120 {
			t.Errorf("%d steps in two hours", n)
		}
	})
}

// TestRestoredDeviceIsBornAgain: the hub takes neither certificate any more,
// and the birth key, which it has certified once, is good for no other. A
// device with a TPM comes back by itself once an operator has restored it.
func TestRestoredDeviceIsBornAgain(t *testing.T) {
	revoked, worthless := false, map[string]bool{} // serials of birth certificates
	live(t, func(w *world) {
		w.fail = func(op string) error {
			ours := w.issued != nil && worthless[string(w.issued.Chain[0])]
			switch {
			case revoked && (op == "begin" || strings.Contains(op, " by ")), ours && strings.Contains(op, " by "):
				return fault.New(fault.Denied, "not taken")
			case ours && op == "finish":
				return fault.New(fault.Conflict, "make a new key")
			}
			return nil
		}
	}, func(w *world) {
		pass(time.Minute)
		if st := w.state(); st.Phase != agent.Connected {
			t.Fatalf("status %+v", st)
		}
		w.mu.Lock()
		revoked = true
		worthless[string(w.issued.Chain[0])] = true
		w.forgot = true
		w.mu.Unlock()
		w.last().cut(errors.New("connection reset"))
		pass(time.Hour)
		if st := w.state(); st.Phase != agent.Refused {
			t.Fatalf("revoked, and its status is %+v", st)
		}
		if slices.Contains(w.steps(), "new birth key") {
			t.Error("made another birth key while it was revoked")
		}
		w.mu.Lock()
		revoked = false
		w.mu.Unlock()
		pass(time.Hour)
		if st := w.state(); st.Phase != agent.Connected {
			t.Errorf("restored, and its status is %+v; steps %v", st, w.steps()[max(0, len(w.steps())-40):])
		}
	})
}

// TestAnotherClaimTokenIsClaimed: a device whose key is in a file comes back by
// a token that an operator gives it. One that the hub does not take does not
// cost it the certificate that it has.
func TestAnotherClaimTokenIsClaimed(t *testing.T) {
	for name, c := range map[string]struct {
		begin error
		want  int // certificates that it was given
	}{
		"taken":   {nil, 2},
		"refused": {fault.New(fault.Denied, "the claim token is unknown, spent or expired"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.hasTPM = false
			if err := w.agent().Enroll(t.Context()); err != nil {
				t.Fatal(err)
			}
			had := string(w.issued.Chain[0])
			w.forgot = false // it is provisioned with another one
			w.fail = func(op string) error {
				if op == "begin" {
					return c.begin
				}
				return nil
			}
			if err := w.agent().Enroll(t.Context()); err != nil {
				t.Fatal(err)
			}
			if again := string(w.issued.Chain[0]) != had; again != (c.want == 2) {
				t.Errorf("born again: %v", again)
			}
			if len(w.claimed) != 2 || !w.forgot {
				t.Errorf("%d tokens shown, forgotten: %v", len(w.claimed), w.forgot)
			}
		})
	}
}

func TestPostureCutsAndRestoresTheSession(t *testing.T) {
	live(t, nil, func(w *world) {
		pass(time.Minute)
		s := w.last()
		before := s.published(events)
		w.mu.Lock()
		w.verified = false
		w.mu.Unlock()
		s.tell(posture.Quarantined, false)
		pass(10 * time.Second)
		if n := s.published(events); before == 0 || n > before {
			t.Errorf("%d readings before quarantine, %d after", before, n)
		}
		if st := w.state(); st.Phase != agent.Quarantined || st.Reason != "firmware.secure-boot: no boot event" && st.Reason != "the hub does not accept the evidence: unknown firmware" {
			t.Errorf("status %+v", st)
		}
		s.tell(posture.Trusted, false)
		pass(10 * time.Second)
		if w.last() != s || s.published(events) <= before || w.state().Phase != agent.Connected {
			t.Errorf("after an operator restored it: %+v", w.state())
		}
	})
}

func TestLostConnectionIsMadeAgain(t *testing.T) {
	live(t, nil, func(w *world) {
		for range 5 {
			w.last().cut(errors.New("reset by peer"))
			pass(3 * time.Minute)
			if w.last().Err() != nil || w.state().Phase != agent.Connected {
				t.Fatalf("not back: %+v", w.state())
			}
		}
		for _, s := range w.steps()[12:] {
			if s != "open by operational" {
				t.Errorf("step %q to come back", s)
			}
		}
	})
}

func TestCertificateOfSomebodyElseIsNotTaken(t *testing.T) {
	live(t, func(w *world) {
		w.fail = func(op string) error {
			if op == "finish" { // the answer will be for another key
				w.birthKey = must(pki.NewKey())(t)
			}
			return nil
		}
	}, func(w *world) {
		pass(time.Minute)
		if w.current != nil {
			t.Errorf("took a certificate for another key: %v", w.steps())
		}
	})
}

func TestEnrollEndsWithBirthOrRefusal(t *testing.T) {
	denied := fault.New(fault.Denied, "unknown token")
	for name, tc := range map[string]struct {
		fails []error
		want  error
	}{
		"born":        {nil, nil},
		"born later":  {[]error{fault.New(fault.Unavailable, "busy"), fault.New(fault.Pending, "wait")}, nil},
		"denied":      {[]error{denied}, denied},
		"wrong root":  {[]error{&tls.CertificateVerificationError{Err: errors.New("unknown authority")}}, nil},
		"interrupted": {nil, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if name == "interrupted" {
					cancel()
				}
				fails := tc.fails
				w.fail = func(op string) error {
					if op != "begin" || len(fails) == 0 {
						return nil
					}
					err := fails[0]
					fails = fails[1:]
					return err
				}
				err := w.agent().Enroll(ctx)
				if name == "wrong root" && err == nil || tc.want != nil && !errors.Is(err, tc.want) || tc.want == nil && name != "wrong root" && err != nil {
					t.Errorf("enroll: %v, want %v", err, tc.want)
				}
				if slices.Contains(w.steps(), "new key") {
					t.Error("went on after birth")
				}
			})
		})
	}
}

func TestNewRefusesAHalfConfig(t *testing.T) {
	if _, err := agent.New(agent.Config{}); err == nil {
		t.Error("an agent without parts")
	}
}
