#ifndef RUN_STAGE_H
#define RUN_STAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "data/format.h"
#include "data/frame.h"
#include "data/option.h"
#include "net/link.h"
#include "net/loop.h"
#include "run/metrics.h"

/* The skeleton that ingest, process and broadcast share: command line, settings from a descriptor, log, signals, readiness,
 * metrics, links in and out with batching, the ledger's counters, dead letters, orderly end. A tool is one tool_t; its main is one call. */
typedef struct stage stage_t;

#define STAGE_SPOOL_LIMIT (UINT64_C(1) << 30)          /* the default of --spool-limit */

typedef struct stage_settings {
    char *name;                        /* --name */
    option_list_t from, to;            /* --from LINK..., --to LINK... */
    int64_t batch_size;                /* --batch-size: events per frame at most */
    uint64_t batch_bytes;              /* --batch-bytes */
    int64_t flush;                     /* --flush, ns */
    int on_full;                       /* --on-full block|drop_oldest|drop_newest: link_full_t */
    uint64_t window;                   /* --window: bytes unacknowledged per link */
    char *dead_letter;                 /* --dead-letter FILE */
    uint64_t dead_letter_limit;        /* --dead-letter-limit: bytes, then rotated once */
    char *metrics;                     /* --metrics PATH */
    int log_level;                     /* --log-level */
    int64_t ready_fd;                  /* --ready-fd N: a newline is written when ready */
    bool stay;                         /* --stay: do not exit when all inputs have ended */
    bool check;                        /* --check: exit status 0 or 64, and nothing else */
    int64_t drain_limit;               /* --drain-limit: then exit 1 all the same */
    format_settings_t format;
    char *state;                       /* --state DIR: this stage's own directory; NULL: everything is in memory */
    int sync;                          /* --sync: spool_sync_t */
    int64_t sync_interval;             /* --sync-interval, ns */
    uint64_t spool_limit;              /* --spool-limit: bytes of the durable log */
    int64_t snapshot;                  /* --snapshot, ns */
    bool reset;                        /* --reset: what is in --state is deleted first */
    uint64_t memory;                   /* --memory: bytes that windows, queues and buffers are kept within */
    option_list_t side;                /* --side LINK...: inputs beside --from whose end ends nothing (dead letters sent again) */
} stage_settings_t;

