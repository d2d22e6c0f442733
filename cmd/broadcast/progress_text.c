/* The contents of the file of progress, packed and unpacked. */
#include "progress_text.h"

#include <string.h>

#include "base/memory.h"
#include "data/pack.h"

#define LEDGER 8
#define RUNS_MAX 100000

static void put_reached(buf_t *out, reached_t reached) {
    pack_uint(out, reached.epoch);
    pack_uint(out, reached.number);
}

static void put_run(buf_t *out, const odd_run_t *run) {
    pack_array(out, 4);
    pack_uint(out, run->first);
    pack_uint(out, run->last);
    pack_uint(out, run->outcome);
    pack_uint(out, run->dead);
}

/* Frames not done yet of which a sink has refused or dropped something; and those of before the restart that have not come again. */
static void put_odd(buf_t *out, const origin_t *origin, buf_t *space) {
    uint32_t count = 0;
    odd_run_t run = {0};
    uint64_t came = origin->last ? origin->last->last.number : origin->done.number;
    buf_clear(space);
    for (size_t i = 0; i < origin->run_count; i++) {
        odd_run_t rest = origin->runs[i];
        rest.first = rest.first > came ? rest.first : came + 1;
        if (rest.first > rest.last)
            continue;
        put_run(space, &rest);
        count++;
    }
    uint32_t recalled = count;
    for (const delivery_t *d = origin->odd ? origin->first : NULL; d && count < RUNS_MAX; d = d->next) {
        if (!d->odd)
            continue;
        if (count > recalled && run.last + 1 == d->first && run.outcome == d->outcome && run.dead == d->dead) {
            run.last = d->last.number;
            continue;
        }
        if (count++ > recalled)
            put_run(space, &run);
        run = (odd_run_t){d->first, d->last.number, d->dead, d->outcome};
    }
    if (count > recalled)
        put_run(space, &run);
    pack_array(out, count);
    buf_put(out, space->data, space->size);
}

static void put_origin(buf_t *out, const progress_text_t *text, const origin_t *origin, buf_t *space) {
    pack_array(out, 9);
    pack_text(out, origin->key);
    pack_text(out, origin->name);
    put_reached(out, origin->done);
    pack_bool(out, origin->ended || stage_input_replaced(text->stage, origin->input, origin->name));
    put_reached(out, origin->published);
    pack_array(out, (uint32_t) text->sink_count);
    for (size_t i = 0; i < text->sink_count; i++) {
        pack_array(out, 2);
        put_reached(out, origin->sinks[i]);
    }
    put_odd(out, origin, space);
}

void progress_text_put(const progress_text_t *text, buf_t *out) {
    const stage_t *stage = text->stage;
    const struct stage_ledger *ledger = &stage->ledger;
    const deliveries_t *deliveries = text->deliveries;
    buf_t space = {0};
    pack_map(out, 7);
    pack_text(out, "v");
    pack_uint(out, 1);
    pack_text(out, "boot");
    pack_text(out, text->boot);
    pack_text(out, "over");
    pack_bool(out, text->over);
    pack_text(out, "dead");
    pack_uint(out, stage_dead_offset(stage));
    pack_text(out, "ledger");
    /* What is held comes in again after a restart. */
    const uint64_t counts[LEDGER] = {ledger->in - ledger->held, ledger->out, ledger->filtered, ledger->late, ledger->dead, ledger->dropped,
                                     ledger->created, stage->errors};
    pack_array(out, LEDGER);
    for (unsigned i = 0; i < LEDGER; i++)
        pack_uint(out, counts[i]);
    pack_text(out, "sinks");
    pack_array(out, (uint32_t) text->sink_count);
    for (size_t i = 0; i < text->sink_count; i++) {
        sink_t *sink = text->sinks[i];
        buf_clear(&space);
        if (sink->class->position && sink->queue)
            sink->class->position(sink, &space);
        else
            buf_put(&space, sink->restored.data, sink->restored.size);
        pack_array(out, 2);
        pack_text(out, sink->name);
        pack_binary(out, space.data, space.size);
    }
    uint32_t count = 0;
    for (unsigned i = 0; i < deliveries->count; i++)
        count += deliveries->origins[i]->name[0] != 0;
    pack_text(out, "origins");
    pack_array(out, count);
    for (unsigned i = 0; i < deliveries->count; i++)
        if (deliveries->origins[i]->name[0]) /* text has no numbers to go on from */
            put_origin(out, text, deliveries->origins[i], &space);
    buf_fini(&space);
}

/* Behind the key of the outermost map; false when it is not there. */
static bool find(text_t packed, const char *key, pack_cursor_t *cursor) {
    uint32_t count;
    text_t name;
    *cursor = pack_cursor(packed.data, packed.size);
    if (!pack_read_map(cursor, &count))
        return false;
    while (count--) {
        if (!pack_read_string(cursor, &name))
            return false;
        if (text_is(name, key))
            return true;
        if (!pack_skip(cursor))
            return false;
    }
    return false;
}

bool progress_text_is_of_boot(text_t packed, const char *boot) {
    pack_cursor_t cursor;
    text_t found;
    return find(packed, "boot", &cursor) && pack_read_string(&cursor, &found) && text_is(found, boot);
}

static bool read_ledger(pack_cursor_t *cursor, stage_t *stage) {
    uint64_t counts[LEDGER];
    uint32_t count;
    if (!pack_read_array(cursor, &count) || count != LEDGER)
        return false;
    for (unsigned i = 0; i < LEDGER; i++)
        if (!pack_read_uint(cursor, &counts[i]))
            return false;
    stage->ledger.in = counts[0];
    stage->ledger.out = counts[1];
    stage->ledger.filtered = counts[2];
    stage->ledger.late = counts[3];
    stage->ledger.dead = counts[4];
    stage->ledger.dropped = counts[5];
    stage->ledger.created = counts[6];
    stage->errors = counts[7];
    return true;
}

