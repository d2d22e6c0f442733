#ifndef DATA_LANG_DIAGNOSTIC_H
#define DATA_LANG_DIAGNOSTIC_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/text.h"

/* What is wrong with a program: every error with its place, so that one check shows them all. */
#define DIAGNOSTICS_MAX 50

typedef struct diagnostic {
    uint32_t at, size;        /* bytes in the source */
    unsigned line, column;    /* from 1; columns count characters */
    char *message, *hint;     /* owned; hint may be NULL */
} diagnostic_t;

typedef struct diagnostics {
    const char *name;         /* of the source: a file, or "program". Borrowed */
    text_t source;            /* borrowed */
    diagnostic_t *items;      /* owned; in the order of their places once sorted */
    size_t count;
    size_t faults;            /* all that were found, those left out too */
    uint32_t place_at;        /* where diagnostics_find_place was last, and its line and column */
    unsigned place_line, place_column;
} diagnostics_t;

void diagnostics_fini(diagnostics_t *diagnostics);

/* Adds one. hint (copied) may be NULL. A second error at the same place, and those beyond DIAGNOSTICS_MAX, are left out. */
void diagnostics_add(diagnostics_t *diagnostics, uint32_t at, uint32_t size, const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void diagnostics_sort(diagnostics_t *diagnostics);

/* Line and column (both from 1) of a byte position. */
void diagnostics_place(text_t source, uint32_t at, unsigned *line, unsigned *column);

/* The same in the diagnostics' source, quick when places ascend. */
void diagnostics_find_place(diagnostics_t *diagnostics, uint32_t at, unsigned *line, unsigned *column);

/* "NAME:LINE:COLUMN: error: MESSAGE", the source line with a caret, the hint. */
void diagnostics_print(const diagnostics_t *diagnostics, buf_t *out);
/* {"ok":false,"errors":[{"line","column","message","hint"}]} */
void diagnostics_put_json(const diagnostics_t *diagnostics, buf_t *out);

#endif
