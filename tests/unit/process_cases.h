#ifndef TESTS_PROCESS_CASES_H
#define TESTS_PROCESS_CASES_H

/* Reads the language cases in tests/cases: triplets of program, input and expected output or faults. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

typedef struct language_case {
    char *name, *program, *input, *output, *dead, *faults;   /* owned; NULL: no such part */
    struct case_file {
        char *name, *content;
    } *files;                 /* that the program may read: case_enter */
    size_t file_count;
    uint64_t errors;
    size_t program_size;
} language_case_t;

static language_case_t *cases;
static size_t case_count;

static char *joined(char *old, text_t line) {
    char *text = mem_format("%s%.*s\n", old ? old : "", (int) line.size, line.data);
    mem_free(old);
    return text;
}

static void read_cases(const char *path) {
    buf_t content = {0};
    err_t err;
    if (file_read(path, 1 << 20, &content, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    text_t rest = text_make((char *) content.data, content.size), line;
    language_case_t *now = NULL;
    char **part = NULL;
    while (text_split(&rest, '\n', &line)) {
        char *text = mem_text_n(line.data, line.size);
        if (text_starts(text, "== ")) {
            cases = mem_resize(cases, (case_count + 1) * sizeof *cases);
            now = &cases[case_count++];
            *now = (language_case_t){.name = mem_format("%s: %s", strrchr(path, '/') + 1, text + 3), .program = mem_text("")};
            part = &now->program;
        } else if (!now) {
            ; /* what a file is about */
        } else if (strcmp(text, "-- in") == 0 || text_starts(text, "-- in ") || text_starts(text, "-- after ")) {
            part = &now->input;
            if (line.size > 5)
                *part = joined(*part, line); /* harness_run goes by it */
        } else if (strcmp(text, "-- out") == 0) {
            part = &now->output;
            now->output = mem_text("");
        } else if (strcmp(text, "-- dead") == 0) {
            part = &now->dead;
        } else if (strcmp(text, "-- faults") == 0) {
            part = &now->faults;
        } else if (text_starts(text, "-- file ")) {
            now->files = mem_resize(now->files, (now->file_count + 1) * sizeof *now->files);
            now->files[now->file_count] = (struct case_file){mem_text(text + 8), mem_text("")};
            part = &now->files[now->file_count++].content;
        } else if (text_starts(text, "-- errors ")) {
            now->errors = (uint64_t) atoll(text + 10);
        } else if (line.size || part == &now->program) {
            *part = joined(*part, line);
        }
        mem_free(text);
    }
    buf_fini(&content);
}

static void read_all_cases(void) {
    const char *directory = "tests/cases";
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (text_ends(entries[i]->d_name, ".case")) {
            char *path = mem_format("%s/%s", directory, entries[i]->d_name);
            read_cases(path);
            mem_free(path);
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    for (size_t i = 0; i < case_count; i++)
        cases[i].program_size = strlen(cases[i].program) - 1; /* without the last line's end */
}

/* Goes into a directory of its own that has the case's files, and out of it again. */
static char case_directory[] = "/tmp/cases-XXXXXX";
static char case_home[4096];

static void case_enter(const language_case_t *test) {
    if (!test->file_count)
        return;
    strcpy(case_directory + sizeof case_directory - 7, "XXXXXX");
    if (!getcwd(case_home, sizeof case_home) || !mkdtemp(case_directory) || chdir(case_directory))
        abort();
    for (size_t i = 0; i < test->file_count; i++) {
        FILE *file = fopen(test->files[i].name, "w");
        if (!file || fputs(test->files[i].content, file) < 0 || fclose(file))
            abort();
    }
}

static void case_leave(const language_case_t *test) {
    for (size_t i = 0; i < test->file_count; i++)
        unlink(test->files[i].name);
    if (test->file_count && (chdir(case_home) || rmdir(case_directory)))
        abort();
}

static void free_cases(void) {
    for (size_t i = 0; i < case_count; i++) {
        mem_free(cases[i].name);
        mem_free(cases[i].program);
        mem_free(cases[i].input);
        mem_free(cases[i].output);
        mem_free(cases[i].dead);
        mem_free(cases[i].faults);
        for (size_t j = 0; j < cases[i].file_count; j++) {
            mem_free(cases[i].files[j].name);
            mem_free(cases[i].files[j].content);
        }
        mem_free(cases[i].files);
    }
    mem_free(cases);
}

#endif
