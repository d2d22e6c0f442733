#ifndef BROADCAST_RECORD_H
#define BROADCAST_RECORD_H

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"
#include "output.h"

/* What a file sink remembers of its files over a crash: which they are, whatever they are called by then, and how long they were when the progress
 * was stored. What they hold beyond that will come again, and is cut off. */
typedef struct record {
    char *path;
    uint64_t inode;
    int64_t born;              /* two files may have had the same inode, but not at the same time */
    uint64_t length;
    output_t *output;          /* open; then its `kept` is the length. NULL: closed */
    bool stored;               /* the progress knows the file */
    uint64_t used;
} record_t;

#define RECORDS_MAX 128        /* then the closed one used longest ago is forgotten */

typedef struct records {
    record_t *items;
    size_t count;
} records_t;

/* The record of the file that is open now as `output`; made, or made anew when the path has become another file or another length. */
record_t *record_open(records_t *records, output_t *output);
void record_closed(records_t *records, const output_t *output);
void record_drop(records_t *records, const output_t *output);       /* rotated away: it will not be written any more */
void records_all_stored(records_t *records);

/* array of [path, inode, born, length] */
void records_put(const records_t *records, buf_t *out);
/* At the start: finds the files, cuts off what is too much, and keeps the records of those that still have their names. Says what is wrong in the log. */
int records_restore(records_t *records, text_t packed, err_t *err);
void records_fini(records_t *records);

#endif
