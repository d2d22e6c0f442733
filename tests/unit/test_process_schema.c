/* JSON Schema: which schemas are taken, which are refused and why, and what values break. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../../cmd/process/schema.h"
#include "data/json.h"

static void refused_by_name(void **state) {
    static const char *const cases[][2] = {
        {"", "no JSON, from line 1, column 0 on"},
        {"{\"type\":\"string\",\"type\":\"number\"}", "no JSON, from line 1, column 23 on"},
        {"5", "/: a schema is an object, true or false"},
        {"{\"$ref\":\"#/$defs/a\"}", "/: the keyword $ref is not supported"},
        {"{\"properties\":{\"a\":{\"multipleOf\":2}}}", "/properties/a: the keyword multipleOf is not supported"},
        {"{\"items\":{\"items\":{\"contains\":{}}}}", "/items/items: the keyword contains is not supported"},
        {"{\"items\":[{}]}", "/: items is one schema, for all items"},
        {"{\"type\":\"float\"}", "/: type is one of null, boolean, integer, number, string, array, object, or several of them"},
        {"{\"type\":[]}", "/: type names none"},
        {"{\"required\":\"a\"}", "/: required is an array of names"},
        {"{\"required\":[1]}", "/: required is an array of names"},
        {"{\"properties\":[]}", "/: properties is an object"},
        {"{\"minimum\":\"1\"}", "/: minimum is a number"},
        {"{\"exclusiveMinimum\":true}", "/: exclusiveMinimum is a number (true and false are those of draft 4)"},
        {"{\"minimum\":1,\"exclusiveMinimum\":1}", "/: exclusiveMinimum beside the other bound on this side"},
        {"{\"minLength\":-1}", "/: minLength is a whole number from 0 on"},
        {"{\"maxItems\":1.5}", "/: maxItems is a whole number from 0 on"},
        {"{\"pattern\":\"(\"}", "/: pattern missing closing parenthesis"},
        {"{\"format\":\"hostname\"}", "/: format hostname is not known; known are date-time, date, email, ipv4, ipv6, uri, uuid"},
        {"{\"enum\":1}", "/: enum is an array"},
        {"{\"enum\":[1],\"const\":1}", "/: enum and const together"},
        {"{\"anyOf\":{}}", "/: anyOf is an array of schemas"},
        {"{\"allOf\":[{},{\"oneOf\":[]}]}", "/allOf: oneOf is an array of schemas"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err_t err;
        assert_null(schema_new(text_of(cases[i][0]), &err));
        assert_string_equal(err.text, cases[i][1]);
    }
}

static void too_deep_is_refused(void **state) {
    buf_t text = {0};
    for (int i = 0; i < 70; i++)
        buf_put_text(&text, "{\"items\":");
    buf_put_text(&text, "{}");
    for (int i = 0; i < 70; i++)
        buf_put_byte(&text, '}');
    err_t err;
    assert_null(schema_new(text_make((char *) text.data, text.size), &err));
    assert_non_null(strstr(err.text, "nested too deep"));
    buf_fini(&text);
}

/* What is wrong with the JSON value, in one line. */
static void check(const char *schema_text, const char *json, const char *expected) {
    err_t err;
    schema_t *schema = schema_new(text_of(schema_text), &err);
    if (!schema)
        fail_msg("%s: %s", schema_text, err.text);
    buf_t packed = {0}, found = {0};
    assert_true(json_read_value(text_of(json), &packed, &err) > 0);
    context_t context = {0};
    row_t row = {.context = &context};
    violations_t violations = {0};
    schema_check(schema, record_value(packed.data, packed.data + packed.size), (text_t){0}, &row, &violations);
    violations_put(&violations, &found);
    assert_string_equal(buf_text(&found), expected);
    schema_free(schema);
    arena_fini(&context.arena);
    buf_fini(&packed);
    buf_fini(&found);
}

static void types(void **state) {
    check("{\"type\":\"integer\"}", "2.0", "");
    check("{\"type\":\"integer\"}", "2.5", "type integer, found 2.5");
    check("{\"type\":\"integer\"}", "18446744073709551615", "");
    check("{\"type\":[\"null\",\"boolean\"]}", "null", "");
    check("{\"type\":[\"null\",\"boolean\"]}", "\"true\"", "type null or boolean, found \"true\"");
    check("{\"type\":\"object\"}", "[]", "type object, found []");
    check("true", "1", "");
    check("false", "1", "false, found 1");
    check("{\"title\":\"t\",\"default\":1,\"$defs\":{\"a\":{\"if\":1}}}", "1", "");
}

static void numbers_are_compared_exactly(void **state) {
    check("{\"minimum\":9007199254740993}", "9007199254740992", "minimum 9007199254740993, found 9007199254740992");
    check("{\"minimum\":9007199254740993}", "9007199254740993", "");
    check("{\"exclusiveMaximum\":1.5}", "1.5", "exclusiveMaximum 1.5, found 1.5");
    check("{\"maximum\":-1,\"exclusiveMinimum\":-3}", "-3", "exclusiveMinimum -3, found -3");
    check("{\"minimum\":5}", "\"1\"", "");
}

static void texts(void **state) {
    check("{\"minLength\":2,\"maxLength\":3}", "\"\xc3\xa4\"", "minLength 2, found \"\xc3\xa4\"");
    check("{\"minLength\":2,\"maxLength\":3}", "\"\xc3\xa4\xc3\xb6\xc3\xbc\"", "");
    check("{\"pattern\":\"b\"}", "\"abc\"", "");
    check("{\"pattern\":\"^b\"}", "\"abc\"", "pattern ^b, found \"abc\"");
}

