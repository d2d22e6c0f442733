/* The JSON codec alone, on the workload that PERFORMANCE figures are given for: text → frames and frames → text, one thread. Reports the
 * best of several rounds in ns per event: what the code costs when nothing disturbs it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "data/format.h"
#include "data/json.h"
#include "data/json_event.h"

#define EVENTS 4000u
#define ROUNDS 200
#define CHUNK (128u * 1024)

static uint64_t random_state = 42;
static const char *wanted; /* part of a line's name, or NULL: all */

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t) ((random_state >> 33) % limit);
}

typedef enum kind { KIND_SENSORS, KIND_LONG_DOUBLES, KIND_MIXED, KIND_SHUFFLED, KIND_UNKNOWN, KIND_STAMPED } kind_t;

static void make_text(buf_t *out, kind_t kind) {
    static const char *const sites[] = {"warehouse_a", "warehouse_b", "office"};
    for (unsigned i = 0; i < EVENTS; i++) {
        double temperature = 10 + random_below(300000) / 1e4;
        double humidity = random_below(10000) / 1e2, pressure = 980 + random_below(600) / 1e1;
        if (kind == KIND_LONG_DOUBLES) {
            char numbers[3][40];
            numbers[0][json_print_double(numbers[0], temperature + random_below(1000000) / 1e14)] = 0;
            numbers[1][json_print_double(numbers[1], humidity / 3)] = 0;
            numbers[2][json_print_double(numbers[2], pressure / 7)] = 0;
            buf_format(out, "{\"ts\":%llu,\"device\":\"sensor_%04u\",\"site\":\"%s\",\"temperature\":%s,\"humidity\":%s,\"pressure\":%s,"
                       "\"status\":\"ok\",\"seq\":%u}\n", 1732300000000ull + i, random_below(1000), sites[random_below(3)], numbers[0],
                       numbers[1], numbers[2], i);
        } else if (kind == KIND_SHUFFLED) { /* the keys in any order: nothing to predict */
            unsigned first = random_below(8);
            buf_put_byte(out, '{');
            for (unsigned k = 0; k < 8; k++) {
                if (k)
                    buf_put_byte(out, ',');
                switch ((k * (1 + 2 * (i % 4)) + first) % 8) {
                case 0: buf_format(out, "\"ts\":%llu", 1732300000000ull + i); break;
                case 1: buf_format(out, "\"device\":\"sensor_%04u\"", random_below(1000)); break;
                case 2: buf_format(out, "\"site\":\"%s\"", sites[random_below(3)]); break;
                case 3: buf_format(out, "\"temperature\":%.4f", temperature); break;
                case 4: buf_format(out, "\"humidity\":%.2f", humidity); break;
                case 5: buf_format(out, "\"pressure\":%.1f", pressure); break;
                case 6: buf_put_text(out, "\"status\":\"ok\""); break;
                default: buf_format(out, "\"seq\":%u", i);
                }
            }
            buf_put_text(out, "}\n");
        } else if (kind == KIND_MIXED && random_below(2)) {
            buf_format(out, "{\"user_id\":\"user_%u\",\"event_type\":\"view\",\"page\":\"/shop/item/%u\",\"session_id\":\"%08x\",\"value\":%u}\n",
                       random_below(10000), random_below(500), random_below(1 << 30), random_below(200));
        } else {
            buf_put_byte(out, '{');
            if (kind == KIND_STAMPED) { /* as text between two tools */
                char time[CLOCK_TEXT_MAX];
                size_t size = clock_print(time, (INT64_C(1732300000000) + i) * 1000000);
                buf_format(out, "\"@timestamp\":\"%.*s\",", (int) size, time);
            }
            buf_put_text(out, "\"ts");
            if (kind == KIND_UNKNOWN) /* a first key that none of the remembered shapes has */
                buf_format(out, "%03u", random_below(1000));
            buf_format(out, "\":%llu,\"device\":\"sensor_%04u\",\"site\":\"%s\",\"temperature\":%.4f,\"humidity\":%.2f,"
                       "\"pressure\":%.1f,\"status\":\"ok\",\"seq\":%u}\n", 1732300000000ull + i, random_below(1000), sites[random_below(3)],
                       temperature, humidity, pressure, i);
        }
    }
}

static bool committed(void *argument) {
    return false;
}

static void bad(void *argument, text_t record, uint64_t number, const char *reason) {
    fprintf(stderr, "record %" PRIu64 ": %s\n", number, reason);
    exit(1);
}

/* Decodes all the text by chunks, one frame a chunk; the frames are handed to `use` or dropped. */
static unsigned decode(decoder_t *decoder, const buf_t *text, frame_t **frames) {
    frame_builder_t builder = {0};
    decode_target_t target = {.builder = &builder, .ingest_time = 1, .committed = committed, .bad = bad};
    unsigned count = 0;
    for (size_t at = 0; at < text->size;) {
        size_t size = text->size - at < CHUNK ? text->size - at : CHUNK;
        at += decoder_feed(decoder, (const char *) text->data + at, size, at + size == text->size, &target);
        frame_t *frame = builder_take(&builder, "bench");
        if (frames)
            frames[count] = frame;
        else
            frame_unref(frame);
        count++;
    }
    builder_fini(&builder);
    return count;
}

