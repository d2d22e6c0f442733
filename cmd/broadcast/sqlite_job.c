/* Batches of frames as transactions of SQLite: rows and progress together, so that neither is ever there without the other. */
#include "sqlite_job.h"

#include <string.h>

#include "base/memory.h"

#define BUSY_MS 1000
#define SENDERS_KEPT 1000              /* rows of progress per sink */

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS _stream_progress (sink TEXT, input TEXT, origin TEXT, epoch INTEGER, number INTEGER, updated INTEGER, "
    "PRIMARY KEY (sink, input, origin)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS _stream_refused (id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT, input TEXT, origin TEXT, epoch INTEGER, "
    "number INTEGER, event BLOB, reason TEXT);";

static int prepare(sqlite_store_t *store, sqlite3_stmt **statement, const char *sql, err_t *err) {
    return sqlite3_prepare_v3(store->database, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL)
               ? (sqlite_fail(store->database, "prepare", err), -1) : 0;
}

static int forget_old(sqlite_store_t *store, err_t *err) {
    sqlite3_stmt *statement = NULL;
    if (prepare(store, &statement, "DELETE FROM _stream_progress WHERE sink = ?1 AND updated < "
                                   "(SELECT updated FROM _stream_progress WHERE sink = ?1 ORDER BY updated DESC LIMIT 1 OFFSET ?2)", err))
        return -1;
    sqlite3_bind_text(statement, 1, store->sink, -1, SQLITE_STATIC);
    sqlite3_bind_int(statement, 2, SENDERS_KEPT);
    int result = sqlite3_step(statement) == SQLITE_DONE ? 0 : (sqlite_fail(store->database, "tidy the progress", err), -1);
    sqlite3_finalize(statement);
    return result;
}

int sqlite_store_open(sqlite_store_t *store, const char *path, bool full_sync, const sqlite_table_setup_t *setup, err_t *err) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX;
    store->path = path;
    store->full_sync = full_sync;
    store->setup = *setup;
    store->stale = true; /* until it is open */
    if (sqlite3_open_v2(path, &store->database, flags, NULL)) {
        if (!store->database)
            return err_set(err, "open %s: out of memory", path);
        sqlite_fail(store->database, "open", err);
        return err_wrap(err, "%s", path);
    }
    sqlite3_extended_result_codes(store->database, 1);
    sqlite3_busy_timeout(store->database, 10 * BUSY_MS);
    if (sqlite_run(store->database, "PRAGMA journal_mode=WAL", err) ||
        sqlite_run(store->database, full_sync ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", err) ||
        sqlite_run(store->database, "PRAGMA foreign_keys=ON", err) || sqlite_run(store->database, "BEGIN IMMEDIATE", err))
        return err_wrap(err, "%s", path);
    if (sqlite_run(store->database, tables, err) || sqlite_table_open(&store->table, store->database, setup, err) || forget_old(store, err) ||
        sqlite_run(store->database, "COMMIT", err)) {
        sqlite_run(store->database, "ROLLBACK", NULL);
        return err_wrap(err, "%s", path);
    }
    sqlite3_busy_timeout(store->database, BUSY_MS);
    if (prepare(store, &store->progress, "INSERT INTO _stream_progress VALUES (?,?,?,?,?,unixepoch()) ON CONFLICT DO UPDATE SET "
                                         "epoch = excluded.epoch, number = excluded.number, updated = excluded.updated", err) ||
        prepare(store, &store->refuse, "INSERT INTO _stream_refused (sink, input, origin, epoch, number, event, reason) VALUES (?,?,?,?,?,?,?)",
                err) ||
        prepare(store, &store->forget, "DELETE FROM _stream_refused WHERE sink = ? AND id <= ?", err))
        return err_wrap(err, "%s", path);
    store->stale = false;
    return 0;
}

/* The file has another name now, or none: what is written to it would be lost with the process. */
static bool has_gone(sqlite_store_t *store) {
    int moved = 0;
    return store->database && sqlite3_file_control(store->database, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved;
}

static int make_sound(sqlite_store_t *store, sqlite_job_t *job) {
    bool gone = has_gone(store);
    if (!gone && !store->stale)
        return 0;
    sqlite_store_close(store);
    if (sqlite_store_open(store, store->path, store->full_sync, &store->setup, &job->err))
        return -1;
    job->begun_anew = gone;
    return 0;
}

static void refuse(sqlite_job_t *job, uint32_t frame, uint32_t index, const event_t *event, bool poison, const char *reason) {
    job->refused = mem_resize(job->refused, (job->refused_count + 1) * sizeof *job->refused);
    job->refused[job->refused_count++] =
        (sqlite_refused_t){.frame = frame, .index = index, .poison = poison, .event = *event, .reason = mem_text(reason)};
}

static bool is_poison(const sqlite_job_t *job, uint32_t frame, uint32_t index) {
    for (uint32_t i = 0; i < job->refused_count; i++)
        if (job->refused[i].poison && job->refused[i].frame == frame && job->refused[i].index == index)
            return true;
    return false;
}

/* Is it the event's fault, and would be again? */
static bool events_fault(int code) {
    code &= 0xff;
    return code == SQLITE_CONSTRAINT || code == SQLITE_MISMATCH || code == SQLITE_TOOBIG || code == SQLITE_RANGE;
}

/* 0; 1: the transaction is gone because of an event, which is refused now: once more; -1: failed. */
static int insert_all(sqlite_store_t *store, sqlite_job_t *job) {
    for (uint32_t f = 0; f < job->count; f++) {
        frame_walk_t walk = {0};
        event_t event;
        int more;
        for (uint32_t i = 0; (more = frame_next(job->frames[f], &walk, &event)) == 1; i++) {
            if (is_poison(job, f, i))
                continue;
            int code = sqlite_table_insert(store->table, &event, job->frames[f]->topic, &job->err);
            if (code == SQLITE_OK)
                continue;
            bool gone = sqlite3_get_autocommit(store->database);
            if (!events_fault(code))
                return -1;
            refuse(job, f, i, &event, gone, job->err.text);
            if (gone)
                return 1;
        }
    }
    return 0;
}

static int step(sqlite_store_t *store, sqlite3_stmt *statement, const char *what, err_t *err) {
    int code = sqlite3_step(statement);
    int result = code == SQLITE_DONE ? 0 : (sqlite_fail(store->database, what, err), -1);
    sqlite3_reset(statement);
    return result;
}

static void bind_origin(sqlite_store_t *store, sqlite3_stmt *statement, const char *key, const frame_t *frame) {
    sqlite3_bind_text(statement, 1, store->sink, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 3, frame->origin, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 4, (sqlite3_int64) frame->epoch);
    sqlite3_bind_int64(statement, 5, (sqlite3_int64) frame->sequence);
}

static int put_progress(sqlite_store_t *store, sqlite_job_t *job) {
    for (uint32_t i = 0; i < job->reached_count; i++) {
        bind_origin(store, store->progress, job->reached[i].key, job->reached[i].frame);
        if (step(store, store->progress, "write the progress", &job->err))
            return -1;
    }
    for (uint32_t i = 0; job->keep_refused && i < job->refused_count; i++) {
        const sqlite_refused_t *refused = &job->refused[i];
        const frame_t *frame = job->frames[refused->frame];
        bind_origin(store, store->refuse, job->keys[refused->frame], frame);
        sqlite3_bind_blob(store->refuse, 6, refused->event.bytes, (int) refused->event.size, SQLITE_STATIC);
        sqlite3_bind_text(store->refuse, 7, refused->reason, -1, SQLITE_STATIC);
        if (step(store, store->refuse, "keep a refused event", &job->err))
            return -1;
        job->last_refused = sqlite3_last_insert_rowid(store->database);
    }
    if (job->forget) {
        sqlite3_bind_text(store->forget, 1, store->sink, -1, SQLITE_STATIC);
        sqlite3_bind_int64(store->forget, 2, job->forget);
        if (step(store, store->forget, "forget refused events", &job->err))
            return -1;
    }
    return 0;
}

static void keep_poison(sqlite_job_t *job) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < job->refused_count; i++) {
        if (job->refused[i].poison)
            job->refused[kept++] = job->refused[i];
        else
            mem_free(job->refused[i].reason);
    }
    job->refused_count = kept;
}

