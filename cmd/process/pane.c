/* Windows whose bounds are multiples of a duration: those that tumble, and those that hop. Time is cut at every bound of a window, and what lies
 * between two cuts is a pane: an event goes into one pane, whatever the number of windows it belongs to. A tumbling window is one pane; one that
 * hops is put together from its panes when it fires. ("Paired windows": Krishnamurthy, Wu, Franklin, "On-the-fly sharing for streamed
 * aggregation", 2006.) This file finds panes for events, fires windows in order of time, and writes revisions and early results; pane_store.c keeps them. */
#include "pane.h"

#include "base/clock.h"

#define CHANGED 0x80000000u   /* in a group's mark: since the last early result */

/* Times. */

/* The watermark at which something is to be done about the pane. */
static int64_t due(const window_t *window, const pane_t *pane) {
    int64_t fire = time_add(pane->next == INT64_MAX ? time_add(pane->last, window->late) : pane->next, window->wait);
    return pane->early < fire ? pane->early : fire;
}

static void update_next(window_t *window) {
    window->next = window->fired_count ? time_add(time_add(window->fired[0].end, window->wait), window->late) : INT64_MAX;
    for (unsigned i = 0; i < window->pane_count; i++) {
        int64_t time = due(window, window->panes[i]);
        if (time < window->next)
            window->next = time;
    }
}

/* The first early result that the watermark has not passed. They end when the window fires. */
static int64_t next_early(const window_t *window, int64_t start, int64_t end, int64_t watermark) {
    if (!window->early)
        return INT64_MAX;
    int64_t passed = watermark > start ? (watermark - start) / window->early : 0; /* both lie within the program's time */
    int64_t time = time_add(start, (passed + 1) * window->early);
    return time < time_add(end, window->wait) ? time : INT64_MAX;
}

/* Panes. */

/* A new pane's first window that has not fired at this watermark. */
static void pane_begin(window_t *window, pane_t *pane, int64_t watermark) {
    int64_t end = pane->last;
    while (time_add(end, -window->every) > pane->start && time_add(time_add(end, -window->every), window->wait) > watermark)
        end -= window->every;
    pane->next = time_add(end, window->wait) > watermark ? end : INT64_MAX;
    pane->early = pane->next == INT64_MAX ? INT64_MAX : next_early(window, pane->start, pane->end, watermark);
    int64_t time = due(window, pane);
    if (time < window->next)
        window->next = time;
}

/* The pane for an event of this time, opened when needed; NULL when it is too late at this watermark. */
static pane_t *find_pane(window_t *window, int64_t time, int64_t watermark) {
    pane_t *recent = window->recent;
    if (recent && time >= recent->start && time < recent->end) {
        if (watermark < time_add(time_add(recent->last, window->wait), window->late))
            return recent;
        return NULL;
    }
    int64_t start, end, last = time_add(time_floor(time, window->every), window->length);
    if (watermark >= time_add(time_add(last, window->wait), window->late))
        return NULL;
    pane_bounds(window, time, &start, &end);
    unsigned before = window->pane_count;
    recent = window->recent = panes_open(window, start);
    if (window->pane_count > before)
        pane_begin(window, recent, watermark);
    return recent;
}

/* Writing results. */

static result_t result_of(const window_t *window, const group_t *group, int64_t end) {
    return (result_t){.key = group_key(group), .key_size = group->key_size, .start = end - window->length, .end = end, .time = end - window_before_end(window),
                      .span = window->length, .block = group->state, .final = true};
}

static bool put_final(window_t *window, group_t *group, int64_t end) {
    result_t result = result_of(window, group, end);
    result.revision = group->mark & ~CHANGED;
    group->mark = result.revision + 1;
    return window_put(window, &result);
}

static void settle(window_t *window, pane_t *pane) {
    window_settle(window, pane->events);
    pane->events = 0;
}

/* Of a tumbling window. False: there is no room for all, or for more, at present. */
static bool fire_pane(window_t *window, pane_t *pane) {
    uint32_t count = groups_count(pane->groups), *group = &window->firing.group;
    while (*group < count)
        if (put_final(window, groups_at(pane->groups, (*group)++), pane->last) && program_must_wait(window->op.program, &window->op))
            return false;
    *group = 0;
    window_pass(window);
    settle(window, pane);
    pane->next = pane->early = INT64_MAX;
    return !program_must_stop(window->op.program, &window->op);
}

/* The panes of the window that ends at `end`: from *first on, so many. */
static unsigned panes_of(const window_t *window, int64_t end, unsigned *first) {
    unsigned at = 0, count = 0;
    while (at < window->pane_count && window->panes[at]->start < end - window->length)
        at++;
    while (at + count < window->pane_count && window->panes[at + count]->start < end)
        count++;
    *first = at;
    return count;
}

static void merge_group(window_t *window, const group_t *from) {
    group_t *into = groups_get(window->merged, group_key(from), from->key_size, groups_hash(group_key(from), from->key_size));
    summary_merge(&window->summary, into->state, from->state);
}

static void forget_merged(window_t *window) {
    panes_drop_states(window, window->merged);
    groups_clear(window->merged);
}

