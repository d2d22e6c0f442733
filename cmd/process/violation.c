/* What is wrong with an event, for people and for programs. */
#include "violation.h"

#include "data/json.h"

#define SHOWN_MAX 100         /* bytes of a value, as JSON */

void violations_add(violations_t *violations, text_t field, text_t rule, value_t value) {
    if (violations->count < VIOLATIONS_MAX)
        violations->items[violations->count++] = (violation_t){field, rule, value};
    else
        violations->more++;
}

/* Long values are cut: a text of a few bytes shows what they are. */
static void put_shown(value_t value, buf_t *out) {
    buf_t json = {0};
    json_put_value(&json, value);
    text_put_visible(out, text_make((const char *) json.data, json.size), SHOWN_MAX);
    buf_fini(&json);
}

void violations_put(const violations_t *violations, buf_t *out) {
    for (unsigned i = 0; i < violations->count; i++) {
        const violation_t *violation = &violations->items[i];
        if (i)
            buf_put_text(out, "; ");
        if (violation->field.data) {
            buf_put(out, violation->field.data, violation->field.size);
            buf_put_text(out, ": ");
        }
        buf_put(out, violation->rule.data, violation->rule.size);
        if (value_is_absent(violation->value))
            continue;
        buf_put_text(out, ", found ");
        put_shown(violation->value, out);
    }
    if (violations->more)
        buf_format(out, "; and %u more", violations->more);
}

value_t violations_value(const violations_t *violations, const row_t *row) {
    buf_t out = {0}, shown = {0};
    pack_array(&out, violations->count);
    for (unsigned i = 0; i < violations->count; i++) {
        const violation_t *violation = &violations->items[i];
        bool value = !value_is_absent(violation->value);
        pack_map(&out, 1 + (violation->field.data != NULL) + value);
        if (violation->field.data) {
            pack_text(&out, "field");
            pack_string(&out, violation->field.data, violation->field.size);
        }
        pack_text(&out, "rule");
        pack_string(&out, violation->rule.data, violation->rule.size);
        if (!value)
            continue;
        pack_text(&out, "value");
        bool large = violation->value.type >= VALUE_STRING && violation->value.type <= VALUE_MAP && violation->value.size > SHOWN_MAX;
        bool nested = violation->value.type == VALUE_ARRAY || violation->value.type == VALUE_MAP; /* it would be deeper here */
        if (large || nested) {
            buf_clear(&shown);
            put_shown(violation->value, &shown);
            pack_string(&out, (const char *) shown.data, shown.size);
        } else {
            pack_value(&out, violation->value);
        }
    }
    const uint8_t *copy = arena_copy(&row->context->arena, out.data, out.size);
    value_t value = record_value(copy, copy + out.size);
    buf_fini(&out);
    buf_fini(&shown);
    return value;
}
