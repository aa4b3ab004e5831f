// Package mqtt is the codec of MQTT 3.1.1 (OASIS standard, 29 October 2014)
// and MQTT 5.0 (OASIS standard, 7 March 2019) for both ends of a connection. It has no I/O: bytes that arrived are fed to
// a Decoder, which yields packets; packets append themselves to a buffer.
//
// It is strict. What the standard forbids is refused with an *Error that names
// the rule, on the way in and on the way out, and a Decoder never holds more
// than what arrived of one packet within its limit. Of quality of service 2
// only the PUBLISH packet is known, so that a server can refuse it.
//
// A Decoder knows the version that its connection speaks, which CONNECT says;
// who encodes says it to AppendTo. Properties of MQTT 5 are a list in the order
// of the wire, checked against one table.
package mqtt
