/* How rows are written: a copy of the record in which some entries are cut, replaced, renamed or added, or a record made of values alone.
 * What to do is found once, from the names in scope; per row only the places are looked up, and what lies between is copied whole. */
#include <stdlib.h>

#include "op.h"

/* One entry to write: its packed key, and where the value comes from. */
typedef struct entry {
    const uint8_t *key;       /* packed, in the unit's arena */
    uint32_t key_size;
    source_t source;
    unsigned index;
} entry_t;

/* What happens where a slot's entry stands. */
typedef struct edit {
    unsigned slot;
    bool cut;                 /* the entry itself goes */
    entry_t *entries;         /* written in its place */
    unsigned count;
} edit_t;

struct plan {
    bool record;              /* rows carry a record whose other fields stay */
    edit_t *edits;            /* record: by slot */
    unsigned edit_count;
    entry_t *entries;         /* record: values that are appended when their own slot is absent; else all entries in order */
    unsigned *own;            /* of entries: the slot of the same name */
    unsigned count;
};

static entry_t entry_of(unit_t *unit, const binding_t *binding) {
    buf_t key = {0};
    pack_string(&key, binding->name.data, binding->name.size);
    entry_t entry = {arena_copy(&unit->arena, key.data, key.size), (uint32_t) key.size, binding->source, binding->index};
    buf_fini(&key);
    return entry;
}

/* The edit of each slot while a plan is made: its number, from 1, and how many entries will stand there. */
typedef struct making {
    unsigned *edits, *entries;
} making_t;

static edit_t *edit_of(plan_t *plan, const making_t *making, unit_t *unit, unsigned slot) {
    if (!making->edits[slot]) {
        making->edits[slot] = ++plan->edit_count;
        plan->edits[plan->edit_count - 1] = (edit_t){.slot = slot, .entries = arena_alloc(&unit->arena, (making->entries[slot] + 1) * sizeof(entry_t))};
    }
    return &plan->edits[making->edits[slot] - 1];
}

/* Whether the name stands for something else than the field of this name, at slot `own`. */
static bool is_edited(const binding_t *binding, unsigned own) {
    return binding->source != SOURCE_FIELD || binding->index != own;
}

static void add_edits(plan_t *plan, const making_t *making, unit_t *unit, const scope_t *scope) {
    for (size_t i = 0; i < scope->count; i++) {
        const binding_t *binding = &scope->bindings[i];
        unsigned own = layout_slot(scope->layout, binding->name);
        if (!is_edited(binding, own))
            continue;
        edit_t *edit = edit_of(plan, making, unit, own);
        edit->cut = true;
        if (binding->source == SOURCE_VALUE) {
            edit->entries[edit->count++] = plan->entries[plan->count] = entry_of(unit, binding);
            plan->own[plan->count++] = own;
        } else if (binding->source == SOURCE_FIELD) {
            edit = edit_of(plan, making, unit, binding->index);
            edit->entries[edit->count++] = entry_of(unit, binding);
        }
    }
}

plan_t *plan_new(program_t *program, const scope_t *scope) {
    unit_t *unit = program_unit(program);
    plan_t *plan = arena_alloc(&unit->arena, sizeof *plan);
    *plan = (plan_t){.record = scope->layout && !scope->closed};
    plan->entries = arena_alloc(&unit->arena, (scope->count + 1) * sizeof *plan->entries);
    for (size_t i = 0; !plan->record && i < scope->count; i++)
        if (scope->bindings[i].source != SOURCE_ABSENT)
            plan->entries[plan->count++] = entry_of(unit, &scope->bindings[i]);
    if (!plan->record)
        return plan;
    for (size_t i = 0; i < scope->count; i++)
        layout_slot(scope->layout, scope->bindings[i].name); /* from here on no slot is new */
    making_t making = {mem_zero((layout_count(scope->layout) + 1) * sizeof(unsigned)), mem_zero((layout_count(scope->layout) + 1) * sizeof(unsigned))};
    for (size_t i = 0; i < scope->count; i++) {
        const binding_t *binding = &scope->bindings[i];
        unsigned own = layout_slot(scope->layout, binding->name);
        if (is_edited(binding, own) && binding->source != SOURCE_ABSENT)
            making.entries[binding->source == SOURCE_VALUE ? own : binding->index]++;
    }
    plan->own = arena_alloc(&unit->arena, (scope->count + 1) * sizeof *plan->own);
    plan->edits = arena_alloc(&unit->arena, (2 * scope->count + 1) * sizeof *plan->edits);
    add_edits(plan, &making, unit, scope);
    mem_free(making.edits);
    mem_free(making.entries);
    return plan;
}

