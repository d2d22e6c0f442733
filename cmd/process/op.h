#ifndef PROCESS_OP_H
#define PROCESS_OP_H

#include "data/lang/expression.h"
#include "data/lang/parser.h"
#include "data/pack.h"
#include "net/loop.h"
#include "program.h"

/* The operator interface. An operator is one file (its parsing, its work, its documentation) and one line in op_table.c.
 *
 * Everything an operator does depends on what reaches it through these calls and on nothing else: not on the clock, addresses, hash
 * order, or how events are cut into batches. So a replay of the same calls gives the same output, byte for byte. */
typedef struct op op_t;
typedef struct plan plan_t;

typedef struct op_class {
    const char *name;
    const char *syntax;       /* "where CONDITION" */
    const char *help;         /* for listings and stream-language(7): sentences, end with a full stop */
    const char *keeps;        /* what it remembers, for --explain: "the table"; NULL: something for each of its keys */
    /* Reads what stands behind the operator's name, checks it and updates parser->scope. NULL after reporting. */
    op_t *(*parse)(program_t *program, parser_t *parser);
    /* Rows in order, at most BATCH. The operator may change them, and passes on those that stay (op_pass); the array is its to rearrange. Each row's
     * watermark counts before the row itself. */
    void (*event)(op_t *op, row_t **rows, unsigned count);
    /* Event time has come to `watermark`, behind all rows so far; INT64_MAX: the stream has ended. NULL: it is passed on. */
    void (*watermark)(op_t *op, int64_t watermark);
    /* Goes on where program_must_wait made it stop, in event or watermark. */
    void (*resume)(op_t *op);
    /* The clock (ns since 1970), as recorded with the input. NULL: passed on. */
    void (*tick)(op_t *op, int64_t now);
    /* ---- operators that ask something beyond their input: a program, a file that may change. All NULL for the others ---- */
    /* From here on the operator may ask. Where it does is up to it (loop NULL: only now), but what it hears changes nothing: it goes to op_tell, which
     * has it recorded as input, and comes back by `outside`. Called once, last of all before input that is new; not while a replay repeats
     * what came before. Fails the stage: something must be there that is not. */
    int (*live)(op_t *op, loop_t *loop, err_t *err);
    /* Before a start: -1 and what is not there that must be. Changes nothing. NULL: it needs nothing. */
    int (*look)(const op_t *op, err_t *err);
    /* What op_tell was given, in its turn, and the number that the state may refer to it by; or, bytes.data NULL, the next call after one that gave true:
     * there is more to do. The arena lasts until it returns: true, so that it is called again, after each group of rows that is passed on. */
    bool (*outside)(op_t *op, uint64_t number, text_t bytes);
    bool (*busy)(const op_t *op);                     /* an answer is outstanding: the stream does not end before it */
    /* State to bytes (one packed element) and back; what the program's text gives is not part of it. NULL: no state. save calls program_saved
     * after each part that is small; load reads in place. */
    void (*save)(const op_t *op, buf_t *out);
    int (*load)(op_t *op, pack_cursor_t *cursor, err_t *err);
    size_t (*memory)(const op_t *op);                 /* bytes that the state takes, quickly told; NULL: next to none */
    void (*free)(op_t *op);
} op_class_t;

struct op {
    const op_class_t *class;
    op_t *next;               /* the last one of a chain writes the output */
    program_t *program;
    bool stopped;             /* to be resumed */
    unsigned number;          /* its place in the chain, from 0 */
};

extern const op_class_t *const op_table[];            /* NULL-terminated, in the order of listings */

#define BATCH 16

static inline void op_pass(op_t *op, row_t **rows, unsigned count) {
    if (count)
        op->next->class->event(op->next, rows, count);
}
void op_pass_watermark(op_t *op, int64_t watermark);
void op_pass_tick(op_t *op, int64_t now);

/* For parse: zeroed memory for the operator's struct, which begins with an op_t. */
void *op_new(program_t *program, const op_class_t *class, size_t size);

/* For operators with `outside`, when live. keep: the state refers to it by its number (0: nobody keeps it) and gets it again by
 * program_recall. 0: `outside` was called or will be. -1: it could not be recorded; ask again later. */
int op_tell(op_t *op, text_t bytes, bool keep, err_t *err);
int program_recall(op_t *op, uint64_t number, buf_t *out, err_t *err);
void op_hold(op_t *op, bool hold);                    /* it holds enough: no new frames meanwhile. What is on its way still comes */
void op_trouble(op_t *op, const char *format, ...) __attribute__((format(printf, 2, 3)));     /* outside: for the log, and counted */

unit_t *program_unit(program_t *program);             /* what the program owns */
context_t *program_context(program_t *program);       /* for rows of an operator's own making */

/* The ledger as operators see it. Each event that came in ends as passed on, filtered, late or dead, or is held; what operators
 * make themselves is created, and then counted like an event. */
