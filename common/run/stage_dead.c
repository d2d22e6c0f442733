/* Dead letters: what cannot be used is counted, sampled to the log, and written to a file with the reason. Lines are numbered; with --state a restart
 * cuts off those behind its position, as they will be written again, and the file is handed over only when that cannot happen any more. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/json.h"
#include "run/stage_state.h"

#define SAMPLE_MAX 120
#define WAITING_MAX (1024u * 1024)    /* bytes of lines that wait for room on the disk, where nothing else waits for them */
#define RETRY (200 * NS_PER_MS)

/* ---- lines and their numbers ---- */

/* The number at the beginning of a line, {"n":12,...; 0: it has none. */
static uint64_t line_serial(const char *line, size_t size) {
    static const char head[] = "{\"n\":";
    uint64_t serial = 0;
    if (size < sizeof head || memcmp(line, head, sizeof head - 1) != 0)
        return 0;
    for (size_t i = sizeof head - 1; i < size && line[i] >= '0' && line[i] <= '9'; i++)
        serial = serial * 10 + (uint64_t) (line[i] - '0');
    return serial;
}

/* Where the lines end whose numbers are at most `serial`, and the last of these numbers. A line without its end is cut off, too. */
static size_t good_size(const char *text, size_t size, uint64_t serial, uint64_t *last) {
    *last = 0;
    size_t end = size;
    while (end) {
        const char *newline = memrchr(text, '\n', end);
        if (!newline)
            return 0;
        end = (size_t) (newline - text) + 1;
        const char *before = end > 1 ? memrchr(text, '\n', end - 1) : NULL;
        size_t start = before ? (size_t) (before - text) + 1 : 0;
        *last = line_serial(text + start, end - start);
        if (*last <= serial)
            return end;
        end = start;
    }
    *last = 0;
    return 0;
}

