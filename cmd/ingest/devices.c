/* The table of devices: the cadence of each, its state, and the changes that are to be told. Devices stand in a list by their last sign of
 * life, the longest silent first, which is also the order in which they make room. */
#include "devices.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/memory.h"
#include "data/pack.h"

#define GAPS_NEEDED 3
#define RELEASE 8.0                    /* intervals until about two thirds of a difference are forgotten */
#define RATE_WINDOW 60.0               /* seconds: device_file.c */

const char *const device_change_names[4] = {"online", "late", "offline", "back"};

typedef enum word { WORD_NONE, WORD_ONLINE, WORD_OFFLINE } word_t;

typedef struct device {
    device_view_t view;                /* its interval is shown from the third gap on */
    uint32_t place;
    int64_t beat;                      /* of its last beat's first message; 0: none yet */
    double interval;                   /* ns, learned; 0: nothing yet */
    uint32_t gaps;
    word_t word, said;                 /* what counts of its presence now; the last that was said at all */
    struct device *before, *after;     /* by the last sign of life */
} device_t;

struct devices {
    devices_setup_t setup;
    map_t *by_name;
    device_t *first, *last;
    uint32_t used;                     /* places ever given */
    uint32_t counts[3];                /* by state */
    device_file_t *file;
    device_event_t *queue;             /* from queue_first on */
    size_t queue_first, queue_count, queue_room;
    uint64_t forgotten;
    bool replaying, deaf;
    int64_t listening;                 /* since; 0: from the first on */
};

int devices_new(devices_t **devices, const devices_setup_t *setup, err_t *err) {
    device_file_t *file;
    if (device_file_open(&file, setup->path, setup->limit, err))
        return -1;
    devices_t *self = mem_zero(sizeof *self);
    self->setup = *setup;
    self->setup.path = NULL;
    self->by_name = map_new();
    self->file = file;
    *devices = self;
    return 0;
}

static void forget_all(devices_t *self) {
    static const device_view_t nobody;
    for (device_t *device = self->first, *next; device; device = next) {
        next = device->after;
        device_file_set(self->file, device->place, &nobody);
        mem_free(device);
    }
    map_free(self->by_name);
    self->by_name = NULL;
    self->first = self->last = NULL;
    self->used = 0;
    memset(self->counts, 0, sizeof self->counts);
}

void devices_free(devices_t *self) {
    if (!self)
        return;
    for (device_t *device = self->first, *next; device; device = next) { /* what streamctl sees stays as it is */
        next = device->after;
        mem_free(device);
    }
    map_free(self->by_name);
    device_file_close(self->file);
    mem_free(self->queue);
    mem_free(self);
}

/* The list. */

static void unlink_device(devices_t *self, device_t *device) {
    *(device->before ? &device->before->after : &self->first) = device->after;
    *(device->after ? &device->after->before : &self->last) = device->before;
    device->before = device->after = NULL;
}

static void link_last(devices_t *self, device_t *device) {
    device->before = self->last;
    *(self->last ? &self->last->after : &self->first) = device;
    self->last = device;
}

static void move_last(devices_t *self, device_t *device) {
    if (self->last != device) {
        unlink_device(self, device);
        link_last(self, device);
    }
}

static void show(devices_t *self, device_t *device) {
    device->view.interval = device->gaps >= GAPS_NEEDED ? (int64_t) device->interval : 0;
    device_file_set(self->file, device->place, &device->view);
}

/* The one that has been silent longest makes room. */
static uint32_t make_room(devices_t *self) {
    static log_limit_t limit;
    device_t *device = self->first;
    uint32_t place = device->place;
    self->forgotten++;
    device_file_forgotten(self->file, self->forgotten);
    if (!self->replaying && log_limited(&limit))
        log_warning("there are more than %u devices (--device-limit): %s, silent for the longest time, and %llu before it were forgotten", self->setup.limit,
                    device->view.name, (unsigned long long) self->forgotten - 1);
    unlink_device(self, device);
    map_remove(self->by_name, text_of(device->view.name));
    self->counts[device->view.state]--;
    mem_free(device);
    return place;
}

static device_t *find(const devices_t *self, text_t name) {
    return map_get(self->by_name, name);
}

static device_t *add(devices_t *self, text_t name, int64_t now) {
    uint32_t place = self->used < self->setup.limit ? self->used++ : make_room(self);
    device_t *device = mem_zero(sizeof *device);
    ASSERT(name.size && name.size <= DEVICE_NAME_MAX);
    memcpy(device->view.name, name.data, name.size);
    device->view.first = device->view.since = now;
    device->place = place;
    self->counts[DEVICE_ONLINE]++;
    map_put(self->by_name, text_of(device->view.name), device);
    link_last(self, device);
    return device;
}

/* Changes. */

