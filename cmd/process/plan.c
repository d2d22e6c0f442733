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

static edit_t *edit_of(plan_t *plan, unit_t *unit, unsigned slot, size_t most) {
    for (unsigned i = 0; i < plan->edit_count; i++)
        if (plan->edits[i].slot == slot)
            return &plan->edits[i];
    edit_t *edit = &plan->edits[plan->edit_count++];
    *edit = (edit_t){.slot = slot, .entries = arena_alloc(&unit->arena, most * sizeof(entry_t))};
    return edit;
}

plan_t *plan_new(program_t *program, const scope_t *scope) {
    unit_t *unit = program_unit(program);
    plan_t *plan = arena_alloc(&unit->arena, sizeof *plan);
    *plan = (plan_t){.record = scope->layout && !scope->closed};
    plan->entries = arena_alloc(&unit->arena, (scope->count + 1) * sizeof *plan->entries);
    plan->own = arena_alloc(&unit->arena, (scope->count + 1) * sizeof *plan->own);
    plan->edits = arena_alloc(&unit->arena, (2 * scope->count + 1) * sizeof *plan->edits);
    for (size_t i = 0; i < scope->count; i++) {
        const binding_t *binding = &scope->bindings[i];
        if (!plan->record) {
            if (binding->source != SOURCE_ABSENT)
                plan->entries[plan->count++] = entry_of(unit, binding);
            continue;
        }
        unsigned own = layout_slot(scope->layout, binding->name);
        if (binding->source == SOURCE_FIELD && binding->index == own)
            continue;
        edit_t *edit = edit_of(plan, unit, own, scope->count);
        edit->cut = true;
        if (binding->source == SOURCE_VALUE) {
            edit->entries[edit->count++] = entry_of(unit, binding);
            plan->own[plan->count] = own;
            plan->entries[plan->count++] = entry_of(unit, binding);
        } else if (binding->source == SOURCE_FIELD) {
            edit = edit_of(plan, unit, binding->index, scope->count);
            edit->entries[edit->count++] = entry_of(unit, binding);
        }
    }
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
