/* Whether what came out is what was expected, member by member. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "case_run.h"

static bool number_matches(const json_t *expected, const json_t *found, const case_options_t *options) {
    if (json_is_integer(expected) && json_is_integer(found) && json_integer_value(expected) == json_integer_value(found))
        return true;
    if (json_is_integer(expected) && json_is_integer(found) && !options->tolerant)
        return false;
    double a = json_number_value(expected), b = json_number_value(found), size = fmax(1, fmax(fabs(a), fabs(b)));
    return a == b || fabs(a - b) <= options->tolerance * size;
}

static bool has_the_same(const json_t *expected, const json_t *found, const case_options_t *options) {
    if (json_object_size(expected) != json_object_size(found))
        return false;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *) expected, key, value) {
        const json_t *other = json_object_get(found, key);
        if (!other || !case_value_matches(value, other, options))
            return false;
    }
    return true;
}

bool case_value_matches(const json_t *expected, const json_t *found, const case_options_t *options) {
    if (json_is_number(expected) && json_is_number(found))
        return number_matches(expected, found, options);
    if (json_is_object(expected) && json_is_object(found))
        return has_the_same(expected, found, options);
    if (!json_is_array(expected) || !json_is_array(found))
        return json_equal(expected, found);
    if (json_array_size(expected) != json_array_size(found))
        return false;
    for (size_t i = 0; i < json_array_size(expected); i++)
        if (!case_value_matches(json_array_get(expected, i), json_array_get(found, i), options))
            return false;
    return true;
}

static bool time_matches(const json_t *expected, const json_t *found) {
    int64_t a, b;
    return json_is_string(expected) && json_is_string(found) && clock_parse(text_of(json_string_value(expected)), &a) &&
           clock_parse(text_of(json_string_value(found)), &b) && a == b;
}

/* A top-level member of what is expected. */
static bool member_matches(const char *key, const json_t *expected, const json_t *found, const case_options_t *options) {
    if (strcmp(key, "@stream") == 0) /* events of different streams are not compared */
        return true;
    if (!found)
        return false;
    return case_value_matches(expected, found, options) || (strcmp(key, "@timestamp") == 0 && time_matches(expected, found));
}

bool case_item_matches(const case_item_t *expected, const case_item_t *found, const case_options_t *options, case_part_kind_t kind) {
    text_t text = text_trim(expected->text);
    if (text_equal(text, found->text))
        return true;
    if (kind == PART_DEAD && !expected->json) /* the reason alone */
        return text_is(text, json_string_value(json_object_get(found->json, "reason")));
    if (!json_is_object(expected->json) || !json_is_object(found->json))
        return false;
    const char *key;
    json_t *value;
    json_object_foreach(expected->json, key, value)
        if (!member_matches(key, value, json_object_get(found->json, key), options))
            return false;
    json_object_foreach(found->json, key, value)
        if (kind == PART_OUT && strcmp(key, "@timestamp") != 0 && strcmp(key, "@stream") != 0 && !json_object_get(expected->json, key))
            return false;
    return true;
}
