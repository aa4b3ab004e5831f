package tuf_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"holdfast/release"
	"holdfast/tuf"
)

func TestCheckStrict(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n) }
	for _, good := range []string{`{}`, ` {"a":[1,{"b":"é"}]} `, deep(4), `{"a":{"x":1},"b":{"x":1}}`} {
		if err := tuf.CheckStrict([]byte(good), 100, 4); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for text, why := range map[string]string{
		"":                            "not a JSON object",
		`null`:                        "not a JSON object",
		`[{}]`:                        "not a JSON object",
		`7`:                           "not a JSON object",
		"\xef\xbb\xbf{}":              "not a JSON object",
		`{"a":1,"a":1}`:               "duplicate",
		`{"a":1,"\u0061":1}`:          "duplicate",
		`{"a":{"b":[{"c":1,"c":2}]}}`: "duplicate",
		`{"a":null}`:                  "null",
		deep(5):                       "nested deeper than 4",
		strings.Repeat(`[`, 90):       "not a JSON object",
		`{"a":[[[[[1]]]]]}`:           "nested deeper than 4",
		`{"a":1}{"a":1}`:              "more JSON behind",
		`{"a":1} x`:                   "after offset 8",
		`{"a":1`:                      "read JSON",
		`{"a":1}}`:                    "behind",
		"{\"a\":\"\xff\"}":            "UTF-8",
		"{\"\xff\":1}":                "UTF-8",
		`{"a":"\ud800"}`:              "read JSON",
		"{\"a\":\"\n\"}":              "read JSON",
		`{"a":01}`:                    "read JSON",
		`{"a":1,}`:                    "read JSON",
		`{'a':1}`:                     "read JSON",
	} {
		refused(t, tuf.CheckStrict([]byte(text), 100, 4), release.MalformedMetadata, why)
	}
	refused(t, tuf.CheckStrict([]byte(`{"a":"bcdef"}`), 12, 4), release.EndlessData, "13 bytes: want 12 at most")
}

// What stands in the files is changed as text, and signed again by everyone: no
// key helps what cannot be read in one way.
func TestMalformedFiles(t *testing.T) {
	for name, c := range map[string]struct {
		role, old, new string
	}{
		"name twice":                   {"pump", `"version":1`, `"version":1,"version":1`},
		"name twice, escaped":          {"pump", `"version":1`, `"version":1,"versio\u006e":2`},
		"name in another case":         {"pump", `"version":1`, `"version":1,"Version":2`},
		"name only in another case":    {"pump", `"version":1`, `"Version":1`},
		"null":                         {"pump", `"version":1`, `"version":1,"x":null`},
		"null target":                  {"pump", `"targets":{`, `"targets":{"pump/pump-0.1.0.img":null,`},
		"fraction":                     {"pump", `"version":1`, `"version":1.0`},
		"number that loses digits":     {"pump", `"version":1`, `"version":1,"x":9007199254740993`},
		"version 0":                    {"pump", `"version":1`, `"version":0`},
		"negative version":             {"pump", `"version":1`, `"version":-1`},
		"another type":                 {"pump", `"_type":"targets"`, `"_type":"snapshot"`},
		"another specification":        {"pump", `"spec_version":"1.`, `"spec_version":"2.`},
		"expiry in another zone":       {"pump", `T12:00:00Z"`, `T12:00:00+01:00"`},
		"expiry written otherwise":     {"pump", `T12:00:00Z"`, `T12:00:00+00:00"`},
		"expiry in parts of a second":  {"pump", `T12:00:00Z"`, `T12:00:00.5Z"`},
		"deep":                         {"pump", `"version":1`, `"version":1,"x":` + strings.Repeat(`[`, 30) + strings.Repeat(`]`, 30)},
		"very deep":                    {"pump", `"version":1`, `"version":1,"x":` + strings.Repeat(`[`, 100000) + strings.Repeat(`]`, 100000)},
		"no targets' hash":             {"pump", `"sha256"`, `"sha512"`},
		"null key":                     {"root", `"keys":{`, `"keys":{"00":null,`},
		"null role":                    {"root", `"roles":{`, `"roles":{"mirrors":null,`},
		"no roles":                     {"root", `"roles":{"root"`, `"roles_":{"root"`},
		"inconsistent snapshots":       {"root", `"consistent_snapshot":true`, `"consistent_snapshot":false`},
		"unknown role in root":         {"root", `"roles":{"root":{"keyids"`, `"roles":{"mirrors":{"keyids":[],"threshold":1},"root":{"keyids"`},
		"threshold 0":                  {"root", `"threshold":2`, `"threshold":0`},
		"threshold beyond the keys":    {"root", `"threshold":2`, `"threshold":4`},
		"null listing":                 {"timestamp", `"meta":{`, `"meta":{"x.json":null,`},
		"empty listing":                {"timestamp", `"snapshot.json"`, `"snapshot.jsom"`},
		"more in timestamp":            {"timestamp", `"meta":{`, `"meta":{"root.json":{"version":1},`},
		"no targets in snapshot":       {"snapshot", `"targets.json"`, `"boiler.json"`},
		"unknown role in snapshot":     {"snapshot", `"meta":{`, `"meta":{"../x.json":{"version":1},`},
		"root in snapshot":             {"snapshot", `"meta":{`, `"meta":{"root.json":{"version":1},`},
		"negative length":              {"snapshot", `"length":`, `"length":-`},
		"listed version 0":             {"snapshot", `"version":1},"valve.json"`, `"version":0},"valve.json"`},
		"unknown role in targets":      {"targets", `"name":"pump"`, `"name":"snapshot"`},
		"succinct roles":               {"targets", `"delegations":{`, `"delegations":{"succinct_roles":{"bit_length":4,"keyids":[],"name_prefix":"p","threshold":1},`},
		"ML-DSA for no such product":   {"targets", `"roles":{"pump"`, `"roles":{"boiler"`},
		"ML-DSA threshold 0":           {"targets", `"threshold":2},"valve"`, `"threshold":0},"valve"`},
		"ML-DSA field elsewhere":       {"targets", tuf.MLDSAField, "x-other"},
		"ML-DSA field of another kind": {"targets", `"` + tuf.MLDSAField + `":{`, `"` + tuf.MLDSAField + `":{"x":1,`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo()
			trust, err := deliver(t, r, c.role, func(text string) string {
				if !strings.Contains(text, c.old) {
					t.Fatalf("no %s in %.1000s", c.old, text)
				}
				return strings.Replace(text, c.old, c.new, 1)
			})
			refused(t, err, release.MalformedMetadata, c.role)
			if trust != nil && installs(trust, "pump", "1.4.0", known) {
				t.Error("installs")
			}
		})
	}
}

