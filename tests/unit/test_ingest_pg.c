/* What comes from a PostgreSQL server: messages of replication, whole, cut short and damaged; values of all types, and texts that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../cmd/ingest/pg_output.h"
#include "../../cmd/ingest/pg_value.h"
#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"

#define MESSAGE(text) (text), sizeof(text) - 1

static const char begin[] = "B\0\0\0\1\0\0\0\2\0\2\224\255\77\347\240\0\0\0\2\307";
static const char relation[] = "R\0\0\100\1public\0t\0d\0\2\1id\0\0\0\0\27\377\377\377\377\0name\0\0\0\0\31\377\377\377\377";
static const char insert[] = "I\0\0\100\1N\0\2t\0\0\0\0017t\0\0\0\3abc";
static const char update[] = "U\0\0\100\1K\0\2t\0\0\0\0017nN\0\2t\0\0\0\0018u";
static const char delete[] = "D\0\0\100\1O\0\2t\0\0\0\0017n";
static const char truncate[] = "T\0\0\0\1\1\0\0\100\1";
static const char commit[] = "C\0\0\0\0\1\0\0\0\2\0\0\0\1\0\0\0\11\0\2\224\255\77\347\240\0";

typedef struct sample {
    const char *bytes;
    size_t size;
} sample_t;
static const sample_t samples[] = {{MESSAGE(begin)}, {MESSAGE(relation)}, {MESSAGE(insert)}, {MESSAGE(update)}, {MESSAGE(delete)}, {MESSAGE(truncate)},
                                   {MESSAGE(commit)}};
#define SAMPLES (sizeof samples / sizeof *samples)

static int decode(output_decoder_t *decoder, const char *bytes, size_t size) {
    err_t err = {{0}};
    uint8_t *copy = mem_copy(bytes, size + !size); /* its own memory, so that reading beyond it shows */
    int result = output_decode(decoder, copy, size, &err);
    assert_true(result == 0 || *err.text);
    mem_free(copy);
    return result;
}

static int set_up(void **state) {
    *state = mem_zero(sizeof(output_decoder_t));
    output_decoder_init(*state);
    return 0;
}

static int tear_down(void **state) {
    output_decoder_fini(*state);
    mem_free(*state);
    return 0;
}

static void messages_of_a_transaction_are_decoded(void **state) {
    output_decoder_t *decoder = *state;
    const output_t *message = &decoder->message;
    err_t err;
    assert_int_equal(output_decode(decoder, (const uint8_t *) MESSAGE(begin), &err), 0);
    assert_int_equal(message->lsn, UINT64_C(0x100000002));
    assert_int_equal(message->xid, 711);
    assert_int_equal(output_decode(decoder, (const uint8_t *) MESSAGE(relation), &err), 0);
    assert_string_equal(message->relation->table, "t");
    assert_true(message->relation->columns[0].key && !message->relation->columns[1].key);
    assert_int_equal(output_decode(decoder, (const uint8_t *) MESSAGE(insert), &err), 0);
    assert_int_equal(message->new.count, 2);
    assert_true(text_is(message->new.fields[1].text, "abc"));
    assert_int_equal(output_decode(decoder, (const uint8_t *) MESSAGE(update), &err), 0);
    assert_int_equal(message->old_kind, 'K');
    assert_true(text_is(message->old.fields[0].text, "7") && text_is(message->new.fields[0].text, "8"));
    assert_int_equal(message->new.fields[1].kind, 'u');
    assert_int_equal(output_decode(decoder, (const uint8_t *) MESSAGE(delete), &err), 0);
    assert_int_equal(message->new.count, 0);
    assert_int_equal(output_decode(decoder, (const uint8_t *) MESSAGE(truncate), &err), 0);
    assert_int_equal(message->truncated, 1);
    assert_string_equal(message->truncations[0]->schema, "public");
    assert_int_equal(output_decode(decoder, (const uint8_t *) MESSAGE(commit), &err), 0);
    assert_int_equal(message->end, UINT64_C(0x100000009));
}

