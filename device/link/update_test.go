package link_test

import (
	"encoding/json"
	"net"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"holdfast/device/link"
	"holdfast/fault"
	"holdfast/iothub"
	"holdfast/mcuboot"
	"holdfast/mqtt"
	"holdfast/release"
)

func TestOffersArriveAsTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, err := connect(t, obliging)
		if err != nil {
			t.Fatal(err)
		}
		for version, body := range []string{"{}", "no JSON", ""} {
			b.send(&mqtt.Publish{Topic: iothub.UpdateOffer{Version: uint64(version)}.String(), Payload: []byte(body)})
			synctest.Wait()
			if got := <-s.Offers(); string(got) != body {
				t.Errorf("offer %q, want %q", got, body)
			}
		}
		b.send(&mqtt.Publish{Topic: iothub.UpdateOffer{Version: 1}.String(), Payload: []byte("1")},
			&mqtt.Publish{Topic: iothub.UpdateOffer{Version: 2}.String(), Payload: []byte("2")})
		synctest.Wait()
		if got := <-s.Offers(); string(got) != "2" {
			t.Errorf("offer %q, want the newest", got)
		}
	})
}

func TestProgressIsAnsweredByItsRequest(t *testing.T) {
	sent := release.Progress{Product: "pump", Version: mcuboot.Version{Major: 1}, State: release.Downloading, Bytes: 7}
	for status, kind := range map[int]fault.Kind{204: "", 200: "", 503: fault.Unavailable} {
		synctest.Test(t, func(t *testing.T) {
			var got release.Progress
			s, _, err := connect(t, func(b *broker, p mqtt.Packet) {
				pub, ok := p.(*mqtt.Publish)
				if !ok {
					obliging(b, p)
					return
				}
				topic, err := iothub.ParseTopic(pub.Topic)
				if err != nil {
					t.Error(err)
					return
				}
				if err := json.Unmarshal(pub.Payload, &got); err != nil {
					t.Error(err)
				}
				answer := topic.(iothub.UpdateProgress).Result(status).String()
				b.send(&mqtt.Publish{Topic: answer, Payload: []byte(`{"error":{"kind":"unavailable","message":"disk full"}}`)})
			})
			if err != nil {
				t.Fatal(err)
			}
			err = s.Progress(t.Context(), sent)
			if (err == nil) != (kind == "") || err != nil && fault.Of(err) != kind {
				t.Errorf("%d: %v", status, err)
			}
			if diff := cmp.Diff(sent, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHubThatDoesNotSpeakOfUpdatesIsWorkedWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, err := connect(t, func(b *broker, p mqtt.Packet) {
			if p.Type() == mqtt.SUBSCRIBE {
				b.send(&mqtt.Suback{ID: 1, Codes: []byte{0, 0, mqtt.SubackFailure}})
				return
			}
			obliging(b, p)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Progress(t.Context(), release.Progress{}); fault.Of(err) != fault.Unavailable {
			t.Errorf("progress: %v", err)
		}
		if n := len(b.packets(mqtt.PUBLISH)); n != 0 || s.Err() != nil {
			t.Errorf("%d messages, %v", n, s.Err())
		}
	})
}

// TestDeviceWithoutUpdatesDoesNotAskForThem: that is how the hub knows.
func TestDeviceWithoutUpdatesDoesNotAskForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		b := &broker{conn: far, answer: obliging}
		go b.run()
		s, err := link.Open(t.Context(), plain{near}, link.Config{Device: "pump-01"})
		if err != nil {
			t.Fatal(err)
		}
		if f := b.packets(mqtt.SUBSCRIBE)[0].(*mqtt.Subscribe).Filters; len(f) != 2 {
			t.Errorf("filters %v", f)
		}
		_ = s.Close()
		_ = far.Close()
	})
}
