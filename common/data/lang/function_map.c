/* Functions of maps. */
#include "data/lang/function_make.h"

#define NAMES_MAX 256             /* that pick and omit take */

/* Finds the entry of that name; false when there is none. */
static bool find_entry(value_t map, value_t name, item_t *entry) {
    items_t items = items_of(map);
    for (uint32_t i = 0; i < items.count && items_next_entry(&items, entry); i++)
        if (entry->value.type == VALUE_STRING && value_equal(entry->value, name))
            return true;
    return false;
}

FUNCTION(fn_has) {
    item_t entry;
    return value_bool(find_entry(arguments[0], arguments[1], &entry));
}

FUNCTION(fn_get) {
    value_t x = arguments[0], key = arguments[1], value = value_null();
    if (x.type == VALUE_MAP && key.type == VALUE_STRING)
        value = record_member(x, text_make(key.text, key.size));
    else if (x.type == VALUE_ARRAY && key.type == VALUE_INT)
        value = record_item(x, key.integer);
    else if (x.type != VALUE_NULL && key.type != VALUE_NULL)
        return evaluation_failed(node, row, "get: a map has names, an array has numbers, but the key is %s", value_type_names[key.type]);
    return value.type == VALUE_NULL && count > 2 ? arguments[2] : value;
}

/* The keys or the values of a map. */
static value_t half_of(const node_t *node, const row_t *row, value_t map, bool want_values) {
    items_t items = items_of(map);
    item_t key, value;
    buf_t *out = function_buffer(row);
    uint32_t i = 0;
    for (; i < items.count && items_next(&items, &key) && items_next(&items, &value); i++)
        buf_put(out, want_values ? value.at : key.at, want_values ? value.size : key.size);
    return function_made_array(node, row, out, i);
}

FUNCTION(fn_keys) {
    return half_of(node, row, arguments[0], false);
}

FUNCTION(fn_values) {
    return half_of(node, row, arguments[0], true);
}

FUNCTION(fn_entries) {
    items_t items = items_of(arguments[0]);
    item_t key, value;
    buf_t *out = function_buffer(row);
    uint32_t i = 0;
    for (; i < items.count && out->size <= RESULT_MAX && items_next(&items, &key) && items_next(&items, &value); i++) {
        pack_map(out, 2);
        pack_text(out, "key");
        buf_put(out, key.at, key.size);
        pack_text(out, "value");
        buf_put(out, value.at, value.size);
    }
    return function_made_array(node, row, out, i);
}

/* A map of entries in which names may be repeated: the last value counts, at the first one's place. */
static value_t without_repeats(const node_t *node, const row_t *row, item_list_t *list) {
    items_sort(list);
    const item_t **kept = arena_alloc(&row->context->arena, list->count * sizeof *kept); /* by index of the first */
    memset(kept, 0, list->count * sizeof *kept);
    for (uint32_t i = 0, next; i < list->count; i = next) {
        next = i + 1;
        while (next < list->count && value_rank(list->items[i].value, list->items[next].value) == 0)
            next++;
        kept[list->items[i].index] = &list->items[next - 1];
    }
    buf_t *out = function_buffer(row);
    uint32_t total = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (!kept[i])
            continue;
        buf_put(out, kept[i]->at, kept[i]->size);
        total++;
    }
    return function_made_map(node, row, out, total);
}

/* Key and value of {"key": k, "value": v} or [k, v]. */
static bool read_entry(value_t entry, value_t *key, value_t *value) {
    if (entry.type == VALUE_MAP) {
        *key = record_member(entry, text_of("key"));
        *value = record_member(entry, text_of("value"));
    } else {
        *key = record_item(entry, 0);
        *value = record_item(entry, 1);
    }
    return key->type == VALUE_STRING;
}

FUNCTION(fn_from_entries) {
    item_list_t list;
    if (!items_read(node, row, arguments, 1, &list))
        return value_null();
    buf_t *packed = function_buffer(row);
    for (uint32_t i = 0; i < list.count; i++) {
        value_t key, value;
        if (!read_entry(list.items[i].value, &key, &value))
            return evaluation_failed(node, row, "from_entries: item %u has no text as its key", i);
        size_t start = packed->size;
        pack_value(packed, key);
        pack_value(packed, value);
        if (packed->size > RESULT_MAX)
            return function_too_long(node, row);
        list.items[i].value = key;
        list.items[i].size = (uint32_t) (packed->size - start);
    }
    const uint8_t *at = arena_copy(&row->context->arena, packed->data, packed->size);
    for (uint32_t i = 0; i < list.count; at += list.items[i++].size)
        list.items[i].at = at;
    return without_repeats(node, row, &list);
}

FUNCTION(fn_merge) {
    item_list_t list;
    return items_read(node, row, arguments, count, &list) ? without_repeats(node, row, &list) : value_null();
}

