#ifndef BROADCAST_SLOTS_H
#define BROADCAST_SLOTS_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"

/* A small file that holds the newest version of two texts, "live" and "synced", such that writing one can be cut off at any byte: each has
 * two places that are written in turn, with a generation and a checksum.
 *
 *   page 0:    "STRMPRG1", place size (u32 LE), 0 (u32), XXH3-64 of these 16 bytes (u64 LE)
 *   places:    live 0, live 1, synced 0, synced 1; each: XXH3-64 of all that follows (u64 LE), generation (u64 LE), size (u32 LE), kind (u32 LE), text
 *
 * When a text outgrows its place the file is replaced by one with larger places. */
typedef struct slots slots_t;
typedef enum slot_kind { SLOT_LIVE, SLOT_SYNCED } slot_kind_t;

int slots_open(slots_t **slots, const char *path, err_t *err);        /* made when missing */
bool slots_read(const slots_t *slots, slot_kind_t kind, buf_t *text);  /* the newest sound one, appended; false: there is none */
int slots_write(slots_t *slots, slot_kind_t kind, text_t text, err_t *err);
int slots_sync(slots_t *slots, err_t *err);
int slots_fd(const slots_t *slots);                   /* to be synced elsewhere; borrowed until the next slots_write */
void slots_close(slots_t *slots);                     /* NULL is legal */

#endif
