/* process's own work, frame to frame, one thread: no text, no links. Reports the best of several rounds in ns per event: what the code costs
 * when nothing disturbs it. tests/bench/run starts it; an argument: only the lines whose name holds the word. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../../cmd/process/program.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"

#define FRAME_EVENTS 1000u

static uint64_t random_state = 42;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t) ((random_state >> 33) % limit);
}

/* Sensor events in frames, 1,000 events a second of event time times `speed`. */
static frame_t **make_frames(unsigned count, uint32_t devices, unsigned speed, bool mixed) {
    static const char *const sites[] = {"warehouse_a", "warehouse_b", "office"};
    frame_t **frames = mem_alloc(count * sizeof *frames);
    frame_builder_t builder = {0};
    uint64_t number = 0;
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < FRAME_EVENTS; j++, number++) {
            char device[24];
            snprintf(device, sizeof device, "sensor_%07u", random_below(devices));
            builder_begin(&builder);
            buf_t *out = &builder.body;
            pack_map(out, mixed ? 9 : 8);
            pack_text(out, "ts");
            pack_int(out, (int64_t) (INT64_C(1732300000000) + number / speed));
            if (mixed) { /* a text of ever another length before the fields that are wanted */
                pack_text(out, "message");
                pack_string(out, "a message of some length or other, as logs have them", 4 + random_below(48));
            }
            pack_text(out, "device");
            pack_text(out, device);
            pack_text(out, "site");
            pack_text(out, sites[random_below(3)]);
            pack_text(out, "temperature");
            pack_double(out, 10 + random_below(238100) / 1e4);
            pack_text(out, "humidity");
            pack_double(out, random_below(10000) / 1e2);
            pack_text(out, "pressure");
            pack_double(out, 980 + random_below(600) / 1e1);
            pack_text(out, "status");
            pack_text(out, "ok");
            pack_text(out, "seq");
            pack_int(out, (int64_t) number);
            builder_commit(&builder, INT64_C(1732300000000000000) + (int64_t) (number / speed) * 1000000, INT64_C(1732300000000000000));
        }
        frames[i] = builder_take(&builder, "input");
    }
    builder_fini(&builder);
    return frames;
}

static void take_frame(void *argument, frame_t *frame) {
    *(uint64_t *) argument += frame->events;
    frame_unref(frame);
}

static void dead(void *argument, const event_t *event, const char *place, const char *reason) {
    fprintf(stderr, "%s\n", reason);
    exit(1);
}

/* Tables as large as the devices are many; they go with the process. */
static char directory[] = "/tmp/process_ops-XXXXXX";

static void make_table(unsigned rows) {
    char path[64];
    snprintf(path, sizeof path, "%s/t%u.csv", directory, rows);
    FILE *file = fopen(path, "w");
    if (!file)
        exit(1);
    fputs("device,site,floor,owner\n", file);
    for (unsigned i = 0; i < rows; i++)
        fprintf(file, "sensor_%07u,building_%u,%u,owner %u\n", i, i % 97, i % 7, i % 1009);
    fclose(file);
}

static void remove_table(unsigned rows) {
    char path[64];
    snprintf(path, sizeof path, "%s/t%u.csv", directory, rows);
    unlink(path);
}

static int64_t cpu_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

static void bench(const char *wanted, const char *name, const char *text, frame_t **frames, unsigned count, unsigned rounds) {
    if (wanted && !strstr(name, wanted))
        return;
    double best = 1e9;
    uint64_t out = 0;
    for (unsigned round = 0; round < rounds; round++) {
        diagnostics_t diagnostics = {.name = name, .source = text_of(text)};
        out = 0;
        program_setup_t setup = {.stream = "out", .inputs = 1, .batch_events = 1000, .batch_bytes = 256 * 1024, .frame = take_frame,
                                 .dead = dead, .argument = &out};
        program_t *program = program_new(&setup, &diagnostics);
        if (!program) {
            buf_t report = {0};
            diagnostics_print(&diagnostics, &report);
            fputs(buf_text(&report), stderr);
            exit(1);
        }
        err_t err;
        if (program_live(program, NULL, &err) < 0) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
        int64_t start = cpu_now();
        for (unsigned i = 0; i < count; i++)
            program_frame(program, 0, frames[i]);
        program_end(program);
        double each = (double) (cpu_now() - start) / ((double) count * FRAME_EVENTS);
        best = each < best ? each : best;
        program_free(program);
    }
    printf("process %-34s %8.1f ns per event   %9" PRIu64 " of %u out\n", name, best, out, count * FRAME_EVENTS);
    fflush(stdout);
}

