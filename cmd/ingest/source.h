#ifndef INGEST_SOURCE_H
#define INGEST_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"
#include "data/format.h"
#include "data/frame.h"
#include "data/option.h"
#include "net/loop.h"
#include "tag.h"

/* A source brings events in from one outside place. Adding one is a file src_NAME.c that defines a source_driver_t, and a line in
 * source_table.c; options are declared there once, as data. A source hears of its world only by the loop and talks to
 * ingest only by the services below. All runs on one thread; nothing may block. */
typedef struct source source_t;
typedef struct source_host source_host_t;             /* ingest, as sources see it */

/* A word for config.json's "type". */
typedef struct source_type {
    const char *word;
    const char *url;               /* used when the configuration gives no url; may be NULL */
    const char *preset;            /* "format=csv&follow=yes": options that the word implies; may be NULL */
} source_type_t;

typedef struct source_setup {
    source_host_t *host;
    loop_t *loop;
    const char *url;               /* as given, may hold secrets */
    const char *rest;              /* what follows the scheme's ':', without a query that was read as options; a plain path as it is */
    const void *settings;          /* the driver's options; lives as long as the source */
    const format_t *format;        /* --format, or NULL: the source decides */
    const format_settings_t *format_settings;
} source_setup_t;

typedef struct source_driver {
    const char *name;              /* "file" */
    const char *schemes[6];        /* NULL-terminated; "file" for file:PATH */
    source_type_t types[10];       /* ended by a NULL word */
    const char *usage;             /* "file:PATH, PATH" */
    const char *help;              /* one line, no full stop */
    const option_t *options;       /* may be NULL */
    size_t settings_size;
    bool query;                    /* the scheme is ours: options may stand in the URL's query */
    const char *formats;           /* what its text may be without --format, "json|xml"; NULL: ndjson; "": it reads none */
    /* Facts that options need ("tls"), and what differs from `formats` ("format" with a name): 1, 0, or -1: nothing to be said of it. May be NULL. */
    int (*holds)(const source_setup_t *setup, text_t name, text_t value);
    const char *(*stream)(const source_setup_t *setup, buf_t *space);    /* name of the stream when --name gives none */
    /* What can be told wrong without touching the outside world; exit 64. May be NULL. */
    int (*check)(const source_setup_t *setup, err_t *err);
    /* Makes the source; nothing flows yet. Exit 1 on failure. */
    int (*open)(source_t **source, const source_setup_t *setup, err_t *err);
} source_driver_t;

extern const source_driver_t *const source_table[];   /* NULL-terminated */

typedef struct source_class {
    int (*start)(source_t *source, err_t *err);
    /* Backpressure: after pause no more events may come until resume. A source that cannot hold its peer back counts what it drops. */
    void (*pause)(source_t *source);
    void (*resume)(source_t *source);
    /* The position after the last event handed over, as one msgpack map: it is asked for when frames are cut, also in the middle of
     * source_decode and source_commit, and stored together with them. It says which source it belongs to. NULL: the source has none. */
    void (*position)(const source_t *source, buf_t *out);
    /* What has changed since the last call of position or of this: a map that is stored in place of the position, which is large, most of the time.
     * A source that has it has no acknowledge. May be NULL, as restore_changes may then. */
    void (*changes)(source_t *source, buf_t *out);
    /* Goes on from a position stored by an earlier run; called before start. A failure (another source's, damaged) is told without its remedy. */
    int (*restore)(source_t *source, const uint8_t *position, size_t size, err_t *err);
    int (*restore_changes)(source_t *source, const uint8_t *changes, size_t size, err_t *err);     /* behind restore, in their order */
    /* All up to this position is durable: the peer may forget it (an acknowledgement, a commit). May be NULL. */
    void (*acknowledge)(source_t *source, const uint8_t *position, size_t size);
    void (*free)(source_t *source);
} source_class_t;

struct source {
    const source_class_t *class;
};

/* Services of ingest. */

/* False while the outputs are full, or enough has come: hand over nothing more. `resume` tells when that changes. */
bool source_room(const source_host_t *host);

