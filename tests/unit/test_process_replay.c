/* A program's output follows from the calls alone: the same frames, ticks and end give the same output frames, byte for byte and call by call --
 * whatever the memory held before, and with the program saved and loaded in between. That is what a replay after a crash relies on. Run
 * over every language case and over programs and events made at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <malloc.h>

#include "../../cmd/process/program.h"
#include "base/clock.h"
#include "data/json.h"
#include "data/pack.h"
#include "process_cases.h"

#define INPUTS 3         /* one more than the program is told: it stands aside */
#define CALLS_MAX 400
#define ROUNDS 150

typedef struct call {
    frame_t *frame;           /* NULL: a tick, or answers */
    buf_t answers;            /* to the first operator, as exec has them recorded */
    unsigned input;
    int64_t now;
} call_t;

typedef struct script {
    call_t calls[CALLS_MAX];
    unsigned count;
} script_t;

static unsigned random_below(unsigned limit) {
    return (unsigned) random() % limit;
}

/* Making scripts. */

static call_t *add_call(script_t *script) {
    assert_true(script->count < CALLS_MAX);
    script->calls[script->count] = (call_t){0};
    return &script->calls[script->count++];
}

static void add_frame(script_t *script, frame_builder_t *builder, const char *topic) {
    call_t *call = add_call(script);
    call->frame = builder_take(builder, topic);
    call->input = random_below(INPUTS);
    snprintf(call->frame->origin, sizeof call->frame->origin, "origin-%u", random_below(2));
    if (random_below(3) == 0)
        call->frame->watermark = FRAME_NO_WATERMARK;
    if (random_below(12) == 0)
        call->frame->end = true;
}

static void add_tick(script_t *script, int64_t *now) {
    *now += (int64_t) random_below(5000) * NS_PER_MS;
    *add_call(script) = (call_t){.now = *now};
}

static void script_fini(script_t *script) {
    for (unsigned i = 0; i < script->count; i++) {
        frame_unref(script->calls[i].frame);
        buf_fini(&script->calls[i].answers);
    }
}

/* A case's input in frames of any size, from any input, with ticks between. */
static void make_from_case(script_t *script, const language_case_t *test) {
    json_reader_t *reader = json_reader_new("@timestamp", true, true);
    frame_builder_t builder = {0};
    buf_t record = {0};
    text_t rest = text_of(test->input ? test->input : ""), line;
    char topic[FRAME_TOPIC_MAX + 1] = "input";
    int64_t now = INT64_C(1700000000) * NS_PER_S;
    while (text_split(&rest, '\n', &line)) {
        if (line.size > 9 && memcmp(line.data, "-- after ", 9) == 0 && builder.events)
            add_frame(script, &builder, topic);
        for (int i = 0; line.size > 9 && memcmp(line.data, "-- after ", 9) == 0 && i < 40; i++)
            add_tick(script, &now);
        if (!line.size || line.data[0] == '-')
            continue;
        json_found_t found = {0};
        err_t err;
        buf_clear(&record);
        if (json_read_event(reader, line, &record, &found, &err) < 0)
            fail_msg("%s", err.text);
        text_t stream = found.stream.size ? found.stream : text_of("input");
        if (builder.events && (!text_is(stream, topic) || random_below(3) == 0))
            add_frame(script, &builder, topic);
        if (random_below(4) == 0)
            add_tick(script, &now);
        snprintf(topic, sizeof topic, "%.*s", (int) stream.size, stream.data);
        builder_begin(&builder);
        buf_put(&builder.body, record.data, record.size);
        builder.data_time |= found.has_time;
        builder_commit(&builder, found.has_time ? found.time : now, now);
    }
    if (builder.events)
        add_frame(script, &builder, topic);
    for (int i = 0; i < 6; i++)
        add_tick(script, &now);
    builder_fini(&builder);
    buf_fini(&record);
    json_reader_free(reader);
}