static void run(const char *name, kind_t kind, char *time_field) {
    if (wanted && !strstr(name, wanted))
        return;
    buf_t text = {0}, out = {0};
    make_text(&text, kind);
    format_settings_t settings = {0};
    option_defaults(format_options, &settings);
    settings.time_field = time_field;
    const format_t *format = format_find("ndjson");
    decoder_t *decoder;
    encoder_t *encoder;
    if (format->decoder_open(&decoder, &settings, NULL) || format->encoder_open(&encoder, &settings, NULL))
        exit(1);
    frame_t *frames[1024];
    int64_t best_read = INT64_MAX, best_write = INT64_MAX;
    unsigned count = decode(decoder, &text, frames);
    for (int round = 0; round < ROUNDS; round++) {
        int64_t begin = clock_monotonic();
        decode(decoder, &text, NULL);
        int64_t middle = clock_monotonic();
        buf_clear(&out);
        for (unsigned i = 0; i < count; i++)
            encoder->class->frame(encoder, frames[i], NULL, &out);
        int64_t end = clock_monotonic();
        best_read = middle - begin < best_read ? middle - begin : best_read;
        best_write = end - middle < best_write ? end - middle : best_write;
    }
    for (unsigned i = 0; i < count; i++)
        frame_unref(frames[i]);
    printf("%-37s %4zu bytes/event   text -> msgpack %6.1f ns   msgpack -> text %6.1f ns\n", name, text.size / EVENTS,
           (double) best_read / EVENTS, (double) best_write / EVENTS);
    decoder_free(decoder);
    encoder_free(encoder);
    settings.time_field = NULL;
    option_fini(format_options, &settings);
    buf_fini(&text);
    buf_fini(&out);
}

/* The reader without line ends, frames and the decoder around it. */
static void run_reader(kind_t kind, const char *name) {
    if (wanted && !strstr(name, wanted))
        return;
    static text_t lines[EVENTS];
    buf_t text = {0}, out = {0};
    make_text(&text, kind);
    buf_reserve(&text, JSON_SLACK);
    text_t rest = text_make((const char *) text.data, text.size);
    for (unsigned i = 0; i < EVENTS; i++)
        text_split(&rest, '\n', &lines[i]);
    json_reader_t *reader = json_reader_new(NULL, false, false);
    int64_t best = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t begin = clock_monotonic();
        for (unsigned i = 0; i < EVENTS; i++) {
            const char *end;
            json_found_t found;
            if (i % 500 == 0)
                buf_clear(&out);
            if (json_read_event_at(reader, lines[i], true, &end, &out, &found, NULL))
                exit(1);
        }
        int64_t took = clock_monotonic() - begin;
        best = took < best ? took : best;
    }
    json_reader_free(reader);
    printf("%-37s %4zu bytes/event   text -> msgpack %6.1f ns\n", name, text.size / EVENTS, (double) best / EVENTS);
    buf_fini(&text);
    buf_fini(&out);
}

static void run_doubles(void) {
    if (wanted && !strstr("doubles", wanted))
        return;
    static double values[2][4096];
    for (unsigned i = 0; i < 4096; i++) {
        values[0][i] = random_below(1000000) / 1e4;
        values[1][i] = random_below(1000000) / 3e3;
    }
    for (unsigned kind = 0; kind < 2; kind++) {
        int64_t best = INT64_MAX;
        volatile size_t sum = 0;
        for (int round = 0; round < ROUNDS; round++) {
            char out[JSON_DOUBLE_MAX];
            int64_t begin = clock_monotonic();
            for (unsigned i = 0; i < 4096; i++)
                sum += json_print_double(out, values[kind][i]);
            int64_t took = clock_monotonic() - begin;
            best = took < best ? took : best;
        }
        printf("%-37s %36s double -> text %6.1f ns\n", kind ? "doubles with all their digits" : "doubles with four decimals", "", (double) best / 4096);
    }
}

int main(int argc, char **argv) {
    wanted = argc > 1 ? argv[1] : NULL;
    mem_tune(); /* as the tools do */
    run("sensors", KIND_SENSORS, NULL);
    run("sensors, --time ts", KIND_SENSORS, (char[]){"ts"});
    run("sensors with @timestamp", KIND_STAMPED, NULL);
    run("sensors, doubles of 16-17 digits", KIND_LONG_DOUBLES, NULL);
    run("sensors and users mixed", KIND_MIXED, NULL);
    run("keys in any order", KIND_SHUFFLED, NULL);
    run_reader(KIND_SENSORS, "sensors, the reader alone");
    run_reader(KIND_UNKNOWN, "sensors, not predicted, reader alone");
    run_reader(KIND_SHUFFLED, "keys in any order, reader alone");
    run_doubles();
    return 0;
}
