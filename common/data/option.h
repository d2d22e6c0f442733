#ifndef DATA_OPTION_H
#define DATA_OPTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/text.h"

/* Options declared once, as data. From a table come: the command line's parsing, --help, config.json's
 * checking, `--list --json` for other tools (the dashboard's forms), and the man pages' check. */
typedef enum option_type {
    OPTION_TEXT,      /* char *, owned; NULL when not given and without default */
    OPTION_SECRET,    /* char *, as TEXT, never printed; config.json gives it by ${ENV} or {"file": PATH} */
    OPTION_BOOL,      /* bool; on the command line --name, --name=no, --no-name */
    OPTION_INT,       /* int64_t within minimum..maximum */
    OPTION_NUMBER,    /* double */
    OPTION_DURATION,  /* int64_t ns; in JSON a number means seconds */
    OPTION_SIZE,      /* uint64_t bytes */
    OPTION_CHOICE,    /* int: index into choices */
    OPTION_LIST,      /* option_list_t: repeatable; in JSON an array of strings or one string */
} option_type_t;

typedef struct option_list {
    char **items;     /* owned */
    size_t count;
} option_list_t;

typedef struct option {
    const char *name;                  /* "batch-size": --batch-size, config key "batch_size" (- and _ are the same) */
    option_type_t type;
    size_t offset;                     /* of the field in the settings struct */
    const char *fallback;              /* in the user's notation; NULL: none (zero) */
    const char *value;                 /* for help: "DURATION", "N", "block|drop_oldest" (CHOICE: the choices, in order) */
    const char *help;                  /* one line, no full stop */
    int64_t minimum, maximum;          /* INT, DURATION (ns), SIZE: checked when maximum > minimum */
    char letter;                       /* short form, 0 for none */
    /* What it means nothing without, NULL: nothing. Conditions with commas between, all of which must hold:
     *   "follow"              that option is given: true, not 0, not empty
     *   "mode=cdc|trigger"    it has one of these values
     *   "a or b=x"            one of these holds
     *   "!a"                  it is not given
     *   "@tls:mqtts://"       a fact that is no option, and the words that the error has for it, up to the next comma; the last of alternatives */
    const char *needs;
    bool readable;                     /* TEXT: names a file that must be there when we start */
} option_t;

/* Tables end with an entry whose name is NULL. */

/* Zeroed settings with every default set. A bad default is our own mistake: panic. */
void option_defaults(const option_t *table, void *settings);

/* Those that somebody has said something for. Zeroed: none. */
typedef struct option_given {
    const option_t **items;            /* owned; what it points to is borrowed */
    size_t count;
} option_given_t;
void option_note(option_given_t *given, const option_t *option);     /* given: NULL is legal */
void option_given_fini(option_given_t *given);

/* Where conditions are looked up: in tables with their settings, and in what is no option. */
#define OPTION_SCOPE_TABLES 12
typedef struct option_scope {
    const option_t *tables[OPTION_SCOPE_TABLES];           /* ended by NULL */
    const void *settings[OPTION_SCOPE_TABLES];
    /* Asked first: whether the fact holds, or the option has the value (empty: is given); -1: not known here, the tables say. May be NULL. */
    int (*holds)(const void *argument, text_t name, text_t value);
    const void *argument;
} option_scope_t;

/* "--rotate-wait needs --follow", for the first of the given options that would be ignored. A BOOL that says its default is not looked at. */
int option_check_needs(const option_given_t *given, const option_scope_t *scope, err_t *err);

/* The same for one option of a JSON object: `holds` is asked for everything, and the error names keys: "\"rotate_wait\" needs \"follow\"". */
int option_check_needs_json(const option_t *option, bool (*holds)(const void *argument, text_t name, text_t value), const void *argument, err_t *err);

/* "--tls-ca x.pem: No such file or directory", for the first of the given options whose file cannot be read. */
int option_check_files(const option_given_t *given, const option_scope_t *scope, err_t *err);

/* The option of that name (- and _ alike), or NULL. */
const option_t *option_find(const option_t *table, text_t name);

/* Sets one from text (command line, URL query) or JSON (config.json). A LIST grows, all else is replaced. The error names
 * the option and what it takes; the settings stay as they were. */
int option_set(const option_t *option, void *settings, text_t value, err_t *err);
int option_set_json(const option_t *option, void *settings, const json_t *value, err_t *err);

/* As --help shows them, aligned; with their defaults. */
void option_help(const option_t *table, FILE *out);

/* [{"name","type","default","value","help","minimum","maximum","needs"}]; the reference is the caller's. */
json_t *option_describe(const option_t *table);

void option_fini(const option_t *table, void *settings);

/* "unknown option X; did you mean Y?" against all `tables` (NULL-terminated list of tables). Returns -1. */
int option_unknown(const option_t *const *tables, text_t name, err_t *err);
/* The name in the tables that is nearest to a misspelt one, as text_nearest; NULL: none. Borrowed from the tables. */
const char *option_nearest(const option_t *const *tables, text_t name);

/* Splits "REST?key=value&..." : *rest is what stands before '?', and each pair (percent-decoded) goes to the table's options.
 * Unknown keys are errors with a suggestion. given: is added to, may be NULL. */
int option_from_query(const option_t *table, void *settings, const char *url, char **rest, option_given_t *given, err_t *err);

#endif
