package fleet_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/birth"
	"holdfast/fault"
	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// addByToken registers a device and returns its claim token.
func (w *world) addByToken(id identity.Device, g identity.Group, ttl int64) string {
	w.t.Helper()
	a, err := w.AddDevice(w.t.Context(), "admin", operator.AddDevice{ID: id, Group: g, Token: true, TTL: ttl})
	w.must(err)
	return a.Token
}

// file is what a device with a key in a file shows.
func file(key, token string) birth.Showing {
	return birth.Showing{Key: digest("key " + key), Token: token, Class: birth.File}
}

func with(s birth.Showing, token string) birth.Showing { s.Token = token; return s }

func (w *world) claimDenied(s birth.Showing) {
	w.t.Helper()
	e, err := w.Claim(w.t.Context(), s)
	if fault.Of(err) != fault.Denied {
		w.t.Errorf("claimed as %q, %v", e.Device, err)
	}
}

func TestAddDeviceRefuses(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	for name, tt := range map[string]struct {
		in   operator.AddDevice
		kind fault.Kind
	}{
		"no id":             {operator.AddDevice{Group: "pumps", Token: true}, fault.Invalid},
		"bad id":            {operator.AddDevice{ID: "a/b", Group: "pumps", Token: true}, fault.Invalid},
		"no group":          {operator.AddDevice{ID: "x"}, fault.NotFound},
		"unknown group":     {operator.AddDevice{ID: "x", Group: "boats", Token: true}, fault.NotFound},
		"EK and token":      {operator.AddDevice{ID: "x", Group: "pumps", Token: true, EK: ekFile("x")}, fault.Invalid},
		"EK of garbage":     {operator.AddDevice{ID: "x", Group: "pumps", EK: []byte("EK")}, fault.Invalid},
		"neither":           {operator.AddDevice{ID: "x", Group: "pumps"}, fault.Invalid},
		"taken id":          {operator.AddDevice{ID: "pump-01", Group: "pumps", EK: ekFile("x")}, fault.Conflict},
		"taken id, token":   {operator.AddDevice{ID: "pump-01", Group: "pumps", Token: true}, fault.Conflict},
		"taken EK":          {operator.AddDevice{ID: "pump-02", Group: "pumps", EK: ekFile("ek pump-01")}, fault.Conflict},
		"token of the past": {operator.AddDevice{ID: "x", Group: "pumps", Token: true, TTL: -1}, fault.Invalid},
		"eternal token":     {operator.AddDevice{ID: "x", Group: "pumps", Token: true, TTL: 1 << 40}, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.AddDevice(t.Context(), "admin", tt.in)
			if fault.Of(err) != tt.kind || err == nil {
				t.Errorf("%+v, %v, want %s", out, err, tt.kind)
			}
		})
	}
	if w.ledger.count("device.refused pump-02") != 1 {
		t.Error("the EK's second id is not in the ledger")
	}
}

func TestTokensAreSpentOnceAndRunOut(t *testing.T) {
	w := newWorld(t)
	token := w.addByToken("valve-01", "lab", 3600)
	if len(token) < 50 {
		t.Errorf("token %q has less than 256 bits", token)
	}
	if other := w.addByToken("valve-02", "lab", 0); other == token {
		t.Error("two tokens are the same")
	}
	w.claimDenied(file("a", ""))
	w.claimDenied(file("a", "guess"))
	w.claimDenied(file("a", token+"x"))
	w.claimDenied(with(tpm("stray"), "guess")) // a TPM with a bad token is not pending
	if as, err := w.Pending(t.Context()); err != nil || len(as) != 0 {
		t.Errorf("pending %+v, %v", as, err)
	}
	if e := w.born(file("a", token), "b1"); e.Device != "valve-01" || e.Group.ID != "lab" {
		t.Errorf("born as %+v", e)
	}
	w.claimDenied(file("b", token)) // spent, and this is another key
	w.claimDenied(with(tpm("stray"), token))
	w.refused(w.Bind(t.Context(), "valve-01", file("b", token)), fault.Denied)
	if e := w.born(file("a", token), "b1"); e.Device != "valve-01" { // its answer was lost
		t.Errorf("born again as %+v", e)
	}
	w.pass(2 * time.Hour)
	w.claimDenied(file("a", token))
	late := w.addByToken("valve-03", "lab", 60)
	w.pass(61 * time.Second)
	w.claimDenied(file("c", late))
	again := w.addByToken("valve-03", "lab", 60) // it was never born: it may have another
	w.claimDenied(file("c", late))
	w.born(file("c", again), "b3")
	_, err := w.AddDevice(t.Context(), "admin", operator.AddDevice{ID: "valve-03", Group: "lab", Token: true})
	w.refused(err, fault.Conflict) // now it is born
}

