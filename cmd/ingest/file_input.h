#ifndef INGEST_FILE_INPUT_H
#define INGEST_FILE_INPUT_H

#include "data/lang/pattern.h"
#include "filemark.h"
#include "source.h"
#include "unpack_job.h"

/* One file as input, with its decoder: read once to its end, or followed. The source of one file has one, that of many files has one for each
 * that is being read. */
typedef struct file_input file_input_t;

typedef struct file_input_setup {
    const source_setup_t *source;
    const char *path;              /* copied, as is full_path, which begins with / and stands in positions */
    const char *full_path;
    const pattern_t *path_pattern; /* of --path-pattern; borrowed, may be NULL */
    bool follow, from_end;
    int64_t rotate_wait;
    bool (*foreign)(void *argument, const char *name);     /* this and the next as tail_setup_t has them; may be NULL */
    void *foreign_argument;
    bool lent;
    int inotify;
    listing_t *listing;
    unpack_queue_t *unpack;                                /* as tail_setup_t has it */
    void (*idle)(void *argument);
    void (*missing)(void *argument, const char *reason);
    void (*ended)(void *argument, const char *error);      /* read once: as reader_setup_t has it */
    void *argument;
} file_input_setup_t;

/* Paused. NULL: it cannot be opened. */
file_input_t *file_input_new(const file_input_setup_t *setup, err_t *err);
void file_input_pause(file_input_t *input);           /* legal at any time, also while an event is handed over */
void file_input_resume(file_input_t *input);
void file_input_moved(file_input_t *input);           /* for one of many: the path of the directory may lead to another one now */
/* Where the running source_decode call began, what the decoder knew then, and how many records are dealt with since: exact after every event. */
void file_input_position(const file_input_t *input, buf_t *out);
/* Before the first resume. The file may have another directory than then, and the same name. To find the place a compressed file may have to be gone
 * through, which goes on from the loop: until then the position stays as it was given. */
int file_input_restore(file_input_t *input, const uint8_t *position, size_t size, err_t *err);
/* Followed, and there is nothing to be read, nor to be waited for but changes: one made anew from its position goes on there. */
bool file_input_quiet(const file_input_t *input);
void file_input_free(file_input_t *input);            /* NULL is legal */

/* Parts of a position; the path is borrowed. False: it is damaged. */
bool file_input_read(const uint8_t *position, size_t size, text_t *path, filemark_t *mark);
/* A place in a file that nothing has been read of by a decoder. `modified`: ns since 1970; rotated files that were written to later come after it. */
void file_input_place(const char *full_path, const filemark_t *mark, int64_t modified, buf_t *out);
/* The files that were read to their ends before: that one, or all. */
#define FILE_INPUT_FINISHED 8
bool file_input_finished(const buf_t *position, uint64_t device, uint64_t inode, filemark_t *mark);
size_t file_input_all_finished(const uint8_t *position, size_t size, filemark_t *out);     /* as many at most */
/* The same place under another path. */
bool file_input_rename(const buf_t *position, const char *full_path, buf_t *out);

#endif
