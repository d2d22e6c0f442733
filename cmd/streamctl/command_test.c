/* test: runs files of test cases, and shows what is not as expected. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/memory.h"
#include "case_run.h"
#include "command.h"

#define FILTERS_MAX 64

typedef struct test_run {
    const char *config;
    const char *filters[FILTERS_MAX];
    size_t filter_count;
    bool update, verbose;
    size_t passed, failed, updated;
} test_run_t;

/* Every word of --filter is to stand in the name. */
static bool meant(const test_run_t *run, const test_case_t *test) {
    for (size_t i = 0; i < run->filter_count; i++)
        if (!strstr(test->title, run->filters[i]))
            return false;
    return true;
}

static void run_case(test_run_t *run, const case_file_t *file, const test_case_t *test, case_outcome_t *outcome) {
    case_run(file, test, outcome);
    if (outcome->passed) {
        run->passed++;
        if (run->verbose)
            printf("ok     %s:%zu: %s\n", file->path, test->line + 1, test->title);
        return;
    }
    run->failed++;
    if (!run->update || outcome->failure)
        case_print(file, test, outcome, stdout);
    fflush(stdout);
}

/* The exit status. */
static int run_file(test_run_t *run, const char *path) {
    case_file_t *file = NULL;
    config_errors_t errors = {0};
    int status = 0;
    if (case_file_read(&file, path, run->config, &errors)) {
        fflush(stdout);
        config_errors_print(&errors, path, stderr);
        status = EX_USAGE;
    }
    case_outcome_t *outcomes = mem_zero((file->case_count + 1) * sizeof *outcomes);
    for (size_t i = 0; status == 0 && i < file->case_count; i++)
        if (meant(run, &file->cases[i]))
            run_case(run, file, &file->cases[i], &outcomes[i]);
    if (run->update && status == 0) {
        size_t updated;
        err_t err = {{0}};
        if (case_update(file, outcomes, &updated, &err))
            status = command_failed("%s", err.text);
        else
            run->updated += updated;
    }
    for (size_t i = 0; i < file->case_count; i++)
        case_outcome_fini(&outcomes[i]);
    mem_free(outcomes);
    case_file_free(file);
    config_errors_fini(&errors);
    return status;
}

static int summary(const test_run_t *run, int status) {
    if (status != EX_USAGE && run->passed + run->failed == 0)
        return command_usage("test", "no case has such a name");
    if (run->update)
        printf("%zu passed, %zu updated, %zu failed\n", run->passed, run->updated, run->failed - run->updated);
    else
        printf("%zu passed, %zu failed\n", run->passed, run->failed);
    if (fflush(stdout) != 0 || ferror(stdout))
        return command_failed("standard output could not be written");
    return status ? status : run->failed > run->updated ? EXIT_FAILURE : EXIT_SUCCESS;
}

int command_test(int argc, char **argv) {
    test_run_t run = {0};
    int missing, status = 0;
    run.update = command_flag(&argc, argv, NULL, "--update");
    run.verbose = command_flag(&argc, argv, "-v", "--verbose");
    run.config = command_option(&argc, argv, NULL, "--config", &missing);
    if (missing)
        return command_usage("test", "--config takes a config.json");
    for (const char *word; (word = command_option(&argc, argv, NULL, "--filter", &missing)) || missing;) {
        if (missing || run.filter_count == FILTERS_MAX)
            return command_usage("test", "--filter takes a part of a case's name");
        run.filters[run.filter_count++] = word;
    }
    for (int i = 0; i < argc; i++)
        if (argv[i][0] == '-')
            return command_usage("test", "unknown option %s", argv[i]);
    if (argc == 0)
        return command_usage("test", "it takes files of test cases: see TESTING PROGRAMS in streamctl(1)");
    for (int i = 0; i < argc; i++) {
        int result = run_file(&run, argv[i]);
        status = result > status ? result : status;
    }
    return summary(&run, status);
}
