/* Alarms by key, and a binary heap over those for which something is due. See alarm.h. */
#include "alarm.h"

#define FORGOTTEN_MOST 1024   /* and more than are remembered: then the table is made anew */
#define ELEMENTS 8            /* that an alarm is saved as */

struct alarms {
    groups_t *groups;
    uint32_t forgotten;       /* groups of the table that nobody remembers */
    uint64_t born;
    uint32_t *heap;           /* numbers of groups; the first is due first */
    uint32_t heap_count, heap_room;
};

alarms_t *alarms_new(void) {
    alarms_t *alarms = mem_zero(sizeof *alarms);
    alarms->groups = groups_new(sizeof(alarm_t));
    return alarms;
}

void alarms_free(alarms_t *alarms) {
    if (!alarms)
        return;
    groups_free(alarms->groups);
    mem_free(alarms->heap);
    mem_free(alarms);
}

uint32_t alarms_count(const alarms_t *alarms) {
    return groups_count(alarms->groups) - alarms->forgotten;
}

size_t alarms_memory(const alarms_t *alarms) {
    return groups_memory(alarms->groups) + alarms->heap_room * sizeof *alarms->heap;
}

static alarm_t *alarm_of(group_t *group) {
    return (alarm_t *) (void *) group->state;
}

static alarm_t *alarm_at(const alarms_t *alarms, uint32_t number) {
    return alarm_of(groups_at(alarms->groups, number));
}

/* The heap. */

static bool before(const alarm_t *a, const alarm_t *b) {
    return a->due != b->due ? a->due < b->due : a->born < b->born;
}

static void put(alarms_t *alarms, uint32_t place, uint32_t number) {
    alarms->heap[place - 1] = number;
    alarm_at(alarms, number)->place = place;
}

static void rise(alarms_t *alarms, uint32_t place, uint32_t number) {
    const alarm_t *alarm = alarm_at(alarms, number);
    for (; place > 1 && before(alarm, alarm_at(alarms, alarms->heap[place / 2 - 1])); place /= 2)
        put(alarms, place, alarms->heap[place / 2 - 1]);
    put(alarms, place, number);
}

static void sink(alarms_t *alarms, uint32_t place, uint32_t number) {
    const alarm_t *alarm = alarm_at(alarms, number);
    for (uint32_t child; (child = 2 * place) <= alarms->heap_count; place = child) {
        if (child < alarms->heap_count && before(alarm_at(alarms, alarms->heap[child]), alarm_at(alarms, alarms->heap[child - 1])))
            child++;
        if (!before(alarm_at(alarms, alarms->heap[child - 1]), alarm))
            break;
        put(alarms, place, alarms->heap[child - 1]);
    }
    put(alarms, place, number);
}

static void take_out(alarms_t *alarms, alarm_t *alarm) {
    uint32_t place = alarm->place, last = alarms->heap[alarms->heap_count - 1];
    alarm->place = 0;
    alarms->heap_count--;
    if (alarm == alarm_at(alarms, last))
        return;
    sink(alarms, place, last);
    rise(alarms, alarm_at(alarms, last)->place, last);
}

void alarms_set_due(alarms_t *alarms, alarm_t *alarm, int64_t due) {
    if (alarm->place && alarm->due == due)
        return;
    if (alarm->place)
        take_out(alarms, alarm);
    alarm->due = due;
    if (due == INT64_MAX)
        return;
    if (alarms->heap_count == alarms->heap_room) {
        alarms->heap_room = alarms->heap_room ? 2 * alarms->heap_room : 64;
        alarms->heap = mem_resize(alarms->heap, alarms->heap_room * sizeof *alarms->heap);
    }
    rise(alarms, ++alarms->heap_count, alarm->number);
}

alarm_t *alarms_first(const alarms_t *alarms) {
    return alarms->heap_count ? alarm_at(alarms, alarms->heap[0]) : NULL;
}

/* The table. */

static group_t *add_group(groups_t *groups, const void *key, size_t size) {
    uint64_t hash = groups_hash(key, size);
    group_t *group = groups_add(groups, key, size, hash);
    alarm_of(group)->number = groups_count(groups) - 1;
    return group;
}

/* A table with those alone that are remembered. */
static void renew(alarms_t *alarms) {
    groups_t *old = alarms->groups;
    alarms->groups = groups_new(sizeof(alarm_t));
    alarms->forgotten = 0;
    for (uint32_t i = 0; i < groups_count(old); i++) {
        group_t *group = groups_at(old, i);
        const alarm_t *alarm = alarm_of(group);
        if (!alarm->born)
            continue;
        alarm_t *copy = alarm_of(add_group(alarms->groups, group_key(group), group->key_size));
        uint32_t number = copy->number;
        *copy = *alarm;
        copy->number = number;
        if (copy->place)
            alarms->heap[copy->place - 1] = number;
    }
    groups_free(old);
}

