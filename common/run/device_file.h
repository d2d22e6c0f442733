#ifndef RUN_DEVICE_FILE_H
#define RUN_DEVICE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* The table of devices that a source shows to streamctl: a file beside its metrics, mapped by its one writer, so that showing a change costs a
 * few stores, and read by anyone. It holds as many places as the source may know devices. It is for showing only: what has to outlive a
 * restart is in the durable log. */
#define DEVICE_NAME_MAX 127

typedef enum device_state { DEVICE_ONLINE, DEVICE_LATE, DEVICE_OFFLINE } device_state_t;
extern const char *const device_state_names[3];

typedef enum device_reason { DEVICE_FIRST_MESSAGE, DEVICE_MESSAGE, DEVICE_SILENCE, DEVICE_PRESENCE } device_reason_t;
extern const char *const device_reason_names[4];

typedef struct device_view {
    char name[DEVICE_NAME_MAX + 1];    /* "": the place is empty */
    int64_t first, last, since;        /* ns since 1970: first and last sign of life (last 0: none yet), beginning of the state */
    int64_t interval;                  /* ns, learned; 0: not known yet */
    uint64_t messages;
    double rate;                       /* messages a second when `last` was: device_rate */
    device_state_t state;
    device_reason_t reason;            /* of the state */
} device_view_t;

/* Messages a second over the last minute or so, as of `now`. */
double device_rate(const device_view_t *view, int64_t now);

/* Writer. path NULL: memory that nobody sees. */
typedef struct device_file device_file_t;
int device_file_open(device_file_t **file, const char *path, uint32_t places, err_t *err);
void device_file_set(device_file_t *file, uint32_t place, const device_view_t *view);
void device_file_forgotten(device_file_t *file, uint64_t devices);    /* so many had to make room in all */
void device_file_close(device_file_t *file);          /* the file stays; NULL is legal */

/* Reader: the devices that are there, in no order; mem_free. Places that change just now are left out. */
int device_file_read(const char *path, device_view_t **views, uint32_t *count, uint64_t *forgotten, err_t *err);

#endif
