#ifndef STREAMCTL_CASE_FILE_H
#define STREAMCTL_CASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"
#include "run/config.h"

/* A file of test cases, as streamctl(1) describes it under TESTING PROGRAMS. */
typedef enum case_part_kind { PART_IN, PART_AFTER, PART_FILE, PART_OUT, PART_DEAD, PART_ERRORS, PART_FAULTS } case_part_kind_t;

/* Lines are numbered from 0 here, and from 1 for people. */
typedef struct case_part {
    case_part_kind_t kind;
    char *word;               /* IN: the input, OUT: the stream, FILE: its name; NULL: not named */
    int64_t number;           /* AFTER: ns; ERRORS: how many */
    size_t heading;           /* its line "-- ..." */
    size_t first, last;       /* its content: lines first..last - 1, without empty ones at the end */
} case_part_t;

/* What may be said before the first case, for all, and in each. */
typedef struct case_options {
    char *name;               /* of the stage; NULL: the pipeline's, or "process" */
    char *config;             /* for -- pipeline; NULL: config.json beside the file */
    int64_t idle;
    double tolerance;
    bool tolerant;            /* one was given: then it goes for whole numbers, too */
} case_options_t;

typedef struct test_case {
    char *title;
    size_t line, end;         /* its "== ", and the line behind its last one */
    case_options_t options;
    char *program;            /* its text; NULL: none */
    size_t program_line, program_end;     /* where it stands in the file; 0: it is from elsewhere */
    char *origin;             /* what the program is called in messages; NULL: it stands in the file */
    char *directory;          /* in which it runs */
    case_part_t *parts;
    size_t part_count;
} test_case_t;

typedef struct case_file {
    char *path;
    buf_t text;
    text_t *lines;            /* without their ends */
    size_t line_count;
    test_case_t *cases;
    size_t case_count;
} case_file_t;

/* Reads and checks the file, and fetches the programs that it names. `config` overrides what the file says of it; may be NULL. The file is the
 * caller's in any case: case_file_free. Errors: it is no file of cases; every one that is found is in *errors. */
int case_file_read(case_file_t **file, const char *path, const char *config, config_errors_t *errors);
void case_file_free(case_file_t *file);

/* The lines of a part that count: neither empty nor a comment. */
bool case_line_counts(text_t line);

/* Between case_file.c and case_program.c: the directory of a file, for the caller to free; the program named by a case's line. */
char *case_directory(const char *path);
int case_program_file(test_case_t *test, const char *test_path, text_t name, err_t *err);
int case_program_pipeline(test_case_t *test, const char *test_path, text_t name, err_t *err);

#endif
