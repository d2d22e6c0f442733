/* Evaluation of nodes: one direct function per kind. The special forms for common conditions are in evaluate_fast.c. */
#include "data/lang/evaluate.h"

#include <math.h>
#include <stdarg.h>

#include "base/clock.h"
#include "data/lang/function_make.h"
#include "data/lang/pattern.h"

void context_fini(context_t *context) {
    arena_fini(&context->arena);
    buf_fini(&context->buffer);
}

value_t evaluation_failed(const node_t *node, const row_t *row, const char *format, ...) {
    context_t *context = row->context;
    context->errors++;
    if (context->report && log_limited(&context->limit)) {
        char text[256];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        context->report(context->argument, node, text);
    }
    return value_null();
}

void row_put_value(const row_t *row, value_t value, unsigned levels, buf_t *out) {
    bool nested = value.type == VALUE_ARRAY || value.type == VALUE_MAP;
    if (nested && !pack_within(pack_cursor(value.packed, value.size), PACK_DEPTH - levels))
        value = evaluation_failed(NULL, row, "a value nested more than %u deep", PACK_DEPTH - levels);
    pack_value(out, value);
}

static const char *name_of(value_t value) {
    return value_type_names[value.type];
}

value_t eval_constant(const node_t *node, const row_t *row) {
    return node->constant;
}

value_t eval_field(const node_t *node, const row_t *row) {
    return row_field(row, node->index);
}

static value_t eval_value(const node_t *node, const row_t *row) {
    return row->values[node->index];
}

static value_t eval_path(const node_t *node, const row_t *row) {
    value_t value = evaluate(node->arguments[0], row);
    for (unsigned i = 0; i < node->steps_count && value.type != VALUE_NULL; i++) {
        const step_t *step = &node->steps[i];
        value = step->name.data ? record_member(value, step->name) : record_item(value, step->index);
    }
    return value;
}

static value_t eval_event_time(const node_t *node, const row_t *row) {
    return value_time(row->event.time);
}

static value_t eval_meta(const node_t *node, const row_t *row) {
    if (node->operation == META_INGEST_TIME)
        return value_time(row->ingest_time);
    return row->frame ? value_text(row->frame->topic, strlen(row->frame->topic)) : value_null();
}

bool test_value(const node_t *node, const row_t *row) {
    value_t value = evaluate(node, row);
    if (value.type == VALUE_BOOL)
        return value.boolean;
    if (value.type != VALUE_NULL)
        evaluation_failed(node, row, "a condition that is %s, not true or false", name_of(value));
    return false;
}

value_t eval_test(const node_t *node, const row_t *row) {
    return value_bool(node->test(node, row));
}

static bool test_and(const node_t *node, const row_t *row) {
    return evaluate_test(node->arguments[0], row) && evaluate_test(node->arguments[1], row);
}

static bool test_or(const node_t *node, const row_t *row) {
    return evaluate_test(node->arguments[0], row) || evaluate_test(node->arguments[1], row);
}

static bool test_not(const node_t *node, const row_t *row) {
    return !evaluate_test(node->arguments[0], row);
}

static bool test_is_null(const node_t *node, const row_t *row) {
    return (evaluate(node->arguments[0], row).type == VALUE_NULL) != node->negated;
}

static inline bool holds(int order, comparison_t comparison) {
    switch (comparison) {
    case COMPARE_LT: return order == -1;
    case COMPARE_LE: return order <= 0;
    case COMPARE_GT: return order == 1;
    case COMPARE_GE: return order >= 0;
    default: return order == 0;
    }
}

/* For == and != values of different types are just not equal; to order them is an error. NaN equals nothing and differs from nothing. */
static bool same(value_t left, value_t right, bool wanted) {
    if (left.type == VALUE_ARRAY || left.type == VALUE_MAP)
        return value_equal(left, right) == wanted;
    int order = value_order(left, right);
    return order != ORDER_NONE && (order == 0) == wanted;
}

bool test_compare(const node_t *node, const row_t *row) {
    value_t left = evaluate(node->arguments[0], row), right = evaluate(node->arguments[1], row);
    if (left.type == VALUE_NULL || right.type == VALUE_NULL)
        return false;
    if (node->operation <= COMPARE_NE)
        return same(left, right, node->operation == COMPARE_EQ);
    int order = value_order(left, right);
    if (order == ORDER_MISMATCH)
        evaluation_failed(node, row, "%s compared with %s", name_of(left), name_of(right));
    return order < ORDER_NONE && holds(order, node->operation);
}

/* Order errors give null as a value, and false as a condition. */
value_t eval_compare(const node_t *node, const row_t *row) {
    value_t left = evaluate(node->arguments[0], row), right = evaluate(node->arguments[1], row);
    if (left.type == VALUE_NULL || right.type == VALUE_NULL)
        return value_bool(false);
    if (node->operation <= COMPARE_NE)
        return value_bool(same(left, right, node->operation == COMPARE_EQ));
    int order = value_order(left, right);
    if (order == ORDER_MISMATCH)
        return evaluation_failed(node, row, "%s compared with %s", name_of(left), name_of(right));
    return value_bool(order < ORDER_NONE && holds(order, node->operation));
}

