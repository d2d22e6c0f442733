#ifndef DATA_SYSLOG_H
#define DATA_SYSLOG_H

#include "base/err.h"
#include "data/fields.h"

/* A syslog message, as RFC 5424 (section 6) or RFC 3164 (section 4) has it, or as a line of a log file, which has no <priority> and may have an ISO 8601
 * time. What is read of one message, in memory that is used again. Zero-initialise. */
typedef struct syslog {
    fields_t fields;
    buf_t values;
} syslog_t;

/* Gives those of: facility, severity (their names), timestamp (a time), hostname, appname, procid, msgid, data (a map of the structured data: {id: {name: text}})
 * and message. `about`: ns near the message's time, for the year that RFC 3164 leaves out; its times count as UTC. The fields are valid until the
 * next message. */
int syslog_read(syslog_t *syslog, text_t line, int64_t about, err_t *err);
void syslog_fini(syslog_t *syslog);

#endif
