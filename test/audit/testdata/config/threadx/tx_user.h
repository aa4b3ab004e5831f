/* The switches of ThreadX, all as they should stand. */
#ifndef TX_USER_H
#define TX_USER_H

#define TX_ENABLE_STACK_CHECKING
#define TX_ENABLE_RANDOM_NUMBER_STACK_FILLING

#endif
