/* A program for an operating system. It is right in everything that the rules
   look at; each of the macros makes one thing of it wrong. */
#include <stdio.h>
#include <string.h>

const char version[] = "pump 1.4.2";
volatile int sink;

__attribute__((noinline)) static void parse(const char *from, int n)
{
	char text[64];
	snprintf(text, sizeof text, "%s %d %s", from, n, version);
	for (int i = 0; text[i]; i++)
		sink += text[i];
}

#ifdef CALL_STRCPY
char *volatile room;
__attribute__((noinline)) static void copy(const char *from) { strcpy(room, from); }
#endif

#ifdef UNGUARDED
__attribute__((noinline, optimize("no-stack-protector"))) static int unguarded(int n)
{
	volatile char text[32];
	for (int i = 0; i < n; i++)
		text[i] = (char)n;
	return text[1];
}
#endif

/* An address that the loader puts in: beside the code when TEXT is set. */
#ifdef TEXT
__asm__(".pushsection .text.table,\"ax\"\n.quad version\n.popsection");
#else
__asm__(".pushsection .data.table,\"aw\"\n.quad version\n.popsection");
#endif

int main(int argc, char **argv)
{
	parse(argv[0], argc);
#ifdef CALL_STRCPY
	copy(argv[0]);
#endif
#ifdef UNGUARDED
	sink += unguarded(argc);
#endif
	return sink;
}
