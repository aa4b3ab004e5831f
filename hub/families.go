package hub

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"holdfast/hub/metrics"
	"holdfast/hub/monitor"
	"holdfast/internal/tally"
	"holdfast/measure"
	"holdfast/pki"
)

func verdictMeasures() []measure.ID { return measure.IDs() }

// Metrics returns the families of metrics that a hub shows, without their
// numbers: for the documents and what is checked against them.
func Metrics() []metrics.Family {
	return append((&hub{}).families(""), metrics.Build())
}

type (
	numbers = func(emit func(n float64, labels ...string))
	sizes   = func(emit func(s tally.Snapshot, labels ...string))
)

// families is the one table of what is shown to Prometheus. Its functions are
// called at a scrape; what has its price is looked at once a minute (vitals).
func (h *hub) families(dir string) []metrics.Family {
	all := h.trafficFamilies()
	all = append(all, h.storeFamilies(dir)...)
	all = append(all, h.fleetFamilies()...)
	all = append(all, h.rolloutFamilies()...)
	all = append(all, h.releaseFamilies()...)
	return append(all, h.operatorFamilies()...)
}

func counter(name, help string, of numbers, labels ...string) metrics.Family {
	return metrics.Family{Name: name, Help: help, Kind: metrics.Counter, Labels: labels, Numbers: of}
}

func gauge(name, help string, of numbers, labels ...string) metrics.Family {
	return metrics.Family{Name: name, Help: help, Kind: metrics.Gauge, Labels: labels, Numbers: of}
}

func histogram(name, help string, of sizes, labels ...string) metrics.Family {
	return metrics.Family{Name: name, Help: help, Kind: metrics.Histogram, Labels: labels, Sizes: of}
}

// one emits a single number.
func one(n func() float64) numbers { return func(emit func(float64, ...string)) { emit(n()) } }

// whole emits a histogram without labels.
func whole(of func() *tally.Histogram) sizes {
	return func(emit func(tally.Snapshot, ...string)) { emit(of().Snapshot()) }
}

// seen emits what was seen of the vitals, nothing before the first look.
func (h *hub) seen(of func(v *vitals, emit func(float64, ...string))) numbers {
	return func(emit func(float64, ...string)) {
		if v := h.shown.vitals.Load(); v != nil {
			of(v, emit)
		}
	}
}

// trafficFamilies are of connections and messages.
func (h *hub) trafficFamilies() []metrics.Family {
	return []metrics.Family{
		counter("connections_total", "MQTT connections by what became of them: a session, or why not.",
			func(emit func(float64, ...string)) { h.gateway.Stats().Connections.Each(emit) }, "result"),
		gauge("connections_pending", "MQTT connections on their way to a session.",
			one(func() float64 { return float64(h.gateway.Pending()) })),
		histogram("handshake_seconds", "How long a TLS handshake takes that ends well, the wait for a slot included.",
			whole(func() *tally.Histogram { return h.gateway.Stats().Handshakes })),
		gauge("sessions", "MQTT sessions that are open, by mode.",
			func(emit func(float64, ...string)) { h.gateway.Stats().Sessions.Each(emit) }, "mode"),
		counter("sessions_ended_total", "MQTT sessions that ended, by cause.",
			func(emit func(float64, ...string)) { h.gateway.Stats().Ended.Each(emit) }, "cause"),
		counter("messages_received_total", "Messages that devices sent, by kind and whether they were taken.",
			func(emit func(float64, ...string)) { h.gateway.Stats().Messages.Each(emit) }, "kind", "outcome"),
		histogram("acknowledgement_seconds", "From the receipt of a telemetry message until it is on disk and may be acknowledged.",
			whole(func() *tally.Histogram { return h.gateway.Stats().Acknowledged })),
		counter("refusals_total", "Refusals of devices and operators, by kind.",
			func(emit func(float64, ...string)) { h.shown.refusals.Each(emit) }, "kind"),
	}
}

