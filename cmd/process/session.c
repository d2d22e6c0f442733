/* Sessions: windows of a key that last until nothing has come for so long. An event makes one, prolongs one, or joins two. Each cell has a list of
 * those that are open, or have fired and are kept for late events. */
#include "window.h"

#include "base/clock.h"

typedef struct session {
    struct session *next;     /* by start */
    int64_t start, last;      /* times of its first and last event */
    uint64_t events;          /* held: since it was last written out */
    uint32_t revision;
    bool fired;
    _Alignas(8) uint8_t block[];
} session_t;

/* Behind its last event by the gap, or where it must end. */
static int64_t end_of(const window_t *window, const session_t *session) {
    int64_t end = time_add(session->last, window->length), most = time_add(session->start, window->most);
    return end < most ? end : most;
}

static int64_t due(const window_t *window, const session_t *session) {
    int64_t fire = time_add(end_of(window, session), window->wait);
    return session->fired ? time_add(fire, window->late) : fire;
}

static session_t *session_new(window_t *window, int64_t time) {
    session_t *session = mem_zero(sizeof *session + window->summary.size);
    session->start = session->last = time;
    window->summary.owned += sizeof *session + window->summary.size;
    return session;
}

static void session_free(window_t *window, session_t *session) {
    window->summary.owned -= sizeof *session + window->summary.size;
    summary_drop(&window->summary, session->block);
    mem_free(session);
}

void sessions_drop(window_t *window, sessions_t *sessions) {
    for (session_t *session = sessions->first, *next; session; session = next) {
        next = session->next;
        session_free(window, session);
    }
}

static void put(window_t *window, const cell_t *cell, session_t *session) {
    int64_t end = end_of(window, session);
    result_t result = {.key = cell->key, .key_size = cell->key_size, .start = session->start, .end = end, .time = end - window_before_end(window),
                       .span = session->last - session->start, .block = session->block, .revision = session->revision++, .final = true};
    window->full |= window_put(window, &result);
    window_settle(window, session->events);
    session->events = 0;
    session->fired = true;
}

static void set_due(window_t *window, cell_t *cell) {
    int64_t first = INT64_MAX;
    for (const session_t *session = ((sessions_t *) cell->body)->first; session; session = session->next)
        first = due(window, session) < first ? due(window, session) : first;
    cells_due(window->cells, cell, first);
}

/* The next session becomes part of this one. */
static void join(window_t *window, session_t *session) {
    session_t *next = session->next;
    summary_merge(&window->summary, session->block, next->block);
    session->last = next->last > session->last ? next->last : session->last;
    session->events += next->events;
    session->revision = next->revision > session->revision ? next->revision : session->revision;
    session->next = next->next;
    session_free(window, next);
}

static bool reaches(const window_t *window, const session_t *session, int64_t time) {
    return time > time_add(session->start, -window->length) && time < end_of(window, session);
}

bool session_add(window_t *window, const arrival_t *arrival) {
    int64_t time = arrival->time, watermark = arrival->watermark;
    cell_t *cell = cells_find(window->cells, arrival->key, arrival->key_size, arrival->hash);
    session_t **link = cell ? &((sessions_t *) cell->body)->first : NULL;
    while (link && *link && !reaches(window, *link, time) && (*link)->start < time)
        link = &(*link)->next;
    session_t *session = link && *link && reaches(window, *link, time) ? *link : NULL;
    if (!session && time_add(time_add(time_add(time, window->length), window->wait), window->late) <= watermark)
        return false;
    if (!cell) {
        cell = cells_add(window->cells, arrival->key, arrival->key_size, arrival->hash);
        link = &((sessions_t *) cell->body)->first;
    }
    if (!session) {
        session = session_new(window, time);
        session->next = *link;
        *link = session;
    }
    summary_put(&window->summary, session->block, arrival->values, time);
    session->events++;
    session->start = time < session->start ? time : session->start;
    session->last = time > session->last ? time : session->last;
    if (session->next && reaches(window, session->next, session->last))
        join(window, session);
    session->fired = time_add(end_of(window, session), window->wait) <= watermark;
    if (session->fired)
        put(window, cell, session);
    set_due(window, cell);
    return true;
}

void session_fire(window_t *window, cell_t *cell, int64_t watermark) {
    sessions_t *sessions = (sessions_t *) cell->body;
    session_t **first = &sessions->first;
    for (session_t **link = first; *link; link = &(*link)->next)
        if (due(window, *link) < due(window, *first))
            first = link;
    session_t *session = *first;
    window->instant = due(window, session) - 1;
    if (!session->fired)
        put(window, cell, session);
    if (due(window, session) <= watermark) {
        *first = session->next;
        session_free(window, session);
    }
    if (sessions->first)
        set_due(window, cell);
    else
        cells_remove(window->cells, cell);
}

/* [[start, last, events, revision, fired, states...], ...] */
void sessions_save(const window_t *window, const sessions_t *sessions, buf_t *out) {
    uint32_t count = 0;
    for (const session_t *session = sessions->first; session; session = session->next)
        count++;
    pack_array(out, count);
    for (const session_t *session = sessions->first; session; session = session->next) {
        pack_array(out, 5 + window->summary.elements);
        pack_int(out, session->start);
        pack_int(out, session->last);
        pack_uint(out, session->events);
        pack_uint(out, session->revision);
        pack_bool(out, session->fired);
        summary_save(&window->summary, session->block, out);
    }
}

bool sessions_load(window_t *window, cell_t *cell, pack_cursor_t *cursor) {
    session_t **link = &((sessions_t *) cell->body)->first;
    uint32_t count, elements;
    uint64_t revision;
    if (!pack_read_array(cursor, &count) || !count)
        return false;
    for (uint32_t i = 0; i < count; i++, link = &(*link)->next) {
        session_t *session = *link = session_new(window, 0);
        if (!pack_read_array(cursor, &elements) || elements != 5 + window->summary.elements || !pack_read_int(cursor, &session->start) ||
            !pack_read_int(cursor, &session->last) || !pack_read_uint(cursor, &session->events) || !pack_read_uint(cursor, &revision) ||
            !read_bool(cursor, &session->fired) || !summary_load(&window->summary, session->block, cursor))
            return false;
        session->revision = (uint32_t) revision;
    }
    set_due(window, cell);
    return true;
}
