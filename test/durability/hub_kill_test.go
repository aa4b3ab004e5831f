package durability_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/hub/fleet"
	"holdfast/identity"
	"holdfast/ledger"
	"holdfast/operator"
	"holdfast/pki"
	"holdfast/posture"
)

// clerk is an operator who registers and revokes devices, and a device that
// has certificates issued, without end. It notes what the hub has said is done.
type clerk struct {
	next    int
	added   []identity.Device
	revoked []identity.Device
	issued  []*x509.Certificate // operational certificates of revoked devices
	crl     *big.Int            // number of the newest list seen
	heads   heads
}

// api is an operator's client that hands every ledger head to the clerk.
func (k *clerk) api(t testing.TB, s *station) *client.Client {
	t.Helper()
	transport := s.operatorTransport(t)
	t.Cleanup(transport.CloseIdleConnections)
	return client.New(client.Config{URL: "https://" + s.at.Operator, HTTP: &http.Client{Transport: transport},
		Head: func(h ledger.Head) error { k.heads.keep(h); return nil }})
}

// run works until the hub ends, and returns why.
func (k *clerk) run(t testing.TB, s *station, m *maker) error {
	api := k.api(t, s)
	for {
		id := identity.Device(fmt.Sprintf("sensor-%04d", k.next))
		k.next++
		if err := k.add(context.Background(), api, id); err != nil {
			return err
		}
		if k.next%4 != 0 {
			continue
		}
		if err := k.issueAndRevoke(t, s, m, api, id); err != nil {
			return err
		}
	}
}

// add registers a device.
func (k *clerk) add(ctx context.Context, api *client.Client, id identity.Device) error {
	if _, err := api.AddDevice(ctx, operator.AddDevice{ID: id, Group: "sensors"}); err != nil {
		return err
	}
	k.added = append(k.added, id)
	return nil
}

func (k *clerk) issueAndRevoke(t testing.TB, s *station, m *maker, api *client.Client, id identity.Device) error {
	conn, err := s.dial(t, s.at.HTTPS, "http/1.1", m.device(t, id))
	if err != nil {
		return err
	}
	defer conn.Close()
	cert, err := on(conn).enroll(t, s, id)
	if err != nil {
		return err
	}
	if _, err := api.Act(context.Background(), id, "revoke", "sold"); err != nil {
		return err
	}
	k.revoked = append(k.revoked, id)
	k.issued = append(k.issued, cert)
	return k.list(t, s)
}

// list fetches the revocation list. Its number must not go back, and what was
// revoked must be on it.
func (k *clerk) list(t testing.TB, s *station) error {
	conn, err := s.dial(t, s.at.HTTPS, "http/1.1", nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	resp, err := on(conn).Get(s.url("/crl/operational.crl"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Errorf("revocation list: %v", err)
		return err
	}
	if k.crl != nil && crl.Number.Cmp(k.crl) < 0 {
		t.Errorf("revocation list %v after %v", crl.Number, k.crl)
	}
	k.crl = crl.Number
	listed := map[string]bool{}
	for _, e := range crl.RevokedCertificateEntries {
		listed[e.SerialNumber.String()] = true
	}
	for _, c := range k.issued {
		if !listed[c.SerialNumber.String()] {
			t.Errorf("certificate %s of a revoked device is not on list %v", pki.SerialText(c), crl.Number)
		}
	}
	return nil
}

// check asks a hub that was started again for everything that was done.
func (k *clerk) check(t testing.TB, s *station) {
	t.Helper()
	api := k.api(t, s)
	ds, err := api.Devices(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	status := map[identity.Device]posture.Status{}
	for _, d := range ds {
		status[d.ID] = d.Status
	}
	for _, id := range k.added {
		if status[id] == "" {
			t.Errorf("%s was registered and is lost", id)
		}
	}
	for _, id := range k.revoked {
		if status[id] != posture.Revoked {
			t.Errorf("%s was revoked and is %s", id, status[id])
		}
	}
	if err := k.list(t, s); err != nil {
		t.Errorf("revocation list: %v", err)
	}
	records, res := k.heads.verify(t, api)
	k.recorded(t, records)
	t.Logf("%d devices, %d revoked, list %v; ledger: %v", len(k.added), len(k.revoked), k.crl, res)
}

// recorded demands that the ledger has what was done.
func (k *clerk) recorded(t testing.TB, records []ledger.Record) {
	t.Helper()
	has := map[string]bool{}
	for _, r := range records {
		has[fmt.Sprint(r.Kind, " ", r.Device)] = true
		var details struct{ Serial string }
		if json.Unmarshal(r.Details, &details) == nil && details.Serial != "" {
			has[fmt.Sprint(r.Kind, " ", details.Serial)] = true
		}
	}
	demand := func(kind ledger.Kind, of any) {
		if entry := fmt.Sprint(kind, " ", of); !has[entry] {
			t.Errorf("the ledger has no %s", entry)
		}
	}
	for _, id := range k.added {
		demand(fleet.KindAdd, id)
	}
	for _, id := range k.revoked {
		demand(ledger.Revoke, id)
	}
	for _, c := range k.issued {
		demand(ledger.Issue, pki.SerialText(c))
	}
}

// Killed again and again under load, the hub has everything that it has
// acknowledged: messages in the order of each device, devices and their
// revocation, the ledger as signed heads say, and revocation lists whose
// number never goes back.
func TestHubSurvivesKill(t *testing.T) {
	const kills, senders = 6, 4
	s := newStation(t, t.TempDir(), build(t, "holdfast/cmd/holdfast", ""))
	s.start(t)
	m := newMaker(t, s.operatorClient(t))
	k := &clerk{}
	var ps []*publisher
	for i := range senders {
		ps = append(ps, newPublisher(t, m, identity.Device(fmt.Sprintf("sensor-load-%d", i))))
	}
	for round := range kills {
		var work sync.WaitGroup
		for _, p := range ps {
			work.Go(func() { ended(t, p.run(t, s)) })
		}
		work.Go(func() { ended(t, k.run(t, s, m)) })
		while := 300*time.Millisecond + time.Duration(rand.Int64N(int64(900*time.Millisecond)))
		<-time.After(while)
		s.proc.kill()
		work.Wait()
		if round%3 == 2 { // killed once more, while it starts
			s.proc = start(t, s.program, s.args()...)
			<-time.After(time.Duration(rand.Int64N(int64(400 * time.Millisecond))))
			s.proc.kill()
		}
		s.start(t)
		total := 0
		for _, p := range ps {
			p.check(t, s.operatorClient(t))
			total += len(p.acked)
		}
		k.check(t, s)
		t.Logf("killed after %v: %d messages acknowledged so far", while, total)
		if t.Failed() {
			return
		}
	}
}

// ended takes the end of a peer's work: only the hub's end is no mistake.
func ended(t testing.TB, err error) {
	var u *url.Error
	text := fmt.Sprint(err)
	for _, s := range []string{"EOF", "reset by peer", "broken pipe", "refused", "closed", "does not answer"} {
		if strings.Contains(text, s) {
			return
		}
	}
	if !errors.As(err, &u) {
		t.Errorf("a peer ended: %v", err)
	}
}