static bool test_in(const node_t *node, const row_t *row) {
    value_t value = evaluate(node->arguments[0], row);
    if (value.type == VALUE_NULL)
        return false;
    for (unsigned i = 1; i < node->count; i++)
        if (value_equal(value, evaluate(node->arguments[i], row)))
            return !node->negated;
    return node->negated;
}

/* in FIELD: an array of values. */
static bool test_in_array(const node_t *node, const row_t *row) {
    value_t value = evaluate(node->arguments[0], row), array = evaluate(node->arguments[1], row);
    if (value.type == VALUE_NULL || array.type == VALUE_NULL)
        return false;
    if (array.type != VALUE_ARRAY) {
        evaluation_failed(node, row, "in looks into an array, not into %s", name_of(array));
        return false;
    }
    pack_cursor_t cursor = pack_cursor(array.packed, array.size);
    uint32_t count;
    value_t item;
    if (pack_read_array(&cursor, &count))
        for (uint32_t i = 0; i < count && pack_read_value(&cursor, &item); i++)
            if (value_equal(value, item))
                return !node->negated;
    return node->negated;
}

static bool test_match(const node_t *node, const row_t *row) {
    value_t value = evaluate(node->arguments[0], row);
    if (value.type == VALUE_NULL)
        return false;
    if (value.type != VALUE_STRING) {
        evaluation_failed(node, row, "~ matches texts, not %s", name_of(value));
        return false;
    }
    int found = pattern_match(node->data, text_make(value.text, value.size));
    if (found < 0) {
        evaluation_failed(node, row, "the pattern gave up on a text of %u bytes", value.size);
        return false;
    }
    return (found > 0) != node->negated;
}

static value_t eval_coalesce(const node_t *node, const row_t *row) {
    value_t value = evaluate(node->arguments[0], row);
    return value.type != VALUE_NULL ? value : evaluate(node->arguments[1], row);
}

static value_t eval_if(const node_t *node, const row_t *row) {
    if (evaluate_test(node->arguments[0], row))
        return evaluate(node->arguments[1], row);
    return node->count > 2 ? evaluate(node->arguments[2], row) : value_null();
}

static __int128 wide(value_t integer) {
    return integer.type == VALUE_UINT ? (__int128) integer.unsigned_integer : (__int128) integer.integer;
}

/* Numbers of any types. Whole results stay whole as long as 64 bits hold them. */
static value_t calculate(const node_t *node, const row_t *row, value_t left, value_t right) {
    bool whole = left.type != VALUE_DOUBLE && right.type != VALUE_DOUBLE;
    double a = value_to_double(left), b = value_to_double(right);
    int64_t result;
    bool small = left.type == VALUE_INT && right.type == VALUE_INT;
    switch (node->operation) {
    case ADD:
        if (small && !__builtin_add_overflow(left.integer, right.integer, &result))
            return value_int(result);
        return whole ? value_whole(wide(left) + wide(right)) : function_number(node, row, a + b);
    case SUBTRACT:
        if (small && !__builtin_sub_overflow(left.integer, right.integer, &result))
            return value_int(result);
        return whole ? value_whole(wide(left) - wide(right)) : function_number(node, row, a - b);
    case MULTIPLY:
        if (small && !__builtin_mul_overflow(left.integer, right.integer, &result))
            return value_int(result);
        if (whole) { /* 128 bits hold any product but that of two uints */
            if (left.type == VALUE_UINT && right.type == VALUE_UINT)
                return value_double(a * b);
            return value_whole(wide(left) * wide(right));
        }
        return function_number(node, row, a * b);
    case DIVIDE:
        if (b == 0)
            return evaluation_failed(node, row, "division by zero");
        return function_number(node, row, a / b);
    default:
        if (b == 0)
            return evaluation_failed(node, row, "division by zero");
        return whole ? value_whole(wide(left) % wide(right)) : function_number(node, row, fmod(a, b));
    }
}

static value_t shift_time(const node_t *node, const row_t *row, int64_t time, value_t seconds, bool back) {
    int64_t ns, result;
    if (!seconds_to_ns(seconds, &ns) || (back ? __builtin_sub_overflow(time, ns, &result) : __builtin_add_overflow(time, ns, &result)))
        return evaluation_failed(node, row, "a time out of range");
    return value_time(result);
}

static value_t join_texts(const node_t *node, const row_t *row, value_t left, value_t right) {
    size_t size = (size_t) left.size + right.size;
    if (size > RESULT_MAX)
        return function_too_long(node, row);
    char *text = arena_alloc(&row->context->arena, size);
    if (left.size)
        memcpy(text, left.text, left.size);
    if (right.size)
        memcpy(text + left.size, right.text, right.size);
    return value_text(text, size);
}

