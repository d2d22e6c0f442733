#ifndef PROCESS_PARTNER_H
#define PROCESS_PARTNER_H

#include "held.h"

/* The events that a join keeps: to be found by side and key in the order in which they came, and to be let go in the order of their times. */
typedef struct partner {
    struct partner *before, *after;       /* of the same slot */
    int64_t time, ingest_time;
    uint64_t serial;          /* in the order of coming */
    uint32_t hash, source;
    uint32_t key_size, record_size;
    uint8_t side;             /* 0: the main stream's, 1: the other's */
    bool matched;
    uint8_t bytes[];          /* key, record */
} partner_t;

typedef struct partner_slot {
    partner_t *first, *last;
} partner_slot_t;

typedef struct partner_due {
    int64_t time;             /* its own, so that comparing need not go to it; */
    uint64_t serial;          /* its own */
    partner_t *partner;
} partner_due_t;

typedef struct partners {
    partner_slot_t *slots[2]; /* by side */
    uint64_t mask[2];
    uint32_t count[2];
    partner_due_t *heap;      /* earliest first */
    uint32_t heap_count, heap_room;
    uint64_t serial;
    size_t bytes;
} partners_t;

static inline const uint8_t *partner_record(const partner_t *partner) {
    return partner->bytes + partner->key_size;
}

/* Keeps a copy; what is given is time, ingest_time, source, side, matched. */
partner_t *partners_add(partners_t *partners, const partner_t *what, text_t key, text_t record);
/* The first under this key on that side, and the next behind one; NULL: no more. */
partner_t *partners_find(const partners_t *partners, unsigned side, text_t key);
partner_t *partners_next(const partner_t *partner);
partner_t *partners_earliest(const partners_t *partners);             /* NULL: none is kept */
void partners_remove_earliest(partners_t *partners);  /* frees it */
void partners_save(const partners_t *partners, program_t *program, buf_t *out);     /* one packed element */
bool partners_load(partners_t *partners, pack_cursor_t *cursor);
void partners_fini(partners_t *partners);

#endif
