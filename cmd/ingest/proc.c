/* Reads and parses /proc for the source "system:". */
#include "proc.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

#define FILE_LIMIT (4u * 1024 * 1024)
#define SECTOR 512                     /* the unit of diskstats, whatever the disk's own is */

static bool next_word(text_t *rest, text_t *word) {
    size_t start = 0;
    while (start < rest->size && (rest->data[start] == ' ' || rest->data[start] == '\t'))
        start++;
    size_t end = start;
    while (end < rest->size && rest->data[end] != ' ' && rest->data[end] != '\t')
        end++;
    *word = text_make(rest->data + start, end - start);
    *rest = text_make(rest->data + end, rest->size - end);
    return word->size > 0;
}

/* Reads up to n numbers in a row; the number of those read. */
static unsigned numbers(text_t *rest, uint64_t *out, unsigned n) {
    text_t word;
    unsigned i = 0;
    while (i < n && next_word(rest, &word) && text_to_uint(word, &out[i], NULL) == 0)
        i++;
    return i;
}

static double decimal(text_t word) {
    double value = 0, scale = 0;
    for (size_t i = 0; i < word.size; i++) {
        if (word.data[i] == '.' && scale == 0) {
            scale = 1;
        } else if (word.data[i] >= '0' && word.data[i] <= '9') {
            value = value * 10 + (word.data[i] - '0');
            scale *= 10;
        } else {
            break;
        }
    }
    return scale > 0 ? value / scale : value;
}

static bool name_is(text_t word, char *out) {
    if (!word.size || word.size >= PROC_NAME_MAX)
        return false;
    memcpy(out, word.data, word.size);
    out[word.size] = 0;
    return true;
}

void proc_parse_stat(proc_sample_t *sample, text_t text) {
    text_t line, word;
    sample->core_count = 0;
    while (text_split(&text, '\n', &line)) {
        uint64_t n[8] = {0};
        if (!next_word(&line, &word))
            continue;
        if (word.size >= 3 && memcmp(word.data, "cpu", 3) == 0) {
            if (numbers(&line, n, 8) < 4)
                continue;
            proc_cpu_t cpu = {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]};
            if (word.size == 3)
                sample->total = cpu;
            else if (sample->core_count < PROC_CORES_MAX)
                sample->cores[sample->core_count++] = cpu;
        } else if (text_is(word, "ctxt")) {
            numbers(&line, &sample->context_switches, 1);
        } else if (text_is(word, "processes")) {
            numbers(&line, &sample->forks, 1);
        } else if (text_is(word, "procs_running")) {
            numbers(&line, &sample->running, 1);
        } else if (text_is(word, "procs_blocked")) {
            numbers(&line, &sample->blocked, 1);
        }
    }
}

void proc_parse_meminfo(proc_sample_t *sample, text_t text) {
    proc_memory_t *memory = &sample->memory;
    const struct { const char *name; uint64_t *field; } fields[] = {
        {"MemTotal:", &memory->total}, {"MemAvailable:", &memory->available}, {"MemFree:", &memory->free},
        {"Buffers:", &memory->buffers}, {"Cached:", &memory->cached}, {"SwapTotal:", &memory->swap_total},
        {"SwapFree:", &memory->swap_free},
    };
    text_t line, word;
    while (text_split(&text, '\n', &line)) {
        uint64_t kib;
        if (!next_word(&line, &word))
            continue;
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
            if (text_is(word, fields[i].name) && numbers(&line, &kib, 1) == 1)
                *fields[i].field = kib * 1024;
        }
    }
}

void proc_parse_loadavg(proc_sample_t *sample, text_t text) {
    text_t word;
    for (int i = 0; i < 3 && next_word(&text, &word); i++)
        sample->load[i] = decimal(word);
}

void proc_parse_uptime(proc_sample_t *sample, text_t text) {
    text_t word;
    if (next_word(&text, &word))
        sample->uptime = decimal(word);
}

/* Partitions and mappings pass their traffic on to disks: only disks with a device of their own count in totals. */
static bool is_whole_disk(const char *name, const char *sys) {
    char path[256];
    snprintf(path, sizeof path, "%s/block/%s/device", sys, name);
    return access(path, F_OK) == 0;
}

void proc_parse_diskstats(proc_sample_t *sample, text_t text, const char *sys) {
    text_t line, word;
    sample->disk_count = 0;
    while (text_split(&text, '\n', &line) && sample->disk_count < PROC_DEVICES_MAX) {
        uint64_t device[2], n[11] = {0};
        proc_disk_t *disk = &sample->disks[sample->disk_count];
        if (numbers(&line, device, 2) < 2 || !next_word(&line, &word) || !name_is(word, disk->name) || numbers(&line, n, 11) < 10)
            continue;
        if (n[0] == 0 && n[4] == 0) /* never used: ram0, loop7, ... */
            continue;
        disk->whole = is_whole_disk(disk->name, sys);
        disk->reads = n[0];
        disk->read_bytes = n[2] * SECTOR;
        disk->writes = n[4];
        disk->written_bytes = n[6] * SECTOR;
        disk->busy_ms = n[9];
        sample->disk_count++;
    }
}

void proc_parse_netdev(proc_sample_t *sample, text_t text) {
    text_t line;
    sample->interface_count = 0;
    while (text_split(&text, '\n', &line) && sample->interface_count < PROC_DEVICES_MAX) {
        const char *colon = line.size ? memrchr(line.data, ':', line.size) : NULL;
        if (!colon)
            continue; /* the two lines of headings */
        proc_interface_t *interface = &sample->interfaces[sample->interface_count];
        text_t name = text_trim(text_make(line.data, (size_t) (colon - line.data)));
        text_t rest = text_make(colon + 1, (size_t) (line.data + line.size - colon - 1));
        uint64_t n[12];
        if (!name_is(name, interface->name) || numbers(&rest, n, 12) < 12)
            continue;
        interface->received_bytes = n[0];
        interface->received_packets = n[1];
        interface->received_errors = n[2];
        interface->received_dropped = n[3];
        interface->sent_bytes = n[8];
        interface->sent_packets = n[9];
        interface->sent_errors = n[10];
        interface->sent_dropped = n[11];
        sample->interface_count++;
    }
}

static int read_one(const char *proc, const char *name, buf_t *scratch, text_t *text, err_t *err) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", proc, name);
    buf_clear(scratch);
    if (file_read(path, FILE_LIMIT, scratch, err))
        return -1;
    *text = text_make((const char *) scratch->data, scratch->size);
    return 0;
}

int proc_read(proc_sample_t *sample, const char *proc, const char *sys, buf_t *scratch, err_t *err) {
    text_t text;
    if (read_one(proc, "stat", scratch, &text, err))
        return -1;
    proc_parse_stat(sample, text);
    sample->time = clock_monotonic();
    if (read_one(proc, "meminfo", scratch, &text, err))
        return -1;
    proc_parse_meminfo(sample, text);
    if (read_one(proc, "loadavg", scratch, &text, NULL) == 0)
        proc_parse_loadavg(sample, text);
    if (read_one(proc, "uptime", scratch, &text, NULL) == 0)
        proc_parse_uptime(sample, text);
    sample->disk_count = sample->interface_count = 0;
    if (read_one(proc, "diskstats", scratch, &text, NULL) == 0)
        proc_parse_diskstats(sample, text, sys);
    if (read_one(proc, "net/dev", scratch, &text, NULL) == 0)
        proc_parse_netdev(sample, text);
    return 0;
}
