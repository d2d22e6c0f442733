/* Running a program: frames in, watermarks per origin, batches of rows through the chain, frames out. Nothing here depends on how
 * events are cut into frames: the watermark moves with each event, and what a batch may hold is a matter of speed only. */
#include <inttypes.h>
#include <stdarg.h>

#include "chain.h"

#define WATERMARK_STEP (100 * INT64_C(1000000))       /* ns that the watermark moves before a frame without events tells it */
#define TICK_LEAST (100 * INT64_C(1000000))            /* ns between ticks */
#define AHEAD 1024                                     /* bytes: events are fetched before they are looked at */

void op_pass_watermark(op_t *op, int64_t watermark) {
    op_t *next = op->next;
    while (!next->class->watermark)
        next = next->next;
    next->class->watermark(next, watermark);
}

void op_pass_tick(op_t *op, int64_t now) {
    op_t *next = op->next;
    while (next && !next->class->tick)
        next = next->next;
    if (next)
        next->class->tick(next, now);
}

rows_t *rows_new(program_t *program) {
    rows_t *rows = mem_zero(sizeof *rows);
    rows->values = mem_zero(BATCH * (program->values + 1) * sizeof *rows->values);
    for (unsigned i = 0; i < BATCH; i++) {
        rows->row[i].values = rows->values + i * program->values;
        rows->row[i].context = &program->context;
        rows->pointers[i] = &rows->row[i];
    }
    return rows;
}

unsigned program_batch(const program_t *program) {
    return program->batch;
}

void rows_free(rows_t *rows) {
    if (!rows)
        return;
    mem_free(rows->values);
    mem_free(rows);
}

static void report(void *argument, const node_t *node, const char *text) {
    program_t *program = argument;
    char line[400];
    if (node)
        snprintf(line, sizeof line, "%s (line %u, column %u): %s", node->owner, node->line, node->column, text);
    else
        snprintf(line, sizeof line, "output: %s", text);
    program->setup.report(program->setup.argument, line);
}

void program_prepare(program_t *program) {
    program->rows = rows_new(program);
    program->places = mem_zero(BATCH * (layout_count(program->layout) + 1) * sizeof *program->places);
    program->inputs = mem_zero(program->setup.inputs * sizeof *program->inputs);
    program->batch = program->sides > 1 ? 1 : BATCH;
    program->aside.watermark = INT64_MAX;
    program->ended = program->watermark = program->announced = program->out_watermark = program->sent_watermark = FRAME_NO_WATERMARK;
    if (program->setup.report)
        program->context.report = report;
    program->context.argument = program;
}

/* Output. */

static void send_frame(program_t *program, stream_t *stream, int64_t watermark) {
    frame_t *frame = builder_take(&stream->builder, stream->name);
    frame->watermark = watermark;
    program->setup.frame(program->setup.argument, frame);
}

frame_builder_t *program_begin(program_t *program, unsigned stream) {
    frame_builder_t *builder = &program->streams[stream].builder;
    builder_begin(builder);
    return builder;
}

static void added(program_t *program, unsigned stream) {
    frame_builder_t *builder = &program->streams[stream].builder;
    if (builder->events >= program->setup.batch_events || builder->body.size >= program->setup.batch_bytes)
        send_frame(program, &program->streams[stream], program->sent_watermark); /* more is to come of this time */
}

void program_commit(program_t *program, unsigned stream, int64_t time, int64_t ingest_time) {
    frame_builder_t *builder = &program->streams[stream].builder;
    builder->data_time = true;
    builder_commit(builder, time, ingest_time);
    added(program, stream);
}

void plan_emit(const plan_t *plan, program_t *program, unsigned stream, const row_t *row) {
    frame_builder_t *builder = &program->streams[stream].builder;
    if (plan_verbatim(plan)) {
        builder_add(builder, &row->event, row->ingest_time);
    } else {
        builder_begin(builder);
        if (!plan_put(plan, row, &builder->body)) {
            builder_abort(builder);
            program->setup.dead(program->setup.argument, &row->event, NULL, "the event is malformed");
            return;
        }
        builder_commit(builder, row->event.time, row->ingest_time);
    }
    builder->data_time |= !row->frame || row->frame->data_time;
    added(program, stream);
}

