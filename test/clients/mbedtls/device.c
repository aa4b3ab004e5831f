/*
 * A device as firmware on FreeRTOS and Zephyr makes one: Mbed TLS as it is,
 * MQTT 3.1.1 by hand. It connects to a hub with its certificate under the user
 * name that Azure's SDK for C gives, publishes one message with quality of
 * service 1, waits for its acknowledgement and prints what was negotiated.
 *
 *   device HOST PORT ID ROOT.pem CERT.pem KEY.pem MESSAGE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>

static void fail(const char *what, int code) {
	char text[200] = "";
	mbedtls_strerror(code, text, sizeof text);
	fprintf(stderr, "%s: -0x%04x %s\n", what, (unsigned)-code, text);
	exit(1);
}

static void check(const char *what, int code) {
	if (code != 0) fail(what, code);
}

/* The packet that is being made, without its type and length. */
static unsigned char packet[2048];
static size_t length;

static void byte(unsigned b) {
	if (length == sizeof packet) fail("packet is too long", 0);
	packet[length++] = (unsigned char)b;
}

static void text(const char *s) {
	size_t n = strlen(s);
	byte(n >> 8);
	byte(n & 0xff);
	while (n-- > 0) byte((unsigned char)*s++);
}

static void put(mbedtls_ssl_context *ssl, const unsigned char *b, size_t n) {
	while (n > 0) {
		int done = mbedtls_ssl_write(ssl, b, n);
		if (done <= 0) fail("write", done);
		b += done;
		n -= (size_t)done;
	}
}

/* finish sends the packet that was made, behind its type and length. */
static void finish(mbedtls_ssl_context *ssl, unsigned char type) {
	unsigned char head[3] = {type, (unsigned char)length, 0};
	if (length >= 128) {
		head[1] = (unsigned char)(length % 128 | 0x80);
		head[2] = (unsigned char)(length / 128);
	}
	put(ssl, head, length < 128 ? 2 : 3);
	put(ssl, packet, length);
	length = 0;
}

/* expect reads four bytes, as CONNACK and PUBACK have. */
static void expect(mbedtls_ssl_context *ssl, const char *what, const unsigned char want[4]) {
	unsigned char got[4];
	size_t at = 0;
	while (at < sizeof got) {
		int n = mbedtls_ssl_read(ssl, got + at, sizeof got - at);
		if (n <= 0) fail(what, n);
		at += (size_t)n;
	}
	if (memcmp(got, want, sizeof got) != 0) {
		fprintf(stderr, "%s: got %02x %02x %02x %02x\n", what, got[0], got[1], got[2], got[3]);
		exit(1);
	}
}

int main(int argc, char **argv) {
	mbedtls_net_context net;
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config conf;
	mbedtls_entropy_context entropy;
	mbedtls_ctr_drbg_context drbg;
	mbedtls_x509_crt root, cert;
	mbedtls_pk_context key;
	char name[512];

	if (argc != 8) {
		fprintf(stderr, "usage: device HOST PORT ID ROOT.pem CERT.pem KEY.pem MESSAGE\n");
		return 2;
	}
	const char *host = argv[1], *id = argv[3];
	mbedtls_net_init(&net);
	mbedtls_ssl_init(&ssl);
	mbedtls_ssl_config_init(&conf);
	mbedtls_entropy_init(&entropy);
	mbedtls_ctr_drbg_init(&drbg);
	mbedtls_x509_crt_init(&root);
	mbedtls_x509_crt_init(&cert);
	mbedtls_pk_init(&key);

	check("seed", mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0));
	check("root", mbedtls_x509_crt_parse_file(&root, argv[4]));
	check("certificate", mbedtls_x509_crt_parse_file(&cert, argv[5]));
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	check("key", mbedtls_pk_parse_keyfile(&key, argv[6], NULL, mbedtls_ctr_drbg_random, &drbg));
#else
	check("key", mbedtls_pk_parse_keyfile(&key, argv[6], NULL));
#endif
	check("config", mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT));
	mbedtls_ssl_conf_authmode(&conf, MBEDTLS_SSL_VERIFY_REQUIRED);
	mbedtls_ssl_conf_ca_chain(&conf, &root, NULL);
	mbedtls_ssl_conf_rng(&conf, mbedtls_ctr_drbg_random, &drbg);
	check("own certificate", mbedtls_ssl_conf_own_cert(&conf, &cert, &key));
	check("setup", mbedtls_ssl_setup(&ssl, &conf));
	check("host name", mbedtls_ssl_set_hostname(&ssl, host));
	check("connect", mbedtls_net_connect(&net, host, argv[2], MBEDTLS_NET_PROTO_TCP));
	mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
	check("handshake", mbedtls_ssl_handshake(&ssl));

	snprintf(name, sizeof name, "%s/%s/?api-version=2020-09-30&DeviceClientType=azsdk-c%%2F1.3.2", host, id);
	text("MQTT");
	byte(4);    /* MQTT 3.1.1 */
	byte(0x80); /* a user name, no password, the session is kept */
	byte(0);
	byte(240);
	text(id);
	text(name);
	finish(&ssl, 0x10);
	expect(&ssl, "CONNACK", (const unsigned char[4]){0x20, 2, 0, 0});

	snprintf(name, sizeof name, "devices/%s/messages/events/", id);
	text(name);
	byte(0);
	byte(1);
	for (const char *c = argv[7]; *c; c++) byte((unsigned char)*c);
	finish(&ssl, 0x32);
	expect(&ssl, "PUBACK", (const unsigned char[4]){0x40, 2, 0, 1});

	printf("%s %s %s\n", MBEDTLS_VERSION_STRING_FULL, mbedtls_ssl_get_version(&ssl), mbedtls_ssl_get_ciphersuite(&ssl));
	mbedtls_ssl_close_notify(&ssl);
	return 0;
}
