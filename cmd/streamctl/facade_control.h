#ifndef STREAMCTL_FACADE_CONTROL_H
#define STREAMCTL_FACADE_CONTROL_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

struct facade;

/* The supervisor's control socket, as its client: one JSON object per line each way. A watching connection keeps the newest
 * status here (and comes back by itself); each request has a connection of its own. */
typedef struct control control_t;

/* Exactly once per request: the supervisor's reply (borrowed), or NULL and why there is none. */
typedef void control_reply_fn(void *argument, const json_t *reply, const char *failure);

control_t *control_new(struct facade *facade);
void control_free(control_t *control);

/* `request` is taken; `seconds`: for the reply. Returns a ticket for control_forget, or 0 with the reason when it could not be sent (no call comes then). */
uint64_t control_request(control_t *control, json_t *request, unsigned seconds, control_reply_fn *replied, void *argument, err_t *err);
void control_forget(control_t *control, uint64_t ticket);      /* the asker is gone: no call comes; 0 is legal */

/* The newest status, or NULL while the supervisor cannot be reached. Borrowed until the next round of the loop. */
const json_t *control_status(const control_t *control);
double control_status_age(const control_t *control);           /* seconds: add to its uptimes */

#endif
