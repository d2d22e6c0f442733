#ifndef INGEST_PROC_H
#define INGEST_PROC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"

/* What the kernel tells about this machine in /proc (see proc(5)), parsed. Counters grow; rates are the reader's business. */
#define PROC_CORES_MAX 1024
#define PROC_DEVICES_MAX 256
#define PROC_NAME_MAX 64

typedef struct proc_cpu {
    uint64_t user, nice, system, idle, wait, irq, softirq, steal;      /* ticks */
} proc_cpu_t;

typedef struct proc_disk {
    char name[PROC_NAME_MAX];
    bool whole;                        /* a disk, not a partition or a mapping: for totals */
    uint64_t reads, writes, read_bytes, written_bytes, busy_ms;
} proc_disk_t;

typedef struct proc_interface {
    char name[PROC_NAME_MAX];
    uint64_t received_bytes, received_packets, received_errors, received_dropped;
    uint64_t sent_bytes, sent_packets, sent_errors, sent_dropped;
} proc_interface_t;

typedef struct proc_memory {
    uint64_t total, available, free, buffers, cached, swap_total, swap_free;    /* bytes */
} proc_memory_t;

typedef struct proc_sample {
    int64_t time;                      /* monotonic ns */
    proc_cpu_t total, cores[PROC_CORES_MAX];
    unsigned core_count;
    uint64_t running, blocked, forks, context_switches;
    proc_memory_t memory;
    double load[3];
    double uptime;                     /* s */
    proc_disk_t disks[PROC_DEVICES_MAX];
    unsigned disk_count;
    proc_interface_t interfaces[PROC_DEVICES_MAX];
    unsigned interface_count;
} proc_sample_t;

/* Each fills its part of the sample from the text of the file named after it. Lines that cannot be read are left out. */
void proc_parse_stat(proc_sample_t *sample, text_t text);
void proc_parse_meminfo(proc_sample_t *sample, text_t text);
void proc_parse_loadavg(proc_sample_t *sample, text_t text);
void proc_parse_uptime(proc_sample_t *sample, text_t text);
void proc_parse_diskstats(proc_sample_t *sample, text_t text, const char *sys);   /* sys: "/sys", tells disks from partitions */
void proc_parse_netdev(proc_sample_t *sample, text_t text);

/* Reads them all. Fails when stat or meminfo cannot be read. scratch is reused. */
int proc_read(proc_sample_t *sample, const char *proc, const char *sys, buf_t *scratch, err_t *err);

#endif
