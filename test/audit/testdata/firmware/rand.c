/* What a C library would have, in an object of its own. */
#include "firmware.h"

static UINT state = 1;

__attribute__((noinline)) void srand(UINT seed) { state = seed; }

__attribute__((noinline)) int rand(void)
{
	state = state * 1103515245u + 12345u;
	return (int)(state >> 16 & 0x7fff);
}