void program_dead(program_t *program, const row_t *row, const plan_t *plan, const char *place, const char *reason) {
    event_t event = row->original ? *row->original : row->event;
    frame_builder_t builder = {0};
    if (!event.bytes) {
        builder_begin(&builder);
        plan_put(plan, row, &builder.body);
        builder_commit(&builder, event.time, row->ingest_time);
        event.bytes = builder.body.data;
        event.size = (uint32_t) builder.body.size;
        event.record = event.bytes + EVENT_HEAD;
        event.record_size = event.size - EVENT_HEAD;
    }
    if (program->outline)
        snprintf(program->outline->dead, sizeof program->outline->dead, "%s", reason);
    program->setup.dead(program->setup.argument, &event, place, reason);
    builder_fini(&builder);
}

static void output_event(op_t *op, row_t **rows, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        plan_emit(((output_t *) op)->plan, op->program, 0, rows[i]);
}

static void output_watermark(op_t *op, int64_t watermark) {
    if (watermark > op->program->out_watermark && watermark != INT64_MAX)
        op->program->out_watermark = watermark;
}

const op_class_t output_class = {.name = "output", .event = output_event, .watermark = output_watermark};

/* What this input caused leaves now, and says how far event time has come. */
static void flush(program_t *program) {
    int64_t watermark = program->out_watermark;
    stream_t *main = &program->streams[0];
    if (main->builder.events || (watermark != FRAME_NO_WATERMARK && (program->sent_watermark == FRAME_NO_WATERMARK ||
                                                                      watermark - program->sent_watermark >= WATERMARK_STEP))) {
        send_frame(program, main, watermark);
        program->sent_watermark = watermark;
    }
    for (unsigned i = 1; i < program->stream_count; i++)
        if (program->streams[i].builder.events)
            send_frame(program, &program->streams[i], watermark);
}

/* Watermarks. */

static origin_t *find_origin(program_t *program, unsigned input, const char *name) {
    if (input >= program->setup.inputs)
        return &program->aside;
    for (unsigned i = 0; i < program->origin_count; i++)
        if (program->origins[i].input == input && strcmp(program->origins[i].name, name) == 0)
            return &program->origins[i];
    program->origins = mem_resize(program->origins, (program->origin_count + 1) * sizeof *program->origins);
    origin_t *origin = &program->origins[program->origin_count++];
    *origin = (origin_t){.input = input, .watermark = FRAME_NO_WATERMARK};
    snprintf(origin->name, sizeof origin->name, "%s", name);
    return origin;
}

/* The least watermark of the live origins, `but` excepted; INT64_MAX when there is no other. */
static int64_t least_watermark(const program_t *program, const origin_t *but) {
    for (unsigned i = 0; i < program->setup.inputs; i++)
        if (!program->inputs[i].known)
            return FRAME_NO_WATERMARK;
    int64_t least = INT64_MAX;
    for (unsigned i = 0; i < program->origin_count; i++) {
        const origin_t *origin = &program->origins[i];
        if (origin != but && !origin->idle && origin->watermark < least)
            least = origin->watermark;
    }
    return least;
}

/* Raises the watermark to the least of the live origins; when all are idle or have ended, to the greatest that was seen. */
static void raise_watermark(program_t *program) {
    int64_t least = least_watermark(program, NULL);
    if (least == INT64_MAX) {
        least = program->ended;
        for (unsigned i = 0; i < program->origin_count; i++)
            if (program->origins[i].watermark > least)
                least = program->origins[i].watermark;
    }
    if (least > program->watermark)
        program->watermark = least;
}

static void announce(program_t *program) {
    if (program->watermark > program->announced) {
        program->announced = program->watermark;
        op_t before = {.next = program->first};
        op_pass_watermark(&before, program->watermark);
    }
}