static void put_random_value(buf_t *out) {
    switch (random_below(12)) {
    case 0: pack_nil(out); break;
    case 1: pack_bool(out, random_below(2)); break;
    case 2: pack_text(out, "a text"); break;
    case 3: pack_text(out, "another text, which is too long to stand inside a group"); break;
    case 4: pack_double(out, __builtin_nan("")); break;
    case 5: pack_uint(out, UINT64_MAX - random_below(3)); break;
    case 6: pack_time(out, (int64_t) random_below(100) * NS_PER_S); break;
    case 7: pack_array(out, 1); pack_int(out, (int64_t) random_below(5)); break;
    case 8: case 9: pack_double(out, (double) random_below(10000) / 7 - 500); break;
    default: pack_int(out, (int64_t) random_below(200) - 100);
    }
}

/* Fields in any order, some missing, some twice. keys: windows have many groups. */
static void put_random_record(buf_t *out, bool keys) {
    static const char *const names[] = {"k", "v", "w", "s", "other"};
    unsigned count = random_below(7);
    pack_map(out, count + 1);
    pack_text(out, "k");
    if (random_below(10))
        pack_int(out, (int64_t) random_below(keys ? 500 : 6));
    else
        put_random_value(out);
    for (unsigned i = 0; i < count; i++) {
        pack_text(out, names[random_below(5)]);
        put_random_value(out);
    }
}

/* As a program gives them that may be asked anything; and failures. */
static void add_answers(script_t *script) {
    static const char *const lines[] = {"{\"k\":1,\"v\":5}", "{\"k\":2,\"w\":-1,\"s\":\"a text\"}", "null", "[{\"k\":3,\"v\":1},{\"k\":4,\"v\":2}]", "[]", "7",
                                        "no JSON", "[1]", "{\"@timestamp\":\"2020-01-01\",\"v\":1}"};
    buf_t *out = &add_call(script)->answers;
    for (unsigned i = 1 + random_below(60); i; i--) {
        if (random_below(20) == 0)
            pack_array(out, 1);
        pack_text(out, random_below(3) ? lines[random_below(2)] : lines[random_below(9)]);
    }
}

static void make_random(script_t *script, bool keys) {
    frame_builder_t builder = {0};
    int64_t now = INT64_C(1700000000) * NS_PER_S, time = now;
    unsigned calls = 5 + random_below(60);
    while (script->count < calls) {
        if (random_below(5) == 0) {
            add_tick(script, &now);
            continue;
        }
        if (random_below(5) == 0) {
            add_answers(script);
            continue;
        }
        for (unsigned i = random_below(40); i; i--) {
            time += (int64_t) random_below(keys ? 30 : 800) * NS_PER_MS;
            builder_begin(&builder);
            put_random_record(&builder.body, keys);
            builder.data_time = random_below(2);
            builder_commit(&builder, time - (int64_t) (random_below(3) ? 0 : random_below(20000)) * NS_PER_MS, now + (int64_t) random_below(1000));
        }
        static const char *const topics[] = {"input", "input", "second", "second", "alerts", "input.late"};
        add_frame(script, &builder, topics[random_below(6)]);
    }
    builder_fini(&builder);
}

/* Up to so many of them, not one twice: what has a name cannot stand there again. */
static void put_some(buf_t *text, const char *const *parts, size_t count, unsigned most) {
    unsigned some = random_below(most + 1), at = random_below((uint32_t) count);
    for (unsigned i = 0; i < some; i++)
        buf_format(text, "| %s\n", parts[(at + i) % count]);
}