void sqlite_job_run(sqlite_store_t *store, sqlite_job_t *job) {
    int result;
    if (make_sound(store, job)) {
        job->failed = true;
        return;
    }
    do {
        keep_poison(job);
        result = sqlite_run(store->database, "BEGIN IMMEDIATE", &job->err) ? -1 : insert_all(store, job);
        if (result == 1)
            sqlite_table_rolled_back(store->table);
    } while (result == 1);
    job->failed = result || put_progress(store, job) || sqlite_table_prune(store->table, &job->err) ||
                  sqlite_run(store->database, "COMMIT", &job->err);
    if (job->failed) {
        store->stale = (sqlite3_errcode(store->database) & 0xff) == SQLITE_ERROR; /* a table was taken away, say */
        if (!sqlite3_get_autocommit(store->database))
            sqlite_run(store->database, "ROLLBACK", NULL);
        sqlite_table_rolled_back(store->table);
    }
}

void sqlite_job_clear(sqlite_job_t *job) {
    for (uint32_t i = 0; i < job->refused_count; i++)
        mem_free(job->refused[i].reason);
    job->refused_count = job->count = job->reached_count = 0;
    job->failed = job->begun_anew = false;
    job->last_refused = job->forget = 0;
}

void sqlite_job_fini(sqlite_job_t *job) {
    sqlite_job_clear(job);
    mem_free(job->frames);
    mem_free(job->keys);
    mem_free(job->reached);
    mem_free(job->refused);
}

