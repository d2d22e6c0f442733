/* Devices behind any source: each frame that leaves is looked through for who has sent its events, a timer looks for those who fell silent, sources
 * hand over words about presence, and what has changed becomes an event of the stream NAME.devices. Such an event is in the durable log in one
 * group with the events that caused it, or with the position behind the message that did; after a restart the table is made again from what was kept
 * and from the frames behind that. So each change is told once, whenever the process is killed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/pack.h"
#include "devices.h"
#include "ingest.h"

#define FIELDS_MAX 8
#define LOOK_LEAST (20 * NS_PER_MS)
#define LOOK_MOST NS_PER_S

typedef struct host_devices {
    source_host_t *host;
    devices_t *table;
    char *fields;                      /* copy; the commas are NULs */
    const char *names[FIELDS_MAX];
    size_t count;
    char *topic;
    int64_t look;                      /* ns between two looks */
    metric_t *states[3], *forgotten, *nameless;
    uint64_t unnamed;
} host_devices_t;

int host_devices_check(const device_options_t *options, err_t *err) {
    text_t rest = text_of(options->fields), name;
    size_t count = 0;
    if (!options->fields)
        return 0;
    while (text_split(&rest, ',', &name)) {
        if (!name.size)
            return err_set(err, "--device: a name is missing; it takes fields, as in site,device");
        if (++count > FIELDS_MAX)
            return err_set(err, "--device: at most %d fields", FIELDS_MAX);
    }
    if (options->offline < options->late)
        return err_set(err, "--device-offline is below --device-late");
    return 0;
}

static void publish(host_devices_t *self) {
    for (int i = 0; i < 3; i++)
        metric_set(self->states[i], devices_count(self->table, (device_state_t) i));
    metric_set_counter(self->forgotten, devices_forgotten(self->table));
    metric_set_counter(self->nameless, self->unnamed);
}

static void add_metrics(host_devices_t *self) {
    for (int i = 0; i < 3; i++) {
        char label[32];
        snprintf(label, sizeof label, "state=\"%s\"", device_state_names[i]);
        self->states[i] = metrics_add(METRIC_GAUGE, "stream_devices", label, "Devices by state");
    }
    self->forgotten = metrics_add(METRIC_COUNTER, "stream_devices_forgotten_total", "", "Devices that had to make room for others (--device-limit)");
    self->nameless = metrics_add(METRIC_COUNTER, "stream_devices_unnamed_total", "", "Events that do not say which device they come from (--device)");
}

int host_devices_open(source_host_t *host, const device_options_t *options, err_t *err) {
    stage_t *stage = host->stage;
    if (!stage->follows)
        return 0;
    char *topic = mem_format("%s.devices", stage->name);
    char *path = stage->settings.metrics ? mem_format("%s.devices", stage->settings.metrics) : NULL;
    devices_setup_t setup = {.limit = (uint32_t) options->limit, .floor = options->floor, .patience = options->patience, .late = options->late,
                             .offline = options->offline, .path = path};
    devices_t *table = NULL;
    int result = strlen(topic) > FRAME_TOPIC_MAX ? err_set(err, "--name %s is too long for a stream %s", stage->name, topic) : devices_new(&table, &setup, err);
    mem_free(path);
    if (result) {
        mem_free(topic);
        return -1;
    }
    host_devices_t *self = host->devices = mem_zero(sizeof *self);
    self->host = host;
    self->table = table;
    self->topic = topic;
    self->fields = mem_text(options->fields);
    for (char *rest = self->fields, *name; (name = strsep(&rest, ","));)
        self->names[self->count++] = name;
    self->look = options->floor / 4 < LOOK_LEAST ? LOOK_LEAST : options->floor / 4 > LOOK_MOST ? LOOK_MOST : options->floor / 4;
    add_metrics(self);
    return 0;
}

static void on_look(void *argument) {
    host_devices_t *self = argument;
    stage_t *stage = self->host->stage;
    if (stage->finishing)
        return;
    stage_flush(stage); /* what came before */
    devices_look(self->table, clock_now());
    stage_flush(stage);
    publish(self);
}

void host_devices_begin(source_host_t *host) {
    host_devices_t *self = host->devices;
    if (!self)
        return;
    host_devices_listen(host);
    loop_timer(host->stage->loop, self->look, self->look, on_look, self);
    stage_keep(host->stage);
    publish(self);
}

void host_devices_free(source_host_t *host) {
    host_devices_t *self = host->devices;
    if (!self)
        return;
    host->stage->follows = false;
    devices_free(self->table);
    mem_free(self->fields);
    mem_free(self->topic);
    mem_free(self);
    host->devices = NULL;
}

void host_devices_listen(source_host_t *host) {
    if (host->devices)
        devices_listen(host->devices->table, host->healthy && !host->paused, clock_now());
}

bool host_devices_own(const source_host_t *host, const char *topic) {
    return host->devices && strcmp(topic, host->devices->topic) == 0;
}

bool source_has_devices(const source_host_t *host) {
    return host->devices;
}

void source_presence(source_host_t *host, text_t device, bool online, bool kept) {
    if (!host->devices || !device.size || device.size > DEVICE_NAME_MAX)
        return;
    stage_flush(host->stage); /* what came before it */
    devices_told(host->devices->table, device, online, kept, host_clock(host));
    host->moved = true;
}

