/* Expressions as text, from their nodes. */
#include "data/lang/print.h"

#include <ctype.h>
#include <inttypes.h>

#include "base/clock.h"
#include "data/json.h"
#include "data/lang/evaluate.h"
#include "data/lang/function.h"

#define CONSTANT_MAX 200      /* bytes that are shown of one */

void name_put(buf_t *out, text_t name) {
    bool word = name.size && !isdigit((unsigned char) name.data[0]);
    for (size_t i = 0; word && i < name.size; i++)
        word = isalnum((unsigned char) name.data[i]) || name.data[i] == '_';
    if (word)
        buf_put(out, name.data, name.size);
    else
        buf_format(out, "`%.*s`", (int) name.size, name.data);
}

void value_put(buf_t *out, value_t value, size_t limit) {
    char time[CLOCK_TEXT_MAX];
    size_t start = out->size;
    if (value.type == VALUE_TIME)
        buf_put(out, time, clock_print(time, value.time));
    else
        json_put_value(out, value);
    if (out->size - start <= limit)
        return;
    size_t keep = limit;
    while (keep && (out->data[start + keep] & 0xC0) == 0x80) /* no half character */
        keep--;
    out->size = start + keep;
    buf_put_text(out, "...");
}

/* What may stand inside another expression without parentheses. */
static bool is_simple(const node_t *node) {
    switch (node->kind) {
    case NODE_CONSTANT: case NODE_FIELD: case NODE_VALUE: case NODE_PATH: case NODE_EVENT_TIME: case NODE_META: case NODE_IF: case NODE_CALL:
    case NODE_ARRAY: case NODE_MAP:
        return true;
    default:
        return false;
    }
}

static void put_inside(buf_t *out, const node_t *node) {
    bool simple = is_simple(node);
    buf_put_text(out, simple ? "" : "(");
    node_put(out, node);
    buf_put_text(out, simple ? "" : ")");
}

static void put_two(buf_t *out, const node_t *node, const char *between) {
    put_inside(out, node->arguments[0]);
    buf_format(out, " %s ", between);
    put_inside(out, node->arguments[1]);
}

static void put_list(buf_t *out, const node_t *node, unsigned first, const char *open, const char *close) {
    buf_put_text(out, open);
    for (unsigned i = first; i < node->count; i++) {
        buf_put_text(out, i > first ? ", " : "");
        if (node->kind == NODE_MAP) {
            name_put(out, node->steps[i].name);
            buf_put_text(out, ": ");
        }
        node_put(out, node->arguments[i]);
    }
    buf_put_text(out, close);
}

static void put_path(buf_t *out, const node_t *node) {
    put_inside(out, node->arguments[0]);
    for (unsigned i = 0; i < node->steps_count; i++) {
        const step_t *step = &node->steps[i];
        if (!step->name.data) {
            buf_format(out, "[%" PRId64 "]", step->index);
            continue;
        }
        buf_put_byte(out, '.');
        name_put(out, step->name);
    }
}

static void put_in(buf_t *out, const node_t *node) {
    put_inside(out, node->arguments[0]);
    buf_put_text(out, node->negated ? " not in " : " in ");
    if (node->operation == IN_LIST)
        put_list(out, node, 1, "(", ")");
    else
        put_inside(out, node->arguments[1]);
}

static void put_match(buf_t *out, const node_t *node) {
    put_inside(out, node->arguments[0]);
    buf_put_text(out, node->negated ? " !~ " : " ~ ");
    buf_put(out, node->constant.text, node->constant.size);
}

void node_put(buf_t *out, const node_t *node) {
    static const char *const comparisons[] = {"==", "!=", "<", "<=", ">", ">="}, *const arithmetics[] = {"+", "-", "*", "/", "%"};
    switch ((node_kind_t) node->kind) {
    case NODE_CONSTANT: value_put(out, node->constant, CONSTANT_MAX); return;
    case NODE_FIELD: case NODE_VALUE: name_put(out, text_make(node->constant.text, node->constant.size)); return;
    case NODE_PATH: put_path(out, node); return;
    case NODE_EVENT_TIME: buf_put_text(out, "@timestamp"); return;
    case NODE_META: buf_put_text(out, node->operation == META_STREAM ? "meta.stream" : "meta.ingest_time"); return;
    case NODE_NEGATE: buf_put_byte(out, '-'); put_inside(out, node->arguments[0]); return;
    case NODE_NOT: buf_put_text(out, "not "); put_inside(out, node->arguments[0]); return;
    case NODE_AND: put_two(out, node, "and"); return;
    case NODE_OR: put_two(out, node, "or"); return;
    case NODE_COMPARE: put_two(out, node, comparisons[node->operation]); return;
    case NODE_ARITHMETIC: put_two(out, node, arithmetics[node->operation]); return;
    case NODE_COALESCE: put_two(out, node, "??"); return;
    case NODE_IN: put_in(out, node); return;
    case NODE_MATCH: put_match(out, node); return;
    case NODE_IS_NULL: put_inside(out, node->arguments[0]); buf_put_text(out, node->negated ? " is not null" : " is null"); return;
    case NODE_IF: put_list(out, node, 0, "if(", ")"); return;
    case NODE_CALL: buf_put_text(out, node->function->name); put_list(out, node, 0, "(", ")"); return;
    case NODE_ARRAY: put_list(out, node, 0, "[", "]"); return;
    case NODE_MAP: put_list(out, node, 0, "{", "}"); return;
    }
}
