/* As much of a kernel as the rules know it by. */
#include "firmware.h"

static void (*threads[4])(void);
static UCHAR *stacks[4];
static UINT count;
static void (*on_error)(void);

__attribute__((noinline)) void _tx_thread_stack_analyze(UCHAR *stack)
{
	if (*(UINT *)stack != 0xefefefefu && on_error)
		on_error();
}

__attribute__((noinline)) void _tx_thread_stack_error_notify(void (*handler)(void)) { on_error = handler; }

__attribute__((noinline)) void _tx_thread_create(void (*entry)(void), UCHAR *stack, UINT size)
{
	memset(stack, 0xef, size);
	stacks[count] = stack;
	threads[count++] = entry;
}

__attribute__((noinline)) void _txm_module_manager_initialize(UCHAR *memory, UINT size) { memset(memory, 0, size); }

__attribute__((noinline)) void _tx_thread_context_switch(void)
{
	for (UINT i = 0; i < count; i++) {
#ifndef WITHOUT_STACK_CHECKING
		_tx_thread_stack_analyze(stacks[i]);
#endif
		threads[i]();
	}
}

__attribute__((noinline)) void _tx_initialize_kernel_enter(void)
{
	for (;;)
		_tx_thread_context_switch();
}