static void end_origin(program_t *program, origin_t *origin) {
    if (origin == &program->aside)
        return;
    if (origin->watermark > program->ended)
        program->ended = origin->watermark;
    *origin = program->origins[--program->origin_count];
    raise_watermark(program);
}

/* Events. */

/* Fills up to a batch of rows. False at the end; then, too, *count says how many there are. */
static bool read_rows(program_t *program, unsigned *count) {
    work_t *work = &program->work;
    const uint8_t *readable = work->frame->body ? work->frame->body + work->frame->body_size : NULL;
    unsigned slots = layout_count(program->layout);
    *count = 0;
    while (*count < program->batch) {
        row_t *row = &program->rows->row[*count];
        int next = frame_next(work->frame, &work->walk, &row->event);
        if (next <= 0) {
            for (uint32_t i = work->walk.index; next < 0 && i < work->frame->events; i++)
                program->setup.dead(program->setup.argument, NULL, NULL, "the frame is malformed from here on");
            return false;
        }
        __builtin_prefetch(row->event.bytes + AHEAD);
        __builtin_prefetch(row->event.bytes + AHEAD + 64);
        if (slots) {
            row->places = layout_locate(program->layout, row->event.record, row->event.record_size, readable, program->places + *count * slots);
            if (!row->places) {
                program->setup.dead(program->setup.argument, &row->event, NULL, "the event is malformed");
                continue;
            }
        }
        int64_t time = row->event.time < work->limit ? row->event.time : work->limit;
        if (time > work->origin->watermark) {
            work->origin->watermark = time;
            if (time > work->others)
                time = work->others;
            if (time > program->watermark)
                program->watermark = time;
        }
        row->watermark = program->watermark;
        row->original = NULL;
        row->frame = work->frame;
        row->ingest_time = work->frame->ingest_time;
        program->rows->pointers[*count] = row;
        (*count)++;
    }
    return true;
}

static void release_frame(void *frame) {
    frame_unref(frame);
}

/* The same events under a stream's name: the frame shares the memory. */
static void send_same(program_t *program, frame_t *frame, const char *topic) {
    frame_t *same = mem_alloc(sizeof *same);
    *same = *frame;
    atomic_init(&same->references, 1);
    if (topic != frame->topic)
        snprintf(same->topic, sizeof same->topic, "%s", topic);
    same->origin[0] = 0;
    same->end = same->has_stable = same->hurry = false;
    same->past_count = 0;
    same->watermark = program->out_watermark;
    same->memory[0] = frame_ref(frame);
    same->release[0] = release_frame;
    same->memory[1] = NULL;
    same->release[1] = NULL;
    program->setup.frame(program->setup.argument, same);
}

static void raise_by_frame(program_t *program) {
    const work_t *work = &program->work;
    origin_t *origin = work->origin;
    if (origin == &program->aside)
        return;
    if (work->frame->watermark > origin->watermark)
        origin->watermark = work->frame->watermark;
    int64_t least = origin->watermark < work->others ? origin->watermark : work->others;
    if (least > program->watermark)
        program->watermark = least;
}

/* Streams beside a main one: their events are another stage's alerts and latecomers, and news of a source's devices. */
static bool is_other(const program_t *program, const frame_t *frame) {
    bool devices = text_ends(frame->topic, ".devices");
    if (program->setup.devices)
        return !devices;
    return program->setup.others != OTHERS_PROCESS && (devices || strcmp(frame->topic, "alerts") == 0 || text_ends(frame->topic, ".late"));
}

static void read_frame(program_t *program) {
    work_t *work = &program->work;
    while (!program->waiting) {
        unsigned count;
        if (program->batch == 1) /* who comes first on a shared side stream must not depend on where the frame ends either */
            announce(program);
        if (work->read || program->waiting)
            break;
        arena_reset(&program->context.arena); /* the rows before are dealt with */
        layout_settle(program->layout);
        work->read = !read_rows(program, &count);
        if (count)
            program->first->class->event(program->first, program->rows->pointers, count);
    }
}