alarm_t *alarms_find(alarms_t *alarms, const buf_t *key) {
    group_t *group = groups_find(alarms->groups, key->data, key->size, groups_hash(key->data, key->size));
    return group && alarm_of(group)->born ? alarm_of(group) : NULL;
}

alarm_t *alarms_get(alarms_t *alarms, const buf_t *key) {
    group_t *group = groups_find(alarms->groups, key->data, key->size, groups_hash(key->data, key->size));
    if (group && alarm_of(group)->born)
        return alarm_of(group);
    if (group) {
        alarms->forgotten--;
    } else {
        if (alarms->forgotten >= FORGOTTEN_MOST && alarms->forgotten > alarms_count(alarms))
            renew(alarms);
        group = add_group(alarms->groups, key->data, key->size);
    }
    alarm_of(group)->born = ++alarms->born;
    return alarm_of(group);
}

text_t alarms_key(const alarms_t *alarms, const alarm_t *alarm) {
    group_t *group = groups_at(alarms->groups, alarm->number);
    return text_make((const char *) group_key(group), group->key_size);
}

void alarms_forget(alarms_t *alarms, alarm_t *alarm) {
    if (alarm->place)
        take_out(alarms, alarm);
    *alarm = (alarm_t){.number = alarm->number};
    alarms->forgotten++;
}

/* State. */

void alarms_save(const alarms_t *alarms, buf_t *out, void (*saved)(void *argument, buf_t *out), void *argument) {
    pack_array(out, 1 + ELEMENTS * alarms_count(alarms));
    pack_uint(out, alarms->born);
    for (uint32_t i = 0; i < groups_count(alarms->groups); i++) {
        group_t *group = groups_at(alarms->groups, i);
        const alarm_t *alarm = alarm_of(group);
        if (!alarm->born)
            continue;
        pack_binary(out, group_key(group), group->key_size);
        pack_uint(out, alarm->phase);
        pack_int(out, alarm->since);
        pack_int(out, alarm->heard);
        pack_int(out, alarm->over);
        pack_int(out, alarm->noticed);
        pack_uint(out, alarm->repeats);
        pack_uint(out, alarm->born);
        saved(argument, out);
    }
}

static bool load_one(alarms_t *alarms, pack_cursor_t *cursor, buf_t *key, alarm_t **loaded) {
    text_t bytes;
    uint64_t phase, repeats, born;
    alarm_t read = {0};
    if (!pack_read_binary(cursor, &bytes) || !pack_read_uint(cursor, &phase) || !pack_read_int(cursor, &read.since) ||
        !pack_read_int(cursor, &read.heard) || !pack_read_int(cursor, &read.over) || !pack_read_int(cursor, &read.noticed) ||
        !pack_read_uint(cursor, &repeats) || !pack_read_uint(cursor, &born))
        return false;
    if (phase > ALARM_CLEARING || repeats > UINT32_MAX || !born || born > alarms->born || read.since < 0 || read.heard < 0 || read.over < 0 ||
        read.noticed < 0)
        return false;
    buf_clear(key);
    buf_put(key, bytes.data, bytes.size);
    key_end(key);
    if (alarms_find(alarms, key))
        return false; /* a key twice */
    alarm_t *alarm = *loaded = alarm_of(add_group(alarms->groups, key->data, key->size));
    read.number = alarm->number;
    *alarm = read;
    alarm->phase = (uint32_t) phase;
    alarm->repeats = (uint32_t) repeats;
    alarm->born = born;
    return true;
}

int alarms_load(alarms_t *alarms, pack_cursor_t *cursor, void (*loaded)(void *argument, alarm_t *alarm), void *argument, err_t *err) {
    uint32_t elements;
    buf_t key = {0};
    int rc = -1;
    if (!pack_read_array(cursor, &elements) || elements % ELEMENTS != 1 || !pack_read_uint(cursor, &alarms->born))
        goto out;
    for (uint32_t i = 0; i < elements / ELEMENTS; i++) {
        alarm_t *alarm;
        if (!load_one(alarms, cursor, &key, &alarm))
            goto out;
        loaded(argument, alarm);
    }
    rc = 0;
out:
    buf_fini(&key);
    return rc ? err_set(err, "the alert's state is damaged") : 0;
}
