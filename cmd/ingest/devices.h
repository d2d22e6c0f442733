#ifndef INGEST_DEVICES_H
#define INGEST_DEVICES_H

#include "base/text.h"
#include "run/device_file.h"

/* The devices behind a source: who they are, whether they are there, and what is to be told when that changes. Nothing here reads a clock or writes
 * an event: times and messages come in, changes come out.
 *
 * Presence comes from what a device's last will or its gateway says (devices_told), and from its silence, measured against the interval that was
 * learned from its messages. Messages that are less than `floor` apart are one beat, so that a burst counts once. The interval is a peak detector
 * over the gaps between beats, with attack at once and exponential release, as in Giannoulis, Massberg and Reiss, "Digital Dynamic Range
 * Compressor Design - A Tutorial and Analysis", J. Audio Eng. Soc. 60(6), 2012 (the branching detector, attack time 0), its release weighted by
 * the time that a gap took, as the samples are not even in time:
 *
 *     gap >= interval:  interval = gap
 *     gap <  interval:  interval = gap + (interval - gap) * exp(-gap / (8 * interval))
 *
 * So it is about the longest gap of late: what has been survived once is no reason for alarm when it comes again, and a shorter rhythm takes over
 * within some eight of the longer intervals. It counts from the third gap on. A device is late after `late` times the interval (at least
 * the floor) without a message, and offline after `offline` times; a gap that ended an absence counts as so much at most. One whose interval is not
 * known yet is offline after `patience`. A device whose gateway says that it is online becomes late, but not offline, by silence. While the source itself
 * cannot listen nobody is silent: the measure begins anew when it can, and a gap over such a time teaches nothing. */
typedef struct devices devices_t;

typedef struct devices_setup {
    uint32_t limit;                    /* devices; one more takes the place of the one that has been silent longest */
    int64_t floor, patience;           /* ns */
    double late, offline;
    const char *path;                  /* of the table for streamctl, or NULL; borrowed for the call */
} devices_setup_t;

typedef enum device_change { CHANGE_ONLINE, CHANGE_LATE, CHANGE_OFFLINE, CHANGE_BACK } device_change_t;
extern const char *const device_change_names[4];

typedef struct device_event {
    char name[DEVICE_NAME_MAX + 1];
    device_change_t change;
    device_reason_t reason;
    int64_t since, last, interval;     /* ns; last 0: no message yet; interval 0: not known */
} device_event_t;

int devices_new(devices_t **devices, const devices_setup_t *setup, err_t *err);
void devices_free(devices_t *devices);

/* Names have 1 to DEVICE_NAME_MAX bytes. `now` and `arrived`: wall clock, ns. */
void devices_seen(devices_t *devices, text_t name, int64_t arrived);
/* A word about its presence. kept: an old one that the server had kept. It is no news when it is the same as the last. */
void devices_told(devices_t *devices, text_t name, bool online, bool kept, int64_t now);
void devices_look(devices_t *devices, int64_t now);   /* who has been silent for too long? */
void devices_listen(devices_t *devices, bool listening, int64_t now);

/* What is to be told next; false: nothing more. */
bool devices_next(devices_t *devices, device_event_t *event);

uint32_t devices_count(const devices_t *devices, device_state_t state);
uint64_t devices_forgotten(const devices_t *devices);

/* State over a restart: what was packed, then the messages (devices_seen) and the events (devices_apply) that followed, between
 * devices_replay true and false. Meanwhile nothing is told: the events say what was. */
void devices_pack(const devices_t *devices, buf_t *out);
int devices_unpack(devices_t *devices, text_t packed, err_t *err);
void devices_replay(devices_t *devices, bool replaying);
void devices_apply(devices_t *devices, const device_event_t *event);

#endif
