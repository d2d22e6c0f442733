/* CPU and memory of a process, from /proc. */
#include "facade_process.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool process_usage(int pid, process_usage_t *usage) {
    char path[64], line[1024];
    if (pid <= 0)
        return false;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t size = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[size] = 0;
    /* The command's name may hold anything: what follows its last bracket is fixed (proc(5)). */
    const char *rest = strrchr(line, ')');
    unsigned long user, system;
    long threads, pages;
    char state;
    if (!rest || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %ld %*d %*u %*u %ld", &state,
                        &user, &system, &threads, &pages) != 5)
        return false;
    if (state == 'Z' || state == 'X')
        return false;
    usage->cpu_seconds = (double) (user + system) / (double) sysconf(_SC_CLK_TCK);
    clockid_t clock;                     /* the same in nanoseconds: ticks of 10 ms make a jagged share of a second */
    struct timespec cpu;
    if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &cpu) == 0)
        usage->cpu_seconds = (double) cpu.tv_sec + (double) cpu.tv_nsec / 1e9;
    usage->resident_bytes = (uint64_t) pages * (uint64_t) sysconf(_SC_PAGESIZE);
    usage->threads = (uint64_t) threads;
    return true;
}