/* How often this group of this window was written out before, once more. */
static uint32_t count_revision(fired_t *fired, const group_t *group) {
    return groups_get(fired->groups, group_key(group), group->key_size, groups_hash(group_key(group), group->key_size))->mark++;
}

static bool put_merged(window_t *window, const group_t *group, int64_t end) {
    result_t result = result_of(window, group, end);
    result.revision = window->late ? count_revision(panes_note_fired(window, end), group) : 0;
    return window_put(window, &result);
}

/* The hopping window that ends at `end`. False: there is no room for all at present. */
static bool fire_panes(window_t *window, int64_t end) {
    unsigned first, count = panes_of(window, end, &first);
    if (!window->firing.begun) {
        window->firing.begun = true;
        if (!window->merged)
            window->merged = groups_new(window->summary.size);
        for (unsigned i = 0; i < count; i++)
            for (uint32_t j = 0; j < groups_count(window->panes[first + i]->groups); j++)
                merge_group(window, groups_at(window->panes[first + i]->groups, j));
    }
    uint32_t *group = &window->firing.group;
    while (*group < groups_count(window->merged))
        if (put_merged(window, groups_at(window->merged, (*group)++), end) && program_must_wait(window->op.program, &window->op))
            return false;
    *group = 0;
    window->firing.begun = false;
    window_pass(window);
    forget_merged(window);
    for (unsigned i = 0; i < count; i++) {
        pane_t *pane = window->panes[first + i];
        pane->next = end < pane->last ? end + window->every : INT64_MAX;
        if (pane->next == INT64_MAX)
            settle(window, pane);
    }
    return !program_must_stop(window->op.program, &window->op);
}

/* The results so far of groups that have changed since the last time, as of pane->early: nothing has come since then. */
static bool fire_early(window_t *window, pane_t *pane) {
    uint32_t count = groups_count(pane->groups), *number = &window->firing.group;
    while (*number < count) {
        group_t *group = groups_at(pane->groups, (*number)++);
        if (!(group->mark & CHANGED))
            continue;
        result_t result = result_of(window, group, pane->last);
        result.final = false;
        result.revision = group->mark & ~CHANGED;
        if (pane->early < pane->last) {
            result.span = pane->early - pane->start;
            result.time += pane->early - pane->last;
        }
        group->mark = result.revision + 1;
        if (window_put(window, &result) && program_must_wait(window->op.program, &window->op))
            return false;
    }
    *number = 0;
    window_pass(window);
    pane->early = next_early(window, pane->start, pane->end, window->firing.watermark);
    return !program_must_stop(window->op.program, &window->op);
}

/* Writes the group's windows out once more that have fired without the event that has just come. */
static void revise(window_t *window, pane_t *pane, const group_t *group, int64_t watermark) {
    int64_t first_end = pane->last - (pane->last - pane->start - 1) / window->every * window->every;
    for (int64_t end = first_end; end <= pane->last && time_add(end, window->wait) <= watermark; end += window->every) {
        if (time_add(time_add(end, window->wait), window->late) <= watermark)
            continue;
        unsigned first, count = panes_of(window, end, &first);
        if (!window->merged)
            window->merged = groups_new(window->summary.size);
        for (unsigned i = 0; i < count; i++) {
            group_t *part = groups_find(window->panes[first + i]->groups, group_key(group), group->key_size,
                                        groups_hash(group_key(group), group->key_size));
            if (part)
                merge_group(window, part);
        }
        put_merged(window, groups_at(window->merged, 0), end);
        window_pass(window);
        forget_merged(window);
        update_next(window);
    }
}

static void counted(window_t *window, pane_t *pane, group_t *group, int64_t watermark) {
    program_t *program = window->op.program;
    pane->events++;
    program_ledger(program)->held++;
    if (window->early)
        group->mark |= CHANGED;
    if (window->kind == HOPPING && window->late) {
        program_press(program, true);
        revise(window, pane, group, watermark);
        program_press(program, false);
    }
    if (pane->next != INT64_MAX)
        return;
    if (window->kind == TUMBLING) {
        program_press(program, true);
        put_final(window, group, pane->last);
        window_pass(window); /* before the group changes again */
        program_press(program, false);
    }
    settle(window, pane);
}

/* Firing. */

static void drop_panes(window_t *window, int64_t watermark) {
    unsigned kept = 0;
    for (unsigned i = 0; i < window->pane_count; i++) {
        pane_t *pane = window->panes[i];
        if (pane->next == INT64_MAX && watermark >= time_add(time_add(pane->last, window->wait), window->late))
            panes_recycle(window, pane);
        else
            window->panes[kept++] = pane;
    }
    window->pane_count = kept;
    unsigned gone = 0;
    while (gone < window->fired_count && watermark >= time_add(time_add(window->fired[gone].end, window->wait), window->late))
        groups_free(window->fired[gone++].groups);
    window->fired_count -= gone;
    if (gone)
        memmove(window->fired, window->fired + gone, window->fired_count * sizeof *window->fired);
}

