/* Looking at a log from outside, for streamctl spool: lists, checks, prints and repairs. It reads with pread in bounded memory, not through
 * mappings, for the log's owner may be at work; then the end of the last segment is where the owner just writes, and segments may go meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/format.h"
#include "data/json.h"
#include "data/pack.h"
#include "net/spool_private.h"

#define PRINT_MAX (256u * 1024 * 1024)

typedef unsigned long long ull_t;

typedef struct look {
    const char *directory;
    spool_meta_t meta;
    spool_mark_t mark;
    bool marked;
    long owner;                        /* process that has it now, 0: nobody */
    uint64_t *first;
    size_t count;
} look_t;

typedef enum state { SOUND, TORN, DAMAGED, GONE } state_t;

/* One segment, read to its end or to what is wrong with it. */
typedef struct seen {
    state_t state;
    uint64_t records, frames, events, size;
    uint64_t at, index, number;        /* behind the last whole group */
    uint64_t damaged_at;
    segment_head_t head;
    err_t why;
} seen_t;

#define UNDER_WAY 25                     /* looks at a place where the owner may be writing, 20 ms apart */

typedef void each_fn(void *argument, scan_t *scan, const record_head_t *head);

/* Without touching the lock: who takes it for a moment to try may keep a stage from starting. The kernel tells who has it. */
static long owner_of(const char *directory) {
    char *path = mem_format("%s/lock", directory);
    struct stat status;
    buf_t locks = {0};
    long owner = 0;
    if (stat(path, &status) == 0 && file_read("/proc/locks", 16 * 1024 * 1024, &locks, NULL) == 0) {
        char inode[32];
        snprintf(inode, sizeof inode, ":%llu ", (ull_t) status.st_ino);
        text_t rest = text_make((const char *) locks.data, locks.size), line;
        while (!owner && rest.size && text_split(&rest, '\n', &line)) {
            const char *at = memmem(line.data, line.size, inode, strlen(inode)), *kind = memmem(line.data, line.size, "WRITE ", 6);
            if (at && kind && memmem(line.data, line.size, "FLOCK", 5))
                owner = strtol(kind + 6, NULL, 10);
        }
    }
    buf_fini(&locks);
    mem_free(path);
    return owner;
}

static void look_fini(look_t *look) {
    mem_free(look->first);
}

static int look_init(look_t *look, const char *directory, err_t *err) {
    *look = (look_t){.directory = directory};
    int known = meta_read(&look->meta, directory, err);
    if (known <= 0)
        return known < 0 ? -1 : err_set(err, "%s is not the directory of a durable log: it has no file \"meta\"", directory);
    look->marked = mark_read(&look->mark, directory);
    look->owner = owner_of(directory);
    ssize_t count = segments_list(&look->first, directory, err);
    look->count = count < 0 ? 0 : (size_t) count;
    return count < 0 ? -1 : 0;
}

static char *segment_file(const look_t *look, size_t i) {
    char name[32];
    segment_name(name, look->first[i]);
    return mem_format("%s/%s", look->directory, name);
}

static bool read_head(const look_t *look, size_t i, int fd, seen_t *seen) {
    uint8_t bytes[SEGMENT_HEAD];
    if (pread(fd, bytes, sizeof bytes, 0) != (ssize_t) sizeof bytes)
        err_set(&seen->why, "its head is missing");
    else if (segment_get_head(&seen->head, bytes, &seen->why) == 0) {
        if (seen->head.id == look->meta.id && seen->head.first_index == look->first[i])
            return true;
        err_set(&seen->why, seen->head.id == look->meta.id ? "its name is not that of its first record" : "it belongs to another log");
    }
    return false;
}

static void count(seen_t *seen, const record_head_t *head, uint64_t at, uint64_t *number) {
    seen->records++;
    seen->events += head->events;
    if (head->number) {
        seen->frames++;
        *number = head->number;
    }
    if (!(head->flags & RECORD_CONTINUES)) {
        seen->at = at;
        seen->index = head->index;
        seen->number = *number;
    }
}

/* Sound records stand behind the damage, and not just because the owner's writes are under way and come in any order. */
static bool stays_damaged(const look_t *look, scan_t *scan) {
    record_head_t head;
    bool more = scan_finds_more(scan);
    for (int i = 0; more && look->owner && i < UNDER_WAY; i++) {
        usleep(20000);
        buf_clear(&scan->buffer);
        more = scan_next(scan, &head, NULL) != 1;
    }
    return more;
}