/* Cuts the file at `path`, or only looks when serial is UINT64_MAX. Returns the last number, 0 when there is none. */
static uint64_t cut(const char *path, uint64_t serial) {
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    uint64_t last = 0;
    if (fd < 0 || fstat(fd, &status) || !S_ISREG(status.st_mode) || status.st_size == 0)
        goto out;
    char *text = mmap(NULL, (size_t) status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (text == MAP_FAILED)
        goto out;
    size_t size = good_size(text, (size_t) status.st_size, serial, &last);
    munmap(text, (size_t) status.st_size);
    if (serial != UINT64_MAX && size < (size_t) status.st_size && ftruncate(fd, (off_t) size))
        log_warning("dead letters: %s cannot be cut back: %s; some may stand there twice", path, strerror(errno));
out:
    if (fd >= 0)
        close(fd);
    return last;
}

static uint64_t cut_both(const char *path, uint64_t serial) {
    char *old = mem_format("%s.1", path);
    uint64_t last = cut(path, serial), before = cut(old, serial);
    mem_free(old);
    return last > before ? last : before;
}

void stage_dead_begin(stage_t *stage) {
    stage_private_t *private = stage->private;
    if (private->dead_known)
        return;
    private->dead_known = true;
    if (stage->settings.dead_letter)
        private->dead_serial = private->dead_confirmed = cut_both(stage->settings.dead_letter, UINT64_MAX);
}

static uint64_t next_serial(stage_t *stage) {
    stage_dead_begin(stage);
    return ++stage->private->dead_serial;
}

uint64_t stage_dead_offset(const stage_t *stage) {
    return stage->private->dead_serial;
}

void stage_dead_restore(stage_t *stage, uint64_t serial) {
    stage_private_t *private = stage->private;
    private->dead_known = true;
    private->dead_serial = private->dead_confirmed = serial;
    if (stage->settings.dead_letter)
        cut_both(stage->settings.dead_letter, serial);
}

/* ---- the file ---- */

/* Errors of a moment: there may be room again. */
static bool is_passing(int error) {
    return error == ENOSPC || error == EDQUOT || error == EFBIG || error == EIO;
}

/* 0, or errno. */
static int open_file(stage_t *stage) {
    stage_private_t *private = stage->private;
    const char *path = stage->settings.dead_letter;
    private->dead_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (private->dead_fd < 0) {
        int error = errno;
        if (!is_passing(error) && !private->dead_broken)
            log_error("dead letters cannot be written to %s: %s; they are counted only", path, strerror(error));
        private->dead_broken = true;
        return error;
    }
    private->dead_broken = false;
    struct stat status;
    private->dead_size = fstat(private->dead_fd, &status) ? 0 : (uint64_t) status.st_size;
    return 0;
}

static void rotate(stage_t *stage) {
    stage_private_t *private = stage->private;
    const char *path = stage->settings.dead_letter;
    char *old = mem_format("%s.1", path);
    if (rename(path, old)) {
        log_warning("dead letters: rename %s to %s: %s; the file grows on", path, old, strerror(errno));
        private->dead_size = 0; /* to be tried again after as much once more, not with every line */
    } else {
        close(private->dead_fd);
        private->dead_fd = -1;
    }
    mem_free(old);
}

/* All that waits, or nothing. 0, or errno: only where it may work later. What can never be written is counted only. */
static int write_waiting(stage_t *stage) {
    stage_private_t *private = stage->private;
    buf_t *waiting = &private->dead_waiting;
    if (private->dead_fd >= 0 && private->dead_size >= stage->settings.dead_letter_limit)
        rotate(stage);
    int error = private->dead_fd < 0 ? open_file(stage) : 0;
    off_t end = error ? 0 : lseek(private->dead_fd, 0, SEEK_END);
    if (!error && file_write_all(private->dead_fd, waiting->data, waiting->size, NULL)) {
        error = errno;
        if (end < 0 || ftruncate(private->dead_fd, end))
            log_debug("dead letters: %s: a part of a line could not be taken back", stage->settings.dead_letter);
        if (!is_passing(error))
            log_error("dead letters: %s: write: %s; they are counted only", stage->settings.dead_letter, strerror(error));
    }
    if (is_passing(error))
        return error;
    if (!error) {
        private->dead_size += waiting->size;
        if (private->state)
            private->state->dead_dirty = true;
    }
    buf_clear(waiting);
    return 0;
}

bool stage_dead_waiting(const stage_t *stage) {
    return stage->private->dead_waiting.size > 0;
}

const char *stage_dead_blocked(stage_t *stage, int *error) {
    if (!stage_dead_waiting(stage) || (*error = write_waiting(stage)) == 0)
        return NULL;
    return stage->settings.dead_letter;
}

static void hand_over(stage_t *stage);

static void retry(void *argument) {
    stage_t *stage = argument;
    stage_private_t *private = stage->private;
    private->dead_retry = NULL;
    if (stage_dead_waiting(stage) && write_waiting(stage)) {
        private->dead_retry = loop_timer(stage->loop, RETRY, 0, retry, stage);
        return;
    }
    log_info("dead letters can be written again");
    private->dead_broken = false;
    hand_over(stage);
    if (stage->tool->dead_written)
        stage->tool->dead_written(stage);
}

/* The disk is full, say. With a log everything that comes behind the letter waits there, else it is for the tool to wait. */
static void wait_for_room(stage_t *stage, int error) {
    stage_private_t *private = stage->private;
    if (private->state && private->state->spool) {
        spool_flush(private->state->spool);
        return;
    }
    if (!private->dead_broken)
        log_error("dead letters: %s: write: %s; tried again until it works", stage->settings.dead_letter, strerror(error));
    private->dead_broken = true;
    if (!private->dead_retry)
        private->dead_retry = loop_timer(stage->loop, RETRY, 0, retry, stage);
}

static void write_line(stage_t *stage) {
    static log_limit_t limit;
    stage_private_t *private = stage->private;
    if (!private->state && private->dead_waiting.size > WAITING_MAX) {
        if (log_limited(&limit))
            log_error("dead letters: %s: too many wait for room on the disk; they are counted only", stage->settings.dead_letter);
        return;
    }
    bool waited = stage_dead_waiting(stage);
    buf_put(&private->dead_waiting, private->dead_line.data, private->dead_line.size);
    int error = waited ? 0 : write_waiting(stage); /* behind others it waits with them */
    if (error)
        wait_for_room(stage, error);
}

int stage_dead_sync(stage_t *stage) {
    int fd = stage->private->dead_fd;
    return fd >= 0 && fdatasync(fd) ? -1 : 0;
}

/* ---- handing over ---- */

/* As FILE.replay-N, where N is the time: the numbers of lines begin anew when the state is deleted, and a name that was there once is known to
 * replays. */
static void give_away(const char *path, const char *from) {
    struct stat status;
    if (stat(from, &status) || status.st_size == 0)
        return;
    char *name = mem_format("%s.replay-%lld", path, (long long) clock_now());
    if (renameat2(AT_FDCWD, from, AT_FDCWD, name, RENAME_NOREPLACE) && (errno != EINVAL || rename(from, name))) /* not every file system has the flag */
        log_error("dead letters: rename %s to %s: %s", from, name, strerror(errno));
    mem_free(name);
}

static void hand_over(stage_t *stage) {
    stage_private_t *private = stage->private;
    const char *path = stage->settings.dead_letter;
    if (!private->dead_wanted || !path || stage_dead_waiting(stage) || (private->state && private->dead_confirmed < private->dead_serial))
        return;
    private->dead_wanted = false;
    char *old = mem_format("%s.1", path);
    give_away(path, old);
    give_away(path, path);
    if (private->dead_fd >= 0)
        close(private->dead_fd);
    private->dead_fd = -1;
    mem_free(old);
}

void stage_dead_want(stage_t *stage) {
    stage->private->dead_wanted = true;
    if (has_order(stage))
        snapshot_hurry(stage);
    else
        stage_note(stage); /* a source: a position behind them */
    hand_over(stage);
}

void stage_dead_settled(stage_t *stage, uint64_t serial) {
    if (serial > stage->private->dead_confirmed)
        stage->private->dead_confirmed = serial;
    hand_over(stage);
}

void stage_dead_durable(stage_t *stage, uint64_t serial) {
    stage_dead_settled(stage, serial);
}

static void put_base64(buf_t *out, text_t bytes) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    buf_put_byte(out, '"');
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        const uint8_t *p = (const uint8_t *) bytes.data + i;
        uint32_t v = (uint32_t) p[0] << 16 | (left > 1 ? (uint32_t) p[1] << 8 : 0) | (left > 2 ? p[2] : 0);
        char four[4] = {letters[v >> 18], letters[v >> 12 & 63], left > 1 ? letters[v >> 6 & 63] : '=',
                        left > 2 ? letters[v & 63] : '='};
        buf_put(out, four, 4);
    }
    buf_put_byte(out, '"');
}

