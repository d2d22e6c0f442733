#ifndef PROCESS_ALERT_H
#define PROCESS_ALERT_H

#include "alarm.h"
#include "op.h"
#include "template.h"

/* What op_alert.c (reading) and alert_run.c (running) share. */
#define ALERT_SEEN 16         /* fields of the condition that an alert's event shows */

typedef struct alert {
    op_t op;
    text_t name, severity;
    node_t *condition, *clear;
    int64_t hold;             /* the condition must hold so long; 0: fires at once */
    int64_t rest;             /* it must be over so long; 0: clears at once */
    int64_t silence;          /* "no data for": no condition then; 0: a condition */
    int64_t repeat;           /* fires again after so long; 0: once */
    int64_t expire;           /* a key silent for so long is forgotten */
    template_t *message;
    uint32_t message_at;      /* the token where it is; for silence it is read when the keys are known */
    text_t condition_text;
    node_t **keys;
    text_t *key_names;
    unsigned key_count;
    node_t *seen[ALERT_SEEN]; /* the fields that the condition looks at */
    text_t seen_names[ALERT_SEEN];
    unsigned seen_count;
    unsigned stream;

    alarms_t *alarms;
    int64_t watermark;        /* as of the last row or call */
    int64_t ingest_time;      /* of the last row */
    int64_t ticked;           /* the clock at the last tick; 0: there was none */
    int64_t tick_watermark;   /* at the last tick */
    int64_t quiet;            /* how long, by the clock, the watermark has stood still */
    alarm_t **again;          /* silent keys that are to be told of once more */
    uint32_t again_count, again_room;
    value_t *key_values;      /* for events without a row */
    buf_t key, text;
} alert_t;

void alert_event(op_t *op, row_t **rows, unsigned count);
void alert_watermark(op_t *op, int64_t watermark);
void alert_tick(op_t *op, int64_t now);
void alert_save(const op_t *op, buf_t *out);
int alert_load(op_t *op, pack_cursor_t *cursor, err_t *err);

#endif