/* Reads segment i up to where the next one begins. `each` may be NULL. */
static void walk(const look_t *look, size_t i, seen_t *seen, each_fn *each, void *argument) {
    *seen = (seen_t){.at = SEGMENT_HEAD};
    bool last = i + 1 == look->count;
    uint64_t next = last ? UINT64_MAX : look->first[i + 1];
    char *path = segment_file(look, i);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    mem_free(path);
    if (fd < 0 || fstat(fd, &status) != 0) {
        err_errno(&seen->why, "open");
        seen->state = fd < 0 && errno == ENOENT && look->owner ? GONE : DAMAGED;
        if (fd >= 0)
            close(fd);
        return;
    }
    seen->size = (uint64_t) status.st_size;
    if (!read_head(look, i, fd, seen)) {
        bool leftover = seen->head.id == look->meta.id && seen->head.first_index != look->first[i];    /* the next start removes it */
        seen->state = leftover ? GONE : last && (look->owner || seen->size <= SEGMENT_HEAD) ? TORN : DAMAGED;
        close(fd);
        return;
    }
    seen->index = seen->head.first_index - 1;
    uint64_t number = seen->number = seen->head.first_number - 1;
    scan_t scan;
    record_head_t head;
    int more = 0;
    scan_init(&scan, fd, &seen->head, seen->size);
    while (scan.expected < next && (more = scan_next(&scan, &head, &seen->why)) == 1) {
        count(seen, &head, scan.at, &number);
        if (each)
            each(argument, &scan, &head);
    }
    seen->damaged_at = scan.at;
    if (!last && scan.expected < next) {
        seen->state = DAMAGED;
        if (more == 0)
            err_set(&seen->why, "records %llu to %llu are missing", (ull_t) scan.expected, (ull_t) next - 1);
    } else if (last && more < 0)       /* a torn tail has nothing sound behind it */
        seen->state = stays_damaged(look, &scan) ? DAMAGED : TORN;
    else if (last && seen->at < scan.at)
        seen->state = TORN;
    scan_fini(&scan);
    close(fd);
}

static void print_head(const look_t *look, FILE *out) {
    const spool_identity_t *identity = &look->meta.identity;
    fprintf(out, "log of %s, origin %s, epoch %llu", look->meta.name, identity->origin, (ull_t) identity->epoch);
    for (unsigned i = 0; i < identity->past_count; i++)
        fprintf(out, "%s epoch %llu up to frame %llu", i ? "," : ", which continues", (ull_t) identity->past[i].epoch, (ull_t) identity->past[i].number);
    fprintf(out, "\nsync %s", spool_sync_names[look->meta.sync]);
    if (look->owner)
        fprintf(out, ", in use by process %ld", look->owner);
    if (look->marked)
        fprintf(out, ", synced up to record %llu, released up to record %llu and frame %llu", (ull_t) look->mark.index,
                (ull_t) look->mark.released_index, (ull_t) look->mark.released_number);
    fputc('\n', out);
}

static int print_state(const look_t *look, const seen_t *seen, FILE *out) {
    if (seen->state == DAMAGED)
        fprintf(out, "  DAMAGED at byte %llu: %s", (ull_t) seen->damaged_at, seen->why.text);
    else if (seen->state == TORN)
        fputs(look->owner ? "  (being written)" : "  (ends in something unfinished, which the next start cuts off)", out);
    fputc('\n', out);
    return seen->state == DAMAGED;
}

int spool_check(const char *directory, FILE *out, err_t *err) {
    look_t look;
    int damages = 0;
    if (look_init(&look, directory, err) != 0)
        return -1;
    print_head(&look, out);
    for (size_t i = 0; i < look.count; i++) {
        seen_t seen;
        walk(&look, i, &seen, NULL, NULL);
        if (seen.state == GONE)
            continue;
        fprintf(out, "%016llx.seg  %llu bytes, %llu records, %llu frames, %llu events", (ull_t) look.first[i], (ull_t) seen.size, (ull_t) seen.records,
                (ull_t) seen.frames, (ull_t) seen.events);
        damages += print_state(&look, &seen, out);
    }
    if (damages)
        fprintf(out, "%d of %zu segments are damaged; streamctl spool repair cuts the log off at the first damage and keeps what is behind it aside\n",
                damages, look.count);
    else
        fprintf(out, "%zu segments, no damage\n", look.count);
    look_fini(&look);
    return damages;
}