void source_kept(source_host_t *host, bool kept) {
    if (!host->devices || kept == host->keeping)
        return;
    stage_flush(host->stage); /* a frame has one kind */
    host->keeping = kept;
}

/* Identity. */

/* A field by its name, or by its path when there is none of that name. */
static bool find_field(const uint8_t *record, size_t size, const char *name, value_t *value) {
    if (pack_map_get(record, size, text_of(name), value))
        return true;
    const char *dot = strchr(name, '.');
    return dot && pack_map_get(record, size, text_make(name, (size_t) (dot - name)), value) && value->type == VALUE_MAP &&
           find_field(value->packed, value->size, dot + 1, value);
}

static bool put_part(char *name, size_t *size, value_t value) {
    char number[32];
    text_t part = text_make(value.text, value.size);
    if (value.type == VALUE_INT)
        part = text_make(number, (size_t) snprintf(number, sizeof number, "%lld", (long long) value.integer));
    else if (value.type != VALUE_STRING || memchr(value.text, 0, value.size))
        return false;
    if (!part.size || *size + (*size > 0) + part.size > DEVICE_NAME_MAX)
        return false;
    if (*size)
        name[(*size)++] = '/';
    memcpy(name + *size, part.data, part.size);
    *size += part.size;
    return true;
}

static bool identify(const host_devices_t *self, const event_t *event, char *name, size_t *size) {
    value_t value;
    *size = 0;
    for (size_t i = 0; i < self->count; i++)
        if (!find_field(event->record, event->record_size, self->names[i], &value) || !put_part(name, size, value))
            return false;
    return true;
}

/* Events from the log: what was told. */

static int word_of(const uint8_t *record, size_t size, const char *field, const char *const *words, int count) {
    value_t value;
    if (!pack_map_get(record, size, text_of(field), &value) || value.type != VALUE_STRING)
        return -1;
    for (int i = 0; i < count; i++)
        if (text_is(text_make(value.text, value.size), words[i]))
            return i;
    return -1;
}

static int64_t time_of(const uint8_t *record, size_t size, const char *field) {
    value_t value;
    return pack_map_get(record, size, text_of(field), &value) && value.type == VALUE_TIME ? value.time : 0;
}

static void apply(host_devices_t *self, const event_t *event) {
    const uint8_t *record = event->record;
    size_t size = event->record_size;
    int change = word_of(record, size, "state", device_change_names, 4), reason = word_of(record, size, "reason", device_reason_names, 4);
    value_t name;
    if (change < 0 || reason < 0 || !pack_map_get(record, size, text_of("device"), &name) || name.type != VALUE_STRING || !name.size ||
        name.size > DEVICE_NAME_MAX)
        return;
    device_event_t told = {.change = (device_change_t) change, .reason = (device_reason_t) reason, .since = time_of(record, size, "since"),
                           .last = time_of(record, size, "last_seen")};
    memcpy(told.name, name.text, name.size);
    devices_apply(self->table, &told);
}

void host_devices_emitted(stage_t *stage, const frame_t *frame, bool again) {
    source_host_t *host = &((ingest_t *) stage->own)->host;
    host_devices_t *self = host->devices;
    bool own = strcmp(frame->topic, self->topic) == 0;
    frame_walk_t walk = {0};
    event_t event;
    char name[DEVICE_NAME_MAX];
    size_t size;
    if ((own && !again) || host->keeping)
        return;
    devices_replay(self->table, again);
    while (frame_next(frame, &walk, &event) > 0) {
        if (own)
            apply(self, &event);
        else if (identify(self, &event, name, &size))
            devices_seen(self->table, text_make(name, size), frame->ingest_time);
        else
            self->unnamed++;
    }
    devices_replay(self->table, false);
}

static void put_time(buf_t *out, const char *name, int64_t time) {
    pack_text(out, name);
    if (time)
        pack_time(out, time);
    else
        pack_nil(out);
}

const char *host_devices_follow(stage_t *stage) {
    source_host_t *host = &((ingest_t *) stage->own)->host;
    host_devices_t *self = host->devices;
    device_event_t event;
    if (!devices_next(self->table, &event))
        return NULL;
    frame_builder_t *builder = stage_builder(stage, self->topic);
    builder_begin(builder);
    buf_t *out = &builder->body;
    pack_map(out, 6);
    pack_text(out, "device");
    pack_text(out, event.name);
    pack_text(out, "state");
    pack_text(out, device_change_names[event.change]);
    put_time(out, "since", event.since);
    put_time(out, "last_seen", event.last);
    pack_text(out, "interval");
    if (event.interval)
        pack_double(out, round((double) event.interval / NS_PER_MS) / 1000);
    else
        pack_nil(out);
    pack_text(out, "reason");
    pack_text(out, device_reason_names[event.reason]);
    builder_commit(builder, event.since, event.since);
    stage->ledger.created++;
    stage->ledger.out++;
    return self->topic;
}

void host_devices_keep(stage_t *stage, buf_t *out) {
    devices_pack(((ingest_t *) stage->own)->host.devices->table, out);
}

int host_devices_kept(stage_t *stage, text_t state, err_t *err) {
    return devices_unpack(((ingest_t *) stage->own)->host.devices->table, state, err);
}
