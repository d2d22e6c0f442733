#ifndef INGEST_UNPACK_H
#define INGEST_UNPACK_H

#include <sys/types.h>

#include "filemark.h"

/* Files that were compressed by gzip (RFC 1952) or zstd (RFC 8878): one member, or frame, or several, one behind the other. Places in them are
 * places in what they hold. */
typedef struct unpack unpack_t;

/* NULL: the regular file does not begin as such a file does. The descriptor stays the caller's; its offset is not used. */
unpack_t *unpack_new(int fd);
/* The next bytes of what it holds; 0: the end; -1: *error says what is wrong (borrowed, static); UNPACK_AGAIN: 1 MiB was read of which nothing has come yet. */
#define UNPACK_AGAIN (-2)
ssize_t unpack_read(unpack_t *unpack, void *out, size_t size, const char **error);
void unpack_free(unpack_t *unpack);                   /* NULL is legal */

/* The first bytes of what it holds, for filemark_begins; how many. */
size_t unpack_head(int fd, uint8_t head[FILEMARK_HEAD]);

/* A way of compressing; what follows is between unpack.c and those of them. */
typedef struct unpack_input {
    const uint8_t *data;
    size_t size;
} unpack_input_t;

typedef struct unpack_output {
    uint8_t *data;
    size_t size;
} unpack_output_t;

typedef enum unpack_step { UNPACK_MORE, UNPACK_END, UNPACK_BAD } unpack_step_t;        /* END: of a member */

#define UNPACK_MAGIC 4
typedef struct unpack_codec {
    bool (*begins)(const uint8_t magic[UNPACK_MAGIC]);
    void *(*open)(void);
    void (*reset)(void *state);        /* another member begins */
    /* Takes from the front of the input and puts to the front of the output, and moves both on. BAD: *error is set. */
    unpack_step_t (*step)(void *state, unpack_input_t *in, unpack_output_t *out, const char **error);
    void (*close)(void *state);
} unpack_codec_t;

extern const unpack_codec_t unpack_gzip, unpack_zstd;

#endif
