/* State by key that is forgotten after silence. Time is cut into periods of the bound's length; there is a table for the keys that were heard in
 * this period and one for those of the period before. A key that is heard again moves over; what is still in the old table when a
 * period ends has been silent for longer than the bound. So forgetting costs nothing per event, and never waits for a walk
 * over everything: a table that is gone is taken apart a little with each event. */
#include "keyed.h"

#define TAKEN_APART 8         /* blocks of a table that is gone, per event */
#define GONE 1                /* mark of a group: moved or dropped */
#define HEADER sizeof(int64_t)

typedef struct generation {
    groups_t *groups;         /* a state begins with the time at which it was last heard */
    uint32_t alive;
    int64_t latest;           /* of these times */
} generation_t;

struct keyed {
    program_t *program;
    const keyed_class_t *class;
    void *context;
    node_t **nodes;
    text_t *names;
    unsigned count;
    bool given, bounded;      /* by, expire stood there */
    int64_t expire;
    generation_t young, old, gone;
    uint32_t taken;           /* so many of gone's groups are taken apart */
    bool started;
    int64_t period, boundary; /* the watermark at which the next one begins */
    bool is_new;
    size_t owned;             /* bytes that blocks own */
    void *last;               /* the block that was handed out last, and what it owned before */
    size_t last_owned;
    buf_t keys[BATCH];
    uint64_t hashes[BATCH];
};

keyed_t *keyed_new(program_t *program, const keyed_class_t *class, void *context) {
    keyed_t *keyed = mem_zero(sizeof *keyed);
    keyed->program = program;
    keyed->class = class;
    keyed->context = context;
    keyed->expire = KEYED_EXPIRE;
    keyed->young.groups = groups_new(HEADER + class->size);
    keyed->young.latest = INT64_MIN;
    return keyed;
}

static int64_t *heard_of(group_t *group) { return (int64_t *) (void *) group->state; }
static void *block_of(group_t *group) { return group->state + HEADER; }

/* Reading. */

void keyed_add(keyed_t *keyed, node_t *node, text_t name) {
    keyed->nodes = mem_resize(keyed->nodes, (keyed->count + 1) * sizeof *keyed->nodes);
    keyed->names = mem_resize(keyed->names, (keyed->count + 1) * sizeof *keyed->names);
    keyed->nodes[keyed->count] = node;
    keyed->names[keyed->count++] = name;
    program_has_keys(keyed->program, keyed->names, keyed->count);
}

static int parse_keys(keyed_t *keyed, parser_t *parser, const token_t *by) {
    if (keyed->given)
        return parser_error(parser, by, "by A, B", "by stands twice");
    keyed->given = true;
    do {
        text_t name;
        node_t *node = parse_named(parser, "a key", &name);
        if (!node)
            return -1;
        keyed_add(keyed, node, name);
    } while (parser_accept(parser, TOKEN_COMMA));
    return 0;
}

bool keyed_parse(keyed_t *keyed, parser_t *parser, int *status) {
    const token_t *token = parser_token(parser);
    if (parser_accept_word(parser, "by")) {
        *status = parse_keys(keyed, parser, token);
    } else if (parser_accept_word(parser, "expire")) {
        *status = keyed->bounded ? parser_error(parser, token, NULL, "expire stands twice")
                                 : parse_duration(parser, "a duration after expire", &keyed->expire);
        keyed->bounded = true;
    } else {
        return false;
    }
    return true;
}

int keyed_window_keys(keyed_t *keyed, parser_t *parser, const token_t *place) {
    unsigned count;
    const text_t *names = program_keys(keyed->program, &count);
    for (unsigned i = 0; !keyed->given && i < count; i++) {
        const binding_t *binding = scope_find(parser->scope, names[i]);
        if (!binding || binding->source == SOURCE_ABSENT)
            return parser_error(parser, place, "add by and the keys", "the window's key %.*s is gone here", (int) names[i].size, names[i].data);
        keyed_add(keyed, node_name(parser, names[i], place->at, place->size), names[i]);
    }
    return 0;
}

