#ifndef PROCESS_PARSE_FORMAT_H
#define PROCESS_PARSE_FORMAT_H

#include "data/fields.h"
#include "data/json.h"
#include "data/logfmt.h"
#include "data/syslog.h"
#include "op.h"

/* The formats of parse: one text to fields. One line each in parse_format.c. */
typedef struct reading {
    struct pattern *pattern;  /* regex */
    text_t *names;            /* csv: of the columns; regex: of the groups from 0 on, data NULL where they have none */
    unsigned names_count;
    char separator;           /* csv */
    bool strings;             /* values stay texts */
    const row_t *row;         /* that is dealt with */
    /* what was read */
    fields_t fields;
    value_t whole;            /* json: any value, in `packed`; else its type is VALUE_MAP and the fields hold it */
    buf_t packed, scratch;
    json_reader_t *json;      /* NULL before the first object */
    logfmt_t logfmt;
    syslog_t syslog;
} reading_t;

typedef struct parse_format {
    const char *name;
    int (*options)(reading_t *reading, parser_t *parser);     /* what stands behind the name; NULL: nothing */
    bool typed;               /* `strings` means something */
    int (*read)(reading_t *reading, text_t text, err_t *err);
} parse_format_t;

extern const parse_format_t parse_formats[];          /* ends with a NULL name */
void reading_fini(reading_t *reading);

#endif