static void set_state(devices_t *self, device_t *device, device_state_t state, device_reason_t reason, int64_t now) {
    self->counts[device->view.state]--;
    self->counts[state]++;
    device->view.state = state;
    device->view.reason = reason;
    device->view.since = now;
}

static void tell(devices_t *self, const device_t *device, device_change_t change) {
    if (self->queue_first + self->queue_count == self->queue_room) {
        if (self->queue_first)
            memmove(self->queue, self->queue + self->queue_first, self->queue_count * sizeof *self->queue);
        self->queue_first = 0;
        if (self->queue_count * 2 >= self->queue_room) {
            self->queue_room = self->queue_room ? 2 * self->queue_room : 16;
            self->queue = mem_resize(self->queue, self->queue_room * sizeof *self->queue);
        }
    }
    device_event_t *event = &self->queue[self->queue_first + self->queue_count++];
    *event = (device_event_t){.change = change, .reason = device->view.reason, .since = device->view.since, .last = device->view.last,
                              .interval = device->gaps >= GAPS_NEEDED ? (int64_t) device->interval : 0};
    memcpy(event->name, device->view.name, sizeof event->name);
}

bool devices_next(devices_t *self, device_event_t *event) {
    if (!self->queue_count)
        return false;
    *event = self->queue[self->queue_first++];
    if (!--self->queue_count)
        self->queue_first = 0;
    return true;
}

/* The cadence. */

static double measure(const devices_t *self, const device_t *device) {
    return device->interval > (double) self->setup.floor ? device->interval : (double) self->setup.floor;
}

static void learn(devices_t *self, device_t *device, int64_t now) {
    double gap = (double) (now - device->beat);
    if (device->beat && gap < (double) self->setup.floor)
        return;                        /* the same beat; a clock that was set back, too */
    bool counts = device->beat && device->beat >= self->listening && device->word != WORD_OFFLINE;
    device->beat = now;
    if (!counts)
        return;
    if (device->view.state == DEVICE_OFFLINE && gap > self->setup.offline * measure(self, device))
        gap = self->setup.offline * measure(self, device);
    if (gap >= device->interval)
        device->interval = gap;
    else
        device->interval = gap + (device->interval - gap) * exp(-gap / (RELEASE * device->interval));
    device->gaps += device->gaps < GAPS_NEEDED;
}

static void count(device_t *device, int64_t now) {
    double silence = device->view.messages ? (double) (now - device->view.last) / NS_PER_S : 0;
    device->view.rate = device->view.rate * exp(-(silence > 0 ? silence : 0) / RATE_WINDOW) + 1 / RATE_WINDOW;
    device->view.messages++;
}

void devices_seen(devices_t *self, text_t name, int64_t arrived) {
    device_t *device = find(self, name);
    bool is_new = !device, was_away = device && device->view.state != DEVICE_ONLINE;
    if (is_new)
        device = add(self, name, arrived);
    else
        move_last(self, device);
    learn(self, device, arrived);
    count(device, arrived);
    device->view.last = arrived;
    if (was_away && !self->replaying) {
        set_state(self, device, DEVICE_ONLINE, DEVICE_MESSAGE, arrived);
        device->word = WORD_NONE;
        tell(self, device, CHANGE_BACK);
    } else if (is_new) {
        device->view.reason = DEVICE_FIRST_MESSAGE;
        if (!self->replaying)
            tell(self, device, CHANGE_ONLINE);
    }
    show(self, device);
}

void devices_told(devices_t *self, text_t name, bool online, bool kept, int64_t now) {
    device_t *device = find(self, name);
    word_t word = online ? WORD_ONLINE : WORD_OFFLINE;
    bool is_new = !device;
    if (device && kept && device->said == word)
        return;
    if (is_new)
        device = add(self, name, now);
    device->word = device->said = word;
    device_state_t state = device->view.state;
    if (online && !kept) {
        device->view.last = now;
        move_last(self, device);
    }
    if (!online && state != DEVICE_OFFLINE) {
        set_state(self, device, DEVICE_OFFLINE, DEVICE_PRESENCE, now);
        tell(self, device, CHANGE_OFFLINE);
    } else if (online && (is_new || state == DEVICE_OFFLINE || (state == DEVICE_LATE && !kept))) {
        set_state(self, device, DEVICE_ONLINE, DEVICE_PRESENCE, now);
        tell(self, device, is_new ? CHANGE_ONLINE : CHANGE_BACK);
    }
    show(self, device);
}

/* Silence. */

