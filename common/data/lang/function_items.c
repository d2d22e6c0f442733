/* Items of arrays and maps: reading them, and a total order of values to sort them by. */
#include "data/lang/function_make.h"

#include <math.h>

items_t items_of(value_t value) {
    items_t items = {.cursor = pack_cursor(value.packed, value.size)};
    if (value.type == VALUE_ARRAY ? !pack_read_array(&items.cursor, &items.count) : !pack_read_map(&items.cursor, &items.count))
        items.count = 0;
    return items;
}

bool items_next(items_t *items, item_t *item) {
    item->at = items->cursor.at;
    if (!pack_read_value(&items->cursor, &item->value))
        return false;
    item->size = (uint32_t) (items->cursor.at - item->at);
    return true;
}

bool items_next_entry(items_t *items, item_t *item) {
    item_t value;
    if (!items_next(items, item) || !items_next(items, &value))
        return false;
    item->size += value.size;
    return true;
}

bool items_read(const node_t *node, const row_t *row, const value_t *containers, unsigned count, item_list_t *list) {
    *list = (item_list_t){0};
    size_t total = 0;
    for (unsigned i = 0; i < count; i++)
        total += items_of(containers[i]).count;
    if (total > ITEMS_MAX) {
        evaluation_failed(node, row, "%s: more than %u items", node->function->name, ITEMS_MAX);
        return false;
    }
    list->items = arena_alloc(&row->context->arena, 2 * total * sizeof *list->items); /* the second half is for sorting */
    for (unsigned i = 0; i < count; i++) {
        items_t items = items_of(containers[i]);
        for (uint32_t k = 0; k < items.count; k++) {
            item_t *item = &list->items[list->count];
            if (containers[i].type == VALUE_MAP ? !items_next_entry(&items, item) : !items_next(&items, item))
                break;
            item->index = list->count++;
            item->source = i;
        }
    }
    return true;
}

static int rank_of(value_t value) {
    static const uint8_t ranks[] = {[VALUE_NULL] = 0, [VALUE_BOOL] = 1, [VALUE_INT] = 2, [VALUE_UINT] = 2, [VALUE_DOUBLE] = 2,
                                    [VALUE_STRING] = 3, [VALUE_TIME] = 4, [VALUE_BINARY] = 5, [VALUE_ARRAY] = 6, [VALUE_MAP] = 7};
    return ranks[value.type];
}

static int order_packed(value_t a, value_t b) {
    uint32_t size = a.size < b.size ? a.size : b.size;
    int order = memcmp(a.packed, b.packed, size);
    return order ? order : (int) (a.size > b.size) - (int) (a.size < b.size);
}

static bool not_a_number(value_t value) {
    return value.type == VALUE_DOUBLE && isnan(value.number);
}

int value_rank(value_t a, value_t b) {
    int left = rank_of(a), right = rank_of(b);
    if (left != right)
        return left < right ? -1 : 1;
    if (left == 0)
        return 0;
    if (left >= 6)
        return order_packed(a, b);
    if (not_a_number(a) || not_a_number(b))
        return (int) not_a_number(b) - (int) not_a_number(a);
    return value_order(a, b);
}

void items_sort(item_list_t *list) {
    item_t *from = list->items, *to = list->items + list->count;
    for (uint32_t width = 1; width < list->count; width *= 2) {
        for (uint32_t start = 0; start < list->count; start += 2 * width) {
            uint32_t left = start, middle = start + width < list->count ? start + width : list->count, right = middle;
            uint32_t end = middle + width < list->count ? middle + width : list->count;
            for (uint32_t at = start; at < end; at++) {
                bool take_left = left < middle && (right == end || value_rank(from[left].value, from[right].value) <= 0);
                to[at] = take_left ? from[left++] : from[right++];
            }
        }
        item_t *swap = from;
        from = to;
        to = swap;
    }
    list->items = from;
}
