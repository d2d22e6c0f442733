/* Functions of arrays. */
#include "data/lang/function_make.h"

int64_t array_index(value_t array, value_t wanted) {
    items_t items = items_of(array);
    value_t item;
    for (uint32_t i = 0; i < items.count && pack_read_value(&items.cursor, &item); i++)
        if (value_equal(item, wanted))
            return i;
    return -1;
}

value_t array_reversed(const node_t *node, const row_t *row, value_t array) {
    item_list_t list;
    if (!items_read(node, row, &array, 1, &list))
        return value_null();
    buf_t *items = function_buffer(row);
    for (uint32_t i = list.count; i-- > 0;)
        buf_put(items, list.items[i].at, list.items[i].size);
    return function_made_array(node, row, items, list.count);
}

FUNCTION(fn_slice) {
    items_t items = items_of(arguments[0]);
    uint32_t start, end, kept = 0;
    function_bounds(arguments, count, items.count, &start, &end);
    buf_t *out = function_buffer(row);
    item_t item;
    for (uint32_t i = 0; i < end && items_next(&items, &item); i++) {
        if (i < start)
            continue;
        buf_put(out, item.at, item.size);
        kept++;
    }
    return function_made_array(node, row, out, kept);
}

/* The sum of an array's numbers: exact in int64 while it can be, else a double. Returns how many there were. */
static uint32_t sum_of(value_t array, value_t *sum) {
    items_t items = items_of(array);
    uint32_t numbers = 0;
    value_t item;
    int64_t whole = 0;
    double real = 0;
    bool exact = true;
    for (uint32_t i = 0; i < items.count && pack_read_value(&items.cursor, &item); i++) {
        if (!value_is_number(item))
            continue;
        numbers++;
        real += value_to_double(item);
        exact = exact && item.type == VALUE_INT && !__builtin_add_overflow(whole, item.integer, &whole);
    }
    *sum = exact ? value_int(whole) : value_double(real);
    return numbers;
}

FUNCTION(fn_sum) {
    value_t sum = value_int(0);
    sum_of(arguments[0], &sum);
    return sum.type == VALUE_DOUBLE ? function_number(node, row, sum.number) : sum;
}

FUNCTION(fn_average) {
    value_t sum = value_null();
    uint32_t numbers = sum_of(arguments[0], &sum);
    return numbers ? function_number(node, row, value_to_double(sum) / numbers) : value_null();
}

static value_t extreme(const node_t *node, const row_t *row, value_t array, int wanted) {
    items_t items = items_of(array);
    value_t best = value_null(), item;
    for (uint32_t i = 0; i < items.count && pack_read_value(&items.cursor, &item); i++) {
        if (item.type == VALUE_NULL)
            continue;
        int order = best.type == VALUE_NULL ? wanted : value_order(item, best);
        if (order == ORDER_MISMATCH || (best.type == VALUE_NULL && value_order(item, item) == ORDER_MISMATCH))
            return evaluation_failed(node, row, "%s: %s compared with %s", node->function->name, value_type_names[item.type],
                                     value_type_names[best.type == VALUE_NULL ? item.type : best.type]);
        if (order == wanted)
            best = item;
    }
    return best;
}

FUNCTION(fn_max) {
    return extreme(node, row, arguments[0], 1);
}

FUNCTION(fn_min) {
    return extreme(node, row, arguments[0], -1);
}

/* Appends all items of an array. */
static uint32_t put_items(buf_t *out, value_t array) {
    items_t items = items_of(array);
    buf_put(out, items.cursor.at, items.count ? (size_t) (items.cursor.end - items.cursor.at) : 0);
    return items.count;
}

FUNCTION(fn_append) {
    if (arguments[0].type == VALUE_NULL)
        return value_null();
    buf_t *items = function_buffer(row);
    uint32_t total = put_items(items, arguments[0]);
    for (unsigned i = 1; i < count && items->size <= RESULT_MAX; i++, total++)
        pack_value(items, arguments[i]);
    return function_made_array(node, row, items, total);
}

FUNCTION(fn_array_concat) {
    buf_t *items = function_buffer(row);
    uint32_t total = 0;
    for (unsigned i = 0; i < count && items->size <= RESULT_MAX; i++)
        total += put_items(items, arguments[i]);
    return function_made_array(node, row, items, total);
}