// TestOneTokenIsBoundOnce: of two devices that begin with one token, one is born.
func TestOneTokenIsBoundOnce(t *testing.T) {
	w := newWorld(t)
	token := w.addByToken("pump-01", "pumps", 0)
	for _, s := range []birth.Showing{with(tpm("a"), token), with(tpm("b"), token)} {
		w.must1(w.Claim(t.Context(), s))
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { errs[i] = w.Bind(t.Context(), "pump-01", with(tpm(string(rune('a'+i))), token)) })
	}
	wg.Wait()
	bound := slices.DeleteFunc(errs, func(err error) bool { return fault.Of(err) == fault.Denied && err != nil })
	if len(bound) != 1 || bound[0] != nil {
		t.Errorf("bound: %v", bound)
	}
}

func TestTheSameTPMUnderASecondID(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	w.born(tpm("pump-01"), "b1")
	token := w.addByToken("pump-02", "pumps", 0)
	w.claimDenied(with(tpm("pump-01"), token))
	w.status("pump-02", posture.Refused)
	if w.ledger.count("device.refused pump-02") != 1 {
		t.Error("not in the ledger")
	}
	w.refused(w.Bind(t.Context(), "pump-02", with(tpm("pump-01"), token)), fault.Denied)
	w.born(with(tpm("pump-02"), token), "b2") // the right one may still come
	d := w.status("pump-02", posture.Offline)
	if d.Born.IsZero() {
		t.Error("not born")
	}
	w.claimDenied(with(tpm("pump-02"), w.addByToken("pump-03", "pumps", 0)))
}

func TestAnotherTPMForARegisteredEK(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	w.refused(w.Bind(t.Context(), "pump-01", tpm("other")), fault.Denied)
	w.refused(w.Bind(t.Context(), "pump-01", file("a", "")), fault.Denied)
	w.refused(w.Bind(t.Context(), "nobody", tpm("other")), fault.NotFound)
}

// TestRebirthSupersedes: the same EK gives the same id; what it had before is
// worthless, and it can get certificates again.
func TestRebirthSupersedes(t *testing.T) {
	w := newWorld(t)
	op := w.healthy("pump-01", "pumps")
	old := peer(pki.Birth, "pump-01", "b-pump-01")
	again := tpm("pump-01")
	again.Key = digest("new key")
	if e := w.born(again, "b2"); e.Device != "pump-01" {
		t.Errorf("born as %s", e.Device)
	}
	for _, p := range []pki.Peer{old, op} {
		_, err := w.Admit(t.Context(), p)
		w.refused(err, fault.Denied)
	}
	if got := w.ledger.last["device.born pump-01"]["superseded"]; got != "b-pump-01" {
		t.Errorf("ledger says superseded: %v", got)
	}
	if want := []string{"pump-01 birth b-pump-01", "pump-01 operational 1-pump-01"}; !slices.Equal(w.crl, want) {
		t.Errorf("withdrawn %q, want %q", w.crl, want)
	}
	if want := []string{"pump-01 revoked"}; !slices.Equal(w.gate.acts, want) { // the session of what is worthless now
		t.Errorf("acts %q, want %q", w.gate.acts, want)
	}
	w.SessionClosed(t.Context(), "pump-01", "s1")
	_, err := w.Grant(t.Context(), "pump-01", pki.Birth)
	w.refused(err, fault.Denied)
	w.report("pump-01", posture.Attestation, w.appraisal())
	w.certify(peer(pki.Birth, "pump-01", "b2"), "c9")
	w.connect(peer(pki.Operational, "pump-01", "c9"), "s9")
	w.status("pump-01", posture.Trusted)
}

