#ifndef STREAMCTL_FACADE_STAGES_H
#define STREAMCTL_FACADE_STAGES_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buffer.h"

struct facade;

/* The stages' numbers: read from their metrics files and /proc, once a second while somebody watches and every ten seconds
 * otherwise, so that rates are at hand when somebody asks. */
typedef struct stages stages_t;

stages_t *stages_new(struct facade *facade);
void stages_free(stages_t *stages);
void stages_watch(stages_t *stages);     /* somebody began or ceased to watch; NULL is legal */

/* What is known of a stage by the name, {"rate_in", "rate_out", "latency", "cpu_percent", ...}; null members where nothing is known
 * yet. The reference is the caller's. */
json_t *stages_numbers(const stages_t *stages, const char *name);
bool stages_health(const stages_t *stages, const char *name, bool *healthy, const char **reason);    /* false: unknown */

/* Whole answers; the references are the caller's. */
json_t *metrics_json(struct facade *facade);           /* of /api/metrics and metrics_update */
json_t *status_json(struct facade *facade);            /* of /api/stream/status and stream_status */
json_t *sources_json(struct facade *facade);
json_t *streams_json(struct facade *facade);
json_t *stages_audit(struct facade *facade);           /* of /api/audit */
json_t *health_json(struct facade *facade, bool *ready);

/* Prometheus' text format, read afresh from every stage's file. */
void prometheus_put(struct facade *facade, buf_t *out);

#endif
