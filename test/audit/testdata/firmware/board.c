/* Start-up code and the board's hardware. */
#include "firmware.h"

extern UINT __stack_top, __bss_start, __bss_end;
int main(void);
void Reset_Handler(void);
void SysTick_Handler(void);
void __stack_chk_fail(void);

#ifdef FIXED_GUARD
UINT __stack_chk_guard = 0x5a17c3e9;
#else
UINT __stack_chk_guard;
#endif

__attribute__((section(".vectors"), used)) static void *const vectors[16] = { &__stack_top, Reset_Handler, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, SysTick_Handler };

__attribute__((noinline)) UINT trng_read(void) { return REG(0x50060808); }

__attribute__((noinline)) void IWDG_Start(void) { REG(0x40003000) = 0xcccc; }
__attribute__((noinline)) void IWDG_Refresh(void) { REG(0x40003000) = 0xaaaa; }
__attribute__((noinline)) void ARM_MPU_Enable(UINT control) { REG(0xe000ed94) = control; }
__attribute__((noinline)) void uart_put(char c) { REG(0x40004428) = (UCHAR)c; }

__attribute__((noinline, noreturn)) void __stack_chk_fail(void)
{
	for (;;)
		;
}

void SysTick_Handler(void)
{
	sink++;
#ifdef FEED_FROM_INTERRUPT
	IWDG_Refresh();
#endif
}

__attribute__((optimize("no-stack-protector"), noreturn)) void Reset_Handler(void)
{
#ifndef WITHOUT_STACK_LIMIT
#ifdef __ARM_ARCH_8M_MAIN__
	__asm volatile("msr msplim, %0" ::"r"(0x2001f000));
#endif
#endif
	for (UINT *p = &__bss_start; p < &__bss_end; p++)
		*p = 0;
#ifndef FIXED_GUARD
	__stack_chk_guard = trng_read();
#endif
#ifndef WITHOUT_MPU
	ARM_MPU_Enable(5);
#endif
#ifndef WITHOUT_WATCHDOG
	IWDG_Start();
#endif
	main();
	for (;;)
		;
}