// TestTheSameBirthAgain: an answer that was lost changes nothing.
func TestTheSameBirthAgain(t *testing.T) {
	w := newWorld(t)
	op := w.healthy("pump-01", "pumps")
	w.born(tpm("pump-01"), "b-pump-01")
	w.must1(w.Admit(t.Context(), op))
	w.status("pump-01", posture.Trusted)
	if len(w.crl) != 0 || w.ledger.count("device.born pump-01") != 1 {
		t.Errorf("withdrawn %q, born %d times", w.crl, w.ledger.count("device.born pump-01"))
	}
}

func TestOvertakenBirth(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	slow, fast := tpm("pump-01"), tpm("pump-01")
	fast.Key = digest("fast")
	w.must(w.Bind(t.Context(), "pump-01", slow))
	w.born(fast, "b2")
	w.refused(w.Born(t.Context(), birth.Born{Device: "pump-01", Showing: slow, Serial: "b1", Time: w.clock()}), fault.Conflict)
	w.must1(w.Admit(t.Context(), peer(pki.Birth, "pump-01", "b2")))
}

func TestBindRefusesWhatTheGroupRefusesMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	w.must1(w.SetGroup(t.Context(), "admin", "pumps", operator.SetGroup{PolicyName: posture.Standard})) // no simulation any more
	w.refused(w.Bind(t.Context(), "pump-01", tpm("pump-01")), fault.Denied)
	w.must1(w.Act(t.Context(), "admin", "pump-01", fleet.Revoke, "no"))
	w.refused(w.Bind(t.Context(), "pump-01", tpm("pump-01")), fault.Denied)
}

func TestPending(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		_, err := w.Claim(t.Context(), tpm("stray"))
		w.refused(err, fault.Pending)
	}
	_, err := w.Claim(t.Context(), tpm("bad"))
	w.refused(err, fault.Pending)
	as, err := w.Pending(t.Context())
	if err != nil || len(as) != 2 || w.ledger.count("device.pending ") != 2 {
		t.Fatalf("pending %+v, %v, %d in the ledger", as, err, w.ledger.count("device.pending "))
	}
	stray, bad := digest("ek stray").String(), digest("ek bad").String()
	w.must(w.Refuse(t.Context(), "admin", bad, "not ours"))
	w.claimDenied(tpm("bad"))
	w.refused(w.Accept(t.Context(), "admin", stray, operator.Accept{Device: "a/b", Group: "pumps"}), fault.Invalid)
	w.refused(w.Accept(t.Context(), "admin", stray, operator.Accept{Device: "pump-01", Group: "boats"}), fault.NotFound)
	w.refused(w.Accept(t.Context(), "admin", "nonsense", operator.Accept{Device: "pump-01", Group: "pumps"}), fault.NotFound)
	w.refused(w.Accept(t.Context(), "admin", digest("x").String(), operator.Accept{Device: "pump-01", Group: "pumps"}), fault.NotFound)
	w.restart()
	w.must(w.Accept(t.Context(), "admin", stray, operator.Accept{Device: "pump-01", Group: "pumps"}))
	w.refused(w.Accept(t.Context(), "admin", stray, operator.Accept{Device: "pump-02", Group: "pumps"}), fault.Conflict)
	w.refused(w.Refuse(t.Context(), "admin", stray, "late"), fault.Conflict)
	if e := w.born(tpm("stray"), "b1"); e.Device != "pump-01" {
		t.Errorf("born as %s", e.Device)
	}
	w.must(w.Accept(t.Context(), "admin", bad, operator.Accept{Device: "pump-02", Group: "pumps"})) // a change of mind
	w.born(tpm("bad"), "b2")
	w.refused(w.Accept(t.Context(), "admin", bad, operator.Accept{Device: "pump-01", Group: "pumps"}), fault.Conflict)
}

