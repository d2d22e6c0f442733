/* The state of windows with many keys: memory per group, how long saving and loading take, and how long the process stands still while it is
 * forked for a snapshot -- then, how much slower it runs while the child still shares its memory. An argument: how many keys. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../cmd/process/program.h"
#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"

#define FRAME_EVENTS 1000u

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

static void take_frame(void *argument, frame_t *frame) {
    *(uint64_t *) argument += frame->events;
    frame_unref(frame);
}

static void dead(void *argument, const event_t *event, const char *place, const char *reason) {
    fprintf(stderr, "%s\n", reason);
    exit(1);
}

static program_t *start(const char *text, uint64_t *out) {
    diagnostics_t diagnostics = {.name = "program", .source = text_of(text)};
    program_setup_t setup = {.stream = "out", .inputs = 1, .batch_events = 1000, .batch_bytes = 256 * 1024, .frame = take_frame, .dead = dead,
                             .argument = out};
    program_t *program = program_new(&setup, &diagnostics);
    if (!program)
        exit(1);
    return program;
}

/* FRAME_EVENTS events of the devices from `first` on. */
static frame_t *make_frame(uint32_t first, uint32_t step) {
    frame_builder_t builder = {0};
    for (uint32_t i = 0; i < FRAME_EVENTS; i++) {
        char device[24];
        snprintf(device, sizeof device, "sensor_%07u", first + i * step);
        builder_begin(&builder);
        pack_map(&builder.body, 2);
        pack_text(&builder.body, "device");
        pack_text(&builder.body, device);
        pack_text(&builder.body, "temperature");
        pack_double(&builder.body, 10 + (i % 300) / 10.0);
        builder_commit(&builder, INT64_C(1732300000000000000), INT64_C(1732300000000000000));
    }
    frame_t *frame = builder_take(&builder, "input");
    builder_fini(&builder);
    return frame;
}

static void feed(program_t *program, uint32_t keys, uint32_t step) {
    uint32_t rows = keys / FRAME_EVENTS;
    for (uint32_t i = 0; i < rows; i++) {
        frame_t *frame = step == 1 ? make_frame(i * FRAME_EVENTS, 1) : make_frame(i, rows);
        program_frame(program, 0, frame);
        frame_unref(frame);
    }
}

/* The slowest of many frames, µs, and the mean. */
static double slowest(program_t *program, frame_t **frames, unsigned count, double *mean) {
    int64_t worst = 0, begin = now();
    for (unsigned i = 0; i < count; i++) {
        int64_t before = now();
        program_frame(program, 0, frames[i]);
        int64_t took = now() - before;
        worst = took > worst ? took : worst;
    }
    *mean = (double) (now() - begin) / 1e3 / count;
    return (double) worst / 1e3;
}

static uint64_t resident(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long total = 0, pages = 0;
    if (!file || fscanf(file, "%llu %llu", &total, &pages) != 2)
        exit(1);
    fclose(file);
    return pages * (uint64_t) sysconf(_SC_PAGESIZE);
}

static void throw_away(void *argument, buf_t *out) {
    *(uint64_t *) argument += out->size;
    buf_clear(out);
}

static void keep(void *argument, buf_t *out) {
    buf_put(argument, out->data, out->size);
    buf_clear(out);
}

int main(int argc, char **argv) {
    uint32_t keys = argc > 1 ? (uint32_t) atol(argv[1]) : 1000000;
    static const char text[] = "window tumbling 1h by device: avg(temperature) as t, count() as n";
    uint64_t out = 0, size = 0;
    mem_tune();
    enum { SAMPLE = 200 };
    uint32_t rows = keys / FRAME_EVENTS;
    frame_t *frames[SAMPLE];
    for (unsigned i = 0; i < SAMPLE; i++)
        frames[i] = make_frame(i % rows, rows);
    program_t *program = start(text, &out);
    uint64_t before = resident();
    feed(program, keys, 7);
    printf("state: %" PRIu32 " keys, two aggregates: %.0f bytes each by count, %.0f resident\n", keys, (double) program_memory(program) / keys,
           (double) (resident() - before) / keys);
    double mean, worst = slowest(program, frames, SAMPLE, &mean);
    printf("state: a frame of %u events over all keys: mean %.0f us, slowest %.0f us\n", FRAME_EVENTS, mean, worst);

    buf_t piece = {0};
    int64_t begin = now();
    program_save(program, &piece, throw_away, &size);
    size += piece.size;
    printf("state: saving, %.1f MB: %.0f ms\n", (double) size / 1e6, (double) (now() - begin) / 1e6);

    begin = now();
    pid_t child = fork();
    if (child == 0) {
        buf_clear(&piece);
        size = 0;
        program_save(program, &piece, throw_away, &size);
        _exit(0);
    }
    double forked = (double) (now() - begin) / 1e6;
    worst = slowest(program, frames, SAMPLE, &mean);
    int status;
    struct rusage usage;
    wait4(child, &status, 0, &usage);
    printf("state: fork stops everything for %.2f ms; frames while the child saves: mean %.0f us, slowest %.0f us; child's CPU %.0f ms\n", forked,
           mean, worst, (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 + (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3);

    buf_t all = {0};
    buf_clear(&piece);
    program_save(program, &piece, keep, &all);
    keep(&all, &piece);
    program_t *second = start(text, &out);
    err_t err;
    begin = now();
    if (program_load(second, all.data, all.size, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("state: loading: %.0f ms\n", (double) (now() - begin) / 1e6);
    buf_fini(&piece);
    buf_fini(&all);
    for (unsigned i = 0; i < SAMPLE; i++)
        frame_unref(frames[i]);
    program_free(program);
    program_free(second);
    return status != 0;
}
