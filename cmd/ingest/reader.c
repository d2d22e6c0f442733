/* Reads a descriptor to its end in big pieces. One read per readiness: the descriptor may be shared with other processes (a
 * terminal with its shell), so it is not made non-blocking. Regular files cannot be waited for; they are always ready, and
 * read one piece per round of the loop, so that everything else gets its turn. */
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

#define PIPE_SIZE (1024 * 1024)

struct reader {
    reader_setup_t setup;
    loop_watch_t *watch;           /* NULL: a regular file */
    feed_t feed;
    unpack_t *unpack;
    uint64_t used;
    uint64_t next;                 /* regular: offset of the next read */
    bool regular, paused, at_end, ended;
    bool told_end;                 /* data was called at the end with nothing left */
    bool unseen;                   /* the feed holds bytes that data has not been offered, or only while paused */
};

reader_t *reader_new(const reader_setup_t *setup, err_t *err) {
    struct stat status;
    if (fstat(setup->fd, &status)) {
        err_errno(err, "cannot read");
        return NULL;
    }
    if (S_ISDIR(status.st_mode)) {
        err_set(err, "is a directory");
        return NULL;
    }
    reader_t *reader = mem_zero(sizeof *reader);
    reader->setup = *setup;
    reader->paused = true;
    reader->used = reader->next = setup->offset;
    reader->regular = S_ISREG(status.st_mode);
    reader->unpack = setup->unpack;
    if (reader->regular && setup->packed && !setup->unpack)
        reader->unpack = unpack_new(setup->fd);
    if (reader->regular)
        posix_fadvise(setup->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    if (S_ISFIFO(status.st_mode))
        fcntl(setup->fd, F_SETPIPE_SZ, PIPE_SIZE); /* fewer wake-ups under load; its refusal does no harm */
    return reader;
}

/* A decoder that has used all may still have to say that something was left open. */
static bool tells_end(const reader_t *reader) {
    return reader->at_end && !reader->told_end && reader->feed.buffer.data;
}

/* Offers what is there. False: paused, or over. */
static bool offer(reader_t *reader) {
    reader_setup_t *setup = &reader->setup;
    reader->unseen = false;
    while ((feed_size(&reader->feed) || tells_end(reader)) && !reader->paused) {
        reader->told_end = !feed_size(&reader->feed);
        size_t used = setup->data(setup->argument, feed_data(&reader->feed), feed_size(&reader->feed), reader->at_end);
        feed_used(&reader->feed, used);
        reader->used += used;
        if (!reader->at_end || used == 0)
            break;
    }
    if (reader->paused) {
        reader->unseen = feed_size(&reader->feed) > 0;
        return false;
    }
    if (!reader->at_end)
        return true;
    reader->ended = true;
    setup->ended(setup->argument, NULL);
    return false;
}

static bool read_packed(reader_t *reader) {
    const char *error = NULL;
    ssize_t size = unpack_read(reader->unpack, feed_space(&reader->feed), FEED_CHUNK, &error);
    if (size == UNPACK_AGAIN)
        return true;
    if (size < 0)
        reader->setup.damaged(reader->setup.argument, error);
    if (size <= 0) {
        reader->at_end = true;
    } else {
        feed_added(&reader->feed, (size_t) size);
        reader->next += (uint64_t) size;
    }
    return true;
}

/* Reads one piece. False: the end, an error, or nothing there now. */
static bool read_piece(reader_t *reader) {
    if (reader->unpack)
        return read_packed(reader);
    void *space = feed_space(&reader->feed);
    ssize_t size;
    if (reader->regular)
        size = pread(reader->setup.fd, space, FEED_CHUNK, (off_t) reader->next);
    else
        size = read(reader->setup.fd, space, FEED_CHUNK);
    if (size > 0) {
        feed_added(&reader->feed, (size_t) size);
        reader->next += (uint64_t) size;
        return true;
    }
    if (size < 0 && (errno == EINTR || errno == EAGAIN))
        return false;
    if (size < 0) {
        reader->ended = true;
        reader_pause(reader);
        reader->setup.ended(reader->setup.argument, strerror(errno));
        return false;
    }
    reader->at_end = true;
    return true;
}

static void on_turn(void *argument);

/* readable: a read will not block. */
static void work(reader_t *reader, bool readable) {
    if (reader->paused || reader->ended)
        return;
    if ((reader->unseen || reader->at_end) && !offer(reader))
        return;
    if (readable && (!read_piece(reader) || !offer(reader)))
        return;
    if (reader->regular)
        loop_defer(reader->setup.loop, on_turn, reader);
}

static void on_turn(void *argument) {
    reader_t *reader = argument;
    work(reader, reader->regular);
}

static void on_ready(void *argument, uint32_t events) {
    reader_t *reader = argument;
    work(reader, true);
    if (reader->ended)
        loop_fd_events(reader->watch, 0);
}

void reader_pause(reader_t *reader) {
    reader->paused = true;
    if (reader->watch)
        loop_fd_events(reader->watch, 0);
}

void reader_resume(reader_t *reader) {
    if (!reader->paused || reader->ended)
        return;
    reader->paused = false;
    if (!reader->regular && !reader->watch) {
        reader->watch = loop_fd(reader->setup.loop, reader->setup.fd, EPOLLIN, on_ready, reader);
        if (!reader->watch)
            reader->regular = true; /* always ready, as /dev/null is */
    } else if (reader->watch) {
        loop_fd_events(reader->watch, EPOLLIN);
    }
    if (reader->regular || reader->unseen || reader->at_end)
        loop_defer(reader->setup.loop, on_turn, reader);
}

uint64_t reader_used(const reader_t *reader) {
    return reader->used;
}

void reader_free(reader_t *reader) {
    if (!reader)
        return;
    loop_undefer(reader->setup.loop, on_turn, reader);
    loop_remove(reader->watch);
    unpack_free(reader->unpack);
    feed_fini(&reader->feed);
    mem_free(reader);
}