FUNCTION(fn_put) {
    if (arguments[0].type == VALUE_NULL || arguments[1].type == VALUE_NULL)
        return value_null();
    items_t items = items_of(arguments[0]);
    item_t entry, old;
    bool exists = find_entry(arguments[0], arguments[1], &old);
    buf_t *out = function_buffer(row);
    uint32_t total = 0;
    for (uint32_t i = 0; i < items.count && items_next_entry(&items, &entry); i++, total++) {
        if (exists && entry.at == old.at) {
            pack_value(out, arguments[1]);
            pack_value(out, arguments[2]);
        } else {
            buf_put(out, entry.at, entry.size);
        }
    }
    if (!exists) {
        pack_value(out, arguments[1]);
        pack_value(out, arguments[2]);
        total++;
    }
    return function_made_map(node, row, out, total);
}

/* The names that the arguments give, as texts or arrays of texts. -1 after an error. */
static int names_of(const node_t *node, const row_t *row, const value_t *arguments, unsigned count, value_t *names) {
    int total = 0;
    for (unsigned i = 1; i < count; i++) {
        bool array = arguments[i].type == VALUE_ARRAY;
        items_t items = array ? items_of(arguments[i]) : (items_t){.count = 1};
        for (uint32_t k = 0; k < items.count; k++) {
            if (total == NAMES_MAX) {
                evaluation_failed(node, row, "%s: more than %d names", node->function->name, NAMES_MAX);
                return -1;
            }
            if (!array)
                names[total++] = arguments[i];
            else if (!pack_read_value(&items.cursor, &names[total++]))
                break;
        }
    }
    return total;
}

static value_t filtered(const node_t *node, const row_t *row, const value_t *arguments, unsigned count, bool wanted) {
    value_t names[NAMES_MAX + 1];
    int total = names_of(node, row, arguments, count, names);
    if (total < 0)
        return value_null();
    items_t items = items_of(arguments[0]);
    item_t entry;
    buf_t *out = function_buffer(row);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < items.count && items_next_entry(&items, &entry); i++) {
        bool named = false;
        for (int k = 0; k < total && !named; k++)
            named = names[k].type == entry.value.type && value_equal(names[k], entry.value);
        if (named != wanted)
            continue;
        buf_put(out, entry.at, entry.size);
        kept++;
    }
    return function_made_map(node, row, out, kept);
}

FUNCTION(fn_pick) {
    return filtered(node, row, arguments, count, true);
}

FUNCTION(fn_omit) {
    return filtered(node, row, arguments, count, false);
}

const function_t functions_maps[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"entries", "Maps", "entries(map)", "An array of maps, each with the key and the value of an entry.", "entries({a: 1}) = [{key: \"a\", value: 1}]", 1, 1, ALL(MAP), ARRAY, false, fn_entries},
    {"from_entries", "Maps", "from_entries(array)", "A map from what entries gives, or from pairs; of a key that is repeated the last value.", "from_entries(zip([\"a\", \"b\"], [1, 2])) = {a: 1, b: 2}", 1, 1, ALL(ARRAY), MAP, false, fn_from_entries},
    {"get", "Maps", "get(x, key, default?)", "The entry of a map by its name, or the item of an array by its number, where these are computed; the default when there is none or it is null.", "get({a: 1}, \"b\", 0) = 0", 2, 3, {MAP | ARRAY, TEXT | INT, ANY}, ANY, true, fn_get},
    {"has", "Maps", "has(map, name)", "Whether the map has an entry of that name, be it null.", "has({a: null}, \"a\") = true", 2, 2, {MAP, TEXT, ANY}, BOOL, false, fn_has},
    {"keys", "Maps", "keys(map)", "The names of the map's entries.", "keys({a: 1, b: 2}) = [\"a\", \"b\"]", 1, 1, ALL(MAP), ARRAY, false, fn_keys},
    {"merge", "Maps", "merge(a, b, ...)", "The entries of all maps; of a name that is repeated the last value, at the first one's place.", "merge({a: 1, b: 2}, {a: 3}) = {a: 3, b: 2}", 1, MANY, ALL(MAP), MAP, false, fn_merge},
    {"omit", "Maps", "omit(map, name, ...)", "The map without the entries of these names; an array of names is as good.", "omit({a: 1, b: 2}, \"b\") = {a: 1}", 2, MANY, {MAP, TEXT | ARRAY, TEXT | ARRAY}, MAP, false, fn_omit},
    {"pick", "Maps", "pick(map, name, ...)", "The map with the entries of these names only; an array of names is as good.", "pick({a: 1, b: 2}, \"b\", \"c\") = {b: 2}", 2, MANY, {MAP, TEXT | ARRAY, TEXT | ARRAY}, MAP, false, fn_pick},
    {"put", "Maps", "put(map, name, x)", "The map with that entry, where the name is computed; also null.", "put({a: 1}, \"b\" + \"c\", 2) = {a: 1, bc: 2}", 3, 3, {MAP, TEXT, ANY}, MAP, true, fn_put},
    {"values", "Maps", "values(map)", "The values of the map's entries.", "values({a: 1, b: 2}) = [1, 2]", 1, 1, ALL(MAP), ARRAY, false, fn_values},
    {NULL},
};
