/* What the parts of the test firmware know of one another. */
#ifndef FIRMWARE_H
#define FIRMWARE_H

typedef unsigned char UCHAR;
typedef unsigned int UINT;
typedef unsigned int size_t;

#define REG(address) (*(volatile UINT *)(address))

/* kernel.c: as much of a kernel as the rules know it by. */
typedef struct NX_PACKET_STRUCT { struct NX_PACKET_STRUCT *next; UCHAR *start; UCHAR *end; UINT length; } NX_PACKET;
void _tx_thread_create(void (*entry)(void), UCHAR *stack, UINT size);
void _tx_thread_stack_analyze(UCHAR *stack);
void _tx_thread_stack_error_notify(void (*handler)(void));
void _tx_initialize_kernel_enter(void);
void _txm_module_manager_initialize(UCHAR *memory, UINT size);
void _tx_thread_context_switch(void);

/* board.c */
UINT trng_read(void);
void IWDG_Start(void);
void IWDG_Refresh(void);
void ARM_MPU_Enable(UINT control);
void uart_put(char c);

/* library.c: what a C library would have. */
int rand(void);
void srand(UINT seed);
char *strcpy(char *to, const char *from);
void *malloc(size_t size);
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

void use(volatile void *p, UINT n);
extern volatile UINT sink;

#endif
