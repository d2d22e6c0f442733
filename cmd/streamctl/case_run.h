#ifndef STREAMCTL_CASE_RUN_H
#define STREAMCTL_CASE_RUN_H

#include <jansson.h>
#include <stdio.h>

#include "case_file.h"

/* Running a case and comparing what comes of it with what is expected. */

typedef struct case_item {    /* an event, a dead letter, a fault */
    text_t text;              /* borrowed from the file or the answer */
    json_t *json;             /* NULL: it is compared as text */
} case_item_t;

typedef struct case_items {
    case_item_t *items;
    size_t count;
} case_items_t;

typedef struct case_check {   /* one thing that is compared */
    case_part_kind_t kind;    /* OUT, DEAD, FAULTS */
    const char *stream;       /* OUT: borrowed */
    const case_part_t *part;  /* where it is expected; NULL: nowhere */
    case_items_t expected, found;
    bool same;
} case_check_t;

typedef struct case_outcome {
    json_t *answer;           /* of the process; NULL: there was none */
    json_t *names;            /* of streams that are expected */
    const char *main;         /* the main stream's name, borrowed from the answer; NULL: none */
    case_check_t *checks;
    size_t check_count;
    int64_t errors_expected, errors_found;
    char *failure;            /* the case could not be run to its end; or NULL */
    bool passed;
} case_outcome_t;

void case_run(const case_file_t *file, const test_case_t *test, case_outcome_t *outcome);
void case_outcome_fini(case_outcome_t *outcome);

/* Whether what was found is what is expected: whole numbers exactly, others to the tolerance; in any order of members; an event without @timestamp
 * may have any. Of a dead letter only the members that are given count. */
bool case_item_matches(const case_item_t *expected, const case_item_t *found, const case_options_t *options, case_part_kind_t kind);
bool case_value_matches(const json_t *expected, const json_t *found, const case_options_t *options);

/* The whole report of a case that failed. */
void case_print(const case_file_t *file, const test_case_t *test, const case_outcome_t *outcome, FILE *out);
void case_diff(const case_check_t *check, const case_options_t *options, buf_t *out);

/* Rewrites the file: what is expected of the cases in `failed` (case_count outcomes; those that passed stay as they are) becomes what
 * was found. *updated: how many could be. */
int case_update(const case_file_t *file, const case_outcome_t *outcomes, size_t *updated, err_t *err);

/* Between case_run.c and case_place.c: the directory that a case runs in, with the files that it has (-- file). NULL: it could not be made. */
char *case_place(const case_file_t *file, const test_case_t *test, err_t *err);
void case_place_end(const test_case_t *test, char *place);       /* the files and the directory go, when they were made for it; NULL is legal */

#endif