/* A chain that is right: conditions and values over k, v, w, s, then perhaps a window, then what goes with its results. */
static char *random_program(void) {
    static const char *const first[] = {"where v > 0 or s == \"a text\"", "set w = v * 2, new.part = s ?? \"none\"", "where k in (1, 2, 3) and not (w < -50)",
                                        "set s = if(v > 10, string(v), s)", "alert high when v > 80 for 3s clear when v < 20 by k message \"{k} at {v}\"",
                                        "set v = double(v) / 3, since = event_time()", "where meta.stream == \"input\"", "unset other | set v = abs(v)",
                                        "alert lost when no data for 4s by k repeat every 3s expire 20s message \"{k}\"", "alert quiet when no data for 2s by w, s",
                                        "alert flaps when w > 0 clear for 2s by s repeat every 5s expire 15s",
                                        "join second on k within 2s wait 3s left | set v = v ?? second.v", "join second on k, s within 1s wait 20s as o | unset o"};
    static const char *const quality[] = {"flatten separator \"_\"", "set l = [v, w, k] | unnest l as v index i", "set l = [{v: k}, w] | unnest l merge outer | unset l",
                                          "dedupe by k, v within 2s else repeated", "dedupe within 3s", "sample 2 in 3", "sample 60% by k", "limit 3 per 2s by k",
                                          "limit 2 by k expire 3s else surplus", "fill v = previous, s = previous, w = 0 by k expire 5s",
                                          "validate v is number < 60, s is string else tag wrong", "validate v > -50, check k != 3 message \"{k}\" | unset other",
                                          "split big when v > 70, small when v < -70 else pass", "split all even when k % 2 == 0, odd when k in (1, 3) else dead",
                                          "set j = to_json({s: v, z: k}) | parse j as json", "parse s as regex \"(?<w>.)$\" into r else drop"};
    static const char *const windows[] = {"window tumbling 2s by k: count() as n, sum(v) as s, first(s) as f",
                                          "window tumbling 5s by k, s wait 1s late 4s: count() as n, avg(v) as a, max(s) as m, last(w) as l",
                                          "window tumbling 1s late 2s: count(v) as n, stddev(v) as d, min(w) as m",
                                          "window tumbling 3s by s wait 2s: count() as n, sum(w) as a",
                                          "window tumbling 6s early every 1s by k late 2s: count() as n, range(v) as s, top(s, 2) as f, var(w) as l",
                                          "window hopping 4s every 1s by k: count() as n, sum(v) as s, p90(v) as f, slope(v) as t",
                                          "window hopping 5s every 2s by k, s wait 1s late 4s: count() as n, distinct(v) as a, collect(w, 3) as m",
                                          "window sliding 3s by k: count() as n, sum(v) as s, max(s) as f, p99(v) as t",
                                          "window sliding 4s by k, s wait 2s: count() as n, distinct(v) as a, top(v, 3) as m, collect(s, 2) as l",
                                          "window sliding 2500ms wait 500ms: count(v) as n, stddev(v) as d, first(s) as m, slope(v) as a, median(v) as c",
                                          "window session 500ms by k wait 1s: count() as n, sum(v) as s, last(s) as f",
                                          "window session 1s by k, s late 4s: count() as n, p50(v) as a, top(w, 2) as m",
                                          "window session 2s max 5s by k wait 1s: count(v) as n, distinct(s) as d, collect(v) as a",
                                          "window count 5 by k: count() as n, sum(v) as s, first(s) as f",
                                          "window count 7 every 2 by k, s expire 3s: count() as n, max(s) as m, collect(v, 3) as a, p75(v) as l",
                                          "window count 6 every 3 wait 2s expire 2s: count(v) as n, var(v) as d, top(v, 2) as a",
                                          "window hopping 3s every 700ms late 3s: count(v) as n, stddev(v) as d, max(s) as m, rate(v) as a"};
    unsigned kinds = sizeof windows / sizeof *windows;
    static const char *const last[] = {"dedupe by n within 5s", "set l = [n, n + 1] | unnest l as n", "limit 2 per 4s else surplus", "validate n < 4 else tag wrong",
                                       "fill n = previous", "flatten", "where n > 1", "alert many when n > 2 for 2s", "set twice = n * 2",
                                       "window tumbling 10s: count() as n, sum(n) as total", "alert seldom when n < 3 by n message \"{n}\""};
    static const char *const series[] = {"moving avg(v), min(v), max(w), median(v), stddev(v) over 3s by k", "moving sum(v), count(s) as c, count() as n, var(w) over 7 by k expire 5s",
                                         "moving ewma(v, 0.3), ewma(w, 2s), median(w) over 2 by s",
                                         "anomaly v by k warmup 5 rest 3", "anomaly w as odd method mad over 9 warmup 3 by s | anomaly v as year method seasonal period 3s by k expire 6s",
                                         "anomaly v as plain method zscore threshold 1 warmup 2 by k | anomaly w as other method ewma over 20", "delta v, w as dw by k | rate v by k counter expire 9s",
                                         "trend v over 4s by k", "trend w over 6"};
    static const char *const sequences[] = {"sequence s by k: A when v > 20 then B when v > A.v within 5s", "sequence s: A when w < 0 times 2 to 4 within 3s then next B when v > 0",
                                            "sequence s by k: A when v > 0 then not B when s == \"a text\" within 4s | alert gone when A.v > 10",
                                            "sequence s by k, s within 9s: A when w is not null times 2 in a row then not C when v < -50 then B when v > 50"};
    buf_t text = {0};
    buf_put_text(&text, "# at random\n");
    if (random_below(3) == 0)
        buf_put_text(&text, random_below(2) ? "| exec \"none is asked\" in flight 3\n" : "| exec \"none is asked\" into e\n");
    put_some(&text, first, sizeof first / sizeof *first, 3);
    put_some(&text, quality, sizeof quality / sizeof *quality, 2);
    put_some(&text, series, sizeof series / sizeof *series, 2);
    if (random_below(4)) {
        buf_format(&text, "| %s\n", windows[random_below(kinds)]);
        put_some(&text, last, sizeof last / sizeof *last, 2);
    } else if (random_below(2)) {
        buf_format(&text, "| %s\n", sequences[random_below(sizeof sequences / sizeof *sequences)]);
    }
    if (random_below(4) == 0)
        buf_put_text(&text, "| to elsewhere\n");
    buf_text(&text);
    return (char *) buf_take(&text);
}

