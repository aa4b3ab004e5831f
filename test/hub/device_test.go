package hub_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"holdfast/device/keys"
	"holdfast/evidence"
	"holdfast/identity"
	"holdfast/internal/swtpm/swtpmtest"
	"holdfast/operator"
	"holdfast/pki"
)

// device is the other side of the wire, as honest as a test lets it be.
type device struct {
	w      *world
	id     identity.Device
	birth  *tls.Certificate // IDevID
	ldevid *tls.Certificate

	// Of a device with a TPM.
	machine *swtpmtest.Machine
	dir     string // of its keys
	keys    *keys.TPM
	tpm     transport.TPM
	log     evidence.EventLog // of its boot
	claimed identity.Digest   // what its runtime says that it is; zero: the firmware of the bench
}

// csr is a certificate request for key in the name of cn.
func csr(t testing.TB, key crypto.Signer, cn string) []byte {
	t.Helper()
	return must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: cn}, SignatureAlgorithm: x509.ECDSAWithSHA256}, key))(t)
}

// shown joins a chain with its key.
func shown(t testing.TB, chain [][]byte, key crypto.Signer) *tls.Certificate {
	t.Helper()
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: must(x509.ParseCertificate(chain[0]))(t)}
}

// on runs f on a connection of its own that shows cert.
func on[T any](w *world, cert *tls.Certificate, f func(*wire) (T, error)) (T, error) {
	x, err := w.https(cert)
	if err != nil {
		var none T
		return none, err
	}
	defer x.close()
	return f(x)
}

// begin asks to be born.
func (w *world) begin(req evidence.BeginRequest) (evidence.BeginResponse, error) {
	return on(w, nil, func(x *wire) (out evidence.BeginResponse, err error) {
		return out, x.json("/enroll/begin", req, &out)
	})
}

// finish answers a challenge.
func (w *world) finish(session string, secret []byte) (evidence.Issued, error) {
	return on(w, nil, func(x *wire) (out evidence.Issued, err error) {
		return out, x.json("/enroll/finish", evidence.FinishRequest{Session: session, Secret: secret}, &out)
	})
}

// token registers a device by a claim token.
func (w *world) token(id identity.Device, group identity.Group) string {
	w.t.Helper()
	return must(w.api.AddDevice(w.t.Context(), operator.AddDevice{ID: id, Group: group, Token: true}))(w.t).Token
}

// fileDevice brings a device into being whose keys are in files.
func (w *world) fileDevice(id identity.Device, group identity.Group) *device {
	w.t.Helper()
	d := &device{w: w, id: id}
	key := must(pki.NewKey())(w.t)
	begun := must(w.begin(evidence.BeginRequest{Token: w.token(id, group), CSR: csr(w.t, key, "")}))(w.t)
	if begun.Issued == nil || begun.Issued.Device != id {
		w.t.Fatalf("birth of %s: %+v", id, begun)
	}
	d.birth = shown(w.t, begun.Issued.Chain, key)
	key = must(pki.NewKey())(w.t)
	d.ldevid = shown(w.t, must(d.est(d.birth, "simpleenroll", csr(w.t, key, string(id))))(w.t), key)
	return d
}

// est asks for an operational certificate, showing cert.
func (d *device) est(cert *tls.Certificate, op string, csr []byte) ([][]byte, error) {
	return on(d.w, cert, func(x *wire) ([][]byte, error) { return x.est(op, csr) })
}

// Parts of the virtual boot.
var (
	bootROM  = identity.Sum([]byte("boot ROM of the bench"))
	firmware = identity.Sum([]byte("firmware of the bench"))
)

// boot is a machine that was just switched on and booted image, with new keys
// in its TPM.
func (w *world) boot(m *swtpmtest.Machine, image identity.Digest) *device {
	w.t.Helper()
	d := &device{w: w, machine: m, dir: w.t.TempDir()}
	d.boot(image)
	return d
}

// reboot switches the machine off and on.
func (d *device) reboot(image identity.Digest) {
	d.w.t.Helper()
	d.machine.Reset()
	d.boot(image)
}

// boot measures as a virtual board does.
func (d *device) boot(image identity.Digest) {
	w := d.w
	w.t.Helper()
	d.tpm, d.log = d.machine.Connect(), evidence.EventLog{}
	d.keys = must(keys.Open(keys.Config{TPM: d.tpm, Dir: d.dir}))(w.t)
	d.event(evidence.PCRBootROM, evidence.EventCRTMVersion, evidence.UTF16("1.0"))
	d.measure(evidence.PCRBootROM, evidence.EventPostCode, bootROM, "boot ROM")
	key := sha256.Sum256([]byte("signing key"))
	for _, v := range []struct {
		name  string
		value []byte
	}{
		{evidence.VariableVerification, []byte{1}}, {evidence.VariableDebugLock, []byte{1}},
		{evidence.VariableLifecycle, []byte("deployed")}, {evidence.VariableKeyHash, key[:]},
	} {
		d.event(evidence.PCRPolicy, evidence.EventVariableConfig, evidence.Variable(v.name, v.value))
	}
	d.measure(evidence.PCRFirmware, evidence.EventIPL, image, `{"slot":"A","version":"1.0.0"}`)
	for pcr := range 8 {
		d.event(pcr, evidence.EventSeparator, make([]byte, 4))
	}
}

