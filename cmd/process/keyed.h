#ifndef PROCESS_KEYED_H
#define PROCESS_KEYED_H

#include "base/clock.h"
#include "group.h"
#include "op.h"

/* State of an operator by key: a block for each combination of the keys' values, forgotten when its key has been silent for so long. What is
 * silent goes by event time alone: a key that was last heard at time t is as new once the watermark is behind t by more than the
 * bound. Memory of forgotten keys is given back in sweeps, at most one bound later. */
typedef struct keyed_class {
    size_t size;                                      /* of a block, a multiple of 8; it begins zeroed */
    unsigned elements;                                /* that save writes */
    void (*save)(const void *state, buf_t *out);
    bool (*load)(void *context, void *state, pack_cursor_t *cursor);      /* into a zeroed block; false: damaged. drop is called all the same */
    void (*drop)(void *state);                        /* frees what the block owns; NULL: nothing */
    size_t (*memory)(const void *state);              /* bytes that it owns beside the block, asked for when it was passed on; NULL: none */
} keyed_class_t;

typedef struct keyed keyed_t;

#define KEYED_EXPIRE (24 * 3600 * NS_PER_S)           /* the bound unless the program says otherwise */

/* The class is borrowed; `context`, the operator as a rule, is handed to its load. */
keyed_t *keyed_new(program_t *program, const keyed_class_t *class, void *context);
void keyed_free(keyed_t *keyed);                      /* NULL is legal */

/* Reading: the parts that all operators with keys share. True when the token was one of theirs, and *status is then 0, or -1 after
 * reporting: "by A, B as c" and "expire D". */
bool keyed_parse(keyed_t *keyed, parser_t *parser, int *status);
/* Behind a window its keys, when the program gave none. 0, or -1 after reporting. `place` is whom an error is about. */
int keyed_window_keys(keyed_t *keyed, parser_t *parser, const token_t *place);
void keyed_add(keyed_t *keyed, node_t *node, text_t name);    /* a key of the operator's own */
unsigned keyed_count(const keyed_t *keyed);           /* of keys */
node_t *const *keyed_nodes(const keyed_t *keyed);
const text_t *keyed_names(const keyed_t *keyed);
int64_t keyed_expire(const keyed_t *keyed);           /* ns */
void keyed_set_expire(keyed_t *keyed, int64_t expire);        /* the operator's own default; before keyed_parse */

/* Running. First all rows of a batch, so that memory is on its way; then each in turn. */
void keyed_prepare(keyed_t *keyed, row_t **rows, unsigned count);
void *keyed_get(keyed_t *keyed, unsigned index, const row_t *row);        /* the block of the batch's row `index`; a new one where there is none */
void *keyed_find(keyed_t *keyed, unsigned index, const row_t *row);       /* NULL where there is none; else as keyed_get */
bool keyed_is_new(const keyed_t *keyed);              /* whether the last keyed_get made it */

/* All blocks that are not forgotten at this watermark (INT64_MAX: the stream's end, all of them), in an order that depends on nothing but what came
 * in. `key` is read by key_read. The callback may change the block, and drops it with KEYED_DROP; it calls nothing else of this module. */
typedef enum keyed_answer { KEYED_KEEP, KEYED_DROP } keyed_answer_t;
typedef keyed_answer_t keyed_visit_t(void *argument, void *state, const uint8_t *key, size_t key_size);
void keyed_each(keyed_t *keyed, int64_t watermark, keyed_visit_t *visit, void *argument);

void keyed_save(const keyed_t *keyed, buf_t *out);    /* one packed element */
int keyed_load(keyed_t *keyed, pack_cursor_t *cursor, err_t *err);
size_t keyed_memory(const keyed_t *keyed);

#endif
