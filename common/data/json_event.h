#ifndef DATA_JSON_EVENT_H
#define DATA_JSON_EVENT_H

#include "data/json.h"
#include "data/json_parse.h"

/* Internal to the text formats: json_read_event without the copy, for text that lies in a larger buffer as json_parse.h demands.
 * *end: where the object's text ended; white space behind it, up to the text's end, is passed over with `whole`, and more is an error. On
 * failure *end is where it went wrong: at or past the text's end when the text only lacks its rest. */
int json_read_event_at(json_reader_t *reader, text_t text, bool whole, const char **end, buf_t *out, json_found_t *found, err_t *err);

#endif