typedef struct tool {
    const char *name, *summary;
    const char *usage;                 /* "URL|- [OPTION]..." : after "usage: NAME " */
    bool has_inputs, has_outputs;      /* which of --from and --to exist; inputs default to "-" when none is given */
    const char *default_output;        /* "-" for ingest and process; NULL: none */
    const option_t *options;           /* its own; may be NULL */
    const option_t *formats;           /* its options of text formats (data/format.h); NULL: those of one that reads NDJSON alone */
    /* Puts at most `most` tables of drivers there, in which a misspelt option may be meant. May be NULL. */
    void (*driver_tables)(const stage_t *stage, const option_t **tables, size_t most);
    size_t state_size;                 /* of the tool's own struct, zeroed, at stage->own; options' offsets point into it */
    /* Positional arguments, in order; may be NULL. Called while parsing. */
    int (*argument)(stage_t *stage, const char *argument, err_t *err);
    /* An option that neither table knows (drivers have their own tables): 0 taken (*used says if the value was), 1 unknown, -1 bad. May be NULL. */
    int (*option)(stage_t *stage, text_t name, const char *value, bool *used, err_t *err);
    /* As `option`, for one member of the JSON settings object. May be NULL. */
    int (*setting)(stage_t *stage, const char *key, const json_t *value, err_t *err);
    void (*help)(stage_t *stage, FILE *out);          /* what --help shows after the options; may be NULL */
    /* After parsing and before links open: checks; exit status 64 on failure. May be NULL. */
    int (*check)(stage_t *stage, err_t *err);
    /* Links are open. Starts the work; status 1 on failure. The stage is ready when it returns 0 unless it set stage->ready_later, and then calls stage_ready. */
    int (*start)(stage_t *stage, err_t *err);
    /* A frame from an input, in order. `input` counts from 0 in the order of --from. Borrowed. NULL without inputs. */
    void (*frame)(stage_t *stage, unsigned input, frame_t *frame);
    /* All inputs have ended, or TERM came: write out what is open (stage_emit_*), then call stage_finished, now or later. */
    void (*finish)(stage_t *stage);
    void (*stop)(stage_t *stage);      /* last, started or not: free everything. May be NULL. */

    /* ---- with --state. A tool that has none of these has no --state option ---- */
    bool keeps_state;                  /* by itself, in stage_state_path; inputs are acknowledged by stage_durable only (broadcast) */
    /* A source: where it stands after the last event emitted, as one msgpack value; stored together with the frames (ingest). Unless it has to be
     * whole, it may be what has changed since the call before: false is returned then. A restart gets the last whole one and the changes since. */
    bool (*position)(stage_t *stage, bool whole, buf_t *out);
    /* In place of start, when the stream had ended in an earlier run: is that state this source's at all? May be NULL. */
    int (*ended)(stage_t *stage, err_t *err);
    /* All up to this position is synced: a peer may be told (acknowledgement, commit). May be NULL. */
    void (*acknowledge)(stage_t *stage, text_t position);
    /* A source that makes events of its own of what it has sent, in a stream beside (ingest's devices); only with stage->follows, which is set in check.
     * emitted: every frame that was cut, and after a restart (again) those behind what was kept, in order. follow: writes one event into a builder and
     * counts it as created, and returns the stream's name; NULL: nothing more. With --state such events go into the log together with the frames that
     * caused them. keep: the state that emitted and follow make, as one msgpack value; it is written to the log now and then.
     * kept: what was written so last, in stage_recall_kept. */
    void (*emitted)(stage_t *stage, const frame_t *frame, bool again);
    const char *(*follow)(stage_t *stage);
    void (*keep)(stage_t *stage, buf_t *out);
    int (*kept)(stage_t *stage, text_t state, err_t *err);
    /* Deterministic tools: whatever `frame`, `tick` and `finish` do follows from the calls alone (process). save runs in a forked child, on
     * a consistent copy: it appends to *out and may call stage_save_flush now and then to keep *out small; load runs before start,
     * with stage->finishing when finish was called before the snapshot: it is not called again. An error of load names the remedy (--reset). */
    void (*save)(stage_t *stage, buf_t *out);
    int (*load)(stage_t *stage, text_t state, err_t *err);
    /* The clock as input, ns since 1970: stage_tick_every. */
    void (*tick)(stage_t *stage, int64_t now);
    /* What stage_outside was given, as input in its turn; a replay gives it once more. */
    void (*outside)(stage_t *stage, unsigned channel, uint64_t number, text_t bytes);
    /* From here on the outside may be asked: after start, and after all inputs of before a crash have been taken again. Not called where the stream had
     * ended. Fails the stage. May be NULL. */
    int (*live)(stage_t *stage, err_t *err);
    void (*dead_written)(stage_t *stage);   /* stage_dead_waiting is over; may be NULL */
    /* Frames of this input and origin up to (epoch, number) will never be taken back. Without has_stable in a frame it is so at once, and this is not
     * called. May be NULL. */
    void (*stable)(stage_t *stage, unsigned input, const char *origin, uint64_t epoch, uint64_t number);
    /* With --state, of a tool that is not deterministic: asked before `frame`; false: not now, but after stage_want. May be NULL. */
    bool (*accepts)(stage_t *stage, unsigned input, const frame_t *frame);
} tool_t;