program_counts_t *program_ledger(program_t *program);

/* Streams beside the main one. `name` must stay; more than one operator may write to a stream. */
unsigned program_stream(program_t *program, const char *name);
const char *program_stream_name(const program_t *program);                /* the main stream's, at this point of the chain */
/* "to". False where it stood before and no operator since has a stream by that name: it would say nothing. */
bool program_set_stream(program_t *program, const char *name);
const op_t *program_first(const program_t *program);  /* the operators in front of the one that is read: each knows the next */
/* The names that tell groups apart behind a window: what alert goes by unless it says otherwise. */
void program_set_keys(program_t *program, const text_t *names, unsigned count);
const text_t *program_keys(const program_t *program, unsigned *count);
const char *program_output_name(const program_t *program);                /* the main stream's in the end; when running */
/* The names of the keys that this operator's state goes by, for people. When parsing. */
void program_has_keys(program_t *program, const text_t *names, unsigned count);
/* This operator writes to a stream of its own, or dead letters, beside passing events on. */
void program_has_side(program_t *program);
/* This operator looks at the clock: ticks come at least so often (ns, at least 100 ms), more often when others ask for that. When parsing. */
void program_wants_ticks(program_t *program, int64_t interval);
/* Asked by an operator that has much to write, between two rows: true when there is no room for more at present, or program_must_stop. It then keeps what it still has
 * to do, its rows included, and returns; its resume goes on. Only where nothing that is upstream goes on by itself meanwhile: in
 * event with the first row not taken, and at the end of watermark. */
bool program_must_wait(program_t *program, op_t *op);
/* Asked by an operator that passes rows on in several calls, after each: true when an operator behind it has stopped. It then stops, too, and its
 * resume goes on once those behind have. */
bool program_must_stop(program_t *program, op_t *op);
/* While an operator passes on a few rows and cannot stop in between: nobody behind it does. */
void program_press(program_t *program, bool on);
void program_saved(program_t *program, buf_t *out);   /* within save: may write away what has come together */
frame_builder_t *program_begin(program_t *program, unsigned stream);      /* builder_begin is done: append the record */
void program_commit(program_t *program, unsigned stream, int64_t time, int64_t ingest_time);
/* The row ends here, as a dead letter: the event as it came in, or as the plan has it where there is none. `place` says who gave it up and where. */
void program_dead(program_t *program, const row_t *row, const plan_t *plan, const char *place, const char *reason);
/* What the program means depends on these bytes too (a file's, say): state of a program with others is another program's. */
void program_identify(program_t *program, const void *bytes, size_t size);

/* Rows of an operator's own making: BATCH of them, with values for the scope behind it. Valid once the program is complete; free with rows_free. */
typedef struct rows {
    row_t row[BATCH];
    row_t *pointers[BATCH];
    value_t *values;
} rows_t;
rows_t *rows_new(program_t *program);
/* How many of them to pass on together, when running: BATCH, or one where several operators behind may write to the same stream, in the order of rows. */
unsigned program_batch(const program_t *program);
void rows_free(rows_t *rows);

/* How a row is written at a point of the chain: which of the record's fields stay, which values are added. */
plan_t *plan_new(program_t *program, const scope_t *scope);               /* owned by the program */
bool plan_verbatim(const plan_t *plan);               /* rows are written as they came */
bool plan_put(const plan_t *plan, const row_t *row, buf_t *out);          /* the record; false when it is malformed */
value_t plan_record(const plan_t *plan, const row_t *row);                /* the record, in the row's arena or in place; null when it is malformed */
void plan_emit(const plan_t *plan, program_t *program, unsigned stream, const row_t *row);

/* A computed value that is not there at all: reads as null, and is not written. */
static inline value_t value_absent(void) { return (value_t){.type = VALUE_NULL, .size = 1}; }
static inline bool value_is_absent(value_t value) { return value.type == VALUE_NULL && value.size; }

/* base with what stands at the steps replaced by *value, or taken out (value NULL), packed in the row's arena. Maps that are missing on the way are
 * made. Counts an error and gives base when a step does not fit. `node` is whom the error is about. */
value_t value_edit(const node_t *node, const row_t *row, value_t base, const step_t *steps, unsigned count, const value_t *value);

/* An event's time and stream stand beside its fields: in text they go by these names, which no field may have. */
static inline bool name_is_beside(text_t name) {
    return text_is(name, "@timestamp") || text_is(name, "@stream");
}

/* A word as it stands, up to white space or |: a stream's or alert's name. */
int parse_word_raw(parser_t *parser, const char *what, text_t *word);

/* The expressions that operators read: `a, b as c`. Named by `as`, or by a path's last name; *name is in the unit's arena. */
node_t *parse_named(parser_t *parser, const char *what, text_t *name);

#endif