/* The pane whose next window ends first; NULL: none is to fire. */
static pane_t *first_to_fire(const window_t *window, int64_t watermark) {
    pane_t *first = NULL;
    for (unsigned i = 0; i < window->pane_count; i++) {
        pane_t *pane = window->panes[i];
        if (pane->next != INT64_MAX && watermark >= time_add(pane->next, window->wait) && (!first || pane->next < first->next))
            first = pane;
    }
    return first;
}

/* The pane whose early result comes first; NULL: none is to come. At the end of the stream there are none. */
static pane_t *first_early(const window_t *window, int64_t watermark) {
    pane_t *first = NULL;
    for (unsigned i = 0; window->early && watermark != INT64_MAX && i < window->pane_count; i++) {
        pane_t *pane = window->panes[i];
        if (pane->early <= watermark && (!first || pane->early < first->early))
            first = pane;
    }
    return first;
}

/* What is due first. */
static bool fire_first(window_t *window, pane_t *final, pane_t *early) {
    if (!final || (early && early->early < time_add(final->next, window->wait))) {
        window->instant = early->early - 1;
        return fire_early(window, early);
    }
    window->instant = time_add(final->next, window->wait) - 1;
    return window->kind == TUMBLING ? fire_pane(window, final) : fire_panes(window, final->next);
}

/* One thing after the other, as if event time had come in small steps: what comes out does not depend on how far it has leapt. */
static bool fire(window_t *window) {
    int64_t watermark = window->firing.watermark;
    for (;;) {
        pane_t *final = first_to_fire(window, watermark), *early = first_early(window, watermark);
        if (!final && !early)
            break;
        if (!fire_first(window, final, early))
            return false;
    }
    drop_panes(window, watermark);
    update_next(window);
    return true;
}

/* Fires and drops what is due. False: there is no room at present; fire goes on. */
static bool advance(window_t *window, int64_t watermark) {
    if (watermark < window->next)
        return true;
    window->firing = (firing_t){.watermark = watermark};
    return fire(window);
}

/* Events. */

/* Encodes the row's key, finds its pane, and has the memory fetched that will be needed. */
static void prepare_row(window_t *window, pending_t *pending, const row_t *row) {
    window_key(window, pending, row);
    pending->pane = find_pane(window, row->event.time, row->watermark);
    if (pending->pane)
        groups_prefetch_slot(pending->pane->groups, pending->hash);
}

/* The arguments, while the group is on its way from memory. */
static void evaluate_row(window_t *window, const pending_t *pending, const row_t *row) {
    groups_prefetch_group(pending->pane->groups, pending->hash);
    for (unsigned i = 0; i < window->summary.argument_count; i++)
        pending->values[i] = evaluate(window->summary.arguments[i], row);
}

static void add_row(window_t *window, const pending_t *pending, const row_t *row) {
    pane_t *pane = pending->pane;
    if (!pane) {
        window_late(window, row);
        return;
    }
    group_t *group = groups_get(pane->groups, pending->key.data, pending->key.size, pending->hash);
    summary_add(&window->summary, group->state, pending->values, row);
    window->ingest_time = row->ingest_time;
    window->instant = row->watermark;
    counted(window, pane, group, row->watermark);
}

/* Rows are taken together as long as no window fires between them: the panes that they open themselves count too. */
static void take_rows(window_t *window, row_t **rows, unsigned count) {
    for (unsigned done = 0, taken; done < count; done += taken) {
        if (rows[done]->watermark >= window->next && !advance(window, rows[done]->watermark)) {
            window->waiting = rows + done;
            window->waiting_count = count - done;
            return;
        }
        taken = 0;
        do {
            prepare_row(window, &window->pending[taken], rows[done + taken]);
            taken++;
        } while (done + taken < count && rows[done + taken]->watermark < window->next);
        for (unsigned i = 0; i < taken; i++)
            if (window->pending[i].pane)
                evaluate_row(window, &window->pending[i], rows[done + i]);
        for (unsigned i = 0; i < taken; i++)
            add_row(window, &window->pending[i], rows[done + i]);
    }
}

static void panes_event(op_t *op, row_t **rows, unsigned count) {
    take_rows((window_t *) op, rows, count);
}

static void panes_watermark(op_t *op, int64_t watermark) {
    window_t *window = (window_t *) op;
    if (advance(window, watermark))
        window_pass_watermark(window, watermark);
}

/* It was rows that made it fire, or else a watermark. */
static void panes_resume(op_t *op) {
    window_t *window = (window_t *) op;
    if (!fire(window))
        return;
    unsigned count = window->waiting_count;
    window->waiting_count = 0;
    if (count)
        take_rows(window, window->waiting, count);
    else
        window_pass_watermark(window, window->firing.watermark);
}

static int panes_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    window_t *window = (window_t *) op;
    if (!panes_read(window, cursor))
        return err_set(err, "the window's state is damaged");
    update_next(window);
    return 0;
}

static void panes_end(op_t *op) {
    panes_free((window_t *) op);
    window_free(op);
}

const op_class_t window_panes = {
    .name = "window",
    .event = panes_event,
    .watermark = panes_watermark,
    .resume = panes_resume,
    .save = panes_save,
    .load = panes_load,
    .memory = panes_memory,
    .free = panes_end,
};
