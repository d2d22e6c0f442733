#ifndef NET_BACKOFF_H
#define NET_BACKOFF_H

#include <stdint.h>

/* Waiting times between attempts: doubled with each failure from `minimum` to `maximum`, each shortened by a random part
 * of up to a half, so that many clients of a server that comes back do not all call at once. ns. */
typedef struct backoff {
    int64_t minimum, maximum;
    unsigned failures;     /* in a row */
    uint64_t state;        /* of the random numbers; any start will do */
} backoff_t;

static inline void backoff_reset(backoff_t *backoff) {
    backoff->failures = 0;
}

/* The wait after one more failure. */
static inline int64_t backoff_next(backoff_t *backoff) {
    int64_t wait = backoff->minimum;
    for (unsigned i = 0; i < backoff->failures && wait < backoff->maximum; i++)
        wait *= 2;
    if (wait > backoff->maximum)
        wait = backoff->maximum;
    backoff->failures++;
    /* splitmix64: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators" */
    uint64_t random = (backoff->state += UINT64_C(0x9E3779B97F4A7C15));
    random = (random ^ (random >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    random = (random ^ (random >> 27)) * UINT64_C(0x94D049BB133111EB);
    random ^= random >> 31;
    return wait - (int64_t) (random % (uint64_t) (wait / 2 + 1));
}

#endif