/* Deals with the call that was begun, up to its end or until an operator waits for room. */
static void proceed(program_t *program) {
    work_t *work = &program->work;
    if (work->next == TASK_READ) {
        read_frame(program);
        if (program->waiting)
            return;
        raise_by_frame(program);
        work->next = TASK_TELL;
    }
    if (work->next == TASK_TELL) {
        if (work->frame && work->frame->end)
            end_origin(program, work->origin);
        work->next = TASK_TICK;
        announce(program);
    }
    while (work->told && !program->waiting) {
        arena_reset(&program->context.arena); /* what it passed on before is dealt with */
        if (!work->told->class->outside(work->told, 0, (text_t){0}))
            work->told = NULL;
    }
    if (program->waiting)
        return;
    if (work->next == TASK_TICK && work->tick) {
        op_t before = {.next = program->first};
        op_pass_tick(&before, work->now);
    }
    flush(program);
    arena_reset(&program->context.arena);
    frame_unref(work->frame);
    work->frame = NULL;
}

bool program_must_stop(program_t *program, op_t *op) {
    if (!program->waiting)
        return false;
    op->stopped = true;
    return true;
}

void program_press(program_t *program, bool on) {
    program->pressed = on;
}

bool program_must_wait(program_t *program, op_t *op) {
    if (program_must_stop(program, op))
        return true;
    if (program->pressed || !program->setup.room || program->setup.room(program->setup.argument))
        return false;
    program->waiting = op;
    op->stopped = true;
    return true;
}

bool program_waits(const program_t *program) {
    return program->waiting != NULL;
}

void program_continue(program_t *program) {
    while (program->waiting) {
        op_t *op = program->waiting;
        program->waiting = NULL;
        op->stopped = false;
        op->class->resume(op);
        if (program->waiting)
            return;
        for (op_t *before = program->first; before != op; before = before->next) /* who was stopped by it */
            if (before->stopped)
                program->waiting = before;
    }
    proceed(program);
}

void program_frame(program_t *program, unsigned input, frame_t *frame) {
    ASSERT(!program->waiting);
    origin_t *origin = find_origin(program, input, frame->origin);
    if (input < program->setup.inputs)
        program->inputs[input].known = true;
    origin->heard = true;
    origin->idle = false;
    program->work = (work_t){.frame = frame_ref(frame), .origin = origin, .others = least_watermark(program, origin),
                             .limit = frame->watermark == FRAME_NO_WATERMARK ? INT64_MAX : frame->watermark, .next = TASK_TELL};
    if (is_other(program, frame)) {
        if (program->setup.devices)
            raise_by_frame(program); /* news of devices are rare: the time goes on by the data */
        if (program->setup.others == OTHERS_DROP)
            program->ledger.filtered += frame->events;
        else if (frame->events)
            send_same(program, frame, frame->topic);
    } else if (program->verbatim) {
        raise_by_frame(program);
        announce(program); /* nobody is there who could wait */
        if (frame->events) {
            send_same(program, frame, program->streams[0].name);
            program->sent_watermark = program->out_watermark;
        }
    } else {
        program->work.next = TASK_READ;
    }
    proceed(program);
}

static void count_silence(program_t *program) {
    for (unsigned i = 0; i < program->setup.inputs; i++) {
        input_t *waited = &program->inputs[i];
        if (!waited->known && ++waited->silent > IDLE_TICKS)
            waited->known = true;
    }
    for (unsigned i = 0; i < program->origin_count; i++) {
        origin_t *origin = &program->origins[i];
        origin->silent = origin->heard ? 0 : origin->silent + 1;
        origin->heard = false;
        if (origin->silent >= IDLE_TICKS)
            origin->idle = true;
        if (origin->silent >= FORGET_TICKS) { /* a sender that starts anew each time has another name each time */
            if (origin->watermark > program->ended)
                program->ended = origin->watermark;
            *origin = program->origins[--program->origin_count];
            i--;
        }
    }
}

/* A quarter of the idle time; or a whole part of that, where operators want to be told more often. */
int64_t program_tick_interval(const program_t *program) {
    int64_t interval = program->setup.idle ? program->setup.idle / IDLE_TICKS : program->tick_interval;
    if (program->tick_interval && program->tick_interval < interval)
        interval /= (interval + program->tick_interval - 1) / program->tick_interval;
    return interval && interval < TICK_LEAST ? TICK_LEAST : interval;
}