/* Playing them. */

typedef struct record {
    buf_t bytes;              /* everything that came out, with the number of the call that it came from */
    bool narrow;              /* there is hardly ever room for output */
    unsigned waits;
} record_t;

static bool record_room(void *argument) {
    return !((record_t *) argument)->narrow || random_below(4) == 0;
}

static void wait_for_room(program_t *program, record_t *record) {
    for (; program_waits(program); record->waits++)
        program_continue(program);
}

static void record_frame(void *argument, frame_t *frame) {
    buf_t *out = &((record_t *) argument)->bytes;
    frame_number_t number = {.origin = "", .epoch = 1, .sequence = 1, .lowest = 1};
    buf_format(out, "frame %s %zu ", frame->topic, frame->body_size);
    frame_put_header(out, frame, &number);
    buf_put(out, frame->body, frame->body_size);
    frame_unref(frame);
}

static void record_dead(void *argument, const event_t *event, const char *place, const char *reason) {
    buf_t *out = &((record_t *) argument)->bytes;
    buf_format(out, "dead %s %s ", place ? place : "", reason);
    if (event)
        buf_put(out, event->bytes, event->size);
}

static program_t *new_program(const char *text, size_t size, record_t *record) {
    diagnostics_t diagnostics = {.name = "program", .source = text_make(text, size)};
    program_setup_t setup = {.stream = "process", .inputs = INPUTS - 1, .idle = 8 * NS_PER_S, .batch_events = 5, .batch_bytes = 1000,
                             .frame = record_frame, .dead = record_dead, .room = record_room, .argument = record};
    program_t *program = program_new(&setup, &diagnostics);
    if (!program) {
        buf_t report = {0};
        diagnostics_print(&diagnostics, &report);
        fail_msg("%s", buf_text(&report));
    }
    return program;
}

static void live(program_t *program) {
    err_t err;
    if (program_live(program, NULL, &err) < 0)
        fail_msg("%s", err.text);
}

static void flush_piece(void *argument, buf_t *out) {
    buf_put(argument, out->data, out->size);
    buf_clear(out);
}