unsigned keyed_count(const keyed_t *keyed) { return keyed->count; }
node_t *const *keyed_nodes(const keyed_t *keyed) { return keyed->nodes; }
const text_t *keyed_names(const keyed_t *keyed) { return keyed->names; }
int64_t keyed_expire(const keyed_t *keyed) { return keyed->expire; }
void keyed_set_expire(keyed_t *keyed, int64_t expire) { keyed->expire = expire; }

/* What blocks own. */

static size_t owned_by(const keyed_t *keyed, const void *block) {
    return keyed->class->memory ? keyed->class->memory(block) : 0;
}

static void settle(keyed_t *keyed) {
    if (keyed->last)
        keyed->owned += owned_by(keyed, keyed->last) - keyed->last_owned;
    keyed->last = NULL;
}

static void *hand_out(keyed_t *keyed, void *block) {
    if (keyed->class->memory) {
        settle(keyed);
        keyed->last = block;
        keyed->last_owned = owned_by(keyed, block);
    }
    return block;
}

static void drop(keyed_t *keyed, void *block) {
    settle(keyed);
    keyed->owned -= owned_by(keyed, block);
    if (keyed->class->drop)
        keyed->class->drop(block);
    memset(block, 0, keyed->class->size);
}

/* Generations. */

static void take_apart(keyed_t *keyed, uint32_t most) {
    groups_t *groups = keyed->gone.groups;
    if (!groups)
        return;
    for (uint32_t count = groups_count(groups); most && keyed->taken < count; most--) {
        group_t *group = groups_at(groups, keyed->taken++);
        if (group->mark != GONE)
            drop(keyed, block_of(group));
    }
    if (keyed->taken < groups_count(groups))
        return;
    groups_free(groups);
    keyed->gone = (generation_t){0};
    keyed->taken = 0;
}

void keyed_free(keyed_t *keyed) {
    if (!keyed)
        return;
    generation_t *generations[] = {&keyed->gone, &keyed->old, &keyed->young};
    for (unsigned i = 0; i < 3; i++) {
        take_apart(keyed, UINT32_MAX);
        keyed->gone = *generations[i];
        *generations[i] = (generation_t){0};
        keyed->taken = 0;
    }
    take_apart(keyed, UINT32_MAX);
    for (unsigned i = 0; i < BATCH; i++)
        buf_fini(&keyed->keys[i]);
    mem_free(keyed->nodes);
    mem_free(keyed->names);
    mem_free(keyed);
}

static void note_heard(generation_t *generation, group_t *group, int64_t time) {
    if (time > *heard_of(group))
        *heard_of(group) = time;
    if (time > generation->latest)
        generation->latest = time;
}

/* From the old table to the young one, with everything. */
static group_t *move_over(keyed_t *keyed, group_t *old) {
    buf_t key = {0};
    buf_put(&key, group_key(old), old->key_size);
    key_end(&key);
    group_t *group = groups_add(keyed->young.groups, key.data, key.size, groups_hash(key.data, key.size));
    buf_fini(&key);
    memcpy(group->state, old->state, HEADER + keyed->class->size);
    if (keyed->last == block_of(old))
        keyed->last = block_of(group);
    note_heard(&keyed->young, group, *heard_of(group));
    old->mark = GONE;
    keyed->old.alive--;
    keyed->young.alive++;
    return group;
}

static bool silent(const keyed_t *keyed, int64_t heard, int64_t watermark) {
    int64_t bound;
    return watermark != FRAME_NO_WATERMARK && !__builtin_add_overflow(heard, keyed->expire, &bound) && watermark > bound;
}

static void begin_period(keyed_t *keyed, int64_t watermark) {
    take_apart(keyed, UINT32_MAX);
    generation_t ended = keyed->old;
    keyed->old = keyed->young;
    keyed->young = (generation_t){.groups = groups_new(HEADER + keyed->class->size), .latest = INT64_MIN};
    if (!ended.groups)
        return;
    /* Times ahead of the watermark may be among them: of a sender that is ahead of others. */
    if (ended.alive && !silent(keyed, ended.latest, watermark)) {
        generation_t previous = keyed->old;
        keyed->old = ended;
        for (uint32_t i = 0; i < groups_count(ended.groups); i++) {
            group_t *group = groups_at(ended.groups, i);
            if (group->mark != GONE && !silent(keyed, *heard_of(group), watermark))
                move_over(keyed, group);
        }
        keyed->old = previous;
    }
    keyed->gone = ended;
}

