#ifndef DATA_FORMAT_H
#define DATA_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "data/frame.h"
#include "data/option.h"

/* Text formats: bytes → events and events → bytes. One format is one file and one line in format_table.c. */

/* What all formats share, as option tables: what a tool has a use for that reads any format, NDJSON alone, or NDJSON and writes any. */
typedef struct format_settings {
    char *time_field;         /* --time: the field that holds the event time; NULL: "@timestamp" */
    uint64_t record_limit;    /* --max-record: bytes of a line or record, default 1 MiB */
    /* csv */
    char *separator;          /* --csv-separator: one character, or "tab"; default "," */
    bool no_header;           /* --csv-no-header: columns are then column_1, column_2, ... unless named */
    option_list_t columns;    /* --csv-columns a,b,c */
    option_list_t types;      /* --csv-type FIELD=string|int|double|bool|time: overrides inference */
    bool no_inference;        /* --csv-strings: every field stays text */
    char *pattern;            /* regex: --pattern */
    char *multiline, *multiline_start, *multiline_continue;   /* lines, regex: which lines are one record; at most one of them is set */
    int64_t multiline_lines, multiline_wait;                  /* wait: ns */
    char *xml_records;        /* --xml-records: which elements are events; NULL: the root's children */
    char *line_field;         /* --line-field: name of the field that holds a raw line, default "message" */
} format_settings_t;
extern const option_t format_options[], format_text_options[], format_written_options[];

typedef struct decoder decoder_t;
typedef struct encoder encoder_t;

typedef struct format {
    const char *name;         /* "ndjson" */
    const char *help;
    int (*decoder_open)(decoder_t **decoder, const format_settings_t *settings, err_t *err);   /* NULL: write only */
    int (*encoder_open)(encoder_t **encoder, const format_settings_t *settings, err_t *err);   /* NULL: read only */
} format_t;
extern const format_t *const format_table[];      /* NULL-terminated: ndjson json csv tsv lines logfmt common msgpack xml ... */
const format_t *format_find(const char *name);    /* NULL when unknown */
/* By the file name's ending (".ndjson .jsonl .json .csv .tsv .log .txt .logfmt .msgpack .xml", before one of format_packed), or NULL. */
const format_t *format_for_path(const char *path);
/* The size of an ending that says that the file was compressed (".gz", ".zst"); 0: it has none. */
size_t format_packed(const char *path);
int format_unknown(const char *name, err_t *err); /* -1, names the known ones */

/* Where decoded events go. `builder` is read anew after each event, so that `committed` may cut the frame. */
typedef struct decode_target {
    frame_builder_t *builder;
    int64_t ingest_time;      /* ns: given to events without a time of their own, and as their ingest time */
    const char *topic;        /* out: topic of the event just committed when the text carried @stream, else NULL; borrowed until the next */
    /* After each committed event; true: stop here (the frame is full, or no more is wanted). */
    bool (*committed)(void *argument);
    /* A record that can't be read: its bytes, its number (from 1) and why. The stream goes on after it. */
    void (*bad)(void *argument, text_t record, uint64_t number, const char *reason);
    /* What the user may want to know of the record with this number, which was read all the same. NULL: nobody listens. */
    void (*remark)(void *argument, uint64_t number, const char *text);
    void *argument;
} decode_target_t;

/* Decodes complete records from the front of the data and returns how many bytes were consumed; the caller keeps the rest
 * and calls again with more behind it. at_end: no more will come, so the last record needs no line end. Stops early when
 * committed says so. A record above the limit is passed to bad() once (its first KiB) and skipped to its end, over as many calls as that takes.
 * A format that makes several events of one record (a JSON array) stops only between records. Up to 64 bytes after data+size
 * need not be readable. */
typedef struct decoder_class {
    size_t (*feed)(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target);
    void (*reset)(decoder_t *decoder);            /* a new file or document begins (CSV: header row again) */
    void (*free)(decoder_t *decoder);
    /* What feed knows between two calls beside the options and a table's columns (inside a record that is too long, inside an array); 0 at
     * the beginning. A decoder that is given it back goes on with the bytes behind. NULL: always 0. */
    uint64_t (*state)(const decoder_t *decoder);
    void (*restore)(decoder_t *decoder, uint64_t state);
    /* The last record of what was fed is whole as it seems, but more lines of it may follow; cut: no more will, it ends with the last whole line, and
     * the next feed of the same bytes gives it. The state knows of that until then. NULL: never. */
    bool (*waits)(const decoder_t *decoder);
    void (*cut)(decoder_t *decoder);
} decoder_class_t;
struct decoder {
    const decoder_class_t *class;
    uint64_t records;                             /* seen, bad ones included; blank lines count as lines */
};
static inline size_t decoder_feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    return decoder->class->feed(decoder, data, size, at_end, target);
}
void decoder_reset(decoder_t *decoder);
static inline uint64_t decoder_state(const decoder_t *decoder) {
    return decoder->class->state ? decoder->class->state(decoder) : 0;
}
static inline bool decoder_waits(const decoder_t *decoder) {
    return decoder->class->waits && decoder->class->waits(decoder);
}
void decoder_restore(decoder_t *decoder, uint64_t state, uint64_t records);   /* any state is legal: it may come from a damaged file */
void decoder_free(decoder_t *decoder);            /* NULL is legal */

/* Appends the text of the frame's events. data_time of the frame: each carries @timestamp. stream: NULL, or the name that
 * each event carries as @stream (text links write it when a frame's topic is not the link's main stream). Returns how many
 * events could not be written (malformed inside; counted, skipped whole). */
typedef struct encoder_class {
    void (*header)(encoder_t *encoder, buf_t *out);                      /* what a file starts with; may be NULL */
    uint32_t (*frame)(encoder_t *encoder, const frame_t *frame, const char *stream, buf_t *out);
    void (*free)(encoder_t *encoder);
    /* Before the first frame, instead of header: the text will stand behind what a file holds already, whose beginning this is (as far as the
     * first lines need it). Fails when the two do not go together. May be NULL. */
    int (*resume)(encoder_t *encoder, text_t beginning, err_t *err);
} encoder_class_t;
#define ENCODER_BEGINNING (64 * 1024)             /* bytes of it that are enough */
struct encoder {
    const encoder_class_t *class;
};
void encoder_free(encoder_t *encoder);

#endif