struct stage {
    const tool_t *tool;
    stage_settings_t settings;
    loop_t *loop;
    void *own;                         /* the tool's struct */
    char *name;                        /* settings.name, or the tool's choice (set it in check) */
    char origin[FRAME_ORIGIN_MAX + 1];
    uint64_t epoch;
    bool ready_later;
    bool finishing;                    /* finish was called */
    bool follows;                      /* tool->emitted and its companions are called */
    /* The ledger, published as metrics: in + created = out + filtered + late + dead + dropped + held. The tool adds to them;
     * created: events of its own making (windows' results, alerts). */
    struct stage_ledger {
        uint64_t in, out, filtered, late, dead, dropped, held, created;
    } ledger;
    uint64_t errors;                   /* evaluation errors, refused requests, ...: counted, not part of the ledger */
    struct stage_private *private;
};

void stage_want(stage_t *stage, unsigned input);      /* there is room again for what accepts has refused */
int stage_main(const tool_t *tool, int argc, char **argv);       /* main's return value */

/* The driver that is chosen, beside the tool: its options, and facts that options need (option_scope_t). All may be NULL. */
typedef struct stage_scope {
    const option_t *table;
    const void *settings;
    const option_given_t *given;
    int (*holds)(const void *argument, text_t name, text_t value);
    const void *argument;
} stage_scope_t;

/* For tool->check: refuses what was given and would be ignored. scope: NULL is legal. */
int stage_check_needs(stage_t *stage, const stage_scope_t *scope, err_t *err);

/* All options of the tool that are not a driver's own, as `--list=json` gives them; the reference is the caller's. */
json_t *stage_describe_options(const tool_t *tool);

void stage_ready(stage_t *stage);
void stage_finished(stage_t *stage);                  /* what finish was asked for is done: ends are sent, acknowledged, exit 0 */
void stage_blame(stage_t *stage, const char *reason);  /* the exit status will be 1; what has come is delivered all the same */
void stage_fail(stage_t *stage, const char *format, ...) __attribute__((format(printf, 2, 3)));   /* logs, exit status 1, no drain of inputs */
void stage_leave_off(stage_t *stage, const char *reason);     /* the same, said at level info: whoever read has left, and that is up to them */

/* Output. Events are written into the builder of a topic and go to every --to link.
 *   builder = stage_builder (stage, topic);  builder_begin ... builder_commit;  stage_emitted (stage, topic);
 * stage_emitted counts ledger.out and cuts and sends the frame when it is full. A builder pointer is valid until the next stage_emitted or stage_flush. */
frame_builder_t *stage_builder(stage_t *stage, const char *topic);
void stage_emitted(stage_t *stage, const char *topic);
void stage_flush(stage_t *stage);                     /* cuts and sends all that is open: no more input is at hand */
void stage_flush_watermark(stage_t *stage, const char *topic, int64_t watermark);  /* as flush, frames carry w; a frame without events goes out when only w moved */
void stage_send(stage_t *stage, frame_t *frame);      /* a whole frame unchanged (pass-through): after a flush; counts its events as out */
/* A source: batches across input. With this, a flush timer runs from a batch's first event and stage_flush happens by itself. Call stage_flush when nothing more is at hand. */
void stage_batch(stage_t *stage);

/* Back-pressure: false while an output is full. The skeleton pauses the inputs by itself; a source asks, and is told by `resume`. */
bool stage_room(const stage_t *stage);
void stage_on_room(stage_t *stage, void (*resume)(stage_t *stage));
/* With --state: what is not taken stays where it is, so the stage goes at the pace of the receivers that are there, rather than fill its log with what
 * must be read back for them. Without this only a full log makes it wait. */
void stage_patient(stage_t *stage);

/* The input frame is dealt with. By default (memory links) the skeleton acknowledges an input frame as durable when everything that was
 * emitted up to the end of tool->frame is durable downstream. A sink that finishes frames later sets manual_durable once and calls stage_durable per frame, in order. */
void stage_manual_durable(stage_t *stage);
void stage_durable(stage_t *stage, unsigned input, const frame_t *frame);
void stage_pause_inputs(stage_t *stage, bool paused); /* the tool's own reason, beside the outputs' */

/* Dead letters: counts ledger.dead, writes {"time","stage","reason","place","event"|"text"} to --dead-letter when configured, logs a sample once a second.
 * place: "data.csv:17", "field temperature", or NULL. */
