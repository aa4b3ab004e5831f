/* What a C library would have, under its names. */
#include "firmware.h"

static UCHAR heap[1024];
static UINT used;

__attribute__((noinline)) char *strcpy(char *to, const char *from)
{
	char *at = to;
	while ((*at++ = *from++))
		;
	return to;
}

__attribute__((noinline)) void *malloc(size_t size)
{
	void *p = &heap[used];
	used += size;
	return used <= sizeof heap ? p : 0;
}

__attribute__((noinline)) void *memset(void *to, int c, size_t n)
{
	volatile UCHAR *at = to;
	while (n--)
		*at++ = (UCHAR)c;
	return to;
}

__attribute__((noinline)) void *memcpy(void *to, const void *from, size_t n)
{
	volatile UCHAR *at = to;
	const UCHAR *in = from;
	while (n--)
		*at++ = *in++;
	return to;
}
