#ifndef RUN_CONFIG_H
#define RUN_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"
#include "data/option.h"

/* config.json: read, checked whole, and turned into what the supervisor needs; streamctl-config(5) is its contract. Every error that
 * can be found is reported at once, each with line and column. Nothing outside is touched but the files that hold secrets. */

typedef struct config_place {
    unsigned line, column;            /* from 1; columns count characters */
} config_place_t;

/* Where the value at `pointer` (RFC 6901: "/data_sources/0/url") begins in valid JSON text, or its key when `key`. When there is no
 * such value: the nearest that encloses it. */
config_place_t config_locate(text_t json, const char *pointer, bool key);
/* The same for byte `offset` of the decoded string at `pointer`. */
config_place_t config_locate_inside(text_t json, const char *pointer, size_t offset);

typedef struct config_error {
    config_place_t place;             /* line 0: the file as a whole */
    char *text;
} config_error_t;

typedef struct config_errors {
    config_error_t *items;            /* in the order of their places after config_errors_sort */
    size_t count;
    size_t left_out;                  /* more than CONFIG_ERRORS_MAX */
} config_errors_t;
#define CONFIG_ERRORS_MAX 100

void config_errors_add(config_errors_t *errors, config_place_t place, const char *format, ...) __attribute__((format(printf, 3, 4)));
void config_errors_sort(config_errors_t *errors);
void config_errors_print(const config_errors_t *errors, const char *path, FILE *out);     /* "PATH:LINE:COLUMN: TEXT" each */
void config_errors_fini(config_errors_t *errors);

/* What a tool says of itself (`ingest --list=json`): drivers with the words that choose them, and their options. */
typedef struct config_driver {
    char *name;
    char **words;                     /* name, types and schemes */
    size_t word_count, scheme_count;  /* the schemes are the last ones */
    option_t *options;                /* offsets 0: for checking only */
} config_driver_t;
typedef struct config_tool {
    config_driver_t *drivers;
    size_t driver_count;
    option_t *options;                /* the tool's own and the skeleton's */
} config_tool_t;

int config_tool_new(config_tool_t **tool, const json_t *description, err_t *err);
void config_tool_free(config_tool_t *tool);

/* What config.json may name. Any may be NULL: then drivers and their options are not checked. */
typedef struct config_tools {
    const config_tool_t *ingest, *broadcast;
} config_tools_t;

typedef struct config_source {
    char *name, *type;                /* type: as configured, else the driver's name, else NULL */
    bool publish, autostart;
    bool takes_interval;              /* its driver has an option "interval" */
    bool good;                        /* no error was found in it */
    char *pointer;                    /* of the entry in the file */
    json_t *settings;                 /* for ingest: type, url, path and options, secrets filled in */
} config_source_t;

typedef struct config_pipeline {
    char *name;
    option_list_t from;               /* names of sources and pipelines, globs resolved, each once */
    char *program;
    bool publish;
    int64_t workers;
    char *key;                        /* how a link is split over workers; NULL: to the one with the least to do */
    json_t *settings;                 /* further options for process */
    char *pointer;                    /* of the program in the file, for its errors */
    size_t skip;                      /* bytes of the program before what stands in the file there */
} config_pipeline_t;

typedef struct config_sink {
    char *name;
    bool good;
    char *pointer;
    json_t *settings;                 /* for broadcast: name, type, url, path, from and options, secrets filled in */
} config_sink_t;

typedef struct config_stream {        /* stream_config; 0: not given */
    int64_t buffer_size, batch_size, processing_interval, max_connections;
} config_stream_t;

typedef struct config_server {
    bool enabled;
    char *listen;
    int64_t port;
    char *token, *token_file;
    option_list_t origins;
} config_server_t;

typedef struct config_limits {        /* of the supervisor; durations in ns */
    int64_t ready, drain, kill;
    int64_t restarts;                 /* quick failures in a row until it gives up; 0: never */
    uint64_t log_size;
    uint64_t memory;                  /* of a stage; 0: not given */
} config_limits_t;

typedef struct config {
    char *path;                       /* absolute, links resolved */
    char *directory;                  /* stages run there: relative paths in the file mean this */
    char *name;
    buf_t text;
    config_stream_t stream;
    config_server_t server;
    config_limits_t limits;
    char *state_dir;                  /* absolute; NULL: stages keep everything in memory */
    json_t *delivery;                 /* options for every stage that takes them, keys with _; "dead_letter" is a directory */
    int log_level;
    config_source_t *sources;
    size_t source_count;
    config_pipeline_t *pipelines;
    size_t pipeline_count;
    config_sink_t *sinks;
    size_t sink_count;
    json_t *redacted;                 /* the whole file without secrets */
} config_t;

#define CONFIG_MAX (4u * 1024 * 1024)
#define CONFIG_NAME_MAX 64            /* of sources and pipelines */

/* Reads and checks. On failure there is at least one error, and *config is NULL or what could be understood: only good for
 * finding more errors, members may be NULL. The caller frees it in any case. */
int config_load(config_t **config, const char *path, const config_tools_t *tools, config_errors_t *errors);
/* The same from text; `path` only names it (and its directory). */
int config_parse(config_t **config, const char *path, text_t text, const config_tools_t *tools, config_errors_t *errors);
void config_free(config_t *config);

/* A source or pipeline name: A-Z a-z 0-9 _ . -, not starting with . or -, not reserved. */
bool config_name_valid(const char *name, err_t *err);

/* The value without what looks like a secret: members and parameters ("NAME=VALUE") named like one, headers that are not known to hold none,
 * logins in URLs and parameters there; base/secret.h has the names. References (${NAME}, {"file": PATH}) in place of a secret stay. The
 * reference is the caller's. */
json_t *config_redact(const json_t *value);

#endif