// storeFamilies are of what is kept: stream, database, disk, ledger.
func (h *hub) storeFamilies(dir string) []metrics.Family {
	return []metrics.Family{
		counter("stream_messages_total", "Messages and events by kind and outcome in the stream.",
			func(emit func(float64, ...string)) { h.stream.Stats().Messages.Each(emit) }, "kind", "outcome"),
		histogram("stream_commit_seconds", "How long a group of messages takes to be on disk.",
			whole(func() *tally.Histogram { return h.stream.Stats().Commits })),
		histogram("stream_commit_messages", "How many messages share one commit.",
			whole(func() *tally.Histogram { return h.stream.Stats().Batch })),
		counter("stream_commit_failures_total", "Commits of the stream that failed.",
			func(emit func(float64, ...string)) { h.stream.Stats().Failed.Each(emit) }),
		gauge("stream_queue_bytes", "Messages that wait for the disk.",
			one(func() float64 { n, _ := h.stream.Waiting(); return float64(n) })),
		gauge("stream_refusing", "1 while the stream takes no messages.",
			one(func() float64 { _, refusing := h.stream.Waiting(); return truth(refusing) })),
		gauge("stream_stored_bytes", "What the stream has stored.",
			h.seen(func(v *vitals, emit func(float64, ...string)) { emit(float64(v.stream.Bytes)) })),
		gauge("stream_oldest_timestamp_seconds", "When the oldest message was stored that is kept.",
			h.seen(func(v *vitals, emit func(float64, ...string)) {
				if !v.stream.Oldest.IsZero() && v.stream.Groups > 0 {
					emit(seconds(v.stream.Oldest))
				}
			})),
		gauge("stream_ledger_lag_records", "Records of the ledger that the stream does not have yet.",
			h.seen(func(v *vitals, emit func(float64, ...string)) { emit(float64(v.ledger - min(v.fed, v.ledger))) })),
		gauge("monitor_ledger_lag_records", "Records of the ledger that alerts do not follow from yet.",
			h.seen(func(v *vitals, emit func(float64, ...string)) {
				emit(float64(v.ledger - min(h.shown.monitor.Place(), v.ledger)))
			})),
		gauge("ledger_records", "Records in the ledger.",
			h.seen(func(v *vitals, emit func(float64, ...string)) { emit(float64(v.ledger)) })),
		counter("ledger_records_total", "Records of the ledger that were looked at since the hub began, by kind.",
			func(emit func(float64, ...string)) {
				h.shown.monitor.Records(func(n float64, kind string) { emit(n, kind) })
			}, "kind"),
		gauge("store_bytes", "Size of the database and of what is not yet in it, by file.",
			func(emit func(float64, ...string)) { storeSizes(dir, emit) }, "file"),
		gauge("disk_free_bytes", "What is free on the disk with the hub's state.",
			func(emit func(float64, ...string)) {
				if free, _, err := diskOf(dir); err == nil {
					emit(float64(free))
				}
			}),
		gauge("disk_size_bytes", "Size of the disk with the hub's state.",
			func(emit func(float64, ...string)) {
				if _, size, err := diskOf(dir); err == nil {
					emit(float64(size))
				}
			}),
	}
}

