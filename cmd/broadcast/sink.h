#ifndef BROADCAST_SINK_H
#define BROADCAST_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "data/frame.h"
#include "data/option.h"
#include "delivery.h"
#include "run/stage.h"

/* Descriptors that are to be synced; they are the list's, which closes them. */
typedef struct fd_list {
    int *fds;
    unsigned count;
} fd_list_t;
void fd_list_take(fd_list_t *list, int fd);

/* A sink delivers frames to one place outside. One driver is one file sink_*.c and one line in sink_table.c; its options are
 * declared once, as a table.
 *
 * The contract: a driver is given frames one after the other (write), in order, and answers for them in that order, at once or
 * later, several at a time if it likes (sink_answer). While it cannot take more it sets sink->full and calls sink_more when it can.
 * The frames that it has not answered stay in its queue, which is bounded: so a slow or dead sink holds back only itself until its
 * bound. It never blocks the process for longer than a local disk takes, and it never gives up by itself: SINK_RETRY has every
 * unanswered frame given again after a pause that grows while this goes on. */
typedef struct sink sink_t;

typedef enum sink_result {
    SINK_OK,          /* they are where they belong, as durably as the sink was asked for (with --state: as far as a killed process matters) */
    SINK_RETRY,       /* not now (disk full, peer away): the driver has forgotten all that it has not answered */
    SINK_ERROR,       /* refused for good: they become dead letters, with the reason */
} sink_result_t;

typedef enum sink_begun {
    SINK_NEW,
    SINK_BEGUN,       /* it goes together with others, which may have been delivered */
    SINK_GIVEN_UP,    /* and of these some were dropped */
} sink_begun_t;

typedef struct sink_class {
    const char *name;
    const char *const *schemes;        /* "file" for file:PATH; NULL-terminated */
    const char *const *types;          /* config.json's words for "type"; NULL-terminated */
    const char *help;                  /* one line */
    const option_t *options;           /* offsets into its own settings-and-state struct, sink->own */
    size_t size;                       /* of that struct; zeroed, then defaults are set */
    int (*check)(sink_t *sink, err_t *err);       /* target and options make sense; touches nothing outside; may be NULL */
    int (*open)(sink_t *sink, err_t *err);
    void (*write)(sink_t *sink, frame_t *frame);  /* the next frame; holds at least one event; borrowed until it is answered */
    void (*flush)(sink_t *sink);                  /* no more is at hand: send out what is collected; may be NULL */
    void (*reopen)(sink_t *sink);                 /* SIGHUP; may be NULL */
    void (*close)(sink_t *sink);                  /* free what open and write made; also after a failed open */
    bool whole_url;                    /* its URL is one of the web's: a query is its own, options stand behind '#' */
    /* What a sink that cannot take anything back needs to be exact. */
    bool exact;                                   /* it is given frames only when nobody can take them back any more */
    /* With --state; all may be NULL. */
    void (*position)(sink_t *sink, buf_t *out);   /* where it stands with all that it has answered, and nothing else: stored with the progress; found
                                                     in sink->restored when it is opened again */
    void (*sync)(sink_t *sink, fd_list_t *fds);   /* descriptors (duplicates) of what it has written since the last call */
    void (*noted)(sink_t *sink);                  /* the position of now is on its way to the disk */
    void (*safe)(sink_t *sink);                   /* what was noted is there: a crash of the machine leaves it (with --sync none: one of this process) */
    /* When the queue is full, of a frame that it does not have, or not any more; may be NULL. input: stage_input_key. */
    sink_begun_t (*begun)(sink_t *sink, const frame_t *frame, const char *input);
    bool (*dropped)(sink_t *sink, const frame_t *frame, const char *input);  /* it is dropped now; true: so has to be what goes together with it */
} sink_class_t;

extern const sink_class_t *const sink_table[];    /* NULL-terminated */

/* Options that every sink has. */
typedef struct sink_settings {
    char *name;
    option_list_t from;                /* streams: names or globs; none: all */
    uint64_t queue;                    /* bytes of frames not yet answered; 0: its share of --memory */
    int on_full;                       /* sink_full_t */
    int tag;                           /* sink_tag_t: does text carry @stream? */
    char *replay;                      /* the side input that is its alone */
} sink_settings_t;
typedef enum sink_full { SINK_BLOCK, SINK_DROP_OLDEST, SINK_DROP_NEWEST } sink_full_t;
typedef enum sink_tag { SINK_TAG_AUTO, SINK_TAG_YES, SINK_TAG_NO } sink_tag_t;

struct sink {
    const sink_class_t *class;
    option_t *options;                 /* every sink's and the driver's in one table; offsets from settings */
    option_given_t given;
    const format_t *format;            /* what it writes; NULL: no text format */
    sink_settings_t *settings;         /* the driver's struct follows it in memory: */
    void *own;
    char *scheme;                      /* "https" of "https://..."; NULL: none was given */
    char *target;                      /* what follows "file:" in its URL, or "path"/"url" in config.json */
    char *name;
    stage_t *stage;
    unsigned index;                    /* in the list */
    struct progress *progress;         /* NULL: without --state */
    buf_t restored;                    /* the position that an earlier run has stored; empty: none */
    uint64_t queue_limit;              /* settings->queue, or its share */
    bool full;                         /* set by the driver: give no more until sink_more */
    bool hungry;                       /* likewise: it can do nothing with what it has, and needs more beyond the limit of its queue */
    struct sink_queue *queue;          /* sink.c's */
};