// deliver changes the signed part of a role's file, has everyone sign it again
// and lists it, and refreshes a new device with it.
func deliver(t *testing.T, r *repo, role string, change func(string) string) (*tuf.Trust, error) {
	t.Helper()
	name := "1." + role + ".json"
	keys := r.release()
	switch role {
	case "timestamp":
		name, keys = "timestamp.json", []any{r.online}
	case "snapshot":
		keys = []any{r.online}
	}
	var f struct {
		Signed     json.RawMessage      `json:"signed"`
		Signatures []metadata.Signature `json:"signatures"`
	}
	if err := json.Unmarshal(r.files[name], &f); err != nil {
		t.Fatal(err)
	}
	text := change(string(f.Signed))
	message, err := tuf.Canonical(json.RawMessage(text))
	if err != nil {
		message = []byte(text) // nobody could sign it
	}
	f.Signatures = nil
	for _, k := range keys {
		f.Signatures = append(f.Signatures, sign(k, message))
	}
	b := fmt.Appendf(nil, `{"signatures":%s,"signed":%s}`, must(json.Marshal(f.Signatures)), text)
	r.files[name] = b
	switch role {
	case "root":
		return tuf.NewTrust(b, tuf.DefaultLimits())
	case "snapshot":
		r.timestamp.Signed.Meta["snapshot.json"] = listing(1, b)
		r.publishTimestamp()
	case "targets", "pump":
		r.put(role, 1, b)
		r.publishSnapshot()
	}
	trust := r.open(t)
	return trust, refresh(trust, r.files, known)
}