static value_t eval_arithmetic(const node_t *node, const row_t *row) {
    value_t left = evaluate(node->arguments[0], row), right = evaluate(node->arguments[1], row);
    if (value_is_number(left) && value_is_number(right))
        return calculate(node, row, left, right);
    if (left.type == VALUE_NULL || right.type == VALUE_NULL)
        return value_null();
    bool subtract = node->operation == SUBTRACT;
    if (node->operation == ADD && left.type == VALUE_STRING && right.type == VALUE_STRING && (size_t) left.size + right.size <= UINT32_MAX)
        return join_texts(node, row, left, right);
    if (left.type == VALUE_TIME && value_is_number(right) && (node->operation == ADD || subtract))
        return shift_time(node, row, left.time, right, subtract);
    if (value_is_number(left) && right.type == VALUE_TIME && node->operation == ADD)
        return shift_time(node, row, right.time, left, false);
    int64_t ns;
    if (left.type == VALUE_TIME && right.type == VALUE_TIME && subtract) {
        if (__builtin_sub_overflow(left.time, right.time, &ns))
            return evaluation_failed(node, row, "a time out of range");
        return ns_to_seconds(ns);
    }
    static const char *const verbs[] = {"added to", "less", "times", "divided by", "modulo"};
    bool text = (left.type == VALUE_STRING && value_is_number(right)) || (value_is_number(left) && right.type == VALUE_STRING);
    return evaluation_failed(node, row, "%s %s %s%s", name_of(left), verbs[node->operation], name_of(right),
                             !text ? "" : node->operation == ADD ? "; number(x) reads a number, concat(a, b) joins texts" : "; number(x) reads a number");
}

static value_t eval_negate(const node_t *node, const row_t *row) {
    value_t value = evaluate(node->arguments[0], row);
    switch (value.type) {
    case VALUE_NULL: return value;
    case VALUE_DOUBLE: return value_double(-value.number);
    case VALUE_INT:
    case VALUE_UINT: return value_whole(-wide(value));
    default: return evaluation_failed(node, row, "minus %s", name_of(value));
    }
}

static value_t eval_call(const node_t *node, const row_t *row) {
    const function_t *function = node->function;
    value_t arguments[FUNCTION_ARGUMENTS];
    for (unsigned i = 0; i < node->count; i++) {
        value_t value = evaluate(node->arguments[i], row);
        if (value.type == VALUE_NULL && !function->takes_null)
            return value;
        types_t takes = function->takes[i < 3 ? i : 2];
        if (!(takes & TYPE(value.type)) && value.type != VALUE_NULL)
            return evaluation_failed(node, row, "%s: argument %u is %s%s", function->signature, i + 1, name_of(value),
                                     takes == TYPE(VALUE_TIME) && value.type == VALUE_STRING ? "; time(x) makes a time of it" : "");
        arguments[i] = value;
    }
    return function->call(node, row, arguments, node->count);
}

/* Array and map literals are packed when they are needed. */
static value_t eval_container(const node_t *node, const row_t *row) {
    value_t values[CONTAINER_MAX];
    for (unsigned i = 0; i < node->count; i++)
        values[i] = evaluate(node->arguments[i], row);
    bool map = node->kind == NODE_MAP;
    buf_t *packed = function_buffer(row);
    for (unsigned i = 0; i < node->count && packed->size <= RESULT_MAX; i++) {
        if (map)
            pack_string(packed, node->steps[i].name.data, node->steps[i].name.size);
        pack_value(packed, values[i]);
    }
    return map ? function_made_map(node, row, packed, node->count) : function_made_array(node, row, packed, node->count);
}

void node_bind(node_t *node) {
    static const struct {
        value_t (*eval)(const node_t *node, const row_t *row);
        bool (*test)(const node_t *node, const row_t *row);
    } forms[] = {
        [NODE_CONSTANT] = {eval_constant, test_value}, [NODE_FIELD] = {eval_field, test_value},
        [NODE_VALUE] = {eval_value, test_value},       [NODE_PATH] = {eval_path, test_value},
        [NODE_EVENT_TIME] = {eval_event_time, test_value}, [NODE_META] = {eval_meta, test_value},
        [NODE_NEGATE] = {eval_negate, test_value},     [NODE_NOT] = {eval_test, test_not},
        [NODE_AND] = {eval_test, test_and},            [NODE_OR] = {eval_test, test_or},
        [NODE_COMPARE] = {eval_compare, test_compare}, [NODE_ARITHMETIC] = {eval_arithmetic, test_value},
        [NODE_IN] = {eval_test, test_in},              [NODE_MATCH] = {eval_test, test_match},
        [NODE_IS_NULL] = {eval_test, test_is_null},    [NODE_COALESCE] = {eval_coalesce, test_value},
        [NODE_IF] = {eval_if, test_value},             [NODE_CALL] = {eval_call, test_value},
        [NODE_ARRAY] = {eval_container, test_value},   [NODE_MAP] = {eval_container, test_value},
    };
    node->eval = forms[node->kind].eval;
    node->test = forms[node->kind].test;
    if (node->kind == NODE_IN && node->operation == IN_ARRAY)
        node->test = test_in_array;
    bind_fast(node);
}
