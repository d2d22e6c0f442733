/* Windows that each key has of its own: sessions, sliding windows, windows of so many events. Their state is in cells. Sliding windows, and sessions and
 * counts where the program asks for it, take events in order of time: an event waits until the watermark has passed it by `wait`. What is due
 * and what waits is dealt with in order of time, so that a leap of the watermark gives the same as many small steps. */
#include "window.h"

/* A cell's body, but for sessions. */
typedef struct counted {
    int64_t heard;            /* greatest event time or, for an event of the past, the watermark: silence counts from here */
    uint64_t events;          /* since the last result */
    slide_t slide;            /* count without every: only its block is used */
} counted_t;

static bool tumbles(const window_t *window) {
    return window->kind == COUNT && window->step == window->number;
}

/* Whether events are taken in order of time. */
static bool is_ordered(const window_t *window) {
    return window->kind == SLIDING || (window->kind == COUNT && window->wait) || (window->kind == SESSION && window->most != INT64_MAX);
}

static size_t body_size(const window_t *window) {
    return window->kind == SESSION ? sizeof(sessions_t) : sizeof(counted_t) + window->summary.size;
}

static void drop_body(window_t *window, cell_t *cell) {
    counted_t *counted = (counted_t *) cell->body;
    if (window->kind == SESSION)
        sessions_drop(window, (sessions_t *) cell->body);
    else if (tumbles(window))
        summary_drop(&window->summary, counted->slide.block);
    else
        slide_drop(&window->summary, &counted->slide);
}

static void remove_cell(window_t *window, cell_t *cell) {
    drop_body(window, cell);
    cells_remove(window->cells, cell);
}

static cell_t *cell_of(window_t *window, const arrival_t *arrival) {
    cell_t *cell = cells_find(window->cells, arrival->key, arrival->key_size, arrival->hash);
    if (cell)
        return cell;
    cell = cells_add(window->cells, arrival->key, arrival->key_size, arrival->hash);
    ((counted_t *) cell->body)->heard = INT64_MIN;
    return cell;
}

static void put_counted(window_t *window, cell_t *cell, int64_t time) {
    counted_t *counted = (counted_t *) cell->body;
    result_t result = {.key = cell->key, .key_size = cell->key_size, .start = time_add(time, -window->length), .end = time, .time = time,
                       .span = window->length, .block = counted->slide.block, .slide = tumbles(window) ? NULL : &counted->slide};
    window->full |= window_put(window, &result);
    window_settle(window, counted->events);
    counted->events = 0;
}

static void slide_event(window_t *window, const arrival_t *arrival) {
    cell_t *cell = cell_of(window, arrival);
    counted_t *counted = (counted_t *) cell->body;
    int64_t until = time_add(arrival->time, -window->length);
    while (counted->slide.count && slide_oldest(&counted->slide) <= until)
        slide_take(&window->summary, &counted->slide);
    slide_add(&window->summary, &counted->slide, arrival->time, arrival->values, arrival->packed, arrival->packed_size);
    counted->events++;
    counted->heard = arrival->time;
    put_counted(window, cell, arrival->time);
    cells_due(window->cells, cell, time_add(time_add(arrival->time, window->length), window->wait));
}

static void count_event(window_t *window, const arrival_t *arrival) {
    cell_t *cell = cell_of(window, arrival);
    counted_t *counted = (counted_t *) cell->body;
    if (tumbles(window)) {
        summary_put(&window->summary, counted->slide.block, arrival->values, arrival->time);
    } else {
        if (counted->slide.count == window->number)
            slide_take(&window->summary, &counted->slide);
        slide_add(&window->summary, &counted->slide, arrival->time, arrival->values, arrival->packed, arrival->packed_size);
    }
    int64_t heard = arrival->time > arrival->watermark ? arrival->time : arrival->watermark;
    counted->heard = heard > counted->heard ? heard : counted->heard;
    cells_due(window->cells, cell, time_add(time_add(counted->heard, window->expire), window->wait));
    if (++counted->events < window->step)
        return;
    put_counted(window, cell, 0);
    if (tumbles(window))
        remove_cell(window, cell);
}

/* False: it is too late. */
static bool take(window_t *window, const arrival_t *arrival) {
    program_ledger(window->op.program)->held++;
    if (window->kind == SLIDING) {
        slide_event(window, arrival);
    } else if (window->kind == COUNT) {
        count_event(window, arrival);
    } else if (!session_add(window, arrival)) {
        program_ledger(window->op.program)->held--;
        return false;
    }
    return true;
}

/* Time. */

/* What falls due at this watermark is written. A count that the end of the stream cuts short comes when event time stands where it has come to. */
static void set_instant(window_t *window, int64_t due) {
    window->instant = window->kind == COUNT && due > window->reached ? window->reached : due - 1;
}

static void fire_cell(window_t *window, cell_t *cell) {
    counted_t *counted = (counted_t *) cell->body;
    set_instant(window, cell->due);
    if (window->kind == SESSION) {
        session_fire(window, cell, window->firing.watermark);
        return;
    }
    if (counted->events)
        put_counted(window, cell, 0);
    remove_cell(window, cell);
}

