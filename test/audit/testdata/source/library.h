/* What the source calls. */
#ifndef LIBRARY_H
#define LIBRARY_H

enum { MBEDTLS_SSL_VERIFY_NONE, MBEDTLS_SSL_VERIFY_OPTIONAL, MBEDTLS_SSL_VERIFY_REQUIRED };
unsigned trng_read(void);
void drbg_seed(unsigned seed);
void use(void *p);
void read_from(void *p);
void mbedtls_gcm_crypt_and_tag(char *p, int n);
void mbedtls_ssl_conf_authmode(void *conf, int mode);
void settings_read(char *to);
void connect_to(const char *peer, int handler);
int snprintf(char *to, size_t n, const char *format, ...);
int sscanf(const char *from, const char *format, ...);
char *strcpy(char *to, const char *from);
void *malloc(size_t n);
int rand(void);
unsigned tx_time_get(void);

#endif