func TestPendingIsBounded(t *testing.T) {
	w := newWorld(t)
	s := w.store.Fleet()
	for i := range fleet.MaxArrivals {
		w.must(s.SaveArrival(t.Context(), fleet.Arrival{EK: digest(fmt.Sprint(i)), Last: w.clock()}, nil))
	}
	_, err := w.Claim(t.Context(), tpm("stray"))
	w.refused(err, fault.Unavailable)
	known := birth.Showing{EK: digest("7"), Class: birth.Software}
	_, err = w.Claim(t.Context(), known)
	w.refused(err, fault.Pending) // who waits already goes on waiting
	w.must(w.Refuse(t.Context(), "admin", known.EK.String(), "no"))
	_, err = w.Claim(t.Context(), tpm("stray"))
	w.refused(err, fault.Pending)
}

func TestRefusedBirths(t *testing.T) {
	w := newWorld(t)
	token := w.addByToken("valve-01", "pumps", 0)
	for range 5 {
		w.must(w.RefuseBirth(t.Context(), file("a", token), "no keys in files"))
	}
	if d := w.status("valve-01", posture.Refused); d.Reason != "no keys in files" {
		t.Errorf("reason %q", d.Reason)
	}
	if n := w.ledger.count("device.refused valve-01"); n != 1 {
		t.Errorf("recorded %d times", n)
	}
	w.restart()
	w.status("valve-01", posture.Refused)

	// Whoever knows the EK of a device that lives cannot make it look refused.
	w.healthy("pump-01", "pumps")
	w.must(w.RefuseBirth(t.Context(), birth.Showing{EK: digest("ek pump-01")}, "the challenge was not answered"))
	w.status("pump-01", posture.Trusted)
	if n := w.ledger.count("device.refused pump-01"); n != 1 {
		t.Errorf("recorded %d times", n)
	}
	for i := range 300 { // anybody can make new EKs
		w.must(w.RefuseBirth(t.Context(), birth.Showing{EK: digest(fmt.Sprint(i))}, "unknown maker"))
	}
	if n := w.ledger.count("device.refused "); n != 100 {
		t.Errorf("%d refusals of strangers recorded", n)
	}
	w.pass(time.Hour)
	w.must(w.RefuseBirth(t.Context(), birth.Showing{EK: digest("1")}, "unknown maker"))
	if n := w.ledger.count("device.refused "); n != 101 {
		t.Errorf("%d refusals of strangers recorded", n)
	}
}

// TestRestoredFileKeyGetsANewToken: its old token ran out long ago.
func TestRestoredFileKeyGetsANewToken(t *testing.T) {
	w := newWorld(t)
	w.born(file("a", w.addByToken("valve-01", "lab", 60)), "b1")
	w.must1(w.Act(t.Context(), "admin", "valve-01", fleet.Revoke, "lost"))
	_, err := w.AddDevice(t.Context(), "admin", operator.AddDevice{ID: "valve-01", Group: "lab", Token: true})
	w.refused(err, fault.Conflict)
	w.must1(w.Act(t.Context(), "admin", "valve-01", fleet.Restore, "found"))
	w.born(file("b", w.addByToken("valve-01", "lab", 60)), "b2")
	w.must1(w.Admit(t.Context(), peer(pki.Birth, "valve-01", "b2")))
}

// TestNobodyFillsTheLedgerWithRefusals: whoever knows a device's EK can have
// its birth refused for as many reasons as there are.
func TestNobodyFillsTheLedgerWithRefusals(t *testing.T) {
	w := newWorld(t)
	w.addByEK("pump-01", "pumps")
	refuse := func() int {
		for i := range 100 {
			w.must(w.RefuseBirth(t.Context(), tpm("pump-01"), []string{"odd", "even"}[i%2]))
		}
		return w.ledger.count("device.refused pump-01")
	}
	first := refuse()
	if first < 2 || first > 20 {
		t.Errorf("%d records", first)
	}
	if again := refuse(); again != first {
		t.Errorf("%d more records in the same hour", again-first)
	}
	w.pass(time.Hour)
	if later := refuse(); later == first {
		t.Error("no record of what comes an hour later")
	}
	w.born(tpm("pump-01"), "b1")
	w.status("pump-01", posture.Offline)
}
