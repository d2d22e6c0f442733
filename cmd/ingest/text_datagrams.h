#ifndef INGEST_TEXT_DATAGRAMS_H
#define INGEST_TEXT_DATAGRAMS_H

#include "datagram.h"
#include "source.h"

/* Datagrams that are each a text of one or more records of a format (udp, statsd). */
typedef struct text_datagrams text_datagrams_t;

/* Of setup's format, NDJSON when it names none; it must be one that can be opened. fd: theirs from now on. Begins to read at once. */
text_datagrams_t *text_datagrams_new(const source_setup_t *setup, int fd, uint64_t buffer);
void text_datagrams_pause(text_datagrams_t *texts);
void text_datagrams_resume(text_datagrams_t *texts);
void text_datagrams_free(text_datagrams_t *texts);    /* NULL is legal */

#endif
