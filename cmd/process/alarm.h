#ifndef PROCESS_ALARM_H
#define PROCESS_ALARM_H

#include "base/err.h"
#include "group.h"
#include "data/pack.h"

/* What alert remembers of each key, with a time at which something is due for it. Alarms that are due come out in the order of their times, and
 * of their making where these are equal: nothing depends on hash order, or on what was forgotten meanwhile. */
typedef enum alarm_phase { ALARM_QUIET, ALARM_PENDING, ALARM_FIRING, ALARM_CLEARING } alarm_phase_t;

typedef struct alarm {
    int64_t since;            /* event time at which the condition began to hold, or at which the key was last heard before a silence */
    int64_t heard;            /* the greatest event time of the key */
    int64_t over;             /* CLEARING: event time since which the condition is over */
    int64_t noticed;          /* FIRING: of the last event that said so */
    uint32_t repeats;
    uint32_t phase;
    uint64_t born;            /* the alarms' own from here on: number in the order of making; 0: forgotten */
    int64_t due;
    uint32_t place;           /* in the heap, from 1; 0: nothing is due */
    uint32_t number;          /* of its group */
} alarm_t;

typedef struct alarms alarms_t;

alarms_t *alarms_new(void);
void alarms_free(alarms_t *alarms);                   /* NULL is legal */
uint32_t alarms_count(const alarms_t *alarms);        /* those that are remembered */
size_t alarms_memory(const alarms_t *alarms);

/* The key must be followed by zeros (key_end). Alarms stay where they are until the next alarms_get. */
alarm_t *alarms_find(alarms_t *alarms, const buf_t *key);                 /* NULL: there is none */
alarm_t *alarms_get(alarms_t *alarms, const buf_t *key);                  /* a zeroed one when there is none */
text_t alarms_key(const alarms_t *alarms, const alarm_t *alarm);          /* borrowed */
void alarms_forget(alarms_t *alarms, alarm_t *alarm);

/* When something is due for the alarm; INT64_MAX: never. */
void alarms_set_due(alarms_t *alarms, alarm_t *alarm, int64_t due);
alarm_t *alarms_first(const alarms_t *alarms);        /* what is due first; NULL: nothing */

/* One packed element. Whoever loads sets the times that are due: `loaded` is called for each. */
void alarms_save(const alarms_t *alarms, buf_t *out, void (*saved)(void *argument, buf_t *out), void *argument);
int alarms_load(alarms_t *alarms, pack_cursor_t *cursor, void (*loaded)(void *argument, alarm_t *alarm), void *argument, err_t *err);

#endif
