/* What windows of all kinds do alike: writing results, late events, passing the watermark on. See window.h. */
#include "window.h"

#include "base/clock.h"

const uint8_t *window_stored_key(window_t *window, text_t key) {
    buf_t *padded = &window->pending[0].key;
    buf_clear(padded);
    buf_put(padded, key.data, key.size);
    key_end(padded);
    return padded->data;
}

void window_late(window_t *window, const row_t *row) {
    program_counts_t *ledger = program_ledger(window->op.program);
    ledger->late++;
    ledger->created++; /* the copy in the side stream */
    plan_emit(window->plan, window->op.program, window->late_stream, row);
}

void window_pass(window_t *window) {
    unsigned count = window->result_count;
    window->result_count = 0;
    if (!count)
        return;
    for (unsigned i = 0; i < count; i++)
        window->results->pointers[i] = &window->results->row[i];
    op_pass(&window->op, window->results->pointers, count);
    summary_forget(&window->summary);
}

static void put_aggregates(window_t *window, const result_t *result, value_t *out) {
    summary_t *summary = &window->summary;
    if (result->slide)
        slide_results(summary, result->slide, result->span, out);
    else
        summary_results(summary, result->block, result->span, out);
    if (window->kind >= SESSION) /* its cell changes or goes before it is passed on */
        summary_keep(summary, out);
}

int64_t window_before_end(const window_t *window) {
    return window->length % NS_PER_MS ? 1 : NS_PER_MS;
}

/* `time`, or the time of the results of a window that ends at the next multiple of `unit` behind `start`, when that is before. */
static int64_t not_behind_results(const window_t *window, int64_t time, int64_t start, int64_t unit) {
    int64_t passed = (time - start) % unit;
    int64_t results = time_add(time, unit - passed - window_before_end(window));
    return results < time ? results : time;
}

/* The least time that a result may still have: what windows fire that end behind watermark - wait, and write once more that end behind watermark -
 * wait - late. */
static int64_t least_to_come(const window_t *window, int64_t watermark) {
    int64_t time = time_add(time_add(watermark, -window->wait), -window->late);
    if (window->kind == SESSION)
        return time_add(time, 1 - window_before_end(window)); /* they end anywhere behind it */
    if (window->kind > SESSION || time < FRAME_NO_WATERMARK + window->length)
        return time;
    int64_t start = time_floor(time, window->every), least = not_behind_results(window, time, start, window->every);
    if (window->early) {
        int64_t early = not_behind_results(window, time, start, window->early);
        least = early < least ? early : least;
    }
    return least;
}

/* What event time has come to behind the window, when it has come to `watermark` in front of it. */
static int64_t come_to(const window_t *window, int64_t watermark) {
    return watermark == INT64_MAX || watermark == FRAME_NO_WATERMARK ? watermark : least_to_come(window, watermark);
}

bool window_put(window_t *window, const result_t *result) {
    if (!window->results)
        window->results = rows_new(window->op.program);
    row_t *row = &window->results->row[window->result_count++];
    value_t *value = row->values;
    const uint8_t *key = result->key, *key_end;
    if (window->kind >= SESSION)
        key = arena_copy(&window->summary.arena, key, result->key_size);
    key_end = key + result->key_size;
    for (unsigned i = 0; i < window->key_count; i++)
        *value++ = key_read(&key, key_end);
    put_aggregates(window, result, value + 2);
    bool own = window->kind == COUNT;
    *value++ = value_time(own ? window->summary.earliest : result->start);
    *value++ = value_time(own ? window->summary.latest : result->end);
    value += window->summary.aggregate_count;
    if (window->late || window->early)
        *value++ = value_uint(result->revision);
    if (window->early)
        *value++ = value_bool(result->final);
    row->event = (event_t){.time = own ? window->summary.latest : result->time};
    row->watermark = come_to(window, window->instant);
    row->ingest_time = window->ingest_time;
    program_ledger(window->op.program)->created++;
    if (window->result_count < program_batch(window->op.program))
        return false;
    window_pass(window);
    return true;
}

void window_settle(window_t *window, uint64_t events) {
    program_counts_t *ledger = program_ledger(window->op.program);
    ledger->held -= events;
    ledger->filtered += events;
}

void window_pass_watermark(window_t *window, int64_t watermark) {
    int64_t passed = come_to(window, watermark);
    if (passed > window->announced) {
        window->announced = passed;
        op_pass_watermark(&window->op, passed);
    }
}

void window_free(op_t *op) {
    window_t *window = (window_t *) op;
    rows_free(window->results);
    for (unsigned i = 0; i < BATCH; i++)
        buf_fini(&window->pending[i].key);
    summary_fini(&window->summary);
    mem_free(window->values);
    mem_free(window->keys);
    mem_free(window->names);
}
