#ifndef STREAMCTL_FACADE_ALERTS_H
#define STREAMCTL_FACADE_ALERTS_H

#include <jansson.h>
#include <stdint.h>

#include "run/metrics.h"

struct facade;

/* The newest alerts, of three sources: events of the stream `alerts`, warnings and errors that stages log, and stages that die or
 * cannot stay up. Each new one goes to the WebSocket clients as error_alert. */
typedef struct alerts alerts_t;

alerts_t *alerts_new(struct facade *facade);
void alerts_free(alerts_t *alerts);
void alerts_event(alerts_t *alerts, int64_t time, const uint8_t *record, uint32_t size);
void alerts_notice(alerts_t *alerts, const char *stage, const metrics_notice_t *notice);
void alerts_trouble(alerts_t *alerts, const char *stage, bool trouble);   /* its durable log cannot be written, or can again */
void alerts_compare_status(alerts_t *alerts, const json_t *before, const json_t *now);   /* before may be NULL */
/* {"alerts": the newest `limit`, oldest first, "firing": alerts that are on, "total"}; the reference is the caller's. */
json_t *alerts_json(const alerts_t *alerts, size_t limit);

#endif
