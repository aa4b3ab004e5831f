/* The application. It is right in everything that the rules look at; each of
   the macros makes one thing of it wrong. */
#include "firmware.h"

const char version[] = "pump 1.4.2";
volatile UINT sink;

void use(volatile void *p, UINT n) { sink += *(volatile UCHAR *)p + n; }

/* Numbers. */
__attribute__((noinline)) static UINT nonce(void)
{
#if defined(CALL_RAND)
	return (UINT)rand();
#elif defined(CALL_SRAND)
	srand(trng_read());
	return trng_read();
#else
	return trng_read();
#endif
}

/* Buffers. */
__attribute__((noinline)) static void name(const char *from, UINT n)
{
	static char room[32];
#ifdef CALL_STRCPY
	strcpy(room, from);
#else
	memcpy(room, from, n < sizeof room ? n : sizeof room);
#endif
	use(room, n);
}

__attribute__((noinline)) static void block(UINT n)
{
#ifdef CALL_MALLOC
	UCHAR *p = malloc(64);
#else
	static UCHAR p[64];
#endif
	use(p, n);
}

#ifdef UNGUARDED
__attribute__((noinline, optimize("no-stack-protector"))) static void parse(UINT n)
#else
__attribute__((noinline)) static void parse(UINT n)
#endif
{
	UCHAR text[24];
	for (UINT i = 0; i < n && i < sizeof text; i++)
		text[i] = (UCHAR)sink;
	use(text, n);
}

__attribute__((noinline)) static void answer(UINT n)
{
	UCHAR text[40];
	for (UINT i = 0; i < n && i < sizeof text; i++)
		text[i] = (UCHAR)(sink + i);
	use(text, n);
}

__attribute__((noinline)) static void large(UINT n)
{
#ifdef LARGE_LOCAL
	UCHAR table[900];
#else
	static UCHAR table[900];
#endif
	for (UINT i = 0; i < n && i < sizeof table; i++)
		table[i] = (UCHAR)sink;
	use(table, n);
}

__attribute__((noinline)) static void receive(UINT n)
{
#ifdef PACKET_LOCAL
	NX_PACKET packet;
#else
	static NX_PACKET packet;
#endif
	packet.length = n;
	packet.next = 0;
	use(&packet, n);
}

__attribute__((noinline)) static void grow(UINT n)
{
#ifdef VARIABLE_ARRAY
	UCHAR *text = __builtin_alloca(n);
#else
	static UCHAR text[64];
#endif
	for (UINT i = 0; i < n && i < 64; i++)
		text[i] = (UCHAR)sink;
	use(text, n);
}

__attribute__((noinline)) static UINT depth(UINT n)
{
#ifdef CALL_ITSELF
	UINT sum = n ? depth(n - 1) * 3 + sink : 0;
#else
	UINT sum = 0;
	while (n--)
		sum = sum * 3 + sink;
#endif
	sink = sum;
	return sum;
}

struct packet {
	UCHAR data[64];
#ifdef POINTER_IN_PACKET
	void (*handler)(void);
#else
	UINT handler;
#endif
};

__attribute__((noinline)) static void handle(struct packet *p)
{
	use(p->data, (UINT)p->handler);
}

/* Memory. */
#ifdef SECTION_OF_BOTH
__attribute__((noinline, section(".hook,\"awx\",%progbits @"))) static void hook(void) { sink += 3; }
#else
__attribute__((noinline, section(".hook,\"ax\",%progbits @"))) static void hook(void) { sink += 3; }
#endif
#ifdef CODE_IN_RAM
__attribute__((noinline, long_call, section(".ramfunc"))) static void erase(void) { sink += 5; }
#else
__attribute__((noinline)) static void erase(void) { sink += 5; }
#endif

/* Debugging. */
static void print(const char *text)
{
	while (*text)
		uart_put(*text++);
}

__attribute__((noinline)) void ITM_SendChar(UINT c) { REG(0xe0000000) = c; }
__attribute__((noinline)) void gdb_stub_init(void) { sink += 7; }
__attribute__((noinline)) void UnityBegin(const char *file) { use((void *)file, 1); }
__attribute__((noinline)) void shell_init(void) { sink += 9; }

__attribute__((noinline)) static void debug(void)
{
#ifdef SEMIHOSTING
	__asm volatile("bkpt 0xab");
#endif
#ifdef TRACE
	ITM_SendChar('x');
#endif
#ifdef GDB_STUB
	gdb_stub_init();
#endif
#ifdef TEST_CODE
	UnityBegin("app.c");
#endif
#ifdef SHELL
	shell_init();
#endif
#ifdef DEBUG_MESSAGES
	print("[DEBUG] state of the pump");
#else
	print("state of the pump");
#endif
#ifdef PRINT_SECRET
	print("psk: %s");
#else
	print("peer: %s");
#endif
}

/* What the build puts here: keys, certificates, suites of the TLS library. */
#ifdef EMBED
#include EMBED
#endif

static void overflow(void) { REG(0xe000ed0c) = 0x05fa0004; }

static void monitor(void)
{
#ifndef FEED_FROM_INTERRUPT
	IWDG_Refresh();
#endif
}

static void work(void)
{
	static struct packet p;
	UINT n = nonce() & 15;
	name("pump", n);
	block(n);
	parse(n);
	answer(n);
	large(n);
	receive(n);
	grow(n);
	depth(n);
	handle(&p);
	hook();
	erase();
	debug();
#ifdef EMBED
	use((void *)embedded, sizeof embedded);
#endif
#ifdef LINK_MORE
	LINK_MORE
#endif
}

static UCHAR stacks[2][1024], modules[256];

int main(void)
{
	use((void *)version, 0);
#ifndef WITHOUT_MODULES
	_txm_module_manager_initialize(modules, sizeof modules);
#else
	use(modules, 1);
#endif
	_tx_thread_stack_error_notify(overflow);
	_tx_thread_create(monitor, stacks[0], sizeof stacks[0]);
	_tx_thread_create(work, stacks[1], sizeof stacks[1]);
	_tx_initialize_kernel_enter();
	return 0;
}
