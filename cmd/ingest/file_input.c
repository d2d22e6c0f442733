/* A file read once to its end, or followed for as long as it lives and its successors too; and its place, from which another run goes on. */
#include "file_input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/multiline.h"
#include "data/pack.h"
#include "file_path.h"
#include "reader.h"
#include "src_file.h"
#include "tail.h"
#include "unpack.h"

#define FIRST_ROW_MAX (32u << 20)      /* of a table; beyond it nothing more is tried */

struct file_input {
    file_input_setup_t setup;
    source_host_t *host;
    char *path, *full_path;
    const format_t *format;
    decoder_t *decoder;
    int fd;
    reader_t *reader;              /* one shot */
    tail_t *tail;                  /* following */
    uint64_t offset;               /* one shot: where to begin */
    uint64_t device, inode;        /* one shot */
    filetrace_t trace;
    uint64_t records, decoder_state;    /* of the decoder, before the source_decode call under way */
    uint64_t skip;                 /* records from there that are dealt with already; inside of a call the host knows better */
    unpack_queue_t *unpack;        /* the setup's, or our own */
    unpack_job_t *job;             /* one shot, compressed: on its way to the place to go on from */
    buf_t restoring;               /* the position that is still to be found; size 0: none */
    bool resumed;
    tag_t tag;                     /* what its path says */
    bool decoding;
    loop_watch_t *wait_timer;      /* following: until the last record of several lines counts as complete */
};

static void note_decoder(file_input_t *self) {
    self->records = self->decoder->records;
    self->decoder_state = decoder_state(self->decoder);
}

static void on_waited(void *argument) {
    file_input_t *self = argument;
    self->wait_timer = NULL;
    self->decoder->class->cut(self->decoder);
    tail_again(self->tail);
}

void file_input_moved(file_input_t *self) {
    if (self->tail)
        tail_moved(self->tail);
}

static void stop_waiting(file_input_t *self) {
    loop_remove(self->wait_timer);
    self->wait_timer = NULL;
}

static size_t on_data(void *argument, const char *data, size_t size, bool at_end) {
    file_input_t *self = argument;
    note_decoder(self);
    stop_waiting(self);
    source_healthy(self->host);
    if (self->reader)
        filetrace_read(&self->trace, reader_used(self->reader), data, size);
    source_skip(self->host, self->skip);
    self->decoding = true;
    source_tag(self->host, &self->tag);
    size_t used = source_decode(self->host, self->decoder, data, size, at_end, self->path);
    source_tag(self->host, NULL);
    self->decoding = false;
    self->skip = source_decoded(self->host);
    source_skip(self->host, 0);
    if (self->reader)
        filetrace_used(&self->trace, data, used);
    note_decoder(self);
    if (self->tail && decoder_waits(self->decoder))
        self->wait_timer = loop_timer(self->setup.source->loop, self->setup.source->format_settings->multiline_wait, 0, on_waited, self);
    return used;
}

static void on_ended(void *argument, const char *error) {
    file_input_t *self = argument;
    self->setup.ended(self->setup.argument, error);
}

static void on_damaged(void *argument, const char *reason) {
    file_input_t *self = argument;
    log_error("%s: %s; what came before is used", self->path, reason);
    source_bad(self->host, text_make("", 0), self->path, reason);
}

static void on_begin(void *argument) {
    file_input_t *self = argument;
    stop_waiting(self);
    decoder_reset(self->decoder);
    note_decoder(self);
    self->skip = 0;
    source_moved(self->host);
}

static void on_idle(void *argument) {
    file_input_t *self = argument;
    if (self->setup.idle)
        self->setup.idle(self->setup.argument);
}

static bool is_foreign(void *argument, const char *name) {
    file_input_t *self = argument;
    return self->setup.foreign && self->setup.foreign(self->setup.foreign_argument, name);
}

static void on_missing(void *argument, const char *reason) {
    file_input_t *self = argument;
    self->setup.missing(self->setup.argument, reason);
}

static int make_reader(file_input_t *self, unpack_t *unpack, err_t *err) {
    reader_setup_t setup = {.loop = self->setup.source->loop, .fd = self->fd, .offset = self->offset, .packed = format_packed(self->path), .unpack = unpack,
                            .damaged = on_damaged, .data = on_data, .ended = on_ended, .argument = self};
    self->reader = reader_new(&setup, err);
    return self->reader ? 0 : err_wrap(err, "%s", self->path);
}

