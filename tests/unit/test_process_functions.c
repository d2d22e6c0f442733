/* The table of functions: each example is true, names are unique and in order. That stream-language(7) has it all is a scenario's matter. */
#include "process_harness.h"

#include "data/lang/function.h"

/* "A = B": both sides give the same. */
static bool example_is_true(const char *example) {
    const char *equal = NULL;
    for (const char *at = example; (at = strstr(at, " = ")); at++)
        equal = at;
    assert_non_null(equal);
    char *program = mem_format("keep to_json(%.*s) as a, to_json(%s) as b | where a != b", (int) (equal - example), example, equal + 3);
    outcome_t outcome;
    cut_t cut = {0};
    harness_run(program, strlen(program), "{}", 2, &cut, &outcome);
    if (outcome.text.size)
        fail_msg("%s: %s", example, buf_text(&outcome.text));
    if (outcome.errors)
        fail_msg("%s: errors", example);
    outcome_fini(&outcome);
    mem_free(program);
    return true;
}

static void examples_are_true(void **state) {
    unsigned checked = 0;
    for (const function_t *const *table = function_tables; *table; table++)
        for (const function_t *function = *table; function->name; function++)
            checked += function->example && example_is_true(function->example);
    assert_true(checked > 175);
}

static void names_are_unique_and_sorted_in_their_groups(void **state) {
    for (const function_t *const *table = function_tables; *table; table++) {
        for (const function_t *function = *table; function->name; function++) {
            if (function[1].name)
                assert_true(strcmp(function[0].name, function[1].name) < 0);
            assert_string_equal(function->group, (*table)->group);
            assert_ptr_equal(function_find(text_of(function->name)), function);
            assert_true(text_starts(function->signature, function->name) && function->signature[strlen(function->name)] == '(');
            assert_true(text_ends(function->help, "."));
            assert_true(function->least <= function->most && function->most <= FUNCTION_ARGUMENTS);
            assert_true(function->example || function->impure);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_are_true),
        cmocka_unit_test(names_are_unique_and_sorted_in_their_groups),
    };
    return cmocka_run_group_tests_name("process_functions", tests, NULL, NULL);
}