FUNCTION(fn_sort) {
    bool down = false;
    if (count > 1) {
        text_t order = text_make(arguments[1].text, arguments[1].size);
        down = text_is(order, "desc");
        if (!down && !text_is(order, "asc"))
            return evaluation_failed(node, row, "sort: the order is \"asc\" or \"desc\"");
    }
    item_list_t list;
    if (!items_read(node, row, arguments, 1, &list))
        return value_null();
    items_sort(&list);
    buf_t *items = function_buffer(row);
    for (uint32_t i = 0; i < list.count; i++) {
        const item_t *item = &list.items[down ? list.count - 1 - i : i];
        buf_put(items, item->at, item->size);
    }
    return function_made_array(node, row, items, list.count);
}

/* Those items of the first array, each once and in their order, that the second one has or has not; without a second one all. */
static value_t chosen(const node_t *node, const row_t *row, const value_t *arguments, unsigned arrays, bool wanted) {
    item_list_t list;
    if (!items_read(node, row, arguments, arrays, &list))
        return value_null();
    items_sort(&list);
    const item_t **kept = arena_alloc(&row->context->arena, list.count * sizeof *kept); /* by index */
    memset(kept, 0, list.count * sizeof *kept);
    for (uint32_t i = 0, next; i < list.count; i = next) {
        next = i + 1;
        while (next < list.count && value_rank(list.items[i].value, list.items[next].value) == 0)
            next++;
        bool in_second = list.items[next - 1].source == 1; /* equal ones are in the order of the arrays */
        if (list.items[i].source == 0 && (arrays == 1 || in_second == wanted))
            kept[list.items[i].index] = &list.items[i];
    }
    buf_t *items = function_buffer(row);
    uint32_t total = 0;
    for (uint32_t i = 0; i < list.count; i++) {
        if (!kept[i])
            continue;
        buf_put(items, kept[i]->at, kept[i]->size);
        total++;
    }
    return function_made_array(node, row, items, total);
}

FUNCTION(fn_unique) {
    return chosen(node, row, arguments, 1, true);
}

FUNCTION(fn_intersect) {
    return chosen(node, row, arguments, 2, true);
}

FUNCTION(fn_except) {
    return chosen(node, row, arguments, 2, false);
}

/* Arrays within arrays are replaced by their items, down to so many levels. */
static uint32_t put_flat(buf_t *out, value_t array, int64_t levels) {
    items_t items = items_of(array);
    item_t item;
    uint32_t total = 0;
    for (uint32_t i = 0; i < items.count && items_next(&items, &item); i++) {
        if (item.value.type == VALUE_ARRAY && levels > 0) {
            total += put_flat(out, item.value, levels - 1);
        } else {
            buf_put(out, item.at, item.size);
            total++;
        }
    }
    return total;
}

FUNCTION(fn_flatten) {
    buf_t *items = function_buffer(row);
    uint32_t total = put_flat(items, arguments[0], count > 1 ? arguments[1].integer : PACK_DEPTH);
    return function_made_array(node, row, items, total);
}

FUNCTION(fn_compact) {
    items_t items = items_of(arguments[0]);
    bool map = arguments[0].type == VALUE_MAP;
    buf_t *out = function_buffer(row);
    item_t key, value;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < items.count && (!map || items_next(&items, &key)) && items_next(&items, &value); i++) {
        if (value.value.type == VALUE_NULL)
            continue;
        if (map)
            buf_put(out, key.at, key.size);
        buf_put(out, value.at, value.size);
        kept++;
    }
    return map ? function_made_map(node, row, out, kept) : function_made_array(node, row, out, kept);
}

FUNCTION(fn_range) {
    __int128 at = arguments[0].integer, end = arguments[1].integer, step = count > 2 ? arguments[2].integer : 1;
    if (step == 0)
        return evaluation_failed(node, row, "range: a step of 0");
    buf_t *items = function_buffer(row);
    uint32_t total = 0;
    for (; (step > 0 ? at < end : at > end) && items->size <= RESULT_MAX; at += step, total++)
        pack_int(items, (int64_t) at);
    return function_made_array(node, row, items, total);
}

