/* streamctl test --update: what a file expects of the cases that failed becomes what was found. All else in it stays as it is. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "case_run.h"

static void put_line(buf_t *out, text_t line) {
    buf_put(out, line.data, line.size);
    buf_put_byte(out, '\n');
}

/* With its @stream, behind @timestamp: as process writes it. */
static void put_of_stream(buf_t *out, text_t event, const char *stream) {
    static const char time[] = "{\"@timestamp\":\"";
    size_t at = 1;
    if (event.size > sizeof time && memcmp(event.data, time, sizeof time - 1) == 0) {
        const char *end = memchr(event.data + sizeof time, '"', event.size - sizeof time);
        at = end ? (size_t) (end + 1 - event.data) : at;
    }
    bool empty = at < event.size && event.data[at] == '}', first = at == 1;
    at += !first && !empty; /* the comma */
    buf_put(out, event.data, at);
    buf_format(out, "%s\"@stream\":\"%s\"%s", !first && empty ? "," : "", stream, empty ? "" : ",");
    put_line(out, text_make(event.data + at, event.size - at));
}

static void put_found(buf_t *out, const case_outcome_t *outcome, const case_part_t *part) {
    for (size_t i = 0; i < outcome->check_count; i++) {
        const case_check_t *check = &outcome->checks[i];
        if (check->part != part)
            continue;
        bool beside = check->kind == PART_OUT && !part->word && strcmp(check->stream, outcome->main) != 0;
        for (size_t j = 0; j < check->found.count; j++) {
            if (beside)
                put_of_stream(out, check->found.items[j].text, check->stream);
            else
                put_line(out, check->found.items[j].text);
        }
    }
}

static bool part_differs(const case_outcome_t *outcome, const case_part_t *part) {
    for (size_t i = 0; i < outcome->check_count; i++)
        if (outcome->checks[i].part == part && !outcome->checks[i].same)
            return true;
    return false;
}

static void put_errors(buf_t *out, const case_outcome_t *outcome) {
    if (outcome->errors_found)
        buf_format(out, "-- errors %lld\n", (long long) outcome->errors_found);
}

/* A part whose heading is next. Returns the line to go on with. */
static size_t put_part(const case_file_t *file, const case_outcome_t *outcome, const case_part_t *part, buf_t *out) {
    if (part->kind == PART_ERRORS) {
        put_errors(out, outcome);
        return part->heading + 1;
    }
    put_line(out, file->lines[part->heading]);
    if (!part_differs(outcome, part))
        return part->heading + 1;
    put_found(out, outcome, part);
    return part->last;
}

static const case_part_t *part_at(const test_case_t *test, size_t line) {
    for (size_t i = 0; i < test->part_count; i++)
        if (test->parts[i].heading == line)
            return &test->parts[i];
    return NULL;
}

/* What was not expected at all, and has no place yet. */
static void put_new_parts(const test_case_t *test, const case_outcome_t *outcome, buf_t *out) {
    bool errors = false;
    for (size_t i = 0; i < test->part_count; i++)
        errors |= test->parts[i].kind == PART_ERRORS;
    for (size_t i = 0; i < outcome->check_count; i++) {
        const case_check_t *check = &outcome->checks[i];
        if (check->kind != PART_DEAD || check->part || !check->found.count)
            continue;
        buf_put_text(out, "-- dead\n");
        put_found(out, outcome, NULL);
    }
    if (!errors)
        put_errors(out, outcome);
}

int case_update(const case_file_t *file, const case_outcome_t *outcomes, size_t *updated, err_t *err) {
    buf_t out = {0};
    size_t line = 0;
    *updated = 0;
    for (size_t i = 0; i < file->case_count; i++) {
        const test_case_t *test = &file->cases[i];
        const case_outcome_t *outcome = &outcomes[i];
        if (!outcome->answer || outcome->passed || outcome->failure)
            continue;
        while (line < test->line)
            put_line(&out, file->lines[line++]);
        while (line < test->end) {
            const case_part_t *part = part_at(test, line);
            if (part)
                line = put_part(file, outcome, part, &out);
            else
                put_line(&out, file->lines[line++]);
        }
        put_new_parts(test, outcome, &out);
        ++*updated;
    }
    while (line < file->line_count)
        put_line(&out, file->lines[line++]);
    struct stat stat_of;
    mode_t mode = stat(file->path, &stat_of) == 0 ? stat_of.st_mode & 0777 : 0644;
    int rc = *updated ? file_write_atomic(file->path, out.data, out.size, mode, err) : 0;
    buf_fini(&out);
    return rc;
}