static void look_at(devices_t *self, device_t *device, int64_t now) {
    int64_t from = device->view.last > self->listening ? device->view.last : self->listening;
    double silence = (double) (now - from), interval = measure(self, device);
    bool known = device->gaps >= GAPS_NEEDED;
    bool gone = silence > (known ? self->setup.offline * interval : (double) self->setup.patience);
    if (gone && device->word != WORD_ONLINE) {
        set_state(self, device, DEVICE_OFFLINE, DEVICE_SILENCE, now);
        tell(self, device, CHANGE_OFFLINE);
    } else if (known && device->view.state == DEVICE_ONLINE && silence > self->setup.late * interval) {
        set_state(self, device, DEVICE_LATE, DEVICE_SILENCE, now);
        tell(self, device, CHANGE_LATE);
    } else {
        return;
    }
    show(self, device);
}

void devices_look(devices_t *self, int64_t now) {
    if (self->deaf)
        return;
    for (device_t *device = self->first; device; device = device->after)
        if (device->view.state != DEVICE_OFFLINE)
            look_at(self, device, now);
}

void devices_listen(devices_t *self, bool listening, int64_t now) {
    if (listening && (self->deaf || !self->listening))
        self->listening = now;
    self->deaf = !listening;
}

uint32_t devices_count(const devices_t *self, device_state_t state) {
    return self->counts[state];
}

uint64_t devices_forgotten(const devices_t *self) {
    return self->forgotten;
}

/* Over a restart. */

void devices_replay(devices_t *self, bool replaying) {
    self->replaying = replaying;
}

void devices_apply(devices_t *self, const device_event_t *event) {
    static const device_state_t states[] = {DEVICE_ONLINE, DEVICE_LATE, DEVICE_OFFLINE, DEVICE_ONLINE};
    device_t *device = find(self, text_of(event->name));
    if (!device)
        device = add(self, text_of(event->name), event->since);
    set_state(self, device, states[event->change], event->reason, event->since);
    if (event->reason == DEVICE_PRESENCE)
        device->word = device->said = event->change == CHANGE_OFFLINE ? WORD_OFFLINE : WORD_ONLINE;
    else if (event->change == CHANGE_BACK)
        device->word = WORD_NONE;
    if (event->last > device->view.last)
        device->view.last = event->last;
    show(self, device);
}

#define DEVICE_FIELDS 14

void devices_pack(const devices_t *self, buf_t *out) {
    pack_array(out, 2);
    pack_uint(out, self->forgotten);
    pack_array(out, (uint32_t) map_count(self->by_name));
    for (const device_t *device = self->first; device; device = device->after) {
        const device_view_t *view = &device->view;
        pack_array(out, DEVICE_FIELDS);
        pack_text(out, view->name);
        const int64_t numbers[] = {view->first, view->last, view->since, (int64_t) view->messages, view->state, view->reason, device->beat,
                                   (int64_t) device->interval, device->gaps, device->word, device->said};
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            pack_int(out, numbers[i]);
        pack_double(out, view->rate);
        pack_nil(out);                 /* for what may come */
    }
}

static bool unpack_device(devices_t *self, pack_cursor_t *cursor) {
    uint32_t fields;
    text_t name;
    int64_t n[11];
    value_t rate;
    if (!pack_read_array(cursor, &fields) || fields != DEVICE_FIELDS || !pack_read_string(cursor, &name) || !name.size || name.size > DEVICE_NAME_MAX)
        return false;
    for (int i = 0; i < 11; i++)
        if (!pack_read_int(cursor, &n[i]))
            return false;
    if (!pack_read_value(cursor, &rate) || rate.type != VALUE_DOUBLE || !pack_skip(cursor) || n[4] < 0 || n[4] > DEVICE_OFFLINE || n[5] < 0 ||
        n[5] > DEVICE_PRESENCE || n[9] < 0 || n[9] > WORD_OFFLINE || n[10] < 0 || n[10] > WORD_OFFLINE || find(self, name))
        return false;
    device_t *device = add(self, name, n[0]);
    set_state(self, device, (device_state_t) n[4], (device_reason_t) n[5], n[2]);
    device->view.last = n[1];
    device->view.messages = (uint64_t) n[3];
    device->view.rate = rate.number;
    device->beat = n[6];
    device->interval = (double) n[7];
    device->gaps = (uint32_t) n[8];
    device->word = (word_t) n[9];
    device->said = (word_t) n[10];
    show(self, device);
    return true;
}

int devices_unpack(devices_t *self, text_t packed, err_t *err) {
    pack_cursor_t cursor = pack_cursor(packed.data, packed.size);
    uint32_t parts, count_of;
    uint64_t forgotten;
    forget_all(self);
    self->by_name = map_new();
    if (!pack_read_array(&cursor, &parts) || parts != 2 || !pack_read_uint(&cursor, &forgotten) || !pack_read_array(&cursor, &count_of))
        return err_set(err, "the stored table of devices cannot be read");
    self->forgotten = forgotten;
    while (count_of--)
        if (!unpack_device(self, &cursor))
            return err_set(err, "the stored table of devices is damaged");
    device_file_forgotten(self->file, self->forgotten);
    return 0;
}
