#ifndef STREAMCTL_FACADE_PROCESS_H
#define STREAMCTL_FACADE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* What the kernel says of a process. */
typedef struct process_usage {
    double cpu_seconds;              /* user and system, since its start */
    uint64_t resident_bytes;
    uint64_t threads;
} process_usage_t;

bool process_usage(int pid, process_usage_t *usage);    /* false: there is no such process */

#endif