/* --memory, bytes. */
uint64_t source_memory(const source_host_t *host);

/* With --state: what is not read stays where it is, however long it takes, so the log need not run ahead of receivers that are there. In start. */
void source_patient(source_host_t *host);

/* Text: decodes complete records from the front of the data, emits their events, and returns how many bytes that took. Stops early when
 * there is no more room. `place` names the input for people ("data.csv"). Bad records are counted and go to the dead letters. */
size_t source_decode(source_host_t *host, decoder_t *decoder, const char *data, size_t size, bool at_end, const char *place);
/* How many records have been dealt with from where the source_decode call that is under way began (0 outside of one). What that and where it
 * began say is a position: after a restart the same data is decoded again, and so many records are passed over in silence. */
uint64_t source_decoded(const source_host_t *host);
void source_skip(source_host_t *host, uint64_t records);
uint64_t source_records(const source_host_t *host);                  /* dealt with, or to be passed over, in all: for differences */
/* Lets the decoder see the beginning of the data, for a table's first row, and emits nothing. False: there was no record in it. */
bool source_prime(source_host_t *host, decoder_t *decoder, const char *data, size_t size);
/* Every event that is decoded from now on gets these fields as well (borrowed; NULL: none any more). */
void source_tag(source_host_t *host, const tag_t *tag);
/* Decoded events that bring no time of their own get this one (ns; a message's time stamp); SOURCE_NO_TIME: none any more. */
#define SOURCE_NO_TIME INT64_MIN
void source_time(source_host_t *host, int64_t time);
/* What is decoded from now on is passed on only if this says so, and is counted as filtered else; so that what it remembers can be a part of the
 * position: it is asked about each record once, in their order. It does not hear of those that are passed over by source_skip. NULL: no more. */
typedef bool source_filter_fn(void *argument, const uint8_t *record, size_t size);
void source_filter(source_host_t *host, source_filter_fn *wanted, void *argument);
/* The position has moved, though there may be no event for that: it is stored soon. */
void source_moved(source_host_t *host);
bool source_keeps_position(const source_host_t *host);               /* with --state */
bool source_trial(const source_host_t *host);         /* --sample: nothing may be left behind outside, nothing taken away */

/* Ready-made records: begin, append one packed map to builder->body, then commit or abort. */
frame_builder_t *source_begin(source_host_t *host);
void source_commit(source_host_t *host);                             /* event time: now */
void source_commit_at(source_host_t *host, int64_t event_time);      /* the source's own time, ns */
void source_abort(source_host_t *host);

/* Input that cannot be used: counted as in and dead. */
void source_bad(source_host_t *host, text_t record, const char *place, const char *reason);

/* Devices, where --device was given. The name: the values of the fields of --device, joined with "/". A word about presence that is not in an
 * event: a last will, a gateway's message. kept: an old one, that the server had kept. */
bool source_has_devices(const source_host_t *host);
void source_presence(source_host_t *host, text_t device, bool online, bool kept);
/* What is handed over from now on is old: kept by the server, no sign of life of the device. */
void source_kept(source_host_t *host, bool kept);

/* So many events were sent to us and are lost, as there was no room for them: counted as in and dropped. */
void source_dropped(source_host_t *host, uint64_t events);

/* Health as the source knows it: data arrives, or why not (the same reason is logged once). */
void source_healthy(source_host_t *host);
void source_unhealthy(source_host_t *host, const char *format, ...) __attribute__((format(printf, 2, 3)));

void source_ended(source_host_t *host);               /* no more input will ever come */
void source_ended_badly(source_host_t *host, const char *reason);      /* no more will come, which is a failure: exit 1, after all that came was delivered */
void source_failed(source_host_t *host, const char *format, ...) __attribute__((format(printf, 2, 3)));   /* for good: exit 1 */

/* The driver for a URL or plain path; *rest is what follows the scheme's ':' (borrowed). NULL and an error that lists the known ones. */
const source_driver_t *source_find(const char *url, const char **rest, err_t *err);
const source_driver_t *source_find_type(const char *word, const source_type_t **type, err_t *err);

#endif
