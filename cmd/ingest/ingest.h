#ifndef INGEST_INGEST_H
#define INGEST_INGEST_H

#include "run/stage.h"
#include "source.h"

/* What ingest's own files share; sources see source.h only. */

/* An option of a driver as given: the driver is known only when all has been read. */
typedef struct given_option {
    char *name;
    char *text;                    /* from the command line; NULL: yes */
    json_t *json;                  /* from --settings; or NULL */
} given_option_t;

struct source_host {
    stage_t *stage;
    const source_driver_t *driver;
    source_t *source;
    bool started, paused, ended, enough;
    bool trial;                    /* --sample */
    int64_t wanted;                /* --sample: events still to come; 0 when not sampling */

    /* one source_decode call */
    decode_target_t target;
    const char *place;
    bool remarked;                 /* on what stands there */
    uint64_t decoded, skip;
    uint64_t earlier;              /* dealt with in all the calls before */
    uint64_t pending;              /* committed, not yet counted */
    buf_t other;                   /* an event on its way to another stream */
    const tag_t *tag;              /* fields that decoded events get as well; or NULL */
    bool timed;                    /* such events get this time, too */
    int64_t time;
    source_filter_fn *wanted_record; /* source_filter */
    void *wanted_argument;
    bool primed;                   /* source_prime: there was a record  */
    bool moved;                    /* since the position was stored */
    uint64_t bad, bad_stored;      /* records that could not be used, in this run; and up to the stored position */
    int64_t greatest;              /* of the builder before the event that is being added */
    bool data_time;

    struct host_devices *devices;  /* --device; or NULL */
    bool keeping;                  /* decoded events are old ones that the server had kept: no sign of life */

    int64_t round, now;            /* the wall clock, ns, and the round of the loop it was read in */

    /* health */
    bool healthy, told;
    char reason[512];
    uint64_t counted;              /* ledger.in when --expect looked last */
    bool quiet;
};

/* --device... */
typedef struct device_options {
    char *fields;
    double late, offline;
    int64_t floor, patience, limit;
} device_options_t;

typedef struct ingest {
    /* options */
    char *format;
    char *type;
    char *url_option, *path_option;
    int64_t sample, sample_wait, expect;
    device_options_t device;

    char *url;                     /* positional */
    given_option_t *given;
    size_t given_count;

    /* chosen in check */
    source_setup_t setup;
    void *settings;                /* the driver's */
    option_given_t known;          /* those of the driver's that were given */
    char *rest;                    /* owned copy of the URL without its query */
    buf_t stream;
    source_host_t host;
} ingest_t;

extern const tool_t ingest_tool;

/* choose.c */
void ingest_give(ingest_t *ingest, text_t name, const char *text, const json_t *json);
/* Finds the driver and fills setup from URL, type and the options given. */
int ingest_choose(stage_t *stage, ingest_t *ingest, err_t *err);
void ingest_choose_fini(ingest_t *ingest);
/* tool_t.driver_tables: of the source, when that is known already, else of all. */
void ingest_tables(const stage_t *stage, const option_t **tables, size_t most);
/* An option that some driver has, or NULL. */
const option_t *ingest_find_option(text_t name);

/* list.c */
int ingest_list(bool as_json);
void ingest_help(FILE *out);

/* host.c */
void host_begin(source_host_t *host);                 /* links are open: hooks itself into the stage */
void host_finish(source_host_t *host);                /* no more input is wanted */
void host_stored(source_host_t *host);                /* the position goes into the log */
void host_fini(source_host_t *host);
void host_watch(source_host_t *host, int64_t expect);
int64_t host_clock(source_host_t *host);              /* the wall clock, ns, read once per round of the loop */

/* host_devices.c: what ingest knows of the devices behind its source, and tells in the stream NAME.devices. */
int host_devices_check(const device_options_t *options, err_t *err);
int host_devices_open(source_host_t *host, const device_options_t *options, err_t *err);    /* nothing without --device */
void host_devices_begin(source_host_t *host);         /* the source has been started */
void host_devices_free(source_host_t *host);
void host_devices_listen(source_host_t *host);        /* whether data could come may have changed; legal without devices */
bool host_devices_own(const source_host_t *host, const char *topic);     /* the stream is ours */
void host_devices_emitted(stage_t *stage, const frame_t *frame, bool again);
const char *host_devices_follow(stage_t *stage);
void host_devices_keep(stage_t *stage, buf_t *out);
int host_devices_kept(stage_t *stage, text_t state, err_t *err);

#endif
