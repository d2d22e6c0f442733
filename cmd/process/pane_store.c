/* Panes as they are kept: opened in order of time, given back, written into snapshots and read from them. pane.c says what they are. */
#include "pane.h"

void pane_bounds(const window_t *window, int64_t time, int64_t *start, int64_t *end) {
    int64_t rest = window->length % window->every;
    *start = time_floor(time, window->every);
    *end = time_add(*start, window->every);
    if (rest && time - *start >= rest)
        *start += rest;
    else if (rest)
        *end = *start + rest;
}

static pane_t *pane_new(window_t *window) {
    pane_t *pane = window->spare;
    window->spare = NULL;
    if (!pane) {
        pane = mem_zero(sizeof *pane);
        pane->groups = groups_new(window->summary.size);
    }
    return pane;
}

void panes_drop_states(window_t *window, groups_t *groups) {
    for (uint32_t i = 0; i < groups_count(groups); i++)
        summary_drop(&window->summary, groups_at(groups, i)->state);
}

static void pane_free(window_t *window, pane_t *pane) {
    if (!pane)
        return;
    panes_drop_states(window, pane->groups);
    groups_free(pane->groups);
    mem_free(pane);
}

/* Its memory is kept for the next pane. */
void panes_recycle(window_t *window, pane_t *pane) {
    if (window->recent == pane)
        window->recent = NULL;
    if (window->spare) {
        pane_free(window, pane);
        return;
    }
    panes_drop_states(window, pane->groups);
    groups_clear(pane->groups);
    pane->events = 0;
    window->spare = pane;
}

void panes_free(window_t *window) {
    for (unsigned i = 0; i < window->pane_count; i++)
        pane_free(window, window->panes[i]);
    pane_free(window, window->spare);
    if (window->merged)
        panes_drop_states(window, window->merged);
    groups_free(window->merged);
    for (unsigned i = 0; i < window->fired_count; i++)
        groups_free(window->fired[i].groups);
    mem_free(window->fired);
    mem_free(window->panes);
}

pane_t *panes_open(window_t *window, int64_t start) {
    unsigned at = window->pane_count;
    while (at > 0 && window->panes[at - 1]->start > start)
        at--;
    if (at > 0 && window->panes[at - 1]->start == start)
        return window->panes[at - 1];
    window->panes = mem_resize(window->panes, (window->pane_count + 1) * sizeof *window->panes);
    memmove(window->panes + at + 1, window->panes + at, (window->pane_count - at) * sizeof *window->panes);
    pane_t *pane = pane_new(window);
    pane_bounds(window, start, &pane->start, &pane->end);
    pane->last = time_add(time_floor(start, window->every), window->length);
    pane->next = pane->early = INT64_MAX;
    window->panes[at] = pane;
    window->pane_count++;
    return pane;
}

fired_t *panes_note_fired(window_t *window, int64_t end) {
    unsigned at = window->fired_count;
    while (at > 0 && window->fired[at - 1].end > end)
        at--;
    if (at > 0 && window->fired[at - 1].end == end)
        return &window->fired[at - 1];
    window->fired = mem_resize(window->fired, (window->fired_count + 1) * sizeof *window->fired);
    memmove(window->fired + at + 1, window->fired + at, (window->fired_count++ - at) * sizeof *window->fired);
    window->fired[at] = (fired_t){end, groups_new(0)};
    return &window->fired[at];
}

/* Snapshots: [announced, ingest time, [[start, next, early, events, [[key, mark, states...]...]]...], [[end, [key, mark, ...]]...]]. */

static void save_groups(const window_t *window, const groups_t *groups, bool states, buf_t *out) {
    pack_array(out, groups_count(groups));
    for (uint32_t i = 0; i < groups_count(groups); i++) {
        const group_t *group = groups_at(groups, i);
        pack_array(out, 2 + (states ? window->summary.elements : 0));
        pack_binary(out, group_key(group), group->key_size);
        pack_uint(out, group->mark);
        if (states)
            summary_save(&window->summary, group->state, out);
        program_saved(window->op.program, out);
    }
}

