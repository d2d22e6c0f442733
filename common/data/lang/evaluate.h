#ifndef DATA_LANG_EVALUATE_H
#define DATA_LANG_EVALUATE_H

#include "data/lang/expression.h"

/* What the files of the evaluator share. */
enum { META_STREAM, META_INGEST_TIME };       /* operation of NODE_META */
enum { IN_LIST, IN_ARRAY };                   /* operation of NODE_IN */

value_t eval_constant(const node_t *node, const row_t *row);
value_t eval_field(const node_t *node, const row_t *row);
value_t eval_test(const node_t *node, const row_t *row);
value_t eval_compare(const node_t *node, const row_t *row);
bool test_value(const node_t *node, const row_t *row);
bool test_compare(const node_t *node, const row_t *row);

void bind_fast(node_t *node);                 /* replaces eval and test by special forms where there are some */

#endif
