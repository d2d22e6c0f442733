/* Compressed files, read piece by piece. What their bytes mean the codecs know; here is what they have in common. */
#include "unpack.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

#define PIECE (64u * 1024)
#define PIECES 16                      /* taken for one read at most */

struct unpack {
    int fd;
    uint64_t at;                       /* of the next read */
    const unpack_codec_t *codec;
    void *state;
    unpack_input_t input;              /* in piece */
    unsigned pieces;                   /* taken for the read under way */
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

/* True: nothing has come of the pieces that were taken, which is not to go on for as long as the file may be. */
static bool is_enough(const unpack_t *self) {
    return self->pieces >= PIECES && !self->input.size;
}

/* More input. False: enough was taken, the end of the file, or an error. */
static bool fill(unpack_t *self) {
    ssize_t got;
    if (is_enough(self))
        return false;
    self->pieces++;
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
    self->pieces = 0;
    while (out.size && !self->error && !is_enough(self)) {
        if (!self->inside && !next_member(self))
            break;
        self->inside = true;
        size_t before_in = self->input.size, before_out = out.size;
        unpack_step_t step = self->codec->step(self->state, &self->input, &out, &self->error);
        self->inside = step != UNPACK_END;
        /* no input does not mean no output: so it is asked for only when nothing comes without */
        if (step == UNPACK_MORE && self->input.size == before_in && out.size == before_out && !fill(self) && !self->error && !is_enough(self))
            self->error = "the compressed data is cut off: it ends in the middle";
    }
    if (out.size < size)
        return (ssize_t) (size - out.size);
    if (!self->error)
        return size && is_enough(self) ? UNPACK_AGAIN : 0;
    *error = self->error;
    return -1;
}

/* All of `size`, or fewer at the end. */
static size_t read_whole(unpack_t *unpack, uint8_t *out, size_t size) {
    const char *error;
    size_t got = 0;
    for (ssize_t more; got < size && (more = unpack_read(unpack, out + got, size - got, &error)) > 0;)
        got += (size_t) more;
    return got;
}

size_t unpack_head(int fd, uint8_t head[FILEMARK_HEAD]) {
    unpack_t *unpack = unpack_new(fd);
    size_t size = unpack ? read_whole(unpack, head, FILEMARK_HEAD) : 0;
    unpack_free(unpack);
    return size;
}
