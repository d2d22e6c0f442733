#ifndef DATA_JSON_H
#define DATA_JSON_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/text.h"
#include "data/frame.h"
#include "data/value.h"

/* The hot path's JSON: text → packed msgpack in one pass, and back. Strictly RFC 8259: UTF-8 checked, escapes and surrogates,
 * integers exact to 64 bits, beyond that doubles, -0 a double, doubles correctly rounded, of duplicate keys the last wins, depth PACK_DEPTH.
 * A number too large for a double (1e309) is refused; one too small is 0. A text has at most 1 GiB. */
typedef struct json_reader json_reader_t;             /* remembers the shapes of the previous events */

/* time_field NULL: no time is looked for. It names a top-level field or, with dots, one inside (a.b). take_time: a top-level time
 * field is taken out of the record. streams: a top-level "@stream" that holds a valid topic is taken out and reported. */
json_reader_t *json_reader_new(const char *time_field, bool take_time, bool streams);
void json_reader_free(json_reader_t *reader);         /* NULL is legal */

typedef struct json_found {
    bool has_time;            /* the time field was there, not null, and could be read as a time that an event can have */
    bool bad_time;            /* it was there, not null, and could not; then it stays in the record */
    int64_t time;             /* ns */
    text_t stream;            /* value of "@stream", or size 0; borrowed from the reader until its next event */
} json_found_t;

/* Appends one packed map for the JSON object that fills `text` (white space around it allowed). On failure nothing is appended;
 * the error names the byte position (from 1) and what was expected. The text need not be NUL-terminated nor readable past its end. */
int json_read_event(json_reader_t *reader, text_t text, buf_t *out, json_found_t *found, err_t *err);

/* Appends any one JSON value as msgpack. Returns the number of bytes read, so that values in a row can be read, or -1. The text is
 * copied first. */
ssize_t json_read_value(text_t text, buf_t *out, err_t *err);

/* Appends JSON text. NaN and infinities print as null. Binary prints as base64 text, time as RFC 3339, other ext as null. Returns false when
 * the packed bytes are malformed (what was appended is taken back). */
bool json_put_packed(buf_t *out, const uint8_t *packed, size_t size);
void json_put_value(buf_t *out, value_t value);
/* One event as one line without line end: @timestamp first when data_time, @stream next when stream is not NULL. */
bool json_put_event(buf_t *out, const event_t *event, bool data_time, const char *stream);

/* Shortest text that reads back as the same double ("0.1", "30.0", "1e+300"; NaN and infinities: "null"). The length is returned;
 * JSON_DOUBLE_MAX bytes may be touched, JSON_INT_MAX by the integers. */
#define JSON_DOUBLE_MAX 40
#define JSON_INT_MAX 32
size_t json_print_double(char *out, double value);
size_t json_print_int(char *out, int64_t value);
size_t json_print_uint(char *out, uint64_t value);
/* Correctly rounded; the text must be a whole JSON number. One beyond the range of doubles is refused. */
bool json_parse_double(const char *text, size_t size, double *value);

#endif