static void take_held(window_t *window, const held_t *held) {
    pack_cursor_t cursor = pack_cursor(held->bytes.data + held->values, held->bytes.size - held->values);
    for (unsigned i = 0; i < window->summary.argument_count; i++)
        if (!pack_read_value(&cursor, &window->taken[i]))
            window->taken[i] = value_null(); /* can't be: see slide.c */
    window->taken[window->summary.argument_count] = value_int(held->time);
    arrival_t arrival = {.time = held->time, .key = held->bytes.data, .key_size = held->key_size, .hash = held->hash, .values = window->taken,
                         .packed = held->bytes.data + held->values, .packed_size = held->bytes.size - held->values,
                         .watermark = FRAME_NO_WATERMARK}; /* in order, nothing is late */
    window->ingest_time = held->ingest_time;
    set_instant(window, time_add(held->time, window->wait));
    program_ledger(window->op.program)->held--;
    take(window, &arrival);
    waiting_take(window->held);
}

static void update_next(window_t *window) {
    const held_t *held = window->held ? waiting_first(window->held) : NULL;
    int64_t waits = held ? time_add(held->time, window->wait) : INT64_MAX, due = cells_next(window->cells);
    window->next = waits < due ? waits : due;
}

/* False: there is no room at present. */
static bool proceed(window_t *window) {
    int64_t watermark = window->firing.watermark;
    for (;;) {
        if (window->full && program_must_wait(window->op.program, &window->op)) {
            window->full = false;
            return false;
        }
        window->full = false;
        cell_t *cell = cells_first(window->cells, watermark);
        const held_t *held = window->held ? waiting_first(window->held) : NULL;
        int64_t waits = held ? time_add(held->time, window->wait) : INT64_MAX;
        if (cell && (!held || cell->due <= waits))
            fire_cell(window, cell);
        else if (held && waits <= watermark)
            take_held(window, held);
        else
            break;
    }
    window_pass(window);
    update_next(window);
    return !program_must_stop(window->op.program, &window->op);
}

static bool advance(window_t *window, int64_t watermark) {
    if (watermark < window->next)
        return true;
    window->firing = (firing_t){.watermark = watermark};
    window->full = false;
    return proceed(window);
}

/* Events. */

static void prepare_row(window_t *window, pending_t *pending, const row_t *row) {
    window_key(window, pending, row);
    cells_prefetch(window->cells, pending->hash);
    for (unsigned i = 0; i < window->summary.argument_count; i++)
        pending->values[i] = evaluate(window->summary.arguments[i], row);
    pending->values[window->summary.argument_count] = value_int(row->event.time);
}

static void hold(window_t *window, const pending_t *pending, const row_t *row) {
    held_t *held = waiting_add(window->held, row->event.time);
    held->ingest_time = row->ingest_time;
    held->hash = pending->hash;
    held->key_size = (uint32_t) pending->key.size;
    buf_put(&held->bytes, pending->key.data, pending->key.size);
    key_end(&held->bytes);
    held->bytes.size += GROUP_KEY_INLINE;
    held->values = held->bytes.size;
    buf_put(&held->bytes, window->packed.data, window->packed.size);
    program_ledger(window->op.program)->held++;
    update_next(window);
}

static void add_row(window_t *window, const pending_t *pending, const row_t *row) {
    int64_t time = row->event.time;
    if (window->held && time_add(time, window->wait) < row->watermark) {
        window_late(window, row);
        return;
    }
    buf_clear(&window->packed);
    for (unsigned i = 0; i < window->summary.argument_count; i++)
        pack_value(&window->packed, pending->values[i]);
    if (window->held && time_add(time, window->wait) > row->watermark) {
        summary_check(&window->summary, pending->values, row);
        hold(window, pending, row);
        return;
    }
    window->instant = row->watermark;
    arrival_t arrival = {.time = time, .key = pending->key.data, .key_size = pending->key.size, .hash = pending->hash, .values = pending->values,
                         .packed = window->packed.data, .packed_size = window->packed.size, .watermark = row->watermark};
    if (!take(window, &arrival)) {
        window_late(window, row);
        return;
    }
    summary_check(&window->summary, pending->values, row);
    window->ingest_time = row->ingest_time;
    if (cells_next(window->cells) < window->next)
        window->next = cells_next(window->cells);
}

static void take_rows(window_t *window) {
    for (; window->row < window->waiting_count; window->row++) {
        if (program_must_stop(window->op.program, &window->op))
            return;
        const row_t *row = window->waiting[window->row];
        if (row->watermark > window->reached)
            window->reached = row->watermark;
        if (row->watermark >= window->next && !advance(window, row->watermark))
            return;
        add_row(window, &window->pending[window->row], row);
    }
    window->waiting_count = 0;
    window_pass(window);
}

static void cells_event(op_t *op, row_t **rows, unsigned count) {
    window_t *window = (window_t *) op;
    for (unsigned i = 0; i < count; i++)
        prepare_row(window, &window->pending[i], rows[i]);
    window->waiting = rows;
    window->waiting_count = count;
    window->row = 0;
    take_rows(window);
}