// fleetFamilies are of devices, their posture and their certificates.
func (h *hub) fleetFamilies() []metrics.Family {
	return []metrics.Family{
		gauge("devices", "Devices by status.",
			h.seen(func(v *vitals, emit func(float64, ...string)) {
				for _, s := range monitor.Statuses() {
					emit(float64(v.statuses[s]), string(s))
				}
			}), "status"),
		gauge("verdicts", "Devices by measure and verdict.", h.seen(eachVerdict), "measure", "verdict"),
		gauge("alerts_open", "Alerts that are neither cleared nor acknowledged, by kind and severity.",
			h.seen(func(v *vitals, emit func(float64, ...string)) {
				for _, c := range v.alerts {
					emit(float64(c.Alerts), c.Kind, c.Severity)
				}
			}), "kind", "severity"),
		counter("certificates_issued_total", "Certificates that were issued, by class.",
			func(emit func(float64, ...string)) { h.shown.issued.Each(emit) }, "class"),
		counter("certificates_refused_total", "Requests of devices for a certificate that were refused, by the kind of reason.",
			func(emit func(float64, ...string)) { h.shown.uncertified.Each(emit) }, "reason"),
		gauge("crl_signed_timestamp_seconds", "When the revocation list of a class was signed.",
			func(emit func(float64, ...string)) {
				for _, l := range h.issuer.Lists() {
					emit(seconds(l.Signed), string(l.Class))
				}
			}, "class"),
		gauge("crl_next_update_timestamp_seconds", "Until when the revocation list of a class is good.",
			func(emit func(float64, ...string)) {
				for _, l := range h.issuer.Lists() {
					emit(seconds(l.Next), string(l.Class))
				}
			}, "class"),
		gauge("hub_certificate_expiry_timestamp_seconds", "When the hub's own certificate ends.",
			func(emit func(float64, ...string)) {
				if c, err := h.serving.Certificate(); err == nil {
					emit(seconds(c.Leaf.NotAfter))
				}
			}),
		gauge("authority_expiry_timestamp_seconds", "When the certificate of an authority ends.",
			func(emit func(float64, ...string)) {
				for _, class := range pki.Classes() {
					if c := h.issuer.Authority(class); c != nil {
						emit(seconds(c.NotAfter), string(class))
					}
				}
			}, "class"),
	}
}

// operatorFamilies are of who asks the hub.
func (h *hub) operatorFamilies() []metrics.Family {
	return []metrics.Family{
		counter("api_requests_total", "Requests to the operator API, by operation and status.",
			func(emit func(float64, ...string)) {
				h.shown.answered.Each(func(n *atomic.Uint64, labels [3]string) { emit(float64(n.Load()), labels[0], labels[1]) })
			}, "operation", "status"),
		histogram("api_request_seconds", "How long requests to the operator API take, by operation.",
			func(emit func(tally.Snapshot, ...string)) {
				h.shown.asked.Each(func(t *tally.Histogram, labels [3]string) { emit(t.Snapshot(), labels[0]) })
			}, "operation"),
		counter("logins_total", "Logins of operators in a browser, by how they came out.",
			func(emit func(float64, ...string)) {
				ok := 0.0
				h.shown.monitor.Records(func(n float64, kind string) {
					if kind == "login.ok" {
						ok = n
					}
				})
				emit(ok, "ok")
				emit(float64(h.shown.refusals.Sum(0, "login.refused")), "refused")
			}, "outcome"),
		gauge("ready", "1 while the hub is ready to serve (as /readyz says).",
			one(func() float64 { return truth(h.shown.health.Report(false).OK) })),
		gauge("start_timestamp_seconds", "When this hub was started.",
			one(func() float64 { return seconds(h.shown.began) })),
	}
}

// eachVerdict emits the verdicts of each measure. Who has neither failed nor
// passed is unknown.
func eachVerdict(v *vitals, emit func(float64, ...string)) {
	counts := map[measure.ID]map[measure.Verdict]int{}
	for _, c := range v.verdicts {
		if counts[c.Measure] == nil {
			counts[c.Measure] = map[measure.Verdict]int{}
		}
		counts[c.Measure][c.Verdict] = c.Devices
	}
	for _, id := range verdictMeasures() {
		pass, fail := counts[id][measure.Pass], counts[id][measure.Fail]
		emit(float64(pass), string(id), string(measure.Pass))
		emit(float64(fail), string(id), string(measure.Fail))
		emit(float64(max(v.devices-pass-fail, 0)), string(id), string(measure.Unknown))
	}
}

// storeSizes emits the sizes of the database's files.
func storeSizes(dir string, emit func(float64, ...string)) {
	for _, f := range []struct{ name, label string }{{databaseName, "database"}, {databaseName + "-wal", "log"}} {
		if info, err := os.Stat(filepath.Join(dir, f.name)); err == nil {
			emit(float64(info.Size()), f.label)
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