// What stands around the signed part.
func TestMalformedEnvelopes(t *testing.T) {
	r := newRepo()
	good := string(r.files["timestamp.json"])
	sig := string(must(json.Marshal(r.timestamp.Signatures[0])))
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf(`{"keyid":"%064x","sig":""}`, i)
	}
	for name, c := range map[string]struct {
		text   string
		attack release.Attack
	}{
		"empty":                {"", release.MalformedMetadata},
		"nothing signed":       {`{"signatures":[]}`, release.MalformedMetadata},
		"no signatures":        {strings.Replace(good, `"signatures"`, `"signatures_"`, 1), release.MalformedMetadata},
		"something else":       {strings.Replace(good, `{"signatures"`, `{"more":1,"signatures"`, 1), release.MalformedMetadata},
		"more in a signature":  {strings.Replace(good, `{"keyid"`, `{"more":1,"keyid"`, 1), release.MalformedMetadata},
		"two names":            {strings.Replace(good, `{"signatures"`, `{"Signed":{},"signatures"`, 1), release.MalformedMetadata},
		"a key twice":          {strings.Replace(good, sig, sig+","+sig, 1), release.KeyCompromise},
		"odd hexadecimal":      {strings.Replace(good, `"sig":"`, `"sig":"0`, 1), release.MalformedMetadata},
		"no hexadecimal":       {strings.Replace(good, `"sig":"`, `"sig":"zz`, 1), release.MalformedMetadata},
		"long signature":       {strings.Replace(good, `"sig":"`, `"sig":"`+strings.Repeat("00", 3310), 1), release.MalformedMetadata},
		"key id of other form": {strings.Replace(good, `"keyid":"`, `"keyid":"x`, 1), release.MalformedMetadata},
		"many signatures":      {strings.Replace(good, sig, strings.Join(many, ","), 1), release.MalformedMetadata},
		"two files":            {good + good, release.MalformedMetadata},
		"cut off":              {good[:len(good)/2], release.MalformedMetadata},
		"signed is text":       {`{"signatures":[],"signed":"x"}`, release.MalformedMetadata},
		"signed is a list":     {`{"signatures":[],"signed":[]}`, release.MalformedMetadata},
		"another role":         {string(r.files["1.snapshot.json"]), release.MalformedMetadata},
	} {
		t.Run(name, func(t *testing.T) {
			trust := r.open(t)
			unchanged(t, trust, func() { refused(t, trust.UpdateTimestamp([]byte(c.text), known), c.attack, "timestamp") })
		})
	}
}

// Keys that are not what their ids say, or not what this program takes.
func TestMalformedKeys(t *testing.T) {
	for name, spoil := range map[string]func(*repo){
		"id of another key": func(r *repo) {
			r.root.Signed.Keys[id(r.keys[0])] = r.keys[1].key
		},
		"short Ed25519": func(r *repo) {
			k := *r.keys[0].key
			k.Value.PublicKey = k.Value.PublicKey[:62]
			r.root.Signed.Keys[id(r.keys[0])] = &k
		},
		"RSA": func(r *repo) {
			k := metadata.Key{Type: "rsa", Scheme: "rsassa-pss-sha256"}
			r.root.Signed.Keys[must(k.ID())] = &k
		},
		"ECDSA without a key": func(r *repo) {
			k := metadata.Key{Type: "ecdsa", Scheme: "ecdsa-sha2-nistp256", Value: metadata.KeyVal{PublicKey: "x"}}
			r.root.Signed.Keys[must(k.ID())] = &k
		},
		"ECDSA of megabytes": func(r *repo) {
			k := metadata.Key{Type: "ecdsa", Scheme: "ecdsa-sha2-nistp256", Value: metadata.KeyVal{PublicKey: strings.Repeat("x", 10000)}}
			r.root.Signed.Keys[must(k.ID())] = &k
		},
		"too many": func(r *repo) {
			for i := range 40 {
				k := metadata.Key{Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: fmt.Sprintf("%064x", i)}}
				r.root.Signed.Keys[must(k.ID())] = &k
			}
		},
		"role with a key that is not there": func(r *repo) { delete(r.root.Signed.Keys, id(r.keys[1])) },
		"role with a key twice": func(r *repo) {
			r.root.Signed.Roles["root"].KeyIDs[1] = r.root.Signed.Roles["root"].KeyIDs[0]
		},
		"no ML-DSA": func(r *repo) { r.root.Signed.UnrecognizedFields = nil },
		"no ML-DSA for targets": func(r *repo) {
			r.root.Signed.UnrecognizedFields[tuf.MLDSAField] = r.mldsa(tuf.Root)
		},
		"ML-DSA for the hub's roles": func(r *repo) {
			r.root.Signed.UnrecognizedFields[tuf.MLDSAField] = r.mldsa(tuf.Root, tuf.Targets, tuf.Snapshot)
		},
		"ML-DSA id of another key": func(r *repo) {
			x := r.mldsa(tuf.Root, tuf.Targets)
			x.Keys[id(r.post[0])] = x.Keys[id(r.post[1])]
			r.root.Signed.UnrecognizedFields[tuf.MLDSAField] = x
		},
		"short ML-DSA key": func(r *repo) {
			x := r.mldsa(tuf.Root, tuf.Targets)
			x.Keys[id(r.post[0])] = x.Keys[id(r.post[0])][1:]
			r.root.Signed.UnrecognizedFields[tuf.MLDSAField] = x
		},
		"ML-DSA key twice in a role": func(r *repo) {
			x := r.mldsa(tuf.Root, tuf.Targets)
			x.Roles[tuf.Root].KeyIDs[1] = x.Roles[tuf.Root].KeyIDs[0]
			r.root.Signed.UnrecognizedFields[tuf.MLDSAField] = x
		},
		"too many ML-DSA keys": func(r *repo) {
			x := r.mldsa(tuf.Root, tuf.Targets)
			for i := range 40 {
				x.Keys[fmt.Sprintf("%064x", i)] = x.Keys[id(r.post[0])]
			}
			r.root.Signed.UnrecognizedFields[tuf.MLDSAField] = x
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo()
			spoil(r)
			_, err := tuf.NewTrust(r.publishRoot(), tuf.DefaultLimits())
			refused(t, err, release.MalformedMetadata, "root 1")
		})
	}
}