FUNCTION(fn_zip) {
    items_t arrays[FUNCTION_ARGUMENTS];
    uint32_t longest = 0;
    for (unsigned i = 0; i < count; i++) {
        arrays[i] = items_of(arguments[i]);
        longest = arrays[i].count > longest ? arrays[i].count : longest;
    }
    buf_t *out = function_buffer(row);
    item_t item;
    for (uint32_t k = 0; k < longest && out->size <= RESULT_MAX; k++) {
        pack_array(out, count);
        for (unsigned i = 0; i < count; i++) {
            if (k < arrays[i].count && items_next(&arrays[i], &item))
                buf_put(out, item.at, item.size);
            else
                pack_nil(out);
        }
    }
    return function_made_array(node, row, out, longest);
}

const function_t functions_arrays[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"append", "Arrays", "append(array, x, ...)", "The array with more items at its end; also nulls.", "append([1], 2, \"a\") = [1, 2, \"a\"]", 2, MANY, {ARRAY, ANY, ANY}, ARRAY, true, fn_append},
    {"array_average", "Arrays", "array_average(array)", "The mean of the array's numbers; null when there is none. Over events: the aggregate avg.", "array_average([1, 2]) = 1.5", 1, 1, ALL(ARRAY), DOUBLE, false, fn_average},
    {"array_concat", "Arrays", "array_concat(a, b, ...)", "The items of all arrays in one.", "array_concat([1], [2, 3]) = [1, 2, 3]", 1, MANY, ALL(ARRAY), ARRAY, false, fn_array_concat},
    {"array_except", "Arrays", "array_except(a, b)", "The items of a that b does not have, each once.", "array_except([1, 2, 2, 3], [3]) = [1, 2]", 2, 2, ALL(ARRAY), ARRAY, false, fn_except},
    {"array_intersect", "Arrays", "array_intersect(a, b)", "The items of a that b has too, each once.", "array_intersect([1, 2, 3], [3, 2]) = [2, 3]", 2, 2, ALL(ARRAY), ARRAY, false, fn_intersect},
    {"array_max", "Arrays", "array_max(array)", "The greatest item (numbers, texts or times); nulls are left out. Over events: the aggregate max.", "array_max([3, 7.5, 2]) = 7.5", 1, 1, ALL(ARRAY), ANY, false, fn_max},
    {"array_min", "Arrays", "array_min(array)", "The least item (numbers, texts or times); nulls are left out. Over events: the aggregate min.", "array_min([3, 7.5, 2]) = 2", 1, 1, ALL(ARRAY), ANY, false, fn_min},
    {"array_sum", "Arrays", "array_sum(array)", "The sum of the array's numbers. Over events: the aggregate sum.", "array_sum([1, 2, 3]) = 6", 1, 1, ALL(ARRAY), NUMBER, false, fn_sum},
    {"compact", "Arrays", "compact(x)", "The array or map without its nulls.", "compact([1, null, 2]) = [1, 2]", 1, 1, ALL(ARRAY | MAP), ARRAY | MAP, false, fn_compact},
    {"flatten", "Arrays", "flatten(array, levels?)", "Arrays within the array replaced by their items, at all levels or so many.", "flatten([1, [2, [3]]]) = [1, 2, 3]", 1, 2, {ARRAY, INT, ANY}, ARRAY, false, fn_flatten},
    {"range", "Arrays", "range(from, to, step?)", "The integers from the first to below the second.", "range(0, 3) = [0, 1, 2]", 2, 3, ALL(INT), ARRAY, false, fn_range},
    {"slice", "Arrays", "slice(array, start, length?)", "Items from start (0 is the first, -1 the last) on, at most length of them.", "slice([1, 2, 3], 1) = [2, 3]", 2, 3, {ARRAY, INT, INT}, ARRAY, false, fn_slice},
    {"sort", "Arrays", "sort(array, order?)", "The items in order, or with \"desc\" from the last to the first: null, false, true, numbers, texts (byte by byte), times, binaries, arrays, maps.", "sort([3, \"a\", 1.5]) = [1.5, 3, \"a\"]", 1, 2, {ARRAY, TEXT, ANY}, ARRAY, false, fn_sort},
    {"unique", "Arrays", "unique(array)", "Each item once, where it first stands.", "unique([2, 1, 2.0]) = [2, 1]", 1, 1, ALL(ARRAY), ARRAY, false, fn_unique},
    {"zip", "Arrays", "zip(a, b, ...)", "An array of the first items of all, of the second ones, and so on; null where an array is shorter.", "zip([1, 2], [\"a\"]) = [[1, \"a\"], [2, null]]", 1, MANY, ALL(ARRAY), ARRAY, false, fn_zip},
    {NULL},
};