static void formats(void **state) {
    static const char *const good[][2] = {{"date-time", "2026-01-02T03:04:05.5+01:00"}, {"date-time", "2026-01-02t03:04:05z"}, {"date", "2024-02-29"},
                                          {"email", "a.b+c@example.org"}, {"ipv4", "10.0.0.1"}, {"ipv6", "::ffff:10.0.0.1"}, {"uri", "urn:x"},
                                          {"uri", "https://example.org/a?b#c"}, {"uuid", "123e4567-e89b-12d3-a456-426614174000"}};
    static const char *const bad[][2] = {{"date-time", "2026-01-02"}, {"date-time", "2026-01-02T03:04:05"}, {"date-time", "2026-13-02T03:04:05Z"}, {"date", "2026-02-30"},
                                         {"date", "02.01.2026"}, {"email", "a@"}, {"email", "@b"}, {"email", "a b@c"}, {"email", "a@b..c"}, {"ipv4", "10.0.0"},
                                         {"ipv4", "10.0.0.01x"}, {"ipv6", "1:2"}, {"uri", "example"}, {"uri", "a: b"}, {"uuid", "123e4567e89b12d3a456426614174000"}, {"uuid", ""}};
    char schema[80], json[120], expected[200];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(schema, sizeof schema, "{\"format\":\"%s\"}", good[i][0]);
        snprintf(json, sizeof json, "\"%s\"", good[i][1]);
        check(schema, json, "");
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(schema, sizeof schema, "{\"format\":\"%s\"}", bad[i][0]);
        snprintf(json, sizeof json, "\"%s\"", bad[i][1]);
        snprintf(expected, sizeof expected, "format %s, found %s", bad[i][0], json);
        check(schema, json, expected);
    }
}

static void arrays_and_objects(void **state) {
    check("{\"items\":{\"type\":\"number\"},\"minItems\":2}", "[\"a\"]", "minItems 2, found [\"a\"]; [0]: type number, found \"a\"");
    check("{\"properties\":{\"a\":{\"items\":{\"required\":[\"b\"]}}}}", "{\"a\":[{\"b\":1},{}]}", "a[1].b: required");
    check("{\"required\":[\"a\"]}", "{\"a\":null}", "");
    check("{\"additionalProperties\":false,\"properties\":{\"a\":{}}}", "{\"a\":1,\"b\":2}", "b: additionalProperties false, found 2");
    check("{\"additionalProperties\":{\"type\":\"number\"}}", "{\"a\":1,\"b\":\"x\"}", "b: type number, found \"x\"");
    check("{\"minProperties\":1,\"maxProperties\":1}", "{\"a\":1,\"b\":2}", "maxProperties 1, found {\"a\":1,\"b\":2}");
    check("{\"enum\":[[1],{\"a\":1},null]}", "null", "");
    check("{\"enum\":[[1],{\"a\":1}]}", "{\"a\":1}", "");
    check("{\"enum\":[[1],{\"a\":1}]}", "[1,2]", "enum, found [1,2]");
    check("{\"const\":1}", "1.0", "");
    check("{\"const\":false}", "0", "const, found 0");
}

static void combinations(void **state) {
    check("{\"allOf\":[{\"minimum\":1},{\"maximum\":2}]}", "3", "maximum 2, found 3");
    check("{\"anyOf\":[{\"type\":\"string\"},{\"minimum\":5}]}", "3", "anyOf, found 3");
    check("{\"anyOf\":[{\"type\":\"string\"},{\"minimum\":5}]}", "7", "");
    check("{\"oneOf\":[{\"maximum\":5},{\"minimum\":3}]}", "4", "oneOf, found 4");
    check("{\"oneOf\":[{\"maximum\":5},{\"minimum\":3}]}", "6", "");
    check("{\"not\":{\"required\":[\"a\"]}}", "{\"a\":1}", "not, found {\"a\":1}");
    check("{\"not\":{\"not\":{\"type\":\"string\"}}}", "5", "not, found 5");
}

static void many_violations_are_counted(void **state) {
    buf_t json = {0};
    buf_put_byte(&json, '[');
    for (int i = 0; i < 100; i++)
        buf_format(&json, "%s\"%d\"", i ? "," : "", i);
    buf_put_byte(&json, ']');
    err_t err;
    schema_t *schema = schema_new(text_of("{\"items\":{\"type\":\"number\"}}"), &err);
    buf_t packed = {0}, found = {0};
    assert_true(json_read_value(text_make((char *) json.data, json.size), &packed, &err) > 0);
    context_t context = {0};
    row_t row = {.context = &context};
    violations_t violations = {0};
    schema_check(schema, record_value(packed.data, packed.data + packed.size), (text_t){0}, &row, &violations);
    violations_put(&violations, &found);
    assert_non_null(strstr(buf_text(&found), "[31]: type number, found \"31\"; and 68 more"));
    schema_free(schema);
    arena_fini(&context.arena);
    buf_fini(&json);
    buf_fini(&packed);
    buf_fini(&found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_by_name), cmocka_unit_test(too_deep_is_refused), cmocka_unit_test(types), cmocka_unit_test(numbers_are_compared_exactly),
        cmocka_unit_test(texts), cmocka_unit_test(formats), cmocka_unit_test(arrays_and_objects), cmocka_unit_test(combinations),
        cmocka_unit_test(many_violations_are_counted),
    };
    return cmocka_run_group_tests_name("process_schema", tests, NULL, NULL);
}
