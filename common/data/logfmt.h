#ifndef DATA_LOGFMT_H
#define DATA_LOGFMT_H

#include "base/err.h"
#include "data/fields.h"

/* logfmt, as many programs write their logs: level=info msg="it works" n=5 ok. What is read of one line, in memory that is used again. Zero-initialise. */
typedef struct logfmt {
    fields_t fields;
    buf_t values, scratch;
} logfmt_t;

/* Pairs are separated by white space. A value in double quotes is text, with the escapes of JSON; one without quotes is what an unquoted CSV field of the
 * same letters would be, unless `strings` says that it stays text; key= is null, a key alone is true. Of a key that comes twice the last counts. A line
 * without any pair is refused, as are quotes that do not close and text behind a closing one. The fields are valid until the next line; keys are
 * borrowed from the line. */
int logfmt_read(logfmt_t *logfmt, text_t line, bool strings, err_t *err);
void logfmt_fini(logfmt_t *logfmt);

#endif
