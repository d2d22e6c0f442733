#ifndef PROCESS_PROGRAM_H
#define PROCESS_PROGRAM_H

#include "data/frame.h"
#include "data/lang/diagnostic.h"
#include "net/loop.h"

/* A program: the chain of operators, its inputs' watermarks, its output streams. It runs without a stage, so that tests, benches and
 * fuzzing drive it in memory. Input is frames, ends of origins, ticks, and what operators were told from outside; the output depends on nothing else. */
typedef struct program program_t;

typedef enum others { OTHERS_PASS, OTHERS_DROP, OTHERS_PROCESS } others_t;

typedef struct program_setup {
    const char *stream;           /* the main output's name unless the program says `to` */
    unsigned inputs;              /* how many: until each was heard from, the watermark waits. Frames of inputs from this number on (dead letters
                                   * that are sent again) are processed like all, but do not move event time */
    int64_t idle;                 /* ns without a frame after which an origin or input no longer holds the watermark; 0: never */
    others_t others;              /* what becomes of frames of the streams "alerts", "*.late" and "*.devices", which the program is not about */
    bool devices;                 /* it is about "*.devices", and not about anything else */
    uint64_t batch_events, batch_bytes;   /* an output frame at most */
    /* Takes the reference. In order; called from program_frame, program_tick and program_end. */
    void (*frame)(void *argument, frame_t *frame);
    /* Whether there is room for more output; NULL: always. Where much is written at once and there is none, program_waits is true. */
    bool (*room)(void *argument);
    void (*dead)(void *argument, const event_t *event, const char *place, const char *reason);
    /* A sample of evaluation errors, once a second at most: "where (line 1, column 7): ..." */
    void (*report)(void *argument, const char *text);
    /* What an operator was told from outside: to be recorded as input, and to come back by program_outside in its turn, now or soon. keep: state may refer
     * to it by the number that program_outside gives it, until the operator's next one with keep is in a snapshot, and then `recall` is
     * asked for it, in program_load. -1: it could not be recorded. NULL, both: it is taken at once, under number 0. */
    int (*outside)(void *argument, unsigned op, text_t bytes, bool keep, err_t *err);
    int (*recall)(void *argument, unsigned op, uint64_t number, buf_t *out, err_t *err);
    void (*hold)(void *argument, bool hold);              /* enough is held: no frames meanwhile, when that can be. May be NULL */
    void (*trouble)(void *argument, const char *text);    /* something outside does not work as it should. May be NULL */
    bool outline;                 /* notes what explain and trace_install need */
    void *argument;
} program_setup_t;

/* NULL when diagnostics were found (all of them are reported). */
program_t *program_new(const program_setup_t *setup, diagnostics_t *diagnostics);
void program_free(program_t *program);

/* A frame of input number `input`; its end mark is looked at. All output that it causes is sent before this returns, unless program_waits. */
void program_frame(program_t *program, unsigned input, frame_t *frame);
/* The clock, ns since 1970: lets idle origins go, and tells operators that time passes. To be recorded as input, and to be called every
 * program_tick_interval ns (0: not at all): what counts is ticks at that distance, so that a stage that was stopped itself takes nobody for idle. */
void program_tick(program_t *program, int64_t now);
int64_t program_tick_interval(const program_t *program);
void program_end(program_t *program);                 /* the whole stream has ended: fires what is open */

/* Everything so far has been loaded and repeated: operators may ask what is outside from now on, by the loop (NULL: only within this call). -1:
 * something is not there that must be. Once; programs without such operators need no call. */
int program_live(program_t *program, loop_t *loop, err_t *err);
/* For checks: calls `missing` for whatever is outside and would have to be there, and is not: program_live would fail now. Changes nothing. */
void program_look(const program_t *program, void (*missing)(void *argument, const char *text), void *argument);
/* An operator's news, as `outside` of the setup was given them. */
void program_outside(program_t *program, unsigned op, uint64_t number, text_t bytes);
bool program_busy(const program_t *program);          /* an answer from outside is outstanding: after program_end, more output comes */
void program_settle(program_t *program, loop_t *loop);                    /* runs the loop until none is: for those who have nothing else to do */

/* There was no room for all that the last call caused: program_continue goes on, and nothing else is called until this is false again. The
 * output is the same. */
bool program_waits(const program_t *program);
void program_continue(program_t *program);

/* What became of the events so far: in + created = out + filtered + late + dead + held. */
typedef struct program_counts {
    uint64_t filtered, late, held, created;
} program_counts_t;
program_counts_t program_counts(const program_t *program);
bool program_goes_by_time(const program_t *program); /* it has windows or joins: what an event is put together with follows from its time */
uint64_t program_errors(const program_t *program);    /* evaluations that failed */
int64_t program_watermark(const program_t *program);
bool program_verbatim(const program_t *program);      /* every event is passed on unchanged */

/* All state as bytes. `flush`, which may be NULL, takes what has come together now and then and empties the buffer, so that the whole need not
 * fit in memory twice; the rest is in *out at the end. What *out holds before goes first. */
typedef void program_flush_t(void *argument, buf_t *out);
void program_save(program_t *program, buf_t *out, program_flush_t *flush, void *argument);
/* And back, into a new program. State of another program (comments and white space do not count) or of another number of inputs is refused, and the
 * error says what to do. The setup may be another; but a replay gives the same output only with the same. */
int program_load(program_t *program, const void *bytes, size_t size, err_t *err);

size_t program_memory(const program_t *program);      /* bytes that the operators' state takes, about */

/* The listing of process --operators. */
void operator_list(FILE *out);

#endif