static void set_period(keyed_t *keyed, int64_t period) {
    keyed->started = true;
    keyed->period = period;
    if (period == INT64_MAX || __builtin_mul_overflow(period + 1, keyed->expire, &keyed->boundary))
        keyed->boundary = INT64_MAX;
}

static void advance(keyed_t *keyed, int64_t watermark) {
    int64_t period = watermark / keyed->expire - (watermark % keyed->expire < 0);
    if (keyed->started && period > keyed->period) {
        begin_period(keyed, watermark);
        if (period > keyed->period + 1)
            begin_period(keyed, watermark);
    }
    set_period(keyed, period);
}

/* Running. */

void keyed_prepare(keyed_t *keyed, row_t **rows, unsigned count) {
    ASSERT(count <= BATCH);
    for (unsigned i = 0; i < count; i++) {
        buf_t *key = &keyed->keys[i];
        buf_clear(key);
        for (unsigned j = 0; j < keyed->count; j++)
            key_put(key, evaluate(keyed->nodes[j], rows[i]));
        key_end(key);
        keyed->hashes[i] = groups_hash(key->data, key->size);
        groups_prefetch_slot(keyed->young.groups, keyed->hashes[i]);
    }
    for (unsigned i = 0; i < count; i++)
        groups_prefetch_group(keyed->young.groups, keyed->hashes[i]);
}

static group_t *find(keyed_t *keyed, unsigned index, const row_t *row) {
    const buf_t *key = &keyed->keys[index];
    uint64_t hash = keyed->hashes[index];
    if (row->watermark != FRAME_NO_WATERMARK && (!keyed->started || row->watermark >= keyed->boundary))
        advance(keyed, row->watermark);
    take_apart(keyed, TAKEN_APART);
    group_t *group = groups_find(keyed->young.groups, key->data, key->size, hash);
    if (!group && keyed->old.alive) {
        group = groups_find(keyed->old.groups, key->data, key->size, hash);
        group = group && group->mark != GONE ? move_over(keyed, group) : NULL;
    }
    if (!group || group->mark == GONE)
        return NULL;
    if (silent(keyed, *heard_of(group), row->watermark)) {
        drop(keyed, block_of(group));
        group->mark = GONE;
        keyed->young.alive--;
        return NULL;
    }
    return group;
}

static int64_t time_of(const row_t *row) {
    return row->event.time > row->watermark ? row->event.time : row->watermark;
}

void *keyed_find(keyed_t *keyed, unsigned index, const row_t *row) {
    group_t *group = find(keyed, index, row);
    keyed->is_new = false;
    if (!group)
        return NULL;
    note_heard(&keyed->young, group, time_of(row));
    return hand_out(keyed, block_of(group));
}

void *keyed_get(keyed_t *keyed, unsigned index, const row_t *row) {
    void *block = keyed_find(keyed, index, row);
    if (block)
        return block;
    const buf_t *key = &keyed->keys[index];
    group_t *group = groups_get(keyed->young.groups, key->data, key->size, keyed->hashes[index]); /* or one that was dropped */
    group->mark = 0;
    *heard_of(group) = INT64_MIN;
    note_heard(&keyed->young, group, time_of(row));
    keyed->young.alive++;
    keyed->is_new = true;
    return hand_out(keyed, block_of(group));
}

bool keyed_is_new(const keyed_t *keyed) { return keyed->is_new; }

static void each_of(keyed_t *keyed, generation_t *generation, int64_t watermark, keyed_visit_t *visit, void *argument) {
    for (uint32_t i = 0; generation->groups && i < groups_count(generation->groups); i++) {
        group_t *group = groups_at(generation->groups, i);
        if (group->mark == GONE || (watermark != INT64_MAX && silent(keyed, *heard_of(group), watermark)))
            continue;
        if (visit(argument, hand_out(keyed, block_of(group)), group_key(group), group->key_size) == KEYED_KEEP)
            continue;
        drop(keyed, block_of(group));
        group->mark = GONE;
        generation->alive--;
    }
}