/* map[i]: which of our sinks the file's i-th is; sink_count: none. */
static bool read_sinks(pack_cursor_t *cursor, const progress_text_t *text, uint32_t **map, uint32_t *count) {
    uint32_t two;
    if (!pack_read_array(cursor, count))
        return false;
    *map = mem_zero((*count + 1) * sizeof **map); /* pack_read_array has held it to what remains */
    for (uint32_t i = 0; i < *count; i++) {
        text_t name, position;
        if (!pack_read_array(cursor, &two) || two != 2 || !pack_read_string(cursor, &name) || !pack_read_binary(cursor, &position))
            return false;
        size_t k = 0;
        while (k < text->sink_count && !text_is(name, text->sinks[k]->name))
            k++;
        (*map)[i] = (uint32_t) k;
        if (k < text->sink_count) {
            buf_clear(&text->sinks[k]->restored);
            buf_put(&text->sinks[k]->restored, position.data, position.size);
        }
    }
    return true;
}

static bool read_reached(pack_cursor_t *cursor, reached_t *reached) {
    return pack_read_uint(cursor, &reached->epoch) && pack_read_uint(cursor, &reached->number);
}

static bool read_runs(pack_cursor_t *cursor, origin_t *origin) {
    uint32_t count, four;
    uint64_t outcome, dead;
    if (!pack_read_array(cursor, &count))
        return false;
    mem_free(origin->runs);
    origin->runs = count ? mem_zero(count * sizeof *origin->runs) : NULL;
    origin->run_count = count;
    for (uint32_t i = 0; i < count; i++) {
        odd_run_t *run = &origin->runs[i];
        if (!pack_read_array(cursor, &four) || four != 4 || !pack_read_uint(cursor, &run->first) || !pack_read_uint(cursor, &run->last) ||
            !pack_read_uint(cursor, &outcome) || outcome > OUTCOME_DROPPED || !pack_read_uint(cursor, &dead) || dead > UINT32_MAX)
            return false;
        run->outcome = (uint8_t) outcome;
        run->dead = (uint32_t) dead;
    }
    return true;
}

static unsigned input_of(const stage_t *stage, const char *key) {
    size_t from = stage->settings.from.count ? stage->settings.from.count : 1, count = from + stage->settings.side.count;
    for (unsigned i = 0; i < count; i++)
        if (strcmp(stage_input_key(stage, i), key) == 0)
            return i;
    return ORIGIN_AWAY;
}

static bool read_origin(pack_cursor_t *cursor, const progress_text_t *text, const uint32_t *map, uint32_t map_size) {
    uint32_t nine, sinks, two;
    text_t key, name;
    value_t ended;
    reached_t done, published, reached;
    if (!pack_read_array(cursor, &nine) || nine != 9 || !pack_read_string(cursor, &key) || !pack_read_string(cursor, &name) ||
        name.size > FRAME_ORIGIN_MAX || !read_reached(cursor, &done) || !pack_read_value(cursor, &ended) || ended.type != VALUE_BOOL ||
        !read_reached(cursor, &published) || !pack_read_array(cursor, &sinks) || sinks != map_size)
        return false;
    char *own_key = mem_text_n(key.data, key.size), *own_name = mem_text_n(name.data, name.size);
    origin_t *origin = deliveries_origin(text->deliveries, input_of(text->stage, own_key), own_key, own_name);
    mem_free(own_key);
    mem_free(own_name);
    origin->done = done;
    origin->published = published;
    origin->ended = ended.boolean;
    for (size_t i = 0; i < text->sink_count; i++)
        origin->sinks[i] = done; /* a new sink begins there */
    for (uint32_t i = 0; i < sinks; i++) {
        if (!pack_read_array(cursor, &two) || two != 2 || !read_reached(cursor, &reached))
            return false;
        if (map[i] < text->sink_count)
            origin->sinks[map[i]] = reached;
    }
    return read_runs(cursor, origin);
}

int progress_text_read(progress_text_t *text, text_t packed, err_t *err) {
    pack_cursor_t cursor;
    value_t over;
    uint64_t version = 0, dead;
    uint32_t *map = NULL, sinks, origins;
    int result = -1;
    if (!find(packed, "v", &cursor) || !pack_read_uint(&cursor, &version) || version != 1) {
        err_set(err, "it was written by another version of this program (form %llu); --reset begins anew", (unsigned long long) version);
        goto out;
    }
    bool sound = find(packed, "ledger", &cursor) && read_ledger(&cursor, text->stage) && find(packed, "dead", &cursor) &&
                 pack_read_uint(&cursor, &dead) && find(packed, "sinks", &cursor) && read_sinks(&cursor, text, &map, &sinks) &&
                 find(packed, "origins", &cursor) && pack_read_array(&cursor, &origins);
    for (uint32_t i = 0; sound && i < origins; i++)
        sound = read_origin(&cursor, text, map, sinks);
    if (!sound) {
        err_set(err, "its contents are not what this program writes; --reset begins anew");
        goto out;
    }
    stage_dead_restore(text->stage, dead);
    text->over = !find(packed, "over", &cursor) || !pack_read_value(&cursor, &over) || over.type != VALUE_BOOL || over.boolean;
    result = 0;
out:
    mem_free(map);
    return result;
}