/* For drivers. `count` of the oldest unanswered frames; with SINK_RETRY it is not looked at. reason: NULL with SINK_OK. */
void sink_answer(sink_t *sink, sink_result_t result, uint32_t count, const char *reason);
void sink_more(sink_t *sink);
void sink_works(sink_t *sink);                        /* it has taken a part of a frame: the pauses begin anew */
/* Answers for one frame that the driver was given, where they do not come in order. Of the frames of one origin they must. */
void sink_answer_one(sink_t *sink, const frame_t *frame, sink_result_t result, const char *reason);
/* Before the frame's answer (SINK_OK): this event of it is refused, and becomes a dead letter. */
void sink_refuse(sink_t *sink, const frame_t *frame, const event_t *event, const char *reason);
/* As SINK_RETRY, and not before so many ns have passed (0: the sink's own pace). */
void sink_retry(sink_t *sink, const char *reason, int64_t wait);
/* With --state: stores the position now. durable: it is on the disk then, with all the data that it tells of (unless --sync none). */
int sink_commit(sink_t *sink, bool durable, err_t *err);
void sink_hurry(sink_t *sink);                        /* the position has changed, and something waits for it to be safe */
/* In open, by a sink with a memory of its own: it has all frames of this origin up to there, whatever is stored elsewhere. `key`: stage_input_key.
 */
void sink_reached(sink_t *sink, const char *key, const char *origin, uint64_t epoch, uint64_t number);
/* Likewise: it has refused this event of a frame, which is among those that it has. Becomes a dead letter unless the progress knew of the frame. Before
 * sink_reached. */
void sink_recall_refused(sink_t *sink, const char *key, const char *origin, uint64_t epoch, uint64_t number, const event_t *event, const char *reason);
/* How a frame is known to such a memory: the key of its input. Borrowed. */
const char *sink_frame_key(sink_t *sink, const frame_t *frame);
/* The stream's name when text is to carry it as @stream, else NULL. Borrowed from the frame. */
const char *sink_tag(const sink_t *sink, const frame_t *frame);
/* The format called `name`; without a name by the path's ending; without a known ending NDJSON. path may be NULL. */
int sink_format(sink_t *sink, const char *name, const char *path, const format_t **format, err_t *err);
/* Events that could not be written because they are malformed inside: counted and logged. */
void sink_malformed(sink_t *sink, uint32_t events);

/* For main.c: making sinks from the command line and config.json. */
typedef struct sink_list {
    sink_t **items;
    size_t count;
    bool *default_used;                /* at the places of names in defaults: some sink has that option */
    option_list_t defaults;            /* name, value, name, value, ...: for the URLs that follow, where they have such an option */
} sink_list_t;
int sink_add_url(sink_list_t *list, const char *url, err_t *err);                /* "file:PATH?key=value", a path, "-" */
int sink_add_json(sink_list_t *list, const json_t *settings, err_t *err);        /* {"type","name","path"|"url","from",...} */
/* --NAME VALUE on the command line: for the sink before it, or for all when none came before. */
int sink_list_option(sink_list_t *list, const char *name, const char *value, err_t *err);
const option_t *sink_find_option(text_t name);                                   /* of any sink; NULL when there is none */
void sink_tables(const stage_t *stage, const option_t **tables, size_t most);     /* tool_t.driver_tables */
void sink_list_help(FILE *out);
json_t *sink_list_describe(void);                                                /* "drivers" of --list=json */
int sink_list_check(sink_list_t *list, stage_t *stage, err_t *err);                           /* gives names; targets and options make sense */

/* For main.c: running them. */
/* changed: called whenever the sink's queue has moved. share: the bytes of its queue unless it has its own setting. */
int sink_open(sink_t *sink, stage_t *stage, deliveries_t *deliveries, uint64_t share, void (*changed)(stage_t *stage), err_t *err);
bool sink_wants(const sink_t *sink, const char *topic);
void sink_offer(sink_t *sink, delivery_t *delivery);     /* a frame that it wants; nothing happens when it had it before a restart */
void sink_flush(sink_t *sink);
void sink_reopen(sink_t *sink);
bool sink_idle(const sink_t *sink);                      /* everything is answered */
bool sink_over(sink_t *sink);                            /* its queue is full and its policy is to block; until it is half empty */
const char *sink_trouble(const sink_t *sink);            /* why it cannot take anything at present, or NULL; borrowed */
void sink_publish(sink_t *sink);                         /* its metrics */
void sink_close(sink_t *sink);
void sink_list_free(sink_list_t *list);                  /* closed ones */

#endif
