package updater_test

import (
	"bytes"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/device/updater"
	"holdfast/identity"
	"holdfast/release"
	"holdfast/update"
)

var discard = slog.New(slog.DiscardHandler)

// state changes the file that outlasts restarts: its bytes, or all of it.
func (w *world) state(t *testing.T, bytes string) {
	t.Helper()
	text, err := os.ReadFile(w.path)
	if err != nil && bytes != "" {
		t.Fatal(err)
	}
	if bytes == "" {
		text = []byte("{damaged")
	} else if re := regexp.MustCompile(`"bytes":\d+`); re.Match(text) {
		text = re.ReplaceAll(text, []byte(bytes))
	} else {
		text = []byte(strings.Replace(string(text), `{"state"`, `{`+bytes+`,"state"`, 1))
	}
	if err := os.WriteFile(w.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// refused checks that an attack came to nothing but a report.
func (w *world) refused(t *testing.T, a release.Attack) {
	t.Helper()
	p := w.last()
	if p.Attack != a || p.Reason == "" || !p.Final {
		t.Errorf("report %+v, want the attack %q", p, a)
	}
	if len(w.resets) != 0 || w.record.Trial != nil || w.minimum != 1 {
		t.Errorf("resets %v, record %+v, minimum %d", w.resets, w.record, w.minimum)
	}
	if !bytes.Equal(w.slots[update.A], firmware(version(3), 1)) {
		t.Error("the image that runs has changed")
	}
}

func TestArbitrarySoftware(t *testing.T) {
	t.Run("not in the metadata", func(t *testing.T) {
		do(t, func(t *testing.T, w *world, d *device) {
			w.offered(w.offer(version(9)))
			w.refused(t, release.ArbitrarySoftware)
			if len(w.asked) != 0 {
				t.Errorf("asked for %q", w.asked)
			}
		})
	})
	t.Run("another image of its length", func(t *testing.T) {
		do(t, func(t *testing.T, w *world, d *device) {
			b := bytes.Clone(firmware(version(4), 2))
			b[len(b)/3] ^= 1
			w.blobs[w.releases[version(4)].Image.SHA256] = b
			w.offered(w.offer(version(4)))
			w.refused(t, release.ArbitrarySoftware)
		})
	})
	t.Run("the slot is not what was written", func(t *testing.T) {
		do(t, func(t *testing.T, w *world, d *device) {
			w.crash = func(a update.Action) error {
				if a == update.VerifySlot {
					w.slots[update.B][9]++
				}
				return nil
			}
			w.offered(w.offer(version(4)))
			w.refused(t, release.ArbitrarySoftware)
		})
	})
}

// TestBlobChangesBetweenReads: bytes that change under the same name are found
// by their digest.
func TestBlobChangesBetweenReads(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.slow = make(chan struct{})
		w.offers <- []byte(w.offer(version(4)))
		w.pass(time.Second)
		d.stop()
		w.slow = nil
		other := w.blobs[w.releases[version(4)].Image.SHA256]
		other[len(other)-1] ^= 1
		w.start()
		w.pass(20 * time.Second)
		w.refused(t, release.ArbitrarySoftware)
	})
}

func TestEndlessData(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		digest := w.releases[version(4)].Image.SHA256
		w.blobs[digest] = append(bytes.Clone(w.blobs[digest]), 'x')
		w.offered(w.offer(version(4)))
		w.refused(t, release.EndlessData)
	})
}

func TestDeltaBomb(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.makeDelta(version(3), version(4))
		w.publish(version(5), 2)
		// The delta of one release is given for another, which is shorter.
		r := w.releases[version(5)]
		short := firmware(version(5), 2)[:600<<10]
		r.Image = release.Blob{Length: int64(len(short)), SHA256: identity.Sum(short)}
		r.Measured = measure(short)
		w.releases[version(5)], w.blobs[r.Image.SHA256] = r, short
		w.deltas[r.Image.SHA256] = w.deltas[w.releases[version(4)].Image.SHA256]
		w.offered(w.offer(version(5)))
		var named bool
		for _, p := range w.told() {
			named = named || p.Attack == release.DecompressionBomb
		}
		if !named || len(w.resets) != 1 {
			t.Errorf("reports %+v", w.told())
		}
	})
}

func TestRollback(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.publish(version(2), 1)
		w.offered(w.offer(version(2)))
		w.refused(t, release.Rollback)
		if len(w.asked) != 0 {
			t.Errorf("asked for %q", w.asked)
		}
	})
}

func TestWrongProduct(t *testing.T) {
	for name, change := range map[string]func(w *world) string{
		"product": func(w *world) string { return strings.Replace(w.offer(version(4)), "pump", "valve", 1) },
		"hardware": func(w *world) string {
			r := w.releases[version(4)]
			r.Hardware = []string{"rev-z"}
			w.releases[version(4)] = r
			return w.offer(version(4))
		},
		"metadata of another product": func(w *world) string {
			r := w.releases[version(4)]
			r.Product = "valve"
			w.releases[version(4)] = r
			return w.offer(version(4))
		},
	} {
		t.Run(name, func(t *testing.T) {
			do(t, func(t *testing.T, w *world, d *device) {
				w.offered(change(w))
				want := release.WrongProduct
				if name == "metadata of another product" {
					want = release.MixAndMatch
				}
				w.refused(t, want)
				if len(w.asked) != 0 {
					t.Errorf("asked for %q", w.asked)
				}
			})
		})
	}
}

func TestWithdrawnRelease(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		r := w.releases[version(4)]
		r.Withdrawn = "it leaks"
		w.releases[version(4)] = r
		w.offered(w.offer(version(4)))
		w.refused(t, release.WithdrawnRelease)
	})
}