void keyed_each(keyed_t *keyed, int64_t watermark, keyed_visit_t *visit, void *argument) {
    each_of(keyed, &keyed->old, watermark, visit, argument);
    each_of(keyed, &keyed->young, watermark, visit, argument);
}

/* Snapshots: [period or nil, [[key, heard, state...]...] of the old table, and of the young one]. A key of the young table that was dropped is
 * [key]: when it comes back it has its old place in the order. */

static void save_generation(const keyed_t *keyed, const generation_t *generation, bool dropped, buf_t *out) {
    uint32_t count = generation->groups ? groups_count(generation->groups) : 0;
    pack_array(out, dropped ? count : generation->alive);
    for (uint32_t i = 0; i < count; i++) {
        group_t *group = groups_at(generation->groups, i);
        bool gone = group->mark == GONE;
        if (gone && !dropped)
            continue;
        pack_array(out, gone ? 1 : 2 + keyed->class->elements);
        pack_binary(out, group_key(group), group->key_size);
        if (!gone) {
            pack_int(out, *heard_of(group));
            keyed->class->save(block_of(group), out);
        }
        program_saved(keyed->program, out);
    }
}

void keyed_save(const keyed_t *keyed, buf_t *out) {
    pack_array(out, 3);
    if (keyed->started)
        pack_int(out, keyed->period);
    else
        pack_nil(out);
    save_generation(keyed, &keyed->old, false, out);
    save_generation(keyed, &keyed->young, true, out);
}

static bool load_group(keyed_t *keyed, generation_t *generation, pack_cursor_t *cursor) {
    uint32_t elements;
    text_t bytes;
    int64_t heard;
    if (!pack_read_array(cursor, &elements) || (elements != 1 && elements != 2 + keyed->class->elements) || !pack_read_binary(cursor, &bytes))
        return false;
    buf_t *key = &keyed->keys[0];
    buf_clear(key);
    buf_put(key, bytes.data, bytes.size);
    key_end(key);
    uint64_t hash = groups_hash(key->data, key->size);
    if (groups_find(generation->groups, key->data, key->size, hash))
        return false; /* twice */
    group_t *group = groups_add(generation->groups, key->data, key->size, hash);
    group->mark = GONE;
    if (elements == 1)
        return generation == &keyed->young;
    if (!pack_read_int(cursor, &heard))
        return false;
    group->mark = 0;
    *heard_of(group) = INT64_MIN;
    note_heard(generation, group, heard);
    generation->alive++;
    bool loaded = keyed->class->load(keyed->context, block_of(group), cursor);
    keyed->owned += owned_by(keyed, block_of(group));
    return loaded;
}

static bool load_generation(keyed_t *keyed, generation_t *generation, pack_cursor_t *cursor) {
    uint32_t count;
    if (!pack_read_array(cursor, &count))
        return false;
    if (!generation->groups)
        *generation = (generation_t){.groups = groups_new(HEADER + keyed->class->size), .latest = INT64_MIN};
    while (count--)
        if (!load_group(keyed, generation, cursor))
            return false;
    return true;
}

int keyed_load(keyed_t *keyed, pack_cursor_t *cursor, err_t *err) {
    uint32_t three;
    value_t period;
    if (!pack_read_array(cursor, &three) || three != 3 || !pack_read_value(cursor, &period) ||
        (period.type != VALUE_NULL && period.type != VALUE_INT) || !load_generation(keyed, &keyed->old, cursor) ||
        !load_generation(keyed, &keyed->young, cursor))
        return err_set(err, "the state by key is damaged");
    if (period.type == VALUE_INT)
        set_period(keyed, period.integer);
    return 0;
}

size_t keyed_memory(const keyed_t *keyed) {
    size_t size = keyed->owned + groups_memory(keyed->young.groups);
    size += keyed->old.groups ? groups_memory(keyed->old.groups) : 0;
    return size + (keyed->gone.groups ? groups_memory(keyed->gone.groups) : 0);
}
