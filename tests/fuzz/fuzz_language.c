/* Programs and events from anyone: the text before a NUL byte is a program; what follows is a frame's body, or NDJSON when it begins with {. The
 * program is read, checked, run, saved, loaded and ended; its output must be well formed. */
#include <stdlib.h>

#include "../../cmd/process/program.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_frame(void *argument, frame_t *frame) {
    *(uint64_t *) argument += frame->events;
    frame_walk_t walk = {0};
    event_t event;
    buf_t text = {0};
    while (frame_next(frame, &walk, &event) == 1)
        json_put_event(&text, &event, frame->data_time, NULL);
    buf_fini(&text);
    frame_unref(frame);
}

static void dead(void *argument, const event_t *event, const char *place, const char *reason) {
}

static void report(void *argument, const char *text) {
}

/* NDJSON lines; else raw records, each behind two bytes of size and one of time. */
static frame_t *make_frame(const uint8_t *data, size_t size) {
    frame_builder_t builder = {0};
    text_t rest = text_make((const char *) data, size), line;
    json_reader_t *reader = json_reader_new("@timestamp", true, true);
    bool text = size && data[0] == '{';
    while (text && text_split(&rest, '\n', &line)) {
        json_found_t found = {0};
        builder_begin(&builder);
        if (json_read_event(reader, line, &builder.body, &found, NULL) == 0)
            builder_commit(&builder, found.has_time ? found.time : 1000000000, 2000000000);
        else
            builder_abort(&builder);
    }
    while (!text && size > 3) {
        size_t length = (size_t) data[0] | (size_t) data[1] << 8;
        int64_t time = (int64_t) data[2] * 1000000000;
        data += 3;
        size -= 3;
        length = length < size ? length : size;
        if (!length)
            continue;
        builder_begin(&builder);
        buf_put(&builder.body, data, length);
        builder_commit(&builder, time, time);
        data += length;
        size -= length;
    }
    json_reader_free(reader);
    frame_t *frame = builder_take(&builder, "input");
    builder_fini(&builder);
    return frame;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t program_size = zero ? (size_t) (zero - data) : size;
    uint64_t events = 0;
    diagnostics_t diagnostics = {.name = "fuzz", .source = text_make((const char *) data, program_size)};
    program_setup_t setup = {.stream = "out", .inputs = 1, .batch_events = 5, .batch_bytes = 4096, .frame = check_frame, .dead = dead,
                             .report = report, .argument = &events};
    program_t *program = program_new(&setup, &diagnostics);
    buf_t out = {0};
    if (!program) {
        diagnostics_print(&diagnostics, &out);
        diagnostics_put_json(&diagnostics, &out);
        diagnostics_fini(&diagnostics);
        buf_fini(&out);
        return 0;
    }
    frame_t *frame = zero ? make_frame(zero + 1, size - program_size - 1) : make_frame((const uint8_t *) "{\"x\":1}", 7);
    program_frame(program, 0, frame);
    program_save(program, &out, NULL, NULL);
    diagnostics_t again = {.name = "fuzz", .source = diagnostics.source};
    program_t *second = program_new(&setup, &again);
    err_t err;
    if (!second || program_load(second, out.data, out.size, &err) < 0)
        abort();
    program_frame(second, 0, frame);
    program_tick(second, INT64_C(5000000000));
    program_end(second);
    program_free(second);
    program_free(program);
    frame_unref(frame);
    buf_fini(&out);
    return 0;
}
