/* Running one test case: its script goes to `process --case`, and the answer is taken apart into what is compared. */
#include "case_run.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tools.h"

#define ANSWER_MAX (256u << 20)

/* The script. */

static size_t input_of(const char **names, size_t *count, const char *name) {
    for (size_t i = 0; i < *count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    names[*count] = name;
    return (*count)++;
}

static json_t *events_of(const case_file_t *file, const case_part_t *part, err_t *err) {
    json_t *events = json_array();
    for (size_t i = part->first; i < part->last; i++) {
        if (!case_line_counts(file->lines[i]))
            continue;
        json_t *text = json_stringn(file->lines[i].data, file->lines[i].size);
        if (!text) {
            json_decref(events);
            err_set(err, "%s:%zu: this is no UTF-8", file->path, i + 1);
            return NULL;
        }
        json_array_append_new(events, text);
    }
    return events;
}

static json_t *script_of(const case_file_t *file, const test_case_t *test, err_t *err) {
    const char **names = mem_zero((test->part_count + 1) * sizeof *names);
    size_t inputs = 0;
    json_t *steps = json_array();
    for (size_t i = 0; steps && i < test->part_count; i++) {
        const case_part_t *part = &test->parts[i];
        const char *stream = part->word ? part->word : "input";
        if (part->kind == PART_AFTER) {
            json_array_append_new(steps, json_pack("{sI}", "after", (json_int_t) part->number));
        } else if (part->kind == PART_IN) {
            json_t *events = events_of(file, part, err);
            if (events)
                json_array_append_new(steps, json_pack("{sIssso}", "input", (json_int_t) input_of(names, &inputs, stream), "stream", stream,
                                                       "events", events));
            else
                json_decref(steps);
            steps = events ? steps : NULL;
        }
    }
    mem_free(names);
    if (!steps)
        return NULL;
    json_t *program = json_string(test->program);
    if (!program) {
        json_decref(steps);
        err_set(err, "the program is no UTF-8");
        return NULL;
    }
    return json_pack("{sosssIsIso}", "program", program, "name", test->options.name ? test->options.name : "process", "idle",
                     (json_int_t) test->options.idle, "inputs", (json_int_t) (inputs ? inputs : 1), "steps", steps);
}

static json_t *ask(const case_file_t *file, const test_case_t *test, const json_t *script, err_t *err) {
    char *place = case_place(file, test, err);
    if (!place)
        return NULL;
    char *process = tools_path("process"), *text = json_dumps(script, JSON_COMPACT);
    char *arguments[] = {process, "--case=fd:3", NULL};
    buf_t output = {0};
    json_t *answer = NULL;
    int status = tools_capture(arguments, place, text_of(text), false, ANSWER_MAX, &output, err);
    json_error_t error;
    if (status == 0)
        answer = json_loadb((const char *) output.data, output.size, JSON_ALLOW_NUL, &error);
    if (status > 0)
        err_set(err, "%s ended with status %d", process, status);
    else if (status == 0 && !answer)
        err_set(err, "%s gave no answer: %s", process, error.text);
    buf_fini(&output);
    free(text);
    mem_free(process);
    case_place_end(test, place);
    return answer;
}

/* What is compared. */

static void add_item(case_items_t *items, text_t text, bool parse) {
    if (items->count % 64 == 0)
        items->items = mem_resize(items->items, (items->count + 64) * sizeof *items->items);
    json_t *json = parse ? json_loadb(text.data, text.size, JSON_ALLOW_NUL, NULL) : NULL;
    items->items[items->count++] = (case_item_t){text, json};
}

static text_t text_at(const json_t *array, size_t index) {
    const json_t *text = json_array_get(array, index);
    return text_make(json_string_value(text), json_string_length(text));
}

static case_check_t *add_check(case_outcome_t *outcome, case_part_kind_t kind, const char *stream, const case_part_t *part) {
    outcome->checks = mem_resize(outcome->checks, (outcome->check_count + 1) * sizeof *outcome->checks);
    case_check_t *check = &outcome->checks[outcome->check_count++];
    *check = (case_check_t){.kind = kind, .stream = stream, .part = part};
    return check;
}

static const case_part_t *part_called(const test_case_t *test, case_part_kind_t kind, const char *word) {
    for (size_t i = 0; i < test->part_count; i++) {
        const case_part_t *part = &test->parts[i];
        if (part->kind == kind && (word ? part->word && strcmp(part->word, word) == 0 : !part->word))
            return part;
    }
    return NULL;
}

static const json_t *stream_called(const json_t *answer, const char *name) {
    size_t i;
    json_t *stream;
    json_array_foreach(json_object_get(answer, "streams"), i, stream)
        if (strcmp(json_string_value(json_object_get(stream, "name")), name) == 0)
            return json_object_get(stream, "events");
    return NULL;
}

static case_check_t *check_of_stream(case_outcome_t *outcome, const char *stream) {
    for (size_t i = 0; i < outcome->check_count; i++)
        if (outcome->checks[i].kind == PART_OUT && strcmp(outcome->checks[i].stream, stream) == 0)
            return &outcome->checks[i];
    return NULL;
}

static case_check_t *check_stream(case_outcome_t *outcome, const char *stream, const case_part_t *part) {
    case_check_t *check = check_of_stream(outcome, stream);
    if (check)
        return check;
    check = add_check(outcome, PART_OUT, stream, part);
    const json_t *events = stream_called(outcome->answer, stream);
    for (size_t i = 0; i < json_array_size(events); i++)
        add_item(&check->found, text_at(events, i), true);
    return check;
}

/* The lines of -- out: each belongs to its @stream, the main one without. */
static void expect_lines(const case_file_t *file, case_outcome_t *outcome, const case_part_t *part) {
    for (size_t i = part->first; i < part->last; i++) {
        if (!case_line_counts(file->lines[i]))
            continue;
        json_t *event = part->word ? NULL : json_loadb(file->lines[i].data, file->lines[i].size, JSON_ALLOW_NUL, NULL);
        json_t *named = json_object_get(event, "@stream");
        const char *stream = part->word ? part->word : named ? json_string_value(named) : outcome->main;
        json_array_append(outcome->names, named); /* the text lives as long as the outcome */
        add_item(&check_stream(outcome, stream ? stream : outcome->main, part)->expected, file->lines[i], true);
        json_decref(event);
    }
}

/* Named parts are about their streams; one without a name about all others. */
static void check_output(const case_file_t *file, const test_case_t *test, case_outcome_t *outcome) {
    const case_part_t *plain = part_called(test, PART_OUT, NULL);
    for (size_t i = 0; i < test->part_count; i++) {
        if (test->parts[i].kind != PART_OUT || !test->parts[i].word)
            continue;
        check_stream(outcome, test->parts[i].word, &test->parts[i]);
        expect_lines(file, outcome, &test->parts[i]);
    }
    if (!plain)
        return;
    size_t i;
    json_t *stream;
    json_array_foreach(json_object_get(outcome->answer, "streams"), i, stream)
        check_stream(outcome, json_string_value(json_object_get(stream, "name")), plain);
    expect_lines(file, outcome, plain);
}

/* Where nothing but reasons is expected of dead letters, nothing else is shown. */
static void only_reasons(case_check_t *check) {
    for (size_t i = 0; i < check->expected.count; i++)
        if (check->expected.items[i].json)
            return;
    for (size_t i = 0; i < check->found.count; i++)
        check->found.items[i].text = text_of(json_string_value(json_object_get(check->found.items[i].json, "reason")));
}

static void check_lines(const case_file_t *file, const test_case_t *test, case_outcome_t *outcome, case_part_kind_t kind, const char *member,
                        bool parse) {
    const case_part_t *part = part_called(test, kind, NULL);
    case_check_t *check = add_check(outcome, kind, NULL, part);
    for (size_t i = part ? part->first : 0; part && i < part->last; i++)
        if (case_line_counts(file->lines[i]))
            add_item(&check->expected, file->lines[i], parse);
    const json_t *found = json_object_get(outcome->answer, member);
    for (size_t i = 0; i < json_array_size(found); i++)
        add_item(&check->found, text_at(found, i), parse);
    if (kind == PART_DEAD && part)
        only_reasons(check);
}

/* In the answer, faults become the lines in which a file has them. */
static void make_lines(json_t *answer) {
    json_t *lines = json_array(), *item;
    size_t i;
    json_array_foreach(json_object_get(answer, "faults"), i, item) {
        const char *hint = json_string_value(json_object_get(item, "hint"));
        json_array_append_new(lines, json_sprintf("%d:%d: %s", (int) json_integer_value(json_object_get(item, "line")),
                                                  (int) json_integer_value(json_object_get(item, "column")),
                                                  json_string_value(json_object_get(item, "message"))));
        if (hint && *hint)
            json_array_append_new(lines, json_sprintf("hint: %s", hint));
    }
    json_object_set_new(answer, "fault_lines", lines);
}

static char *faults_told(const case_file_t *file, const test_case_t *test, const json_t *faults) {
    buf_t text = {0};
    size_t i;
    json_t *item;
    json_array_foreach(faults, i, item) {
        const char *hint = json_string_value(json_object_get(item, "hint"));
        size_t line = (size_t) json_integer_value(json_object_get(item, "line"));
        buf_format(&text, "%s%s:%zu:%d: %s%s%s", i ? "\n    " : "", test->origin ? test->origin : file->path,
                   test->origin ? line : test->program_line + line, (int) json_integer_value(json_object_get(item, "column")),
                   json_string_value(json_object_get(item, "message")), hint && *hint ? "; " : "", hint ? hint : "");
    }
    char *told = mem_text(buf_text(&text));
    buf_fini(&text);
    return told;
}

/* The line of the file that holds an event which could not be read. */
static char *bad_event(const case_file_t *file, const test_case_t *test, const json_t *answer) {
    size_t step = (size_t) json_integer_value(json_object_get(answer, "step")), event = (size_t) json_integer_value(json_object_get(answer, "event"));
    const char *reason = json_string_value(json_object_get(answer, "reason"));
    for (size_t i = 0; i < test->part_count; i++) {
        const case_part_t *part = &test->parts[i];
        if ((part->kind != PART_IN && part->kind != PART_AFTER) || step-- > 0)
            continue;
        for (size_t line = part->first; line < part->last; line++)
            if (case_line_counts(file->lines[line]) && event-- == 0)
                return mem_format("%s:%zu: this is no event: %s", file->path, line + 1, reason);
    }
    return mem_text(reason);
}

static void compare(const test_case_t *test, case_outcome_t *outcome) {
    const case_part_t *errors = part_called(test, PART_ERRORS, NULL);
    outcome->errors_expected = errors ? errors->number : 0;
    outcome->errors_found = json_integer_value(json_object_get(outcome->answer, "errors"));
    outcome->passed = outcome->errors_expected == outcome->errors_found;
    for (size_t i = 0; i < outcome->check_count; i++) {
        case_check_t *check = &outcome->checks[i];
        check->same = check->expected.count == check->found.count;
        for (size_t j = 0; check->same && j < check->found.count; j++)
            check->same = case_item_matches(&check->expected.items[j], &check->found.items[j], &test->options, check->kind);
        outcome->passed &= check->same;
    }
}

void case_run(const case_file_t *file, const test_case_t *test, case_outcome_t *outcome) {
    *outcome = (case_outcome_t){.names = json_array()};
    err_t err = {{0}};
    json_t *script = script_of(file, test, &err);
    if (script)
        outcome->answer = ask(file, test, script, &err);
    json_decref(script);
    const json_t *faults = json_object_get(outcome->answer, "faults");
    if (!outcome->answer) {
        outcome->failure = mem_text(err.text);
    } else if (json_object_get(outcome->answer, "failure")) {
        outcome->failure = mem_text(json_string_value(json_object_get(outcome->answer, "failure")));
    } else if (json_object_get(outcome->answer, "reason")) {
        outcome->failure = bad_event(file, test, outcome->answer);
    } else if (faults && !part_called(test, PART_FAULTS, NULL)) {
        outcome->failure = faults_told(file, test, faults);
    } else {
        make_lines(outcome->answer);
        outcome->main = json_string_value(json_object_get(json_array_get(json_object_get(outcome->answer, "streams"), 0), "name"));
        if (part_called(test, PART_FAULTS, NULL))
            check_lines(file, test, outcome, PART_FAULTS, "fault_lines", false);
        if (outcome->main)
            check_output(file, test, outcome);
        check_lines(file, test, outcome, PART_DEAD, "dead", true);
        compare(test, outcome);
    }
}

static void items_fini(case_items_t *items) {
    for (size_t i = 0; i < items->count; i++)
        json_decref(items->items[i].json);
    mem_free(items->items);
}

void case_outcome_fini(case_outcome_t *outcome) {
    for (size_t i = 0; i < outcome->check_count; i++) {
        items_fini(&outcome->checks[i].expected);
        items_fini(&outcome->checks[i].found);
    }
    mem_free(outcome->checks);
    mem_free(outcome->failure);
    json_decref(outcome->names);
    json_decref(outcome->answer);
}
