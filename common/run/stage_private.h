#ifndef RUN_STAGE_PRIVATE_H
#define RUN_STAGE_PRIVATE_H

#include "base/log.h"
#include "base/map.h"
#include "run/stage.h"

/* What the skeleton's own files share. */

typedef struct stage_output {
    stage_t *stage;
    link_sender_t *link;
    bool ended;                        /* its end of stream is acknowledged */
} stage_output_t;

typedef struct stage_topic {
    char name[FRAME_TOPIC_MAX + 1];
    frame_builder_t builder;
    int64_t watermark;                 /* the last one sent */
} stage_topic_t;

/* An input frame whose output is not yet durable downstream. */
typedef struct stage_pending {
    unsigned input;
    const char *origin;                /* interned */
    uint64_t epoch, sequence;
} stage_pending_t;

typedef struct link_metrics {
    metric_t *outstanding, *frames, *events, *bytes, *resent, *repeats, *gaps, *malformed, *dropped, *peers;
} link_metrics_t;

typedef struct stage_private {
    option_given_t given;              /* of the tool's and the skeleton's options */

    /* inputs */
    link_receiver_t **inputs;
    unsigned input_count;
    bool manual_durable;
    bool paused_by_tool, paused_by_output, paused_by_end;
    bool patient;                      /* stage_patient */
    bool inputs_paused;                /* what the links were told last */
    stage_pending_t *pending;          /* a ring; tickets stand beside it, output_count per entry */
    uint64_t *tickets;
    size_t pending_first, pending_count, pending_room;
    map_t *origins;                    /* interned names */
    unsigned parting;                  /* inputs whose senders have not all left */

    /* outputs */
    stage_output_t *outputs;
    unsigned output_count, outputs_ended;
    stage_topic_t **topics;
    unsigned topic_count;
    bool batching;
    loop_watch_t *flush_timer;
    int64_t watermark;                 /* what frames carry; it follows */
    int64_t greatest;                  /* greatest event time sent, or what the tool said, once no older event waits */
    bool watermark_given;
    bool data_time;                    /* event times are the data's own */
    void (*resume)(stage_t *stage);

    /* dead letters */
    int dead_fd;
    uint64_t dead_size;
    uint64_t dead_count;               /* in this run */
    uint64_t dead_serial;              /* of the last line */
    uint64_t dead_confirmed;           /* lines up to this one will not be written again by a restart */
    bool dead_broken, dead_known;      /* known: dead_serial continues an earlier run's */
    bool dead_wanted;                  /* they are to be handed over */
    log_limit_t dead_limit;
    buf_t dead_line;
    buf_t dead_waiting;                /* lines that could not be written yet */
    loop_watch_t *dead_retry;

    struct stage_store *state;         /* NULL without --state */
    unsigned main_count;               /* inputs from --from; those behind are --side */
    int settings_fd;                   /* kept for starting over; -1: none */
    bool again;                        /* the stage is to start over */

    /* end */
    bool alone;                        /* it was said that nobody comes for the end */
    bool ready, finish_called, finished_called, failed;
    int signals;
    bool leave_again;                  /* this run follows one that was asked to leave and had to start over first */
    int status;
    loop_watch_t *drain_timer;

    /* metrics */
    metric_t *ledger[8], *errors, *latency;
    link_metrics_t *input_metrics, *output_metrics;
    int64_t published;                 /* monotonic ns */
} stage_private_t;

/* stage_options.c */
int stage_parse(stage_t *stage, int argc, char **argv, bool *done, err_t *err);
void stage_options_fini(stage_t *stage);

/* stage_output.c */
int stage_outputs_open(stage_t *stage, err_t *err);
void stage_outputs_end(stage_t *stage);               /* sends the ends; calls stage_outputs_ended when acknowledged */
void stage_outputs_free(stage_t *stage);
void stage_dropped(void *stage, uint64_t events, const char *reason);      /* in stage_output.c: a link or the log gave up events by its policy */
void stage_output_changed(stage_t *stage);            /* in stage_input.c: room or durability moved */
void stage_all_ended(stage_t *stage);                 /* in stage.c: every output has ended */

/* stage_input.c */
const char *stage_link_key(const char *link);          /* tells links apart over restarts */
int stage_inputs_open(stage_t *stage, err_t *err);
void stage_inputs_update(stage_t *stage);             /* pauses or resumes the links as the reasons say */
void stage_inputs_part(stage_t *stage);               /* waits until the senders know; then calls stage_all_parted */
void stage_inputs_part_soon(stage_t *stage);              /* link_receiver_part_soon */
void stage_all_parted(stage_t *stage);                /* in stage.c */
void stage_inputs_free(stage_t *stage);
void stage_begin_finish(stage_t *stage);              /* in stage.c */

/* stage_metrics.c */
void stage_metrics_open(stage_t *stage);
void stage_publish(stage_t *stage);
void stage_publish_sometimes(stage_t *stage);

/* stage_dead.c */
void stage_dead_want(stage_t *stage);                 /* SIGUSR1: they are to be handed over */
void stage_dead_begin(stage_t *stage);                 /* the numbers go on behind what an earlier run has written, unless stage_dead_restore says where */
void stage_dead_settled(stage_t *stage, uint64_t serial);            /* lines up to this one will not be written again */
const char *stage_dead_blocked(stage_t *stage, int *error);         /* tries to write what waits; where that fails, the file's path. Borrowed */
int stage_dead_sync(stage_t *stage);                  /* to the disk */
void stage_dead_close(stage_t *stage);
void stage_dead_report(const stage_t *stage);         /* the last words of a run: how many there were, and where they are */

#endif
