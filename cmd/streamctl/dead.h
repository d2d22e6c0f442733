#ifndef STREAMCTL_DEAD_H
#define STREAMCTL_DEAD_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* Dead letters, as stages leave them in files: numbered lines of NDJSON. PATH is written to, PATH.1 is what was there before it grew too
 * large, PATH.replay-N was handed over to be sent again, PATH.again-N could not be read when it was. Everything here only reads. */

typedef struct dead_count {
    uint64_t letters, bytes;
    uint64_t handed_over;             /* of these letters: waiting to be sent again, or on their way */
} dead_count_t;

/* All files of PATH. Fast however large they are: the numbers of the first and last line tell. */
dead_count_t dead_count(const char *path);
/* Of one file. */
uint64_t dead_count_file(const char *file);

/* The newest letters of PATH, at most `limit` and 256 KiB of them, oldest first; the reference is the caller's. */
json_t *dead_newest(const char *path, size_t limit);

/* The files PATH.replay-* and PATH.again-*, in the order of their names; NULL-terminated, to be freed with dead_files_free. */
char **dead_files(const char *path, size_t *count);
void dead_files_free(char **files);

#endif