// One key under two names is one signature: go-tuf's two names for P-256 give one
// key two ids.
func TestOneKeyUnderTwoNamesCountsOnce(t *testing.T) {
	r := newRepo()
	again := signer{r.keys[2].Signer, &metadata.Key{Type: metadata.KeyTypeECDSA_SHA2_P256_COMPAT, Scheme: metadata.KeySchemeECDSA_SHA2_P256, Value: r.keys[2].key.Value}}
	if id(again) == id(r.keys[2]) {
		t.Fatal("the names give one id")
	}
	r.keys[1] = again
	r.setRootKeys()
	b := signed(r.root, r.keys[1], r.keys[2], r.post[0], r.post[1])
	_, err := tuf.NewTrust(b, tuf.DefaultLimits())
	refused(t, err, release.KeyCompromise, "root 1", "1 keys, want 2")
}

func TestLimitsOfProductsAndReleases(t *testing.T) {
	r := newRepo()
	l := tuf.DefaultLimits()
	l.Releases = 1
	r.addRelease("pump", "1.5.0")
	r.publish()
	trust, err := tuf.NewTrust(r.files["1.root.json"], l)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, refresh(trust, r.files, known), release.MalformedMetadata, "2 releases: want 1 at most")
	l = tuf.DefaultLimits()
	l.Products = 1
	if trust, err = tuf.NewTrust(r.files["1.root.json"], l); err != nil {
		t.Fatal(err)
	}
	refused(t, refresh(trust, r.files, known), release.MalformedMetadata, "snapshot 1", "at most 1 products")
}

func TestProductDelegatedTwice(t *testing.T) {
	r := newRepo()
	d := r.targets.Signed.Delegations
	d.Roles = append(d.Roles, d.Roles[0])
	r.publish()
	refused(t, refresh(r.open(t), r.files, known), release.MalformedMetadata, "targets 1", "two delegations to pump")
}

func TestFullRepositoryFitsTheLimits(t *testing.T) {
	r := newRepo()
	for i := range tuf.DefaultLimits().Releases - 1 {
		r.addRelease("pump", fmt.Sprintf("2.%d.%d", i/100, i%100))
	}
	products := []string{"pump", "valve"}
	for i := range tuf.DefaultLimits().Products - 2 {
		products = append(products, fmt.Sprintf("a-product-with-a-long-name-%d", i))
	}
	r.delegate(products...)
	r.putTargets(r.release()...)
	r.putProduct("pump", r.release()...)
	for _, p := range products[2:] {
		r.snapshot.Signed.Meta[p+".json"] = r.snapshot.Signed.Meta["valve.json"]
	}
	r.publishSnapshot()
	start := time.Now()
	trust := r.opened(t)
	t.Logf("pump %d, targets %d, snapshot %d bytes; %s", len(r.files["1.pump.json"]), len(r.files["1.targets.json"]), len(r.files["1.snapshot.json"]), time.Since(start))
	all, err := trust.Releases("pump", known)
	if err != nil || len(all) != tuf.DefaultLimits().Releases {
		t.Errorf("%d releases: %v", len(all), err)
	}
}