int spool_content(const char *directory, spool_content_t *content, err_t *err) {
    look_t look;
    if (look_init(&look, directory, err) != 0)
        return -1;
    *content = (spool_content_t){.used = look.owner != 0, .lowest = 1};
    bool damaged = false;
    for (size_t i = 0; i < look.count && !look.owner && !damaged; i++) {
        seen_t seen;
        walk(&look, i, &seen, NULL, NULL);
        if (seen.state == GONE)
            continue;
        damaged = seen.state == DAMAGED;
        if (damaged)
            err_set(err, "%016llx.seg is damaged at byte %llu: %s", (ull_t) look.first[i], (ull_t) seen.damaged_at, seen.why.text);
        if (i == 0)
            content->lowest = seen.head.first_number;
        if (seen.size && seen.head.first_number)
            content->number = seen.number;
    }
    look_fini(&look);
    return damaged;
}

/* By the heads of the segments; only the last one is read. */
int spool_list(const char *directory, FILE *out, err_t *err) {
    look_t look;
    int damages = 0;
    if (look_init(&look, directory, err) != 0)
        return -1;
    print_head(&look, out);
    fprintf(out, "%-20s  %12s  %12s  %12s\n", "segment", "bytes", "from record", "from frame");
    uint64_t bytes = 0;
    seen_t seen = {0};
    for (size_t i = 0; i < look.count; i++) {
        char *path = segment_file(&look, i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat status;
        mem_free(path);
        if (fd < 0 || fstat(fd, &status) != 0) {
            if (fd >= 0)
                close(fd);
            continue;
        }
        seen = (seen_t){0};
        bool sound = read_head(&look, i, fd, &seen);
        close(fd);
        bytes += (uint64_t) status.st_size;
        fprintf(out, "%016llx.seg  %12llu  %12llu  %12llu", (ull_t) look.first[i], (ull_t) status.st_size, (ull_t) look.first[i], (ull_t) seen.head.first_number);
        if (!sound)
            seen.state = i + 1 == look.count && (look.owner || status.st_size <= SEGMENT_HEAD) ? TORN : DAMAGED;
        else if (i + 1 == look.count)
            walk(&look, i, &seen, NULL, NULL);
        damages += print_state(&look, &seen, out);
    }
    fprintf(out, "%zu segments, %llu bytes, up to record %llu and frame %llu\n", look.count, (ull_t) bytes, (ull_t) seen.index, (ull_t) seen.number);
    look_fini(&look);
    return damages;
}

/* ---- printing ---- */

typedef struct print {
    FILE *out;
    encoder_t *encoder;                /* NULL: notes and numbers, not events */
    const char *name;
    buf_t text;
    uint64_t failed;
} print_t;

/* Notes are their owner's; mostly one msgpack value. */
static void put_note(buf_t *out, text_t note) {
    pack_cursor_t cursor = pack_cursor(note.data, note.size);
    bool packed = note.size && (uint8_t) note.data[0] >= 0x80 && pack_skip(&cursor) && cursor.at == cursor.end;
    if (packed && json_put_packed(out, (const uint8_t *) note.data, note.size))
        return;
    if (text_utf8_valid(note.data, note.size) == note.size) {
        text_put_json(out, note);
        return;
    }
    buf_put_byte(out, '"');
    for (size_t i = 0; i < note.size; i++)
        buf_format(out, "%02x", (uint8_t) note.data[i]);
    buf_put_byte(out, '"');
}

static void put_numbers(print_t *print, const record_head_t *head, const uint8_t *record) {
    buf_format(&print->text, "{\"index\":%llu", (ull_t) head->index);
    if (head->number) {
        buf_format(&print->text, ",\"number\":%llu,\"topic\":", (ull_t) head->number);
        text_put_json(&print->text, text_make((const char *) record + RECORD_HEAD + head->note_size, head->topic_size));
        buf_format(&print->text, ",\"events\":%u", head->events);
    }
    if (head->note_size) {
        buf_put_text(&print->text, ",\"note\":");
        put_note(&print->text, record_note(head, record));
    }
    buf_put_text(&print->text, head->flags & RECORD_CONTINUES ? ",\"continues\":true}\n" : "}\n");
}

static void print_record(void *argument, scan_t *scan, const record_head_t *head) {
    print_t *print = argument;
    const uint8_t *record = scan_record(scan, head, PRINT_MAX);
    frame_t frame = {0};
    buf_clear(&print->text);
    if (!record)
        print->failed++;
    else if (!print->encoder)
        put_numbers(print, head, record);
    else if (head->number && record_decode(&frame, head, record, NULL) != 0)
        print->failed++;
    else if (head->number)
        print->failed += print->encoder->class->frame(print->encoder, &frame, strcmp(frame.topic, print->name) != 0 ? frame.topic : NULL, &print->text);
    if (print->text.size)
        fwrite(print->text.data, 1, print->text.size, print->out);
}

int spool_print(const char *directory, bool notes, FILE *out, err_t *err) {
    static const format_settings_t plain = {.record_limit = 1024 * 1024};
    look_t look;
    print_t print = {.out = out};
    int damages = 0;
    if (look_init(&look, directory, err) != 0)
        return -1;
    print.name = look.meta.name;
    if (!notes && format_find("ndjson")->encoder_open(&print.encoder, &plain, err) != 0) {
        look_fini(&look);
        return -1;
    }
    for (size_t i = 0; i < look.count && !ferror(out); i++) {
        seen_t seen;
        walk(&look, i, &seen, print_record, &print);
        if (seen.state == DAMAGED) {
            err_set(err, "%s/%016llx.seg, byte %llu: %s", directory, (ull_t) look.first[i], (ull_t) seen.damaged_at, seen.why.text);
            damages++;
        }
    }
    if (print.failed) {
        err_set(err, "%llu records could not be shown", (ull_t) print.failed);
        damages++;
    }
    encoder_free(print.encoder);
    buf_fini(&print.text);
    look_fini(&look);
    return damages;
}

/* ---- repairing ---- */

static int set_aside(const look_t *look, size_t i, FILE *out, err_t *err) {
    char *path = segment_file(look, i), *aside = mem_format("%s.damaged", path);
    int result = rename(path, aside) != 0 ? err_errno(err, "rename %s", path) : 0;
    if (result == 0)
        fprintf(out, "%016llx.seg is renamed to %016llx.seg.damaged\n", (ull_t) look->first[i], (ull_t) look->first[i]);
    mem_free(path);
    mem_free(aside);
    return result;
}

/* What stands behind the last whole group of the segment goes beside it. */
static int cut_segment(const look_t *look, size_t i, const seen_t *seen, FILE *out, err_t *err) {
    char *path = segment_file(look, i);
    segment_keep_aside(path, seen->at);
    int result = truncate(path, (off_t) seen->at) != 0 ? err_errno(err, "cut %s", path) : 0;
    if (result == 0)
        fprintf(out, "%016llx.seg is cut off at byte %llu, behind record %llu; the rest is kept as %016llx.seg.damaged\n", (ull_t) look->first[i],
                (ull_t) seen->at, (ull_t) seen->index, (ull_t) look->first[i]);
    mem_free(path);
    return result;
}

static int write_mark(const look_t *look, uint64_t index, uint64_t number, err_t *err) {
    char text[256], *path = mem_format("%s/synced", look->directory);
    spool_mark_t mark = {.index = index, .number = number, .released_index = look->mark.released_index, .released_number = look->mark.released_number};
    mark_put(text, &mark);
    int result = file_write_atomic(path, text, MARK_SIZE, 0644, err);
    mem_free(path);
    return result;
}

static int repair(look_t *look, FILE *out, err_t *err) {
    uint64_t index = look->mark.index, number = look->mark.number;
    for (size_t i = 0; i < look->count; i++) {
        seen_t seen;
        walk(look, i, &seen, NULL, NULL);
        if (seen.state != DAMAGED) {
            index = seen.index;
            number = seen.number;
            continue;
        }
        fprintf(out, "%016llx.seg is damaged at byte %llu: %s\n", (ull_t) look->first[i], (ull_t) seen.damaged_at, seen.why.text);
        bool headless = seen.head.first_index != look->first[i] || seen.head.id != look->meta.id || !seen.size;
        if (!headless) {
            index = seen.index;
            number = seen.number;
        }
        meta_continue(&look->meta, number);            /* first: who has more than that must hear of it */
        if (meta_write(&look->meta, look->directory, err) != 0)
            return -1;
        for (size_t k = look->count; k-- > i + !headless;)
            if (set_aside(look, k, out, err) != 0)
                return -1;
        if ((!headless && cut_segment(look, i, &seen, out, err) != 0) || write_mark(look, index, number, err) != 0)
            return -1;
        fprintf(out, "the log ends with record %llu and frame %llu; epoch %llu goes on from there\n", (ull_t) index, (ull_t) number,
                (ull_t) look->meta.identity.epoch);
        return 1;
    }
    fputs("no damage, nothing to repair\n", out);
    return 0;
}

int spool_repair(const char *directory, FILE *out, err_t *err) {
    look_t look;
    if (look_init(&look, directory, err) != 0)
        return -1;
    char *path = mem_format("%s/lock", directory);
    pid_t holder;
    int lock = file_lock(path, &holder, err), result = -1;
    mem_free(path);
    if (lock >= 0) {
        look.owner = 0;
        result = repair(&look, out, err);
        close(lock);
    } else if (holder)
        err_set(err, "%s is in use by process %d: stop the stage first", directory, (int) holder);
    look_fini(&look);
    return result;
}
