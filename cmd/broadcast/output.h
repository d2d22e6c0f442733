#ifndef BROADCAST_OUTPUT_H
#define BROADCAST_OUTPUT_H

#include "base/buffer.h"
#include "base/err.h"
#include "data/format.h"

/* One file that a file sink writes: text is collected, written out, and taken back to the last kept length when that fails,
 * so that a full disk leaves whole records behind and nothing twice. */
typedef struct output {
    char *path;
    int fd;                    /* -1: closed */
    bool regular;
    uint64_t size;             /* written */
    uint64_t kept;             /* what has been answered for: a failure goes back to this */
    int64_t born;              /* ns since 1970: when the file was made */
    uint64_t inode;
    int64_t identity;          /* with the inode: the time of birth, 0 where there is none */
    bool known;                /* to the progress */
    buf_t text;                /* not written yet */
    encoder_t *encoder;
    uint64_t used;             /* a clock of its own: which output was used last */
    bool dirty;                /* written since the last sync */
    bool fresh;                /* its directory entry is not synced */
} output_t;

/* Opens for appending, with missing directories. A file that does not end in a line end gets one first. One that another output writes to, of this
 * process or another, is refused: what goes wrong with one would cut off what the other has written. */
int output_open(output_t **output, const char *path, const format_t *format, const format_settings_t *settings, int mode, err_t *err);
void output_unlock(output_t *output);                     /* another may write to the file from now on */
int64_t output_birth(int fd, int64_t unknown);           /* ns since 1970; `unknown` where the file system does not know */
/* Before text is collected for it: false when something else has deleted the file, so that it is to be opened anew. When something else has cut it or
 * written to it, that is said, and what it holds counts as kept. */
bool output_sound(output_t *output);
int output_write(output_t *output, err_t *err);           /* writes out what is collected; on failure call output_undo */
int output_sync(output_t *output, err_t *err);
void output_keep(output_t *output);
void output_undo(output_t *output);                       /* back to what was kept */
/* Renames PATH to PATH.1, PATH.1 to PATH.2 and so on, up to the first that is missing; PATH.keep is deleted. So it can be begun anew after it was
 * interrupted anywhere. The output is to be freed then. */
int output_rotate(const output_t *output, int64_t keep, err_t *err);
void output_free(output_t *output);

#endif
