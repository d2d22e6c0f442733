/* Special forms for the conditions and arithmetic that programs mostly consist of: a field against a constant. They look at the packed
 * bytes first, and leave everything unusual to the general form. */
#include "data/lang/evaluate.h"

static inline const uint8_t *field_at(const node_t *node, const row_t *row, const uint8_t **end) {
    uint32_t at = row->places[node->arguments[0]->index].value;
    *end = row->event.record + row->event.record_size;
    return at ? row->event.record + at : NULL;
}

/* FIELD op CONSTANT number, the field mostly a double. node->constant is the constant as a double. */
static inline bool number_test(const node_t *node, const row_t *row, comparison_t comparison) {
    const uint8_t *end, *at = field_at(node, row, &end);
    if (!at)
        return false;
    if (__builtin_expect(*at == 0xCB && end - at >= 9, 1)) {
        double left = record_double(at + 1), right = node->constant.number;
        switch (comparison) {
        case COMPARE_EQ: return left == right;
        case COMPARE_NE: return left != right && left == left;
        case COMPARE_LT: return left < right;
        case COMPARE_LE: return left <= right;
        case COMPARE_GT: return left > right;
        case COMPARE_GE: return left >= right;
        }
    }
    return test_compare(node, row);
}

static bool number_eq(const node_t *node, const row_t *row) { return number_test(node, row, COMPARE_EQ); }
static bool number_ne(const node_t *node, const row_t *row) { return number_test(node, row, COMPARE_NE); }
static bool number_lt(const node_t *node, const row_t *row) { return number_test(node, row, COMPARE_LT); }
static bool number_le(const node_t *node, const row_t *row) { return number_test(node, row, COMPARE_LE); }
static bool number_gt(const node_t *node, const row_t *row) { return number_test(node, row, COMPARE_GT); }
static bool number_ge(const node_t *node, const row_t *row) { return number_test(node, row, COMPARE_GE); }

/* FIELD == "text": size and bytes straight from the record. */
static inline bool text_same(const node_t *node, const row_t *row, bool equal) {
    const uint8_t *end, *at = field_at(node, row, &end);
    if (!at)
        return false;
    value_t constant = node->constant;
    uint32_t size = *at & 31u;
    if (__builtin_expect((*at & 0xE0) == 0xA0 && (size_t) (end - at) > size, 1))
        return (size == constant.size && memcmp(at + 1, constant.text, size) == 0) == equal;
    return test_compare(node, row);
}

static bool text_eq(const node_t *node, const row_t *row) { return text_same(node, row, true); }
static bool text_ne(const node_t *node, const row_t *row) { return text_same(node, row, false); }

static bool exact_double(value_t value) {
    if (value.type == VALUE_DOUBLE)
        return true;
    return value.type == VALUE_INT && value.integer >= -(INT64_C(1) << 53) && value.integer <= INT64_C(1) << 53;
}

void bind_fast(node_t *node) {
    static bool (*const number_forms[])(const node_t *, const row_t *) = {number_eq, number_ne, number_lt, number_le, number_gt, number_ge};
    if (node->kind != NODE_COMPARE || node->arguments[0]->kind != NODE_FIELD || node->arguments[1]->kind != NODE_CONSTANT)
        return;
    value_t constant = node->arguments[1]->constant;
    if (exact_double(constant)) {
        node->constant = value_double(value_to_double(constant));
        node->test = number_forms[node->operation];
    } else if (constant.type == VALUE_STRING && node->operation <= COMPARE_NE) {
        node->constant = constant;
        node->test = node->operation == COMPARE_EQ ? text_eq : text_ne;
    }
}