func (d *device) event(pcr int, kind uint32, data []byte) {
	d.extend(pcr, d.log.Append(pcr, kind, data))
}

func (d *device) measure(pcr int, kind uint32, digest identity.Digest, data string) {
	d.log.AppendDigest(pcr, kind, digest, []byte(data))
	d.extend(pcr, digest)
}

func (d *device) extend(pcr int, digest identity.Digest) {
	d.w.t.Helper()
	must(tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}.Execute(d.tpm))(d.w.t)
}

// expect registers the bench's boot as good in a group.
func (w *world) expect(group identity.Group) {
	w.t.Helper()
	for _, r := range []operator.Reference{
		{Group: group, Kind: "boot-rom", PCR: evidence.PCRBootROM, Digest: bootROM, Name: "rom"},
		{Group: group, Kind: "firmware", PCR: evidence.PCRFirmware, Digest: firmware, Name: "fw", Version: "1.0.0"},
	} {
		if err := w.api.AddReference(w.t.Context(), r); err != nil {
			w.t.Fatal(err)
		}
	}
}

// makeBirth has the device born, by whatever admits it, and returns the
// refusal where nothing does.
func (d *device) makeBirth(token string) error {
	d.w.t.Helper()
	shows, key, err := d.keys.Birth()
	if err != nil {
		return err
	}
	begun, err := d.w.begin(evidence.BeginRequest{Token: token, CSR: csr(d.w.t, key, ""), TPM: shows})
	if err != nil {
		return err
	}
	secret, err := d.keys.Activate(begun.Credential, begun.Secret)
	if err != nil {
		return err
	}
	issued, err := d.w.finish(begun.Session, secret)
	if err != nil {
		return err
	}
	d.id, d.birth = issued.Device, shown(d.w.t, issued.Chain, key)
	return nil
}

// claims are a healthy device's.
func claims(runs identity.Digest) []byte {
	b, _ := json.Marshal(evidence.Claims{Runtime: "test", Clock: "unknown", Reset: "power-on", // always marshals
		Entropy:      evidence.Entropy{Source: "hwrng", Samples: 1024, RepetitionCount: true, AdaptiveProportion: true},
		Acceleration: []string{"aes", "sha"},
		Watchdog:     evidence.Watchdog{Armed: true, Timeout: 60, Checks: map[string]bool{"program": true}},
		Firmware:     evidence.Firmware{Digest: runs.String(), Slot: "A", Version: "1.0.0"}})
	return b
}

// nonce asks for one on a connection.
func (x *wire) nonce() ([]byte, error) {
	var n evidence.Nonce
	err := x.json("/attest/nonce", nil, &n)
	return n.Nonce, err
}

// evidence is what the device says for a nonce and a channel, in the name of id.
func (d *device) evidence(id identity.Device, nonce, exporter []byte, next *keys.Key) (evidence.Attestation, error) {
	runs := firmware
	if d.claimed != (identity.Digest{}) {
		runs = d.claimed
	}
	c := claims(runs)
	s, err := d.keys.Attest(keys.Request{Qualifying: evidence.Binding(nonce, id, exporter, c),
		PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 11}, Next: next})
	if err != nil {
		return evidence.Attestation{}, err
	}
	return evidence.Attestation{Nonce: nonce, Quote: s.Quote, PCRs: s.PCRs, EventLog: d.log.Bytes(), NextKey: s.NextKey, Claims: c}, nil
}

// attest proves the boot, and next where it is not nil, over a connection.
func (d *device) attest(x *wire, next *keys.Key) (evidence.Result, error) {
	var result evidence.Result
	nonce, err := x.nonce()
	if err != nil {
		return result, err
	}
	exporter, err := x.exporter()
	if err != nil {
		return result, err
	}
	e, err := d.evidence(d.id, nonce, exporter, next)
	if err != nil {
		return result, err
	}
	return result, x.json("/attest/evidence", e, &result)
}

// renew attests with a new key and gets a certificate for it.
func (d *device) renew() error {
	cert, op := d.birth, "simpleenroll"
	if d.ldevid != nil {
		cert, op = d.ldevid, "simplereenroll"
	}
	key, err := d.keys.NewOperational()
	if err != nil {
		return err
	}
	_, err = on(d.w, cert, func(x *wire) (evidence.Result, error) { return d.attest(x, key) })
	if err != nil {
		return err
	}
	chain, err := d.est(cert, op, csr(d.w.t, key, string(d.id)))
	if err == nil {
		d.ldevid = shown(d.w.t, chain, key)
	}
	return err
}

// simulated registers the maker of a software TPM.
func (w *world) simulated(m *swtpmtest.Machine) {
	w.t.Helper()
	root := must(os.ReadFile(m.CA.RootFile()))(w.t)
	must(w.api.AddCA(w.t.Context(), operator.CA{Name: "swtpm", Kind: "endorsement", Class: "software", PEM: string(root)}))(w.t)
}
