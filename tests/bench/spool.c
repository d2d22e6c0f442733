/* What the durable log costs: CPU time of the process, user and system, the syncing thread's included, for a GB of bodies. Appends, frames of 120 KB and of 200 bytes,
 * by each sync policy, released as a receiver that keeps up would do it (files are used again) and not released; reading back through a cursor; and
 * the checksum alone. Best of several rounds: the machine is shared. BENCH_DIRECTORY: where (default /tmp). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "data/frame.h"
#include "data/pack.h"
#include "net/spool.h"

#define ROUNDS 3

static loop_t *loop;
static spool_t *spool;

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void nothing(void *argument) {
}

static void turn_end(void *argument) {
    loop_stop(loop);
}

static void turn(void) {
    loop_timer(loop, 0, 0, turn_end, NULL);
    loop_run(loop);
}

static frame_t *make_frame(size_t size) {
    frame_builder_t builder = {0};
    char text[300];
    memset(text, 'x', sizeof text);
    do {
        builder_begin(&builder);
        pack_map(&builder.body, 1);
        pack_text(&builder.body, "text");
        pack_string(&builder.body, text, size < 300 ? size - 20 : 134);
        builder_commit(&builder, 1, 1);
    } while (builder.body.size < size - 10);
    frame_t *frame = builder_take(&builder, "bench");
    builder_fini(&builder);
    return frame;
}

typedef struct result {
    double write, read, wall;
} result_t;

static result_t measure(size_t size, uint64_t total, spool_sync_t sync, bool release) {
    const char *base = getenv("BENCH_DIRECTORY");
    char directory[256], command[300];
    snprintf(directory, sizeof directory, "%s/bench_spool.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(directory))
        abort();
    loop = loop_new();
    spool_setup_t setup = {.loop = loop, .directory = directory, .name = "bench", .sync = sync, .sync_interval = 100 * NS_PER_MS,
                           .limit = UINT64_C(4) << 30, .written = nothing};
    err_t err;
    if (spool_open(&spool, &setup, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    frame_t *frame = make_frame(size);
    uint64_t count = total / frame->body_size, number;
    uint64_t warm = release ? (UINT64_C(256) << 20) / frame->body_size : 0;     /* until a file was used again */
    double begin = cpu_seconds();
    int64_t clock = clock_monotonic();
    for (uint64_t i = 0; i < count + warm; i++) {
        if (i == warm) {
            begin = cpu_seconds();
            clock = clock_monotonic();
        }
        spool_begin(spool);
        spool_add(spool, text_of("a note of some bytes"), frame, &number);
        spool_commit(spool);
        if (i % 8 == 0) {
            turn();
            if (release && i > 16)
                spool_release(spool, i - 16, i - 16);
        }
    }
    spool_sync(spool);
    double bytes = (double) (count * frame->body_size);
    result_t result = {.write = (cpu_seconds() - begin) / bytes * 1e9, .wall = (double) (clock_monotonic() - clock) / bytes};
    if (!release) {
        spool_cursor_t *cursor = spool_cursor_new(spool);
        spool_record_t record;
        begin = cpu_seconds();
        uint64_t read = 0;
        while (spool_next(cursor, &record, &err) == 1) {
            read++;
            frame_unref(record.frame);
        }
        if (read != count)
            abort();
        result.read = (cpu_seconds() - begin) / bytes * 1e9;
        spool_cursor_free(cursor);
    }
    frame_unref(frame);
    spool_close(spool);
    loop_free(loop);
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    if (system(command))
        abort();
    return result;
}

static void report(size_t size, uint64_t total, spool_sync_t sync, bool release) {
    static const char *const names[] = {"always", "interval", "none"};
    result_t best = {1e9, 1e9, 1e9};
    for (int round = 0; round < ROUNDS; round++) {
        result_t one = measure(size, total, sync, release);
        best.write = one.write < best.write ? one.write : best.write;
        best.read = one.read < best.read ? one.read : best.read;
        best.wall = one.wall < best.wall ? one.wall : best.wall;
    }
    printf("append %6zu bytes, sync %-8s %-12s %7.3f CPU-s/GB  %6.2f s/GB", size, names[sync], release ? "released" : "kept", best.write, best.wall);
    if (!release)
        printf("   read back %6.3f CPU-s/GB", best.read);
    putchar('\n');
    fflush(stdout);
}

static void checksum(void) {
    static uint8_t bytes[120000];
    memset(bytes, 7, sizeof bytes);
    for (int kind = 0; kind < 2; kind++) {
        int64_t best = INT64_MAX;
        uint32_t crc = 0;
        for (int round = 0; round < 20; round++) {
            int64_t begin = clock_monotonic();
            for (int i = 0; i < 20; i++)
                crc = kind ? crc32c_plain(crc, bytes, sizeof bytes) : crc32c(crc, bytes, sizeof bytes);
            int64_t took = clock_monotonic() - begin;
            best = took < best ? took : best;
        }
        printf("CRC-32C %-30s %6.1f GB/s   (%08x)\n", kind ? "by tables" : "by the processor's instruction", 20.0 * sizeof bytes / (double) best, crc);
    }
}

int main(void) {
    mem_tune();
    checksum();
    for (int sync = SPOOL_ALWAYS; sync <= SPOOL_NONE; sync++) {
        report(120000, UINT64_C(1) << 29, (spool_sync_t) sync, true);
        report(120000, UINT64_C(1) << 29, (spool_sync_t) sync, false);
        report(200, UINT64_C(1) << 25, (spool_sync_t) sync, true);
    }
    report(200, UINT64_C(1) << 25, SPOOL_INTERVAL, false);
    return 0;
}