static void changes_of_a_relation_that_was_not_told_are_refused(void **state) {
    assert_int_equal(decode(*state, MESSAGE(insert)), -1);
    assert_int_equal(decode(*state, MESSAGE(relation)), 0);
    assert_int_equal(decode(*state, MESSAGE(insert)), 0);
    output_forget(*state);
    assert_int_equal(decode(*state, MESSAGE(insert)), -1);
}

static void messages_cut_short_are_refused(void **state) {
    assert_int_equal(decode(*state, MESSAGE(relation)), 0);
    for (size_t i = 0; i < SAMPLES; i++) {
        for (size_t size = 0; size < samples[i].size; size++)
            assert_int_equal(decode(*state, samples[i].bytes, size), -1);
    }
}

static void damaged_messages_do_no_harm(void **state) {
    uint64_t random = 1;
    assert_int_equal(decode(*state, MESSAGE(relation)), 0);
    for (int round = 0; round < 200000; round++) {
        char bytes[64];
        const sample_t *sample = &samples[(random >> 33) % SAMPLES];
        memcpy(bytes, sample->bytes, sample->size);
        for (int changes = 0; changes < 3; changes++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
            bytes[(random >> 40) % sample->size] = (char) (random >> 32);
        }
        decode(*state, bytes, sample->size);
    }
}

/* The value as JSON, or "TYPE" of what JSON has no name for. */
static void check(Oid type, const char *text, const char *expected) {
    pg_types_t types = {0};
    buf_t packed = {0}, json = {0};
    pg_put_value(&types, &packed, type, text_of(text));
    assert_true(json_put_packed(&json, packed.data, packed.size));
    assert_string_equal(buf_text(&json), expected);
    buf_fini(&packed);
    buf_fini(&json);
}

static void values_that_fit_are_typed_and_others_stay_text(void **state) {
    check(23, "-5", "-5");
    check(23, "five", "\"five\"");
    check(1700, "1.50", "1.5");
    check(1700, "0.00", "0.0");
    check(1700, "-0.000001", "-1e-6");
    check(1700, "100000000000000000000", "1e+20");
    check(1700, "123456789012345.6", "\"123456789012345.6\"");
    check(1700, "12345678901234.5", "12345678901234.5");
    check(1700, "", "\"\"");
    check(1700, "-", "\"-\"");
    check(16, "t", "true");
    check(17, "\\x", "\"\"");
    check(17, "\\x0", "\"\\\\x0\"");
    check(17, "\\xzz", "\"\\\\xzz\"");
    check(114, "{\"a\":[1]} ", "{\"a\":[1]}");
    check(114, "{\"a\":", "\"{\\\"a\\\":\"");
    check(1184, "2026-01-02 03:04:05.5+00", "\"2026-01-02T03:04:05.5Z\"");
    check(1184, "-infinity", "\"-infinity\"");
    check(99999, "whatever", "\"whatever\"");
}

static void arrays_are_nested_and_malformed_ones_stay_text(void **state) {
    check(1007, "{}", "[]");
    check(1007, "{1,NULL,3}", "[1,null,3]");
    check(1007, "{{1,2},{3,4}}", "[[1,2],[3,4]]");
    check(1007, "[0:1]={1,2}", "[1,2]");
    check(1009, "{\"a,b\",\"\\\"\\\\\",\"NULL\",null,\"\"}", "[\"a,b\",\"\\\"\\\\\",\"NULL\",null,\"\"]");
    static const char *const malformed[] = {"", "{", "}", "{1", "1}", "{1,{2}", "{1}}", "{\"a}", "{1}2}", "[0:1]=", "[0:1", "{\"a\\\"}", "{{{{{{{1}}}}}}}"};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        buf_t quoted = {0};
        text_put_json(&quoted, text_of(malformed[i]));
        check(1007, malformed[i], buf_text(&quoted));
        buf_fini(&quoted);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_of_a_transaction_are_decoded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changes_of_a_relation_that_was_not_told_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_cut_short_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_messages_do_no_harm, set_up, tear_down),
        cmocka_unit_test(values_that_fit_are_typed_and_others_stay_text),
        cmocka_unit_test(arrays_are_nested_and_malformed_ones_stay_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