static const char *column_text(sqlite3_stmt *statement, int column) {
    const unsigned char *text = sqlite3_column_text(statement, column);
    return text ? (const char *) text : "";
}

int sqlite_store_reached(sqlite_store_t *store, void (*found)(void *argument, const char *key, const char *origin, uint64_t epoch, uint64_t number),
                         void *argument, err_t *err) {
    sqlite3_stmt *statement = NULL;
    int code;
    if (prepare(store, &statement, "SELECT input, origin, epoch, number FROM _stream_progress WHERE sink = ?", err))
        return -1;
    sqlite3_bind_text(statement, 1, store->sink, -1, SQLITE_STATIC);
    while ((code = sqlite3_step(statement)) == SQLITE_ROW)
        found(argument, column_text(statement, 0), column_text(statement, 1), (uint64_t) sqlite3_column_int64(statement, 2),
              (uint64_t) sqlite3_column_int64(statement, 3));
    int result = code == SQLITE_DONE ? 0 : (sqlite_fail(store->database, "read the progress", err), -1);
    sqlite3_finalize(statement);
    return result;
}

int sqlite_store_refused(sqlite_store_t *store,
                         void (*found)(void *argument, int64_t row, const char *key, const char *origin, uint64_t epoch, uint64_t number,
                                       const event_t *event, const char *reason),
                         void *argument, err_t *err) {
    sqlite3_stmt *statement = NULL;
    int code;
    if (prepare(store, &statement, "SELECT id, input, origin, epoch, number, event, reason FROM _stream_refused WHERE sink = ? ORDER BY id", err))
        return -1;
    sqlite3_bind_text(statement, 1, store->sink, -1, SQLITE_STATIC);
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        frame_t frame = {.events = 1, .body = sqlite3_column_blob(statement, 5), .body_size = (size_t) sqlite3_column_bytes(statement, 5)};
        frame_walk_t walk = {0};
        event_t event;
        if (frame.body && frame_next(&frame, &walk, &event) == 1)
            found(argument, sqlite3_column_int64(statement, 0), column_text(statement, 1), column_text(statement, 2),
                  (uint64_t) sqlite3_column_int64(statement, 3), (uint64_t) sqlite3_column_int64(statement, 4), &event, column_text(statement, 6));
    }
    int result = code == SQLITE_DONE ? 0 : (sqlite_fail(store->database, "read refused events", err), -1);
    sqlite3_finalize(statement);
    return result;
}

void sqlite_store_close(sqlite_store_t *store) {
    sqlite_table_close(store->table);
    sqlite3_finalize(store->progress);
    sqlite3_finalize(store->refuse);
    sqlite3_finalize(store->forget);
    sqlite3_close(store->database);
    store->table = NULL;
    store->progress = store->refuse = store->forget = NULL;
    store->database = NULL;
}