static int open_reader(file_input_t *self, err_t *err) {
    self->fd = open(self->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (self->fd < 0) {
        int why = errno;
        err_errno(err, "%s", self->path);
        return why == ENOENT ? err_set(err, "%s; --follow waits for a file that does not exist yet", err->text) : -1;
    }
    struct stat status;
    if (fstat(self->fd, &status) == 0) {
        self->device = status.st_dev;
        self->inode = status.st_ino;
    }
    return make_reader(self, NULL, err);
}

static void on_restored(void *argument, bool found);

static int open_tail(file_input_t *self, err_t *err) {
    struct stat status;
    if (stat(self->path, &status) == 0 && !S_ISREG(status.st_mode))
        return err_set(err, "%s: only a regular file can be followed", self->path);
    tail_setup_t setup = {
        .loop = self->setup.source->loop,
        .path = self->path,
        .from_end = self->setup.from_end,
        .rotate_wait = self->setup.rotate_wait,
        .data = on_data,
        .begin = on_begin,
        .missing = on_missing,
        .idle = on_idle,
        .lent = self->setup.lent,
        .inotify = self->setup.inotify,
        .listing = self->setup.listing,
        .unpack = self->unpack,
        .restored = on_restored,
        .foreign = is_foreign,
        .argument = self,
    };
    self->tail = tail_new(&setup, err);
    return self->tail ? 0 : err_wrap(err, "%s", self->path);
}

void file_input_pause(file_input_t *self) {
    self->resumed = false;
    if (self->tail)
        tail_pause(self->tail);
    else
        reader_pause(self->reader);
}

void file_input_resume(file_input_t *self) {
    self->resumed = true;
    if (self->tail)
        tail_resume(self->tail);
    else if (!self->job)
        reader_resume(self->reader);
}

_Static_assert(FILE_INPUT_FINISHED == TAIL_FINISHED, "all of them");

typedef struct stored {
    tail_position_t place;
    text_t path;
    uint64_t records, decoder_state, skip;
} stored_t;

static void put_position(const stored_t *stored, buf_t *out) {
    const tail_position_t *place = &stored->place;
    pack_map(out, 7);
    pack_text(out, "path");
    pack_string(out, stored->path.data, stored->path.size);
    pack_text(out, "mark");
    filemark_pack(&place->mark, out);
    pack_text(out, "modified");
    pack_int(out, place->modified);
    pack_text(out, "finished");
    pack_array(out, place->finished_count);
    for (unsigned i = 0; i < place->finished_count; i++)
        filemark_pack(&place->finished[i], out);
    pack_text(out, "records");
    pack_uint(out, stored->records);
    pack_text(out, "decoder");
    pack_uint(out, stored->decoder_state);
    pack_text(out, "skip");
    pack_uint(out, stored->skip);
}

void file_input_position(const file_input_t *self, buf_t *out) {
    tail_position_t position = {0};
    if (self->restoring.size) {
        buf_put(out, self->restoring.data, self->restoring.size);
        return;
    }
    if (self->tail)
        tail_position(self->tail, &position);
    else
        filemark_make(&position.mark, &self->trace, self->device, self->inode, reader_used(self->reader));
    stored_t stored = {position, text_of(self->full_path), self->records, self->decoder_state, self->decoding ? source_decoded(self->host) : self->skip};
    put_position(&stored, out);
}

static bool read_member(pack_cursor_t *cursor, stored_t *stored) {
    text_t key;
    uint32_t count;
    if (!pack_read_string(cursor, &key))
        return false;
    if (text_is(key, "path"))
        return pack_read_string(cursor, &stored->path);
    if (text_is(key, "mark"))
        return filemark_unpack(cursor, &stored->place.mark);
    if (text_is(key, "modified"))
        return pack_read_int(cursor, &stored->place.modified);
    if (text_is(key, "records"))
        return pack_read_uint(cursor, &stored->records);
    if (text_is(key, "decoder"))
        return pack_read_uint(cursor, &stored->decoder_state);
    if (text_is(key, "skip"))
        return pack_read_uint(cursor, &stored->skip);
    if (!text_is(key, "finished") || !pack_read_array(cursor, &count) || count > TAIL_FINISHED)
        return false;
    for (stored->place.finished_count = 0; stored->place.finished_count < count; stored->place.finished_count++) {
        if (!filemark_unpack(cursor, &stored->place.finished[stored->place.finished_count]))
            return false;
    }
    return true;
}

static bool read_position(const uint8_t *bytes, size_t size, stored_t *stored) {
    pack_cursor_t cursor = pack_cursor(bytes, size);
    uint32_t count;
    bool whole = pack_read_map(&cursor, &count) && count == 7;
    for (uint32_t i = 0; whole && i < count; i++)
        whole = read_member(&cursor, stored);
    return whole && stored->path.size;
}

bool file_input_read(const uint8_t *bytes, size_t size, text_t *path, filemark_t *mark) {
    stored_t stored = {0};
    if (!read_position(bytes, size, &stored))
        return false;
    *path = stored.path;
    *mark = stored.place.mark;
    return true;
}

void file_input_place(const char *full_path, const filemark_t *mark, int64_t modified, buf_t *out) {
    stored_t stored = {.place = {.mark = *mark, .modified = modified}, .path = text_of(full_path)};
    put_position(&stored, out);
}

size_t file_input_all_finished(const uint8_t *bytes, size_t size, filemark_t *out) {
    stored_t stored = {0};
    if (!read_position(bytes, size, &stored))
        return 0;
    memcpy(out, stored.place.finished, stored.place.finished_count * sizeof *out);
    return stored.place.finished_count;
}

bool file_input_finished(const buf_t *position, uint64_t device, uint64_t inode, filemark_t *mark) {
    filemark_t all[FILE_INPUT_FINISHED];
    for (size_t i = file_input_all_finished(position->data, position->size, all); i--;) {
        *mark = all[i];
        if (mark->device == device && mark->inode == inode)
            return true;
    }
    return false;
}

bool file_input_rename(const buf_t *position, const char *full_path, buf_t *out) {
    stored_t stored = {0};
    if (!read_position(position->data, position->size, &stored))
        return false;
    stored.path = text_of(full_path);
    stored.place.finished_count = 0;
    put_position(&stored, out);
    return true;
}

/* The first bytes, of a compressed file those of what it holds. */
static ssize_t read_beginning(file_input_t *self, char *out, size_t size) {
    unpack_t *unpack = !self->tail && format_packed(self->path) ? unpack_new(self->fd) : NULL;
    const char *error;
    ssize_t got = unpack ? unpack_read(unpack, out, size, &error) : self->tail ? (ssize_t) tail_beginning(self->tail, out, size) : pread(self->fd, out, size, 0);
    unpack_free(unpack);
    return got;
}

static void on_passed(void *argument) {
    file_input_t *self = argument;
    unpack_job_t *job = self->job;
    bool found = unpack_job_fits(job);
    self->job = NULL;
    if (found) {
        reader_free(self->reader);
        self->reader = NULL;
        ASSERT(make_reader(self, unpack_job_take(job, &self->trace), NULL) == 0); /* it could be read */
    } else {
        self->offset = 0;
    }
    unpack_job_free(job);
    on_restored(self, found);
    if (self->resumed)
        reader_resume(self->reader);
}

/* One shot, compressed: all up to the place has to be read. */
static tail_found_t restore_packed(file_input_t *self, const filemark_t *mark, bool same) {
    uint8_t head[FILEMARK_HEAD];
    if (!(same || mark->head_size) || !filemark_begins(mark, head, unpack_head(self->fd, head)))
        return TAIL_GONE;
    if (!mark->offset)
        return TAIL_FOUND;
    self->offset = mark->offset;
    unpack_task_t task = {.fd = self->fd, .path = self->path, .mark = mark, .only_mark = true, .done = on_passed, .argument = self};
    self->job = unpack_job_new(self->unpack, &task);
    return TAIL_LATER;
}

/* One shot: the file that was being read, under its name or, when another has that now, wherever it is in the directory. */
static tail_found_t restore_reader(file_input_t *self, const filemark_t *mark) {
    struct stat status;
    int fd = -1;
    if (fstat(self->fd, &status) || !S_ISREG(status.st_mode))
        return TAIL_GONE;
    unpack_t *packed = format_packed(self->path) ? unpack_new(self->fd) : NULL;
    unpack_free(packed);
    bool same = status.st_dev == mark->device && status.st_ino == mark->inode;
    if (packed)
        return restore_packed(self, mark, same);
    bool fits = filemark_fits(mark, self->fd);
    if (!(same && fits)) {
        const char *slash = strrchr(self->full_path, '/');
        char *directory = slash ? mem_text_n(self->full_path, (size_t) (slash - self->full_path) + 1) : mem_text(".");
        listing_t *listing = listing_new(directory);
        fd = filemark_find(mark, listing);
        listing_free(listing);
        mem_free(directory);
        if (fd < 0 && !(fits && mark->head_size))
            return TAIL_GONE;
    }
    reader_free(self->reader);
    self->reader = NULL;
    if (fd >= 0) {
        close(self->fd);
        self->fd = fd;
    }
    self->offset = mark->offset;
    filetrace_load(&self->trace, self->fd, mark->offset);
    return make_reader(self, NULL, NULL) == 0 ? TAIL_FOUND : TAIL_GONE;
}

/* A table's decoder needs its first row, from wherever it goes on: it may name the columns. */
static void read_first_row(file_input_t *self) {
    if (strcmp(self->format->name, "csv") != 0 && strcmp(self->format->name, "tsv") != 0)
        return;
    bool primed = false;
    for (size_t size = FEED_CHUNK; !primed && size <= FIRST_ROW_MAX; size *= 8) {
        char *data = mem_alloc(size);
        ssize_t got = read_beginning(self, data, size);
        decoder_reset(self->decoder);
        if (got > 0)
            primed = source_prime(self->host, self->decoder, data, (size_t) got);
        mem_free(data);
        if (got < (ssize_t) size)
            break;
    }
}

static bool ends_with(text_t text, const char *end) {
    size_t size = strlen(end);
    return text.size >= size && memcmp(text.data + text.size - size, end, size) == 0;
}

/* Whether the place is found is known. */
static int restored(file_input_t *self, const stored_t *stored, bool found, err_t *err) {
    if (found) {
        if (stored->place.mark.offset)
            read_first_row(self);
        if (stored->records || stored->decoder_state) /* else it has only seen the first row, for file_input_place */
            decoder_restore(self->decoder, stored->decoder_state, stored->records);
        self->decoder_state = stored->decoder_state;
        self->records = stored->records;
        self->skip = stored->skip;
    } else if (!text_is(stored->path, self->full_path)) { /* nor is it the directory under another name */
        return err_set(err, "it was made for %.*s", (int) (stored->path.size < 200 ? stored->path.size : 200), stored->path.data);
    } else if (stored->place.mark.head_size && access(self->path, F_OK) == 0) { /* else it was deleted, and there is none */
        log_warning("%s is another file than the one read before, of which the rest is gone: reading from its beginning", self->path);
    }
    return 0;
}

static void on_restored(void *argument, bool found) {
    file_input_t *self = argument;
    buf_t position = self->restoring;
    stored_t stored = {0};
    err_t err;
    self->restoring = (buf_t){0};
    ASSERT(read_position(position.data, position.size, &stored));
    if (restored(self, &stored, found, &err)) {
        if (self->setup.lent) /* the others of a set go on */
            log_warning("%s: %s", self->path, err.text);
        else
            source_failed(self->host, "%s: --state is not for this file: %s; --reset forgets it and begins anew, or give another directory", self->path,
                          err.text);
    }
    buf_fini(&position);
}

int file_input_restore(file_input_t *self, const uint8_t *bytes, size_t size, err_t *err) {
    stored_t stored = {0};
    struct stat status;
    if (!read_position(bytes, size, &stored))
        return err_set(err, "the stored position is none of a file");
    if (!self->tail && fstat(self->fd, &status) == 0 && !S_ISREG(status.st_mode))
        return 0; /* a pipe or a device goes on with what comes */
    const char *name = strrchr(self->full_path, '/');
    if (!text_is(stored.path, self->full_path) && (!name || !ends_with(stored.path, name)))
        return err_set(err, "it was made for %.*s", (int) (stored.path.size < 200 ? stored.path.size : 200), stored.path.data);
    tail_found_t found = self->tail ? tail_restore(self->tail, &stored.place) : restore_reader(self, &stored.place.mark);
    if (found != TAIL_LATER)
        return restored(self, &stored, found == TAIL_FOUND, err);
    buf_put(&self->restoring, bytes, size);
    return 0;
}

bool file_input_quiet(const file_input_t *self) {
    return self->tail && !self->restoring.size && !decoder_waits(self->decoder) && tail_quiet(self->tail);
}

void file_input_free(file_input_t *self) {
    if (!self)
        return;
    stop_waiting(self);
    reader_free(self->reader);
    tail_free(self->tail);
    unpack_job_free(self->job);
    if (!self->setup.unpack)
        unpack_queue_free(self->unpack);
    buf_fini(&self->restoring);
    if (self->fd >= 0)
        close(self->fd);
    decoder_free(self->decoder);
    buf_fini(&self->tag.pairs);
    mem_free(self->path);
    mem_free(self->full_path);
    mem_free(self);
}

file_input_t *file_input_new(const file_input_setup_t *setup, err_t *err) {
    const source_setup_t *source = setup->source;
    file_input_t *self = mem_zero(sizeof *self);
    self->setup = *setup;
    self->host = source->host;
    self->unpack = setup->unpack ? setup->unpack : unpack_queue_new(source->loop);
    self->fd = -1;
    self->path = mem_text(setup->path);
    self->full_path = mem_text(setup->full_path);
    file_path_tag(&self->tag, source->settings, setup->path_pattern, self->full_path);
    self->format = source->format ? source->format : format_for_path(self->path);
    if (!self->format || !self->format->decoder_open)
        self->format = format_find("ndjson");
    if (multiline_wanted(source->format_settings) && strcmp(self->format->name, "lines") != 0 && strcmp(self->format->name, "regex") != 0) {
        err_set(err, "%s: --multiline is for --format lines and regex, not %s", self->path, self->format->name);
        file_input_free(self);
        return NULL;
    }
    if (self->format->decoder_open(&self->decoder, source->format_settings, err) || (setup->follow ? open_tail(self, err) : open_reader(self, err))) {
        file_input_free(self);
        return NULL;
    }
    if (setup->from_end)
        read_first_row(self);
    return self;
}