func TestRequirement(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		r := w.releases[version(4)]
		r.Requires = []release.Requirement{{Product: "pump", Version: version(35)}}
		w.releases[version(4)] = r
		w.offered(w.offer(version(4)))
		w.refused(t, "")
		if !strings.Contains(w.last().Reason, "1.35.0") {
			t.Errorf("%+v", w.last())
		}
	})
}

func TestCheckThatTheDeviceCannotMake(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		r := w.releases[version(4)]
		r.Health.Checks = append(r.Health.Checks, release.CheckWatchdog)
		w.releases[version(4)] = r
		w.offered(w.offer(version(4)))
		w.refused(t, "")
	})
}

// TestReplayedRollout: an offer whose attempt was decided comes to what it
// came to before, and to nothing else.
func TestReplayedRollout(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		w.offered(w.offer(version(4)))
		d = w.boot(d, "requested")
		w.pass(time.Minute)
		w.publish(version(5), 3)
		w.offered(strings.Replace(w.offer(version(5)), "r1", "r2", 1))
		d = w.boot(d, "requested")
		w.pass(time.Minute)
		if w.runs() != version(5) || w.minimum != 3 {
			t.Fatalf("runs %s, minimum %d", w.runs(), w.minimum)
		}
		n, resets := len(w.asked), len(w.resets)
		w.offered(w.offer(version(4)))
		w.boot(d, "power-on")
		w.offered(w.offer(version(4)))
		if p := w.last(); p.Attack != release.UnwantedUpdate || !p.Final {
			t.Errorf("%+v", p)
		}
		if w.runs() != version(5) || len(w.asked) != n || len(w.resets) != resets {
			t.Errorf("runs %s, asked for %q", w.runs(), w.asked[n:])
		}
		w.offered(strings.Replace(w.offer(version(4)), "r1", "r3", 1))
		if p := w.last(); p.Attack != release.Rollback || !p.Final || w.runs() != version(5) {
			t.Errorf("another rollout of the older release: %+v", p)
		}
	})
}

func TestOfferRefusals(t *testing.T) {
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "pump", "not an object": `["pump"]`, "two objects": `{}{}`,
		"a name twice":    `{"product":"pump","product":"pump","version":"1.4.0"}`,
		"deep":            `{"product":"pump","version":"1.4.0","x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`,
		"too long":        `{"rollout":"` + strings.Repeat("x", 20<<10) + `"}`,
		"no product":      `{"product":"../etc","version":"1.4.0"}`,
		"a TUF role":      `{"product":"root","version":"1.4.0"}`,
		"no version":      `{"product":"pump"}`,
		"a bad version":   `{"product":"pump","version":"1.4"}`,
		"zero version":    `{"product":"pump","version":"0.0.0"}`,
		"attempt":         `{"product":"pump","version":"1.4.0","attempt":-1}`,
		"a bad window":    `{"product":"pump","version":"1.4.0","windows":[{"from":"25:00","to":"1:00"}]}`,
		"many windows":    `{"product":"pump","version":"1.4.0","windows":[` + strings.Repeat(`{"from":"01:00","to":"02:00"},`, 40) + `{"from":"01:00","to":"02:00"}]}`,
		"rollout's name":  `{"product":"pump","version":"1.4.0","rollout":"a\nb"}`,
		"long rollout":    `{"product":"pump","version":"1.4.0","rollout":"` + strings.Repeat("x", 65) + `"}`,
		"a bad deadline":  `{"product":"pump","version":"1.4.0","deadline":"tomorrow"}`,
		"bytes, not text": "{\"product\":\"pump\",\"version\":\"1.4.0\",\"x\":\"\xff\"}",
	} {
		t.Run(name, func(t *testing.T) {
			if o, err := updater.ParseOffer([]byte(body)); release.AttackOf(err) != release.MalformedMetadata {
				t.Errorf("took %q as %+v, %v", body, o, err)
			}
		})
	}
}

// TestMaliciousHub: whatever a hub offers, the device at most reports.
func TestMaliciousHub(t *testing.T) {
	do(t, func(t *testing.T, w *world, d *device) {
		for _, body := range []string{"", "\x00", `{"product":"pump","version":"1.4.0","unpaused":"yes"}`, strings.Repeat("{", 60000), w.offer(version(9)),
			strings.Replace(w.offer(version(6)), "pump", "valve", 1), `{"product":"pump","version":"255.255.65535+4294967295","unpaused":true}`} {
			w.offered(body)
		}
		if len(w.resets) != 0 || len(w.slots[update.B]) != 0 || w.record.Trial != nil || len(w.asked) != 0 {
			t.Errorf("resets %v, asked for %q", w.resets, w.asked)
		}
		if len(w.told()) < 4 {
			t.Errorf("told %+v", w.told())
		}
		w.offered(w.offer(version(4))) // and a good offer is followed all the same
		if len(w.resets) != 1 {
			t.Errorf("resets %v, %+v", w.resets, w.last())
		}
	})
}

// FuzzParseOffer reads whatever a hub may send.
func FuzzParseOffer(f *testing.F) {
	f.Add([]byte(`{"rollout":"r1","product":"pump","version":"1.4.0","deadline":"2026-11-22T00:00:00Z","windows":[{"from":"22:00","to":"04:00"}],"attempt":1,"unpaused":true}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := updater.ParseOffer(body)
		if err != nil && release.AttackOf(err) != release.MalformedMetadata {
			t.Errorf("%v names no attack", err)
		}
		if err == nil && o.Product != "" {
			if _, err := release.ParseProduct(string(o.Product)); err != nil {
				t.Error(err)
			}
		}
	})
}
