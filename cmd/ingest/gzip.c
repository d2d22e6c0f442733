/* Compressed files, read piece by piece with zlib. Places in them are places in what they hold. */
#include "gzip.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>

#include "base/log.h"
#include "base/memory.h"

#define PIECE (64u * 1024)
#define GZIP_WINDOW (15 + 16)          /* the largest, with gzip's head and trailer */

struct gunzip {
    int fd;
    uint64_t at;                       /* of the next read */
    z_stream stream;
    bool inside;                       /* a member has begun and not ended */
    const char *error;
    uint8_t in[PIECE];
};

bool gzip_named(const char *path) {
    size_t size = strlen(path);
    return size > 3 && strcmp(path + size - 3, ".gz") == 0;
}

gunzip_t *gunzip_new(int fd) {
    struct stat status;
    uint8_t magic[3];
    if (fstat(fd, &status) || !S_ISREG(status.st_mode) || pread(fd, magic, sizeof magic, 0) != (ssize_t) sizeof magic || magic[0] != 0x1f || magic[1] != 0x8b ||
        magic[2] != Z_DEFLATED)
        return NULL;
    gunzip_t *self = mem_zero(sizeof *self);
    self->fd = fd;
    ASSERT(inflateInit2(&self->stream, GZIP_WINDOW) == Z_OK);
    return self;
}

void gunzip_free(gunzip_t *self) {
    if (!self)
        return;
    inflateEnd(&self->stream);
    mem_free(self);
}

/* More input. False: the end of the file, or an error. */
static bool fill(gunzip_t *self) {
    ssize_t got;
    do
        got = pread(self->fd, self->in, sizeof self->in, (off_t) self->at);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        self->error = "it cannot be read";
    if (got <= 0)
        return false;
    self->at += (uint64_t) got;
    self->stream.next_in = self->in;
    self->stream.avail_in = (uInt) got;
    return true;
}

/* Another member may stand behind the last one, or zeros, as tapes have them. */
static bool next_member(gunzip_t *self) {
    do {
        while (self->stream.avail_in && !*self->stream.next_in) {
            self->stream.next_in++;
            self->stream.avail_in--;
        }
    } while (!self->stream.avail_in && fill(self));
    if (!self->stream.avail_in)
        return false;
    ASSERT(inflateReset(&self->stream) == Z_OK);
    return true;
}

ssize_t gunzip_read(gunzip_t *self, void *out, size_t size, const char **error) {
    z_stream *stream = &self->stream;
    size_t most = size < UINT32_MAX ? size : UINT32_MAX;
    stream->next_out = out;
    stream->avail_out = (uInt) most;
    while (stream->avail_out && !self->error) {
        if (!self->inside && !next_member(self))
            break;
        self->inside = true;
        if (!stream->avail_in && !fill(self)) {
            if (!self->error)
                self->error = "the compressed data is cut off: it ends in the middle";
            break;
        }
        int result = inflate(stream, Z_NO_FLUSH);
        if (result == Z_STREAM_END)
            self->inside = false;
        else if (result != Z_OK && result != Z_BUF_ERROR)
            self->error = "the compressed data is damaged";
    }
    size_t got = most - stream->avail_out;
    if (!got && self->error) {
        *error = self->error;
        return -1;
    }
    return (ssize_t) got;
}

/* All of `size`, or fewer at the end. */
static size_t read_whole(gunzip_t *gunzip, uint8_t *out, size_t size) {
    const char *error;
    size_t got = 0;
    for (ssize_t more; got < size && (more = gunzip_read(gunzip, out + got, size - got, &error)) > 0;)
        got += (size_t) more;
    return got;
}

static bool fits_head(const filemark_t *mark, const uint8_t *head, size_t size) {
    return size >= mark->head_size && XXH3_64bits(head, mark->head_size) == mark->head;
}

bool gzip_begins(const filemark_t *mark, int fd) {
    gunzip_t *gunzip = gunzip_new(fd);
    uint8_t head[FILEMARK_HEAD];
    bool fits = gunzip && fits_head(mark, head, read_whole(gunzip, head, mark->head_size));
    gunzip_free(gunzip);
    return fits;
}

bool gzip_fits(const filemark_t *mark, int fd, bool whole) {
    gunzip_t *gunzip = gunzip_new(fd);
    uint8_t head[FILEMARK_HEAD], *piece = mem_alloc(PIECE);
    filetrace_t trace = {0};
    size_t before = mark->offset < FILEMARK_HEAD ? (size_t) mark->offset : FILEMARK_HEAD, most = before > mark->head_size ? before : (size_t) mark->head_size;
    size_t size = gunzip && most <= FILEMARK_HEAD ? read_whole(gunzip, head, most) : 0;
    bool fits = gunzip && size >= before && fits_head(mark, head, size); /* the head may have been read beyond the place */
    uint64_t at = before;
    if (fits)
        filetrace_used(&trace, head, before);
    while (fits && at < mark->offset) {
        uint64_t left = mark->offset - at;
        size_t got = read_whole(gunzip, piece, left < PIECE ? (size_t) left : PIECE);
        fits = got > 0;
        filetrace_used(&trace, piece, got);
        at += got;
    }
    fits = fits && at == mark->offset && XXH3_64bits(trace.before, trace.before_size) == mark->before;
    const char *error;
    if (fits && whole)
        fits = size <= mark->offset && gunzip_read(gunzip, piece, 1, &error) == 0;
    gunzip_free(gunzip);
    mem_free(piece);
    return fits;
}

int gzip_expand(int fd, const char *path) {
    gunzip_t *gunzip = gunzip_new(fd);
    if (!gunzip)
        return -1;
    const char *directory = getenv("TMPDIR"), *error = NULL;
    int out = open(directory && *directory ? directory : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    uint8_t *piece = mem_alloc(PIECE);
    ssize_t got = out < 0 ? -1 : 0;
    while (out >= 0 && (got = gunzip_read(gunzip, piece, PIECE, &error)) > 0) {
        if (write(out, piece, (size_t) got) != got) {
            close(out);
            out = -1;
        }
    }
    if (out < 0)
        log_error("%s: it cannot be expanded in %s, so that it is not read: %s", path, directory && *directory ? directory : "/var/tmp", strerror(errno));
    if (out >= 0 && got < 0) { /* it may be about to be written, beside the file that it is made from */
        log_warning("%s: %s; it is not read", path, error);
        close(out);
        out = -1;
    }
    struct stat status;
    if (out >= 0 && fstat(fd, &status) == 0)
        futimens(out, (struct timespec[]){status.st_atim, status.st_mtim});
    mem_free(piece);
    gunzip_free(gunzip);
    return out;
}
