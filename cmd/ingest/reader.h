#ifndef INGEST_READER_H
#define INGEST_READER_H

#include "base/err.h"
#include "feed.h"
#include "net/loop.h"
#include "unpack.h"

/* Reads a descriptor to its end: pipe, terminal, socket, device or regular file. */
typedef struct reader reader_t;

typedef struct reader_setup {
    loop_t *loop;
    int fd;                        /* stays the caller's, who closes it after reader_free; need not be non-blocking */
    uint64_t offset;               /* regular files: where to begin */
    bool packed;                   /* when it is such a file, what it holds is read: offsets are those in there, and the one to begin at is 0, but for: */
    unpack_t *unpack;              /* packed, read up to the offset already; the reader's from now on, unless it fails. May be NULL */
    void (*damaged)(void *argument, const char *reason);       /* it is cut off or damaged there; what came before counts, and is its end. With packed */
    /* Uses bytes from the front and returns how many. It is called again when there is more behind the rest, after reader_resume, or
     * with at_end when no more will come (until it has used all, or uses nothing). */
    size_t (*data)(void *argument, const char *data, size_t size, bool at_end);
    void (*ended)(void *argument, const char *error);   /* all has been read and used (error NULL), or reading failed. The last call */
    void *argument;
} reader_setup_t;

reader_t *reader_new(const reader_setup_t *setup, err_t *err);       /* paused; NULL when the descriptor cannot be read */
void reader_pause(reader_t *reader);                  /* legal inside data */
void reader_resume(reader_t *reader);
/* Bytes used up so far, counted from the beginning of the file. During data: before that call. */
uint64_t reader_used(const reader_t *reader);
void reader_free(reader_t *reader);                   /* NULL is legal */

#endif
