#ifndef STREAMCTL_TOPOLOGY_H
#define STREAMCTL_TOPOLOGY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "run/config.h"

/* The processes that a configuration means, and the links between them. */
typedef enum topology_role { ROLE_SOURCE, ROLE_PIPELINE, ROLE_BROADCAST, ROLE_SERVER } topology_role_t;
extern const char *const topology_role_names[4];      /* source pipeline broadcast server */
extern const char *const topology_tool_names[4];      /* ingest process broadcast facade */

typedef struct topology_stage {
    char *name;                       /* "sensors"; of several workers "averages.0", "averages.1", ... */
    char *group;                      /* "averages"; else the name */
    topology_role_t role;
    char *type;                       /* a source's, as configured; NULL */
    bool autostart;
    bool takes_interval;
    json_t *settings;                 /* all that the tool is told; may hold secrets */
    size_t *inputs, *outputs;         /* indices of stages */
    size_t input_count, output_count;
    char *metrics, *log;              /* paths */
    char *state;                      /* its directory; NULL: it has none */
    char *dead_letter;                /* absolute; NULL: it writes none */
    size_t workers;                   /* of its group */
    char *key;                        /* how a link is split over them; NULL */
    char *side;                       /* path of the group's side input, for dead letters sent again; NULL: it has none */
    char **sink_sides;                /* broadcast's: one for each sink of the configuration, NULL-terminated; NULL: none */
} topology_stage_t;

typedef struct topology {
    char *run_dir;
    topology_stage_t *stages;         /* upstream before downstream */
    size_t count;
} topology_t;

/* The end of a link that sends into the group's side input. The caller frees. */
char *topology_side_link(const topology_stage_t *stage);
char *topology_sink_side_link(const char *path);

/* The options that a source's stage would get for its data and its delivery: its own, and for what it does not say those of all. The reference is the
 * caller's. */
json_t *topology_source_settings(const config_t *config, const config_source_t *source);

int topology_new(topology_t **topology, const config_t *config, const char *run_dir, err_t *err);
void topology_free(topology_t *topology);

#endif