bool plan_verbatim(const plan_t *plan) {
    return plan->record && plan->edit_count == 0;
}

static bool is_there(const entry_t *entry, const row_t *row) {
    return entry->source == SOURCE_VALUE ? !value_is_absent(row->values[entry->index]) : row->places[entry->index].value != 0;
}

static bool put_entry(const entry_t *entry, const row_t *row, buf_t *out) {
    buf_put(out, entry->key, entry->key_size);
    if (entry->source == SOURCE_VALUE) {
        row_put_value(row, row->values[entry->index], 1, out);
        return true;
    }
    const uint8_t *value = row->event.record + row->places[entry->index].value;
    const uint8_t *end = record_skip(value, row->event.record + row->event.record_size);
    if (!end)
        return false;
    buf_put(out, value, (size_t) (end - value));
    return true;
}

/* Exactly the entries: nothing else of the record. */
static bool put_entries(const plan_t *plan, const row_t *row, buf_t *out) {
    uint32_t count = 0;
    for (unsigned i = 0; i < plan->count; i++)
        count += is_there(&plan->entries[i], row);
    pack_map(out, count);
    for (unsigned i = 0; i < plan->count; i++) {
        const entry_t *entry = &plan->entries[i];
        if (is_there(entry, row) && !put_entry(entry, row, out))
            return false;
    }
    return true;
}

static bool put_edited(const plan_t *plan, const row_t *row, buf_t *out) {
    const uint8_t *record = row->event.record, *end = record + row->event.record_size;
    const edit_t *present[plan->edit_count + 1];
    unsigned count = 0;
    pack_cursor_t cursor = {record, end};
    uint32_t entries;
    if (!pack_read_map(&cursor, &entries))
        return false;
    for (unsigned i = 0; i < plan->edit_count; i++) {
        const edit_t *edit = &plan->edits[i];
        uint32_t at = row->places[edit->slot].value;
        if (!at)
            continue;
        entries -= edit->cut;
        for (unsigned j = 0; j < edit->count; j++)
            entries += is_there(&edit->entries[j], row);
        unsigned j = count++;
        for (; j > 0 && row->places[present[j - 1]->slot].value > at; j--)
            present[j] = present[j - 1];
        present[j] = edit;
    }
    for (unsigned i = 0; i < plan->count; i++)
        entries += row->places[plan->own[i]].value == 0 && is_there(&plan->entries[i], row);
    pack_map(out, entries);
    const uint8_t *at = cursor.at;
    for (unsigned i = 0; i < count; i++) {
        const edit_t *edit = present[i];
        const place_t *place = &row->places[edit->slot];
        const uint8_t *after = record_skip(record + place->value, end);
        if (!after)
            return false;
        buf_put(out, at, (size_t) (record + place->key - at));
        for (unsigned j = 0; j < edit->count; j++)
            if (is_there(&edit->entries[j], row) && !put_entry(&edit->entries[j], row, out))
                return false;
        if (!edit->cut)
            buf_put(out, record + place->key, (size_t) (after - (record + place->key)));
        at = after;
    }
    buf_put(out, at, (size_t) (end - at));
    for (unsigned i = 0; i < plan->count; i++)
        if (row->places[plan->own[i]].value == 0 && is_there(&plan->entries[i], row))
            put_entry(&plan->entries[i], row, out);
    return true;
}

bool plan_put(const plan_t *plan, const row_t *row, buf_t *out) {
    if (!plan->record)
        return put_entries(plan, row, out);
    if (plan->edit_count)
        return put_edited(plan, row, out);
    buf_put(out, row->event.record, row->event.record_size);
    return true;
}

value_t plan_record(const plan_t *plan, const row_t *row) {
    if (plan_verbatim(plan))
        return record_value(row->event.record, row->event.record + row->event.record_size);
    buf_t out = {0};
    value_t value = value_null();
    if (plan_put(plan, row, &out)) {
        const uint8_t *copy = arena_copy(&row->context->arena, out.data, out.size);
        value = record_value(copy, copy + out.size);
    }
    buf_fini(&out);
    return value;
}
