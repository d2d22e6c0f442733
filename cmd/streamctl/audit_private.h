#ifndef STREAMCTL_AUDIT_PRIVATE_H
#define STREAMCTL_AUDIT_PRIVATE_H

#include <stddef.h>

#include "audit.h"

/* What reading (audit_read.c) and concluding (audit.c) share. */
#define AUDIT_READINGS 32             /* the last ones are kept */

enum { LEDGER_IN, LEDGER_CREATED, LEDGER_OUT, LEDGER_FILTERED, LEDGER_LATE, LEDGER_DEAD, LEDGER_DROPPED, LEDGER_HELD, LEDGER_COUNT };
extern const char *const audit_ledger_keys[LEDGER_COUNT];

/* One end of a link, as its stage counts it. */
typedef struct audit_end {
    char *path;                       /* the same at both ends */
    bool sends;
    uint64_t events, dropped;
    double outstanding;               /* bytes */
} audit_end_t;

typedef struct audit_entry {          /* a stage in one reading */
    bool known;                       /* there are numbers */
    int64_t ledger[LEDGER_COUNT];
    uint64_t replayed;                /* dead letters that came in again */
    bool replaying;                   /* or are still to come, of these */
    double spooled;                   /* frames in its log that are still needed */
    bool runs;
    bool killed;                      /* it had counted more when it died than it had said */
    bool catching_up;                 /* it processes again what it had before it was killed: it will have counted more */
    audit_end_t *ends;
    size_t end_count;
} audit_entry_t;

typedef struct audit_stage {
    char *name, *stream, *tool, *role;
    size_t *inputs;
    size_t input_count;
    bool stateful;                    /* its numbers survive its death */
    uint64_t starts;
    char *contradicted;               /* what is wrong with its directory; NULL: nothing is known to be */
    audit_entry_t entries[AUDIT_READINGS];
} audit_stage_t;

struct audit {
    audit_stage_t *stages;            /* without the server */
    size_t count;
    int64_t times[AUDIT_READINGS];    /* monotonic ns */
    uint64_t readings;                /* ever; the last one is at (readings - 1) % AUDIT_READINGS */
};

static inline size_t audit_kept(const audit_t *audit) {
    return audit->readings < AUDIT_READINGS ? (size_t) audit->readings : AUDIT_READINGS;
}

/* 0: the newest. */
static inline size_t audit_slot(const audit_t *audit, size_t age) {
    return (size_t) (audit->readings - 1 - age) % AUDIT_READINGS;
}

/* ---- audit_disk.c ---- */

/* The last counts of a stage that came to an orderly end and does not run, from its directory. */
typedef struct audit_last {
    int64_t ledger[LEDGER_COUNT];
    uint64_t frames, spooled;         /* in its log, ever; still needed */
} audit_last_t;
bool audit_last_read(audit_last_t *last, const char *directory);

#endif