void stage_dead_text(stage_t *stage, text_t record, const char *place, const char *reason);
void stage_dead_event(stage_t *stage, const event_t *event, const char *place, const char *reason);

/* ---- state ---- */

bool stage_stateful(const stage_t *stage);            /* --state was given */
char *stage_state_path(const stage_t *stage, const char *name);      /* DIR/NAME; mem_free. The directory is there and locked from before start on */
/* A source, in start: the position stored by an earlier run, then the changes to it, one a call. *at is 0 for the first; false: there are no more. Valid
 * until the first event is emitted. */
bool stage_position(const stage_t *stage, size_t *at, text_t *position);
void stage_save_flush(stage_t *stage, buf_t *out);    /* within save: writes *out away and empties it */
void stage_tick_every(stage_t *stage, int64_t interval);             /* ns, monotonic; tool->tick is called with the wall clock. Once, in start */
bool stage_will_replay(const stage_t *stage);         /* in load and start: there are inputs behind the snapshot that are to be taken again */
bool stage_replaying(const stage_t *stage);           /* inputs are those that were taken before a crash: nothing that is seen outside may be done twice */

/* Input from beside the links: an answer that another program gave, a table that was read anew. With --state it is written down in the order of
 * inputs, so that a replay need not ask again; then, and without --state at once, tool->outside gets it, before this returns. With `keep`
 * the tool's state may refer to it: under the number that tool->outside is told (0 without --state) stage_recall finds it, in load and in
 * tool->outside, until a snapshot has the channel's next one with keep. Bytes without keep: STAGE_OUTSIDE_MAX at most. -1: not taken, as it could not
 * be written, or the stage is about to leave; the tool asks again. Only when live. */
#define STAGE_OUTSIDE_MAX (512u * 1024)
int stage_outside(stage_t *stage, unsigned channel, text_t bytes, bool keep, err_t *err);
int stage_recall(stage_t *stage, unsigned channel, uint64_t number, buf_t *out, err_t *err);

/* For a tool with keeps_state, in start: this input's frames of `origin` up to (epoch, sequence) were dealt with. `key`: stage_input_key as stored. */
const char *stage_input_key(const stage_t *stage, unsigned input);   /* tells inputs apart over restarts */
void stage_restore_input(stage_t *stage, const char *key, const char *origin, uint64_t epoch, uint64_t sequence, bool ended);
/* That origin went without its end, and another sender has taken its place: it is stored as ended, as nobody waits for it any more. */
bool stage_input_replaced(const stage_t *stage, unsigned input, const char *origin);
void stage_check_end(stage_t *stage);                 /* and when all inputs were given so: if they have all ended, so does the stage */
bool stage_input_is_side(const stage_t *stage, unsigned input);

/* A source has moved on without an event (only bad records, a cursor): its position is stored by itself. Nothing without --state. */
void stage_note(stage_t *stage);

/* A source with tool->keep, in start, before it emits anything: calls tool->kept and tool->emitted for what an earlier run left. Nothing without --state. */
int stage_recall_kept(stage_t *stage, err_t *err);
void stage_keep(stage_t *stage);                      /* calls tool->keep: at the end of start, and by itself when there is much behind the last time */

/* Dead letters are numbered, over restarts: a restart takes back those behind its position, which will be written again. For a tool with keeps_state:
 * in start, the last one that its own progress covers; and, whenever that is safe on disk, the one that it covers now. */
uint64_t stage_dead_offset(const stage_t *stage);     /* number of the last one */
/* Some could not be written yet, since the disk is full: nothing that tells of them may be stored, and no more should be made. tool->dead_written is
 * called when they are. */
bool stage_dead_waiting(const stage_t *stage);
void stage_dead_restore(stage_t *stage, uint64_t offset);
void stage_dead_durable(stage_t *stage, uint64_t offset);

/* Latency from the frame's ingest time to now, weighted by its events; the skeleton does it for inputs, sinks for delivery. */
void stage_latency(stage_t *stage, const frame_t *frame);

#endif