void panes_save(const op_t *op, buf_t *out) {
    const window_t *window = (const window_t *) op;
    pack_array(out, 4);
    pack_int(out, window->announced);
    pack_int(out, window->ingest_time);
    pack_array(out, window->pane_count);
    for (unsigned i = 0; i < window->pane_count; i++) {
        const pane_t *pane = window->panes[i];
        pack_array(out, 5);
        pack_int(out, pane->start);
        pack_int(out, pane->next);
        pack_int(out, pane->early);
        pack_uint(out, pane->events);
        save_groups(window, pane->groups, true, out);
    }
    pack_array(out, window->fired_count);
    for (unsigned i = 0; i < window->fired_count; i++) {
        pack_array(out, 2);
        pack_int(out, window->fired[i].end);
        save_groups(window, window->fired[i].groups, false, out);
    }
}

static bool load_groups(window_t *window, groups_t *groups, bool states, pack_cursor_t *cursor) {
    uint32_t count, elements;
    text_t key;
    uint64_t mark;
    if (!pack_read_array(cursor, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!pack_read_array(cursor, &elements) || elements != 2 + (states ? window->summary.elements : 0) || !pack_read_binary(cursor, &key) ||
            !pack_read_uint(cursor, &mark))
            return false;
        const uint8_t *padded = window_stored_key(window, key);
        group_t *group = groups_get(groups, padded, key.size, groups_hash(padded, key.size));
        if (groups_count(groups) != i + 1) /* it is there twice */
            return false;
        group->mark = (uint32_t) mark;
        if (states && !summary_load(&window->summary, group->state, cursor))
            return false;
    }
    return true;
}

static bool load_pane(window_t *window, pack_cursor_t *cursor) {
    uint32_t five;
    int64_t start, next, early;
    uint64_t events;
    if (!pack_read_array(cursor, &five) || five != 5 || !pack_read_int(cursor, &start) || !pack_read_int(cursor, &next) ||
        !pack_read_int(cursor, &early) || !pack_read_uint(cursor, &events))
        return false;
    unsigned before = window->pane_count;
    pane_t *pane = panes_open(window, start);
    if (window->pane_count == before || pane->start != start ||
        (next != INT64_MAX && (next <= pane->start || next > pane->last || (pane->last - next) % window->every)))
        return false;
    pane->next = next;
    pane->early = early;
    pane->events = events;
    return load_groups(window, pane->groups, true, cursor);
}

static bool load_fired(window_t *window, pack_cursor_t *cursor) {
    uint32_t two;
    int64_t end;
    unsigned before = window->fired_count;
    if (!pack_read_array(cursor, &two) || two != 2 || !pack_read_int(cursor, &end))
        return false;
    fired_t *fired = panes_note_fired(window, end);
    return window->fired_count > before && load_groups(window, fired->groups, false, cursor);
}

bool panes_read(window_t *window, pack_cursor_t *cursor) {
    uint32_t four, count;
    if (!pack_read_array(cursor, &four) || four != 4 || !pack_read_int(cursor, &window->announced) || !pack_read_int(cursor, &window->ingest_time) ||
        !pack_read_array(cursor, &count))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!load_pane(window, cursor))
            return false;
    if (!pack_read_array(cursor, &count))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!load_fired(window, cursor))
            return false;
    return true;
}

size_t panes_memory(const op_t *op) {
    const window_t *window = (const window_t *) op;
    size_t size = summary_memory(&window->summary) + (window->spare ? groups_memory(window->spare->groups) : 0);
    for (unsigned i = 0; i < window->pane_count; i++)
        size += groups_memory(window->panes[i]->groups);
    for (unsigned i = 0; i < window->fired_count; i++)
        size += groups_memory(window->fired[i].groups);
    return size + (window->merged ? groups_memory(window->merged) : 0);
}