void program_tick(program_t *program, int64_t now) {
    ASSERT(!program->waiting);
    bool back = now < program->ticked; /* the wall clock was set back: what it says now is as good as before */
    int64_t quarter = program->setup.idle / IDLE_TICKS, slack = program_tick_interval(program) / 2;
    if (program->setup.idle && (back || now - program->ticked >= (slack < quarter ? quarter - slack : quarter / 2))) {
        program->ticked = now;
        count_silence(program);
    }
    raise_watermark(program);
    program->work = (work_t){.next = TASK_TELL, .tick = true, .now = now};
    proceed(program);
}

void program_end(program_t *program) {
    ASSERT(!program->waiting);
    op_t before = {.next = program->first};
    program->work = (work_t){.next = TASK_FLUSH};
    op_pass_watermark(&before, INT64_MAX);
    if (!program->waiting)
        proceed(program);
}

/* The outside. */

static op_t *find_op(const program_t *program, unsigned number) {
    op_t *op = program->first;
    while (op && (op->number != number || !op->class->outside))
        op = op->next;
    return op;
}

void program_look(const program_t *program, void (*missing)(void *argument, const char *text), void *argument) {
    err_t err;
    for (const op_t *op = program->first; op; op = op->next)
        if (op->class->look && op->class->look(op, &err) < 0)
            missing(argument, err.text);
}

int program_live(program_t *program, loop_t *loop, err_t *err) {
    program->live = true;
    for (op_t *op = program->first; op; op = op->next)
        if (op->class->live && op->class->live(op, loop, err) < 0)
            return -1;
    if (program->holds && program->setup.hold)
        program->setup.hold(program->setup.argument, true);
    return 0;
}

void program_outside(program_t *program, unsigned number_of_op, uint64_t number, text_t bytes) {
    ASSERT(!program->waiting);
    op_t *op = find_op(program, number_of_op);
    if (!op) /* recorded under another program: it was refused before */
        return;
    program->work = (work_t){.next = TASK_OUTSIDE};
    if (op->class->outside(op, number, bytes))
        program->work.told = op;
    proceed(program);
}

bool program_busy(const program_t *program) {
    for (const op_t *op = program->first; op; op = op->next)
        if (op->class->busy && op->class->busy(op))
            return true;
    return false;
}

typedef struct settling {
    const program_t *program;
    loop_t *loop;
} settling_t;

static void look_whether_settled(void *argument) {
    const settling_t *settling = argument;
    if (!program_busy(settling->program))
        loop_stop(settling->loop);
}

void program_settle(program_t *program, loop_t *loop) {
    if (!program_busy(program))
        return;
    settling_t settling = {program, loop};
    loop_watch_t *watch = loop_timer(loop, 0, INT64_C(1000000), look_whether_settled, &settling);
    loop_run(loop);
    loop_remove(watch);
}

int op_tell(op_t *op, text_t bytes, bool keep, err_t *err) {
    const program_setup_t *setup = &op->program->setup;
    if (setup->outside)
        return setup->outside(setup->argument, op->number, bytes, keep, err);
    program_outside(op->program, op->number, 0, bytes);
    return 0;
}

int program_recall(op_t *op, uint64_t number, buf_t *out, err_t *err) {
    const program_setup_t *setup = &op->program->setup;
    return setup->recall ? setup->recall(setup->argument, op->number, number, out, err) : err_set(err, "nobody has kept what was read from outside");
}

void op_hold(op_t *op, bool hold) {
    program_t *program = op->program;
    program->holds += hold ? 1 : -1u;
    if (program->live && program->setup.hold && program->holds == hold)
        program->setup.hold(program->setup.argument, hold);
}

void op_trouble(op_t *op, const char *format, ...) {
    const program_setup_t *setup = &op->program->setup;
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (setup->trouble)
        setup->trouble(setup->argument, text);
}
