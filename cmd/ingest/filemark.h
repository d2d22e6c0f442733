#ifndef INGEST_FILEMARK_H
#define INGEST_FILEMARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "data/pack.h"
#include "listing.h"

/* A place in a file that is found again after a restart. Names change, inode numbers are used again and copies have others, so that the file is
 * known by what stands in it: its first bytes, and those right before the place. */
#define FILEMARK_HEAD 256
#define FILEMARK_BEFORE 64

typedef struct filemark {
    uint64_t device, inode, offset;
    uint64_t head_size, head;          /* how many of its first bytes were read, FILEMARK_HEAD at most; 0: nothing is known of it. Their XXH3-64 */
    uint64_t before;                   /* of the last FILEMARK_BEFORE bytes before offset, or as many as there are */
} filemark_t;

/* The bytes that make the mark, kept while the file is read. Zero-initialise. */
typedef struct filetrace {
    uint8_t head[FILEMARK_HEAD], before[FILEMARK_BEFORE];
    size_t head_size, before_size;
} filetrace_t;

/* What was read at `offset`; and what was used up of it, from the front. */
void filetrace_read(filetrace_t *trace, uint64_t offset, const void *data, size_t size);
void filetrace_used(filetrace_t *trace, const void *data, size_t size);
/* Takes them from the file itself, for a place that was not come to by reading. */
void filetrace_load(filetrace_t *trace, int fd, uint64_t offset);
bool filetrace_same_head(const filetrace_t *trace, int fd);          /* the file still begins so */
bool filetrace_same_place(const filetrace_t *trace, const filemark_t *mark);     /* the bytes that were used last are those before the mark */

void filemark_make(filemark_t *mark, const filetrace_t *trace, uint64_t device, uint64_t inode, uint64_t offset);
/* A file with these first bytes, FILEMARK_HEAD or all, begins as that one does. */
bool filemark_begins(const filemark_t *mark, const uint8_t *head, size_t size);
/* The file holds what was read up to there. When nothing is known every file does. */
bool filemark_fits(const filemark_t *mark, int fd);
/* Opens the file of the directory with the mark's inode number that it fits to. -1: there is none, or nothing is known of the file. */
int filemark_find(const filemark_t *mark, listing_t *directory);

void filemark_pack(const filemark_t *mark, buf_t *out);
bool filemark_unpack(pack_cursor_t *cursor, filemark_t *mark);

#endif
