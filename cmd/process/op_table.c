/* The table of operators: one line each. */
#include "op.h"

extern const op_class_t op_where, op_set, op_unset, op_keep, op_rename, op_to, op_window, op_alert;
extern const op_class_t op_flatten, op_unnest, op_parse, op_split, op_validate, op_dedupe, op_sample, op_limit, op_fill;
extern const op_class_t op_moving, op_delta, op_rate, op_trend, op_sequence;
extern const op_class_t op_lookup, op_join, op_exec;
extern const op_class_t op_anomaly;

const op_class_t *const op_table[] = {
    &op_where,
    &op_set,
    &op_unset,
    &op_keep,
    &op_rename,
    &op_flatten,
    &op_unnest,
    &op_parse,
    &op_to,
    &op_split,
    &op_validate,
    &op_dedupe,
    &op_sample,
    &op_limit,
    &op_fill,
    &op_lookup,
    &op_join,
    &op_exec,
    &op_window,
    &op_moving,
    &op_delta,
    &op_rate,
    &op_anomaly,
    &op_trend,
    &op_sequence,
    &op_alert,
    NULL,
};