static program_t *restart(program_t *program, const char *text, size_t size, record_t *record) {
    buf_t piece = {0}, all = {0};
    program_save(program, &piece, flush_piece, &all);
    flush_piece(&all, &piece);
    program_free(program);
    program = new_program(text, size, record);
    err_t err;
    if (program_load(program, all.data, all.size, &err) < 0)
        fail_msg("%s", err.text);
    buf_fini(&piece);
    buf_fini(&all);
    live(program);
    return program;
}

/* One in `restarts` calls is followed by a restart; 0: none. */
static void play(const script_t *script, const char *text, size_t size, unsigned restarts, record_t *record) {
    program_t *program = new_program(text, size, record);
    live(program);
    for (unsigned i = 0; i < script->count; i++) {
        const call_t *call = &script->calls[i];
        buf_format(&record->bytes, "\ncall %u ", i);
        if (call->frame)
            program_frame(program, call->input, call->frame);
        else if (call->answers.data)
            program_outside(program, 0, 0, text_make((const char *) call->answers.data, call->answers.size));
        else
            program_tick(program, call->now);
        wait_for_room(program, record);
        if (restarts && random_below(restarts) == 0)
            program = restart(program, text, size, record);
    }
    buf_format(&record->bytes, "\nend ");
    program_end(program);
    wait_for_room(program, record);
    for (unsigned i = 0; i < 20000 && program_busy(program); i++) { /* an answer each, one by one */
        program_outside(program, 0, 0, text_make(i % 3 ? "\xA7{\"v\":1}" : "\xA4null", i % 3 ? 8 : 5));
        wait_for_room(program, record);
    }
    program_counts_t counts = program_counts(program);
    buf_format(&record->bytes, "\n%llu %llu %llu %llu %llu", (unsigned long long) counts.filtered, (unsigned long long) counts.late,
               (unsigned long long) counts.held, (unsigned long long) counts.created, (unsigned long long) program_errors(program));
    program_free(program);
}

static unsigned waits;

static void compare(const script_t *script, const char *text, size_t size) {
    static const struct {
        int memory;
        unsigned restarts;
        bool narrow;
    } ways[] = {{0, 0}, {0xA5, 0}, {0x3C, 4}, {0x5A, 1}, {0x77, 3, true}};
    record_t first = {0};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        record_t record = {.narrow = ways[i].narrow};
        mallopt(M_PERTURB, ways[i].memory); /* what new and freed memory is filled with */
        play(script, text, size, ways[i].restarts, &record);
        mallopt(M_PERTURB, 0);
        if (!i) {
            first = record;
            continue;
        }
        if (record.bytes.size != first.bytes.size || memcmp(record.bytes.data, first.bytes.data, first.bytes.size) != 0)
            fail_msg("another output, with restarts %u, of: %.*s", ways[i].restarts, (int) size, text);
        buf_fini(&record.bytes);
        waits += record.waits;
    }
    buf_fini(&first.bytes);
}

static void cases_replay(void **state) {
    unsigned played = 0;
    for (size_t i = 0; i < case_count; i++) {
        if (cases[i].faults)
            continue;
        script_t script = {0};
        srandom((unsigned) i + 1);
        make_from_case(&script, &cases[i]);
        case_enter(&cases[i]);
        compare(&script, cases[i].program, cases[i].program_size);
        case_leave(&cases[i]);
        script_fini(&script);
        played++;
    }
    assert_true(played > 200);
}

static void random_programs_replay(void **state) {
    for (unsigned seed = 1; seed <= ROUNDS; seed++) {
        script_t script = {0};
        srandom(seed);
        char *text = random_program();
        make_random(&script, seed % 3 == 0);
        compare(&script, text, strlen(text));
        script_fini(&script);
        mem_free(text);
    }
    assert_true(waits > 100); /* windows that could not be written out at once */
}

int main(void) {
    read_all_cases();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_replay),
        cmocka_unit_test(random_programs_replay),
    };
    int failed = cmocka_run_group_tests_name("process_replay", tests, NULL, NULL);
    free_cases();
    return failed;
}
