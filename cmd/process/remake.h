#ifndef PROCESS_REMAKE_H
#define PROCESS_REMAKE_H

#include "data/fields.h"
#include "op.h"

/* For operators behind which fields exist that only the data names (flatten, parse, unnest): each row gets a new record, and what stands behind
 * in the chain reads its fields from there. */
typedef struct remake remake_t;

/* In parse, when the operator's own names are read: from here on every name is a field of the new record. */
remake_t *remake_new(program_t *program, scope_t *scope);
void remake_free(remake_t *remake);                   /* NULL is legal */

/* The record as it is at this point of the chain, in the row's arena or in place; null when it is malformed. */
value_t remake_record(const remake_t *remake, const row_t *row);
/* Number `index` (below BATCH) of those that are passed on together has this record, a packed map, now; it is copied unless it is the row's own. False: it is malformed, and the
 * row has ended as a dead letter. */
bool remake_row(remake_t *remake, row_t *row, unsigned index, value_t record);
bool remake_failed(remake_t *remake, const row_t *row);       /* the dead letter of a malformed row; false */

#define RECORD_MAX (FRAME_MAX_DEFAULT - 1024 * 1024)  /* bytes of a record that an operator makes: more fits no frame */

#endif