static void begin_line(stage_t *stage, const char *place, const char *reason) {
    buf_t *line = &stage->private->dead_line;
    char time[CLOCK_TEXT_MAX];
    buf_clear(line);
    buf_format(line, "{\"n\":%llu,\"time\":\"", (unsigned long long) next_serial(stage));
    buf_put(line, time, clock_print(time, clock_now()));
    buf_put_text(line, "\",\"stage\":");
    text_put_json(line, text_of(stage->name));
    buf_put_text(line, ",\"reason\":");
    text_put_json(line, text_of(reason));
    if (place) {
        buf_put_text(line, ",\"place\":");
        text_put_json(line, text_of(place));
    }
}

static void end_line(stage_t *stage) {
    buf_put_text(&stage->private->dead_line, "}\n");
    write_line(stage);
}

static void sample(stage_t *stage, const char *place, const char *reason, text_t what) {
    log_limit_t *limit = &stage->private->dead_limit;
    if (!log_limited(limit))
        return;
    buf_t quoted = {0}, held = {0};
    text_put_quoted(&quoted, what, SAMPLE_MAX);
    if (limit->reported)
        buf_format(&held, " (and %llu more)", (unsigned long long) limit->reported);
    log_warning("%s%s%s: %s%s", place ? place : "", place ? ": " : "", reason, buf_text(&quoted), buf_text(&held));
    buf_fini(&quoted);
    buf_fini(&held);
}

void stage_dead_text(stage_t *stage, text_t record, const char *place, const char *reason) {
    stage->ledger.dead++;
    stage->private->dead_count++;
    sample(stage, place, reason, record);
    if (!stage->settings.dead_letter)
        return;
    begin_line(stage, place, reason);
    buf_t *line = &stage->private->dead_line;
    buf_put_text(line, ",\"text\":");
    text_put_json(line, record);
    if (text_utf8_valid(record.data, record.size) != record.size) {
        buf_put_text(line, ",\"base64\":"); /* the text above has lost the invalid bytes */
        put_base64(line, record);
    }
    end_line(stage);
}

void stage_dead_event(stage_t *stage, const event_t *event, const char *place, const char *reason) {
    stage->ledger.dead++;
    stage->private->dead_count++;
    buf_t text = {0};
    bool printable = json_put_event(&text, event, true, NULL);
    sample(stage, place, reason, printable ? text_make((char *) text.data, text.size) : text_of("(malformed)"));
    if (stage->settings.dead_letter) {
        begin_line(stage, place, reason);
        buf_t *line = &stage->private->dead_line;
        if (printable) {
            buf_put_text(line, ",\"event\":");
            buf_put(line, text.data, text.size);
        } else {
            buf_put_text(line, ",\"base64\":");
            put_base64(line, text_make((const char *) event->bytes, event->size));
        }
        end_line(stage);
    }
    buf_fini(&text);
}

void stage_dead_report(const stage_t *stage) {
    uint64_t count = stage->private->dead_count;
    const char *file = stage->settings.dead_letter;
    if (count)
        log_warning("%llu record%s could not be used%s%s", (unsigned long long) count, count == 1 ? "" : "s",
                    file ? ": see " : "; --dead-letter FILE would keep them", file ? file : "");
}

void stage_dead_close(stage_t *stage) {
    stage_private_t *private = stage->private;
    int error;
    if (stage_dead_blocked(stage, &error))
        log_error("dead letters: %s: write: %s; %s", stage->settings.dead_letter, strerror(error),
                  private->state ? "the next start makes those anew that could not be written" : "the last ones are counted only");
    if (private->dead_fd >= 0)
        close(private->dead_fd);
    loop_remove(private->dead_retry);
    buf_fini(&private->dead_line);
    buf_fini(&private->dead_waiting);
}
