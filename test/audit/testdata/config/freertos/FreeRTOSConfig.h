/* The switches of FreeRTOS, all as they should stand. */
#ifndef FREERTOSCONFIG_H
#define FREERTOSCONFIG_H

#define configMINIMAL_STACK_SIZE 128
#define configUSE_PREEMPTION 1
#define configCHECK_FOR_STACK_OVERFLOW 2
#define configASSERT(x) if (!(x)) fail()
#define configUSE_MALLOC_FAILED_HOOK 1
#define configHEAP_CLEAR_MEMORY_ON_FREE 1
#define configENABLE_HEAP_PROTECTOR 1
#define configENABLE_MPU 1
#define configALLOW_UNPRIVILEGED_CRITICAL_SECTIONS 0
#define configUSE_TRACE_FACILITY 0

#endif
