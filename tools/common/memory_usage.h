/* memory_usage.h - how much memory this process uses, as counted by Linux. */
#ifndef TOOLS_MEMORY_USAGE_H
#define TOOLS_MEMORY_USAGE_H

#include <stdint.h>

/* Bytes; 0 where unknown. */
typedef struct memory_usage {
    int64_t peak_resident; /* largest so far, mapped files included */
    int64_t private_now;   /* not backed by a file */
} memory_usage;

memory_usage memory_usage_read(void);

#endif
