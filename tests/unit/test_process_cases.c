/* Every language case in tests/cases, run in memory in many ways that must not make a difference: events in one frame, one by one, in uneven
 * frames, without watermarks in the frames, and with the program saved and loaded after each frame. */
#include "process_cases.h"
#include "process_harness.h"

static void check_faults(const language_case_t *test) {
    outcome_t outcome = {0};
    diagnostics_t diagnostics;
    program_t *program = harness_program(test->program, test->program_size, &outcome, &diagnostics);
    assert_null(program);
    buf_t found = {0}, shown = {0};
    for (size_t i = 0; i < diagnostics.count; i++) {
        const diagnostic_t *item = &diagnostics.items[i];
        buf_format(&found, "%u:%u: %s\n", item->line, item->column, item->message);
        if (item->hint)
            buf_format(&found, "hint: %s\n", item->hint);
    }
    assert_string_equal(buf_text(&found), test->faults);
    diagnostics_print(&diagnostics, &shown);
    diagnostics_fini(&diagnostics);
    buf_fini(&found);
    buf_fini(&shown);
}

static void run_case(void **state) {
    const language_case_t *test = *state;
    case_enter(test);
    if (test->faults) {
        check_faults(test);
        case_leave(test);
        return;
    }
    assert_non_null(test->output);
    static const cut_t cuts[] = {{0}, {1}, {UINT32_MAX}, {1, false, true}, {0, false, true}, {1, true}, {2, true, true}, {0, .traced = true}, {2, true, .traced = true}};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        outcome_t outcome;
        const char *input = test->input ? test->input : "";
        harness_run(test->program, test->program_size, input, strlen(input), &cuts[i], &outcome);
        assert_string_equal(buf_text(&outcome.text), test->output);
        assert_string_equal(buf_text(&outcome.dead_text), test->dead ? test->dead : "");
        assert_int_equal(outcome.errors, test->errors);
        program_counts_t counts = outcome.counts;
        assert_int_equal(counts.held, 0);
        assert_int_equal(outcome.in + counts.created, outcome.out + counts.filtered + counts.late + outcome.dead);
        outcome_fini(&outcome);
    }
    case_leave(test);
}

int main(void) {
    read_all_cases();
    struct CMUnitTest *tests = mem_zero((case_count + 1) * sizeof *tests);
    for (size_t i = 0; i < case_count; i++)
        tests[i] = (struct CMUnitTest){.name = cases[i].name, .test_func = run_case, .initial_state = &cases[i]};
    int failed = case_count ? _cmocka_run_group_tests("process_cases", tests, case_count, NULL, NULL) : 1;
    mem_free(tests);
    free_cases();
    return failed != 0;
}
