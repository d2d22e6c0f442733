/* Compressed files, read piece by piece. What their bytes mean the codecs know; here is what they have in common. */
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

#define PIECE (64u * 1024)

struct unpack {
    int fd;
    uint64_t at;                       /* of the next read */
    const unpack_codec_t *codec;
    void *state;
    unpack_input_t input;              /* in piece */
    bool inside;                       /* a member has begun and not ended */
    const char *error;
    uint8_t piece[PIECE];
};

static const unpack_codec_t *const codecs[] = {&unpack_gzip, &unpack_zstd};

unpack_t *unpack_new(int fd) {
    struct stat status;
    uint8_t magic[UNPACK_MAGIC];
    if (fstat(fd, &status) || !S_ISREG(status.st_mode) || pread(fd, magic, sizeof magic, 0) != (ssize_t) sizeof magic)
        return NULL;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        if (!codecs[i]->begins(magic))
            continue;
        unpack_t *self = mem_zero(sizeof *self);
        self->fd = fd;
        self->codec = codecs[i];
        self->state = self->codec->open();
        return self;
    }
    return NULL;
}

void unpack_free(unpack_t *self) {
    if (!self)
        return;
    self->codec->close(self->state);
    mem_free(self);
}

/* More input. False: the end of the file, or an error. */
static bool fill(unpack_t *self) {
    ssize_t got;
    do
        got = pread(self->fd, self->piece, sizeof self->piece, (off_t) self->at);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        self->error = "it cannot be read";
    if (got <= 0)
        return false;
    self->at += (uint64_t) got;
    self->input = (unpack_input_t){self->piece, (size_t) got};
    return true;
}

/* Another member may stand behind the last one, or zeros, as tapes have them. */
static bool next_member(unpack_t *self) {
    do {
        while (self->input.size && !*self->input.data) {
            self->input.data++;
            self->input.size--;
        }
    } while (!self->input.size && fill(self));
    if (!self->input.size)
        return false;
    self->codec->reset(self->state);
    return true;
}

ssize_t unpack_read(unpack_t *self, void *space, size_t size, const char **error) {
    unpack_output_t out = {space, size};
    while (out.size && !self->error) {
        if (!self->inside && !next_member(self))
            break;
        self->inside = true;
        size_t before_in = self->input.size, before_out = out.size;
        unpack_step_t step = self->codec->step(self->state, &self->input, &out, &self->error);
        self->inside = step != UNPACK_END;
        /* no input does not mean no output: so it is asked for only when nothing comes without */
        if (step == UNPACK_MORE && self->input.size == before_in && out.size == before_out && !fill(self) && !self->error)
            self->error = "the compressed data is cut off: it ends in the middle";
    }
    if (out.size == size && self->error) {
        *error = self->error;
        return -1;
    }
    return (ssize_t) (size - out.size);
}

/* All of `size`, or fewer at the end. */
static size_t read_whole(unpack_t *unpack, uint8_t *out, size_t size) {
    const char *error;
    size_t got = 0;
    for (ssize_t more; got < size && (more = unpack_read(unpack, out + got, size - got, &error)) > 0;)
        got += (size_t) more;
    return got;
}

static bool fits_head(const filemark_t *mark, const uint8_t *head, size_t size) {
    return size >= mark->head_size && XXH3_64bits(head, mark->head_size) == mark->head;
}

bool unpack_begins(const filemark_t *mark, int fd) {
    unpack_t *unpack = unpack_new(fd);
    uint8_t head[FILEMARK_HEAD];
    bool fits = unpack && fits_head(mark, head, read_whole(unpack, head, mark->head_size));
    unpack_free(unpack);
    return fits;
}

bool unpack_fits(const filemark_t *mark, int fd, bool whole) {
    unpack_t *unpack = unpack_new(fd);
    uint8_t head[FILEMARK_HEAD], *piece = mem_alloc(PIECE);
    filetrace_t trace = {0};
    size_t before = mark->offset < FILEMARK_HEAD ? (size_t) mark->offset : FILEMARK_HEAD, most = before > mark->head_size ? before : (size_t) mark->head_size;
    size_t size = unpack && most <= FILEMARK_HEAD ? read_whole(unpack, head, most) : 0;
    bool fits = unpack && size >= before && fits_head(mark, head, size); /* the head may have been read beyond the place */
    uint64_t at = before;
    if (fits)
        filetrace_used(&trace, head, before);
    while (fits && at < mark->offset) {
        uint64_t left = mark->offset - at;
        size_t got = read_whole(unpack, piece, left < PIECE ? (size_t) left : PIECE);
        fits = got > 0;
        filetrace_used(&trace, piece, got);
        at += got;
    }
    fits = fits && at == mark->offset && XXH3_64bits(trace.before, trace.before_size) == mark->before;
    const char *error;
    if (fits && whole)
        fits = size <= mark->offset && unpack_read(unpack, piece, 1, &error) == 0;
    unpack_free(unpack);
    mem_free(piece);
    return fits;
}

int unpack_expand(int fd, const char *path) {
    unpack_t *unpack = unpack_new(fd);
    if (!unpack)
        return -1;
    const char *directory = getenv("TMPDIR"), *error = NULL;
    int out = open(directory && *directory ? directory : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    uint8_t *piece = mem_alloc(PIECE);
    ssize_t got = out < 0 ? -1 : 0;
    err_t err;
    if (out < 0)
        err_errno(&err, "make a file");
    while (out >= 0 && (got = unpack_read(unpack, piece, PIECE, &error)) > 0) {
        if (file_write_all(out, piece, (size_t) got, &err)) {
            close(out);
            out = -1;
        }
    }
    if (out < 0)
        log_error("%s: it cannot be expanded in %s, so that it is not read: %s", path, directory && *directory ? directory : "/var/tmp", err.text);
    if (out >= 0 && got < 0) { /* it may be about to be written, beside the file that it is made from */
        log_warning("%s: %s; it is not read", path, error);
        close(out);
        out = -1;
    }
    struct stat status;
    if (out >= 0 && fstat(fd, &status) == 0)
        futimens(out, (struct timespec[]){status.st_atim, status.st_mtim});
    mem_free(piece);
    unpack_free(unpack);
    return out;
}