static void cells_watermark(op_t *op, int64_t watermark) {
    window_t *window = (window_t *) op;
    if (watermark > window->reached && watermark != INT64_MAX)
        window->reached = watermark;
    if (advance(window, watermark))
        window_pass_watermark(window, watermark);
}

static void cells_resume(op_t *op) {
    window_t *window = (window_t *) op;
    if (!proceed(window))
        return;
    if (window->waiting_count)
        take_rows(window);
    else
        window_pass_watermark(window, window->firing.watermark);
}

/* Snapshots: [announced, reached, ingest time, what waits, [[key, sessions], or [key, heard, events, values], or [key, heard, events, states...], ...]]. */

static uint32_t cell_elements(const window_t *window) {
    return window->kind == SESSION ? 2 : tumbles(window) ? 3 + window->summary.elements : 4;
}

static void save_cell(const window_t *window, const cell_t *cell, buf_t *out) {
    const counted_t *counted = (const counted_t *) cell->body;
    pack_array(out, cell_elements(window));
    pack_binary(out, cell->key, cell->key_size);
    if (window->kind == SESSION) {
        sessions_save(window, (const sessions_t *) cell->body, out);
        return;
    }
    pack_int(out, counted->heard);
    pack_uint(out, counted->events);
    if (tumbles(window))
        summary_save(&window->summary, counted->slide.block, out);
    else
        slide_save(&window->summary, &counted->slide, out);
}

static void saved(void *argument, buf_t *out) {
    program_saved(argument, out);
}

static void cells_save(const op_t *op, buf_t *out) {
    const window_t *window = (const window_t *) op;
    pack_array(out, 5);
    pack_int(out, window->announced);
    pack_int(out, window->reached);
    pack_int(out, window->ingest_time);
    if (window->held)
        waiting_save(window->held, out, saved, op->program);
    else
        pack_nil(out);
    pack_array(out, window->cells->count);
    for (const cell_t *cell = window->cells->first; cell; cell = cell->after) {
        save_cell(window, cell, out);
        program_saved(op->program, out);
    }
}

static bool load_counted(window_t *window, cell_t *cell, pack_cursor_t *cursor) {
    counted_t *counted = (counted_t *) cell->body;
    if (!pack_read_int(cursor, &counted->heard) || !pack_read_uint(cursor, &counted->events))
        return false;
    int64_t silent = window->kind == SLIDING ? window->length : window->expire;
    cells_due(window->cells, cell, time_add(time_add(counted->heard, silent), window->wait));
    return tumbles(window) ? summary_load(&window->summary, counted->slide.block, cursor) : slide_load(&window->summary, &counted->slide, cursor);
}

static bool load_cell(window_t *window, pack_cursor_t *cursor) {
    uint32_t elements;
    text_t key;
    if (!pack_read_array(cursor, &elements) || elements != cell_elements(window) || !pack_read_binary(cursor, &key))
        return false;
    const uint8_t *padded = window_stored_key(window, key);
    uint64_t hash = groups_hash(padded, key.size);
    if (cells_find(window->cells, padded, key.size, hash))
        return false;
    cell_t *cell = cells_add(window->cells, padded, key.size, hash);
    return window->kind == SESSION ? sessions_load(window, cell, cursor) : load_counted(window, cell, cursor);
}

static bool load(window_t *window, pack_cursor_t *cursor) {
    uint32_t five, count;
    value_t nothing;
    if (!pack_read_array(cursor, &five) || five != 5 || !pack_read_int(cursor, &window->announced) || !pack_read_int(cursor, &window->reached) ||
        !pack_read_int(cursor, &window->ingest_time))
        return false;
    if (window->held ? !waiting_load(window->held, window->summary.argument_count, cursor)
                      : !pack_read_value(cursor, &nothing) || nothing.type != VALUE_NULL)
        return false;
    if (!pack_read_array(cursor, &count))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!load_cell(window, cursor))
            return false;
    return true;
}

static int cells_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    window_t *window = (window_t *) op;
    if (!load(window, cursor))
        return err_set(err, "the window's state is damaged");
    update_next(window);
    return 0;
}

static size_t memory(const op_t *op) {
    const window_t *window = (const window_t *) op;
    return summary_memory(&window->summary) + cells_memory(window->cells) + (window->held ? waiting_memory(window->held) : 0);
}

static void end(op_t *op) {
    window_t *window = (window_t *) op;
    for (cell_t *cell = window->cells->first; cell; cell = cell->after)
        drop_body(window, cell);
    cells_free(window->cells);
    waiting_free(window->held);
    buf_fini(&window->packed);
    mem_free(window->taken);
    window_free(op);
}

void window_cells_begin(window_t *window) {
    window->cells = cells_new(body_size(window));
    window->held = is_ordered(window) ? waiting_new() : NULL;
    window->taken = mem_zero((window->summary.argument_count + 1) * sizeof *window->taken);
}

const op_class_t window_cells = {
    .name = "window",
    .event = cells_event,
    .watermark = cells_watermark,
    .resume = cells_resume,
    .save = cells_save,
    .load = cells_load,
    .memory = memory,
    .free = end,
};
