// Package bench measures the running hub beside servers that others wrote, in
// one run on one machine: mosquitto, which keeps nothing; NATS, which syncs each
// message as the hub does; and a bare crypto/tls server that only acknowledges,
// which is the limit of what the language's TLS allows. The load comes from the
// benchmark's own process, so it shares the processors with all four alike.
package bench