/* How long a table of a million rows takes to be read, and its memory. */
static void bench_table(const char *wanted, unsigned rows) {
    if (wanted && !strstr("lookup, reading 1,000,000 rows", wanted))
        return;
    char text[128];
    snprintf(text, sizeof text, "lookup \"%s/t%u.csv\" on device keep site, floor", directory, rows);
    diagnostics_t diagnostics = {.name = "table", .source = text_of(text)};
    program_setup_t setup = {.stream = "out", .inputs = 1, .batch_events = 1000, .batch_bytes = 256 * 1024, .frame = take_frame, .dead = dead};
    program_t *program = program_new(&setup, &diagnostics);
    err_t err;
    int64_t start = cpu_now();
    if (!program || program_live(program, NULL, &err) < 0)
        exit(1);
    int64_t took = cpu_now() - start;
    printf("process %-34s %8.1f ns per row     %9.1f bytes per row\n", "lookup, reading 1,000,000 rows", (double) took / rows,
           (double) program_memory(program) / rows);
    program_free(program);
}

static void free_frames(frame_t **frames, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        frame_unref(frames[i]);
    mem_free(frames);
}

static void bench_windows(const char *wanted, frame_t **frames, unsigned count) {
    bench(wanted, "p99 in 5s, 1,000 keys", "window tumbling 5s by device: p99(temperature)", frames, count, 10);
    bench(wanted, "p99 in 50s, 3 keys", "window tumbling 50s by site: p99(temperature)", frames, count, 10);
    bench(wanted, "distinct in 50s, 3 keys", "window tumbling 50s by site: distinct(device)", frames, count, 10);
    bench(wanted, "top 10 in 50s, 3 keys", "window tumbling 50s by site: top(device, 10)", frames, count, 10);
    bench(wanted, "hopping 5s every 1s, 1,000 keys", "window hopping 5s every 1s by device: avg(temperature), count()", frames, count, 10);
    bench(wanted, "session 2s, 1,000 keys", "window session 2s by device: avg(temperature), count()", frames, count, 10);
    bench(wanted, "count 100, 1,000 keys", "window count 100 by device: avg(temperature)", frames, count, 10);
    bench(wanted, "sliding 60s average, 1,000 keys", "window sliding 60s by device: avg(temperature)", frames, count, 10);
    bench(wanted, "sliding 5s average, 1,000 keys", "window sliding 5s by device: avg(temperature)", frames, count, 10);
    bench(wanted, "sliding 60s, wait 1s, 1,000 keys", "window sliding 60s by device wait 1s: avg(temperature)", frames, count, 10);
    bench(wanted, "sliding 60s p99, 1,000 keys", "window sliding 60s by device: p99(temperature)", frames, count, 5);
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : NULL;
    mem_tune();
    log_set_level(LOG_WARNING);
    unsigned small = 200, large = 2000;
    frame_t **frames = make_frames(small, 1000, 4, false);
    bench(wanted, "pass", "", frames, small, 10);
    bench(wanted, "where, one comparison", "where temperature > 30", frames, small, 10);
    bench(wanted, "where, two comparisons", "where temperature > 30 and site == \"warehouse_a\"", frames, small, 10);
    bench(wanted, "where, two, all pass", "where temperature > 0 and site != \"x\"", frames, small, 10);
    bench(wanted, "where, regex", "where device ~ \"_00000[0-4]\"", frames, small, 10);
    bench(wanted, "join, 1,000 keys, none found", "join other on device within 10s", frames, small, 5);
    bench(wanted, "set, arithmetic", "set fahrenheit = temperature * 9 / 5 + 32", frames, small, 10);
    bench(wanted, "keep three", "keep device, site, temperature", frames, small, 10);
    bench(wanted, "alert", "alert hot when temperature > 33.8 by device", frames, small, 10);
    bench(wanted, "alert no data 1m, 1,000 keys", "alert lost when no data for 1m by device", frames, small, 10);
    bench(wanted, "tumbling 5s, 1,000 keys", "window tumbling 5s by device: avg(temperature), count()", frames, small, 10);
    bench(wanted, "tumbling 5s, 1,000 keys, six", "window tumbling 5s by device: avg(temperature), count(), min(humidity), max(humidity), stddev(pressure), last(seq)",
          frames, small, 10);
    bench_windows(wanted, frames, small);
    bench(wanted, "flatten, nothing to do", "flatten", frames, small, 5);
    bench(wanted, "unnest, three of each", "set l = [temperature, humidity, pressure] | unnest l as v", frames, small, 5);
    bench(wanted, "parse json", "set j = \"{\\\"a\\\":1,\\\"b\\\":\\\"text\\\",\\\"c\\\":2.5}\" | parse j as json", frames, small, 5);
    bench(wanted, "parse regex", "parse device as regex \"_(?<number>[0-9]+)$\" into parts", frames, small, 5);
    bench(wanted, "validate, three fields", "validate temperature is number between -50 and 150, site required in (\"warehouse_a\", \"warehouse_b\", \"office\"), seq >= 0 else drop",
          frames, small, 5);
    bench(wanted, "split", "split hot when temperature > 30, cold when temperature < 15 else drop", frames, small, 5);
    bench(wanted, "dedupe, 1,000 keys", "dedupe by device within 1s", frames, small, 10);
    bench(wanted, "dedupe, whole events", "dedupe within 1s", frames, small, 5);
    bench(wanted, "sample by key", "sample 10% by device", frames, small, 10);
    bench(wanted, "limit, 1,000 keys", "limit 5 per 1s by device", frames, small, 10);
    bench(wanted, "fill previous, 1,000 keys", "fill temperature = previous by device", frames, small, 10);
    bench(wanted, "moving avg 1m, 1,000 keys", "moving avg(temperature) over 1m by device", frames, small, 10);
    bench(wanted, "moving five 1m, 1,000 keys", "moving avg(temperature), min(temperature), max(temperature), stddev(temperature), count() as n over 1m by device",
          frames, small, 10);
    bench(wanted, "moving median 1m, 1,000 keys", "moving median(temperature) over 1m by device", frames, small, 10);
    bench(wanted, "moving avg, 100 events", "moving avg(temperature) over 100 by device", frames, small, 10);
    bench(wanted, "rate, 1,000 keys", "rate temperature by device", frames, small, 10);
    bench(wanted, "trend 1m, 1,000 keys", "trend temperature over 1m by device", frames, small, 10);
    bench(wanted, "sequence, seldom begun", "sequence s by device: A when temperature > 33.7 then B when temperature > A.temperature within 5s", frames, small, 10);
    bench(wanted, "sequence, three in a row", "sequence s by device: A when temperature > 20 times 3 in a row within 1m", frames, small, 10);
    bench(wanted, "sequence, absence", "sequence s by device: A when true then not B when true within 10s", frames, small, 10);
    bench(wanted, "moving ewma", "moving ewma(temperature, 30s) by device", frames, small, 10);
    bench(wanted, "anomaly auto, 1,000 keys", "anomaly temperature by device", frames, small, 10);
    bench(wanted, "anomaly auto, one series", "anomaly temperature", frames, small, 10);
    bench(wanted, "anomaly mad, 1,000 keys", "anomaly temperature method mad by device", frames, small, 10);
    free_frames(frames, small);
    frames = make_frames(small, 1000, 4, true);
    bench(wanted, "where, two, texts before", "where temperature > 30 and site == \"warehouse_a\"", frames, small, 10);
    bench(wanted, "tumbling 5s, 1,000 keys, texts before", "window tumbling 5s by device: avg(temperature), count()", frames, small, 10);
    free_frames(frames, small);
    if (!wanted || strstr("lookup, in 100,000 rows lookup, in 1,000,000 rows lookup, reading 1,000,000 rows", wanted)) {
        if (!mkdtemp(directory))
            return 1;
        for (unsigned rows = 100000; rows <= 1000000; rows *= 10) {
            char name[64], program[160];
            make_table(rows);
            snprintf(name, sizeof name, "lookup, in %s rows", rows == 100000 ? "100,000" : "1,000,000");
            snprintf(program, sizeof program, "lookup \"%s/t%u.csv\" on device keep site, floor", directory, rows);
            frames = make_frames(small, rows, 4, false);
            bench(wanted, name, program, frames, small, 5);
            free_frames(frames, small);
        }
        bench_table(wanted, 1000000);
        remove_table(100000);
        remove_table(1000000);
        rmdir(directory);
    }
    if (!wanted || strstr("tumbling 1h, 1,000,000 keys", wanted)) {
        frames = make_frames(large, 1000000, 4, false);
        bench(wanted, "tumbling 1h, 1,000,000 keys", "window tumbling 1h by device: avg(temperature), count()", frames, large, 2);
        free_frames(frames, large);
    }
    return 0;
}
