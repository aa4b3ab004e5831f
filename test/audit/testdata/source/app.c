/* A source that is right in everything that the rules look at. */
#include <stddef.h>
#include <stdint.h>
#include "library.h"

struct packet {
	unsigned char data[64];
	int handler;
};

static const char *broker = "mqtts://broker.plant.local:8883";
static char wifi_password[64];

void nonce(unsigned *to) { *to = trng_read(); }

void seed(void) { drbg_seed(trng_read()); }

void name(char *to, const char *from) { snprintf(to, 16, "%s", from); }

void read_name(const char *from, char *to) { sscanf(from, "%15s", to); }

void block(void)
{
	static char p[64];
	use(p);
}

void grow(int n)
{
	static char q[64];
	use(q + n);
}

void large(void)
{
	static char text[1024];
	use(text);
}

void receive(void)
{
	static unsigned char packet[128];
	read_from(packet);
}

void encrypt(char *p, int n) { mbedtls_gcm_crypt_and_tag(p, n); }

void configure(void *conf) { mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_REQUIRED); }

void join(struct packet *p)
{
	settings_read(wifi_password);
	connect_to(broker, p->handler);
}
