/* Reading files of test cases: lines to cases, programs and parts. What stands in the parts is looked at where it is used. */
#include "case_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/unicode.h"
#include "data/frame.h"
#include "data/json.h"

#define FILE_MAX (64u << 20)
#define TOLERANCE 1e-9        /* unless one is given: what computing in another order may make of a double */

typedef struct reader {
    case_file_t *file;
    config_errors_t *errors;
    const char *config;
    case_options_t options;   /* said before the first case */
    test_case_t *test;        /* NULL before that */
    case_part_t *part;        /* NULL: in the program */
    size_t line;
} reader_t;

static int fault(reader_t *reader, const char *text) {
    config_errors_add(reader->errors, (config_place_t){(unsigned) reader->line + 1, 1}, "%s", text);
    return -1;
}

bool case_line_counts(text_t line) {
    line = text_trim(line);
    return line.size && line.data[0] != '#';
}

static case_options_t *options_of(reader_t *reader) {
    return reader->test ? &reader->test->options : &reader->options;
}

static void set_text(char **to, text_t text) {
    mem_free(*to);
    *to = mem_text_n(text.data, text.size);
}

/* Directives. */

static int take_config(reader_t *reader, text_t word) {
    set_text(&options_of(reader)->config, word);
    return 0;
}

static int take_name(reader_t *reader, text_t word) {
    if (!frame_topic_valid(word.data, word.size))
        return fault(reader, "-- name takes letters, digits and _ . -");
    set_text(&options_of(reader)->name, word);
    return 0;
}

static int take_idle(reader_t *reader, text_t word) {
    err_t err;
    return text_to_duration(word, 0, &options_of(reader)->idle, &err) < 0 ? fault(reader, "-- idle takes a duration, as in -- idle 10s; 0: never") : 0;
}

static int take_tolerance(reader_t *reader, text_t word) {
    case_options_t *options = options_of(reader);
    double number;
    if (!json_parse_double(word.data, word.size, &number) || number < 0)
        return fault(reader, "-- tolerance takes a number from 0 on, as in -- tolerance 0.01");
    options->tolerance = number;
    options->tolerant = number > 0;
    return 0;
}

static bool is_file_name(text_t name) {
    return frame_topic_valid(name.data, name.size) && name.data[0] != '.';
}

static int take_program(reader_t *reader, text_t word, int (*fetch)(test_case_t *, const char *, text_t, err_t *)) {
    err_t err;
    if (reader->test->program || reader->test->program_line)
        return fault(reader, "a second program of this case");
    return fetch(reader->test, reader->file->path, word, &err) < 0 ? fault(reader, err.text) : 0;
}

static int take_file(reader_t *reader, text_t word) {
    return take_program(reader, word, case_program_file);
}

static int take_pipeline(reader_t *reader, text_t word) {
    if (reader->config)
        set_text(&reader->test->options.config, text_of(reader->config));
    return take_program(reader, word, case_program_pipeline);
}

static case_part_t *add_part(reader_t *reader, case_part_kind_t kind, text_t word) {
    test_case_t *test = reader->test;
    test->parts = mem_resize(test->parts, (test->part_count + 1) * sizeof *test->parts);
    reader->part = &test->parts[test->part_count++];
    *reader->part = (case_part_t){.kind = kind, .heading = reader->line, .first = reader->line + 1, .last = reader->line + 1};
    reader->part->word = word.size ? mem_text_n(word.data, word.size) : NULL;
    return reader->part;
}

static const case_part_t *part_of(const test_case_t *test, case_part_kind_t kind, text_t word) {
    for (size_t i = 0; i < test->part_count; i++)
        if (test->parts[i].kind == kind && text_equal(text_of(test->parts[i].word), word))
            return &test->parts[i];
    return NULL;
}

static int take_in(reader_t *reader, text_t word) {
    bool valid = !word.size || frame_topic_valid(word.data, word.size);
    add_part(reader, PART_IN, word);
    return valid ? 0 : fault(reader, "an input's name has letters, digits and _ . -");
}

static int take_after(reader_t *reader, text_t word) {
    int64_t ns = 0;
    err_t err;
    int rc = text_to_duration(word, 0, &ns, &err);
    add_part(reader, PART_AFTER, (text_t){0})->number = ns;
    return rc < 0 || ns <= 0 ? fault(reader, "-- after takes a duration, as in -- after 5m") : 0;
}

static int take_content(reader_t *reader, text_t word) {
    bool known = part_of(reader->test, PART_FILE, word) != NULL;
    add_part(reader, PART_FILE, word);
    if (!is_file_name(word))
        return fault(reader, "a file's name here has letters, digits and _ . -, and does not begin with a dot");
    return known ? fault(reader, "a second -- file of this name") : 0;
}

static int take_expected(reader_t *reader, case_part_kind_t kind, text_t word, const char *twice) {
    bool known = part_of(reader->test, kind, word) != NULL;
    add_part(reader, kind, word);
    return known ? fault(reader, twice) : 0;
}

static int take_out(reader_t *reader, text_t word) {
    return take_expected(reader, PART_OUT, word, "a second -- out of this stream");
}

static int take_dead(reader_t *reader, text_t word) {
    return take_expected(reader, PART_DEAD, word, "a second -- dead");
}

static int take_faults(reader_t *reader, text_t word) {
    return take_expected(reader, PART_FAULTS, word, "a second -- faults");
}

static int take_errors(reader_t *reader, text_t word) {
    uint64_t number = 0;
    err_t err;
    int rc = text_to_uint(word, &number, &err);
    if (take_expected(reader, PART_ERRORS, (text_t){0}, "a second -- errors") < 0)
        return -1;
    reader->part->number = (int64_t) number;
    return rc < 0 ? fault(reader, "-- errors takes a number") : 0;
}

typedef struct directive {
    const char *name;
    int (*take)(reader_t *reader, text_t word);
    enum { NO_WORD, MAY_WORD, ONE_WORD } words;
    bool early;               /* may stand before the first case */
} directive_t;

static const directive_t directives[] = {
    {"config", take_config, ONE_WORD, true}, {"name", take_name, ONE_WORD, true}, {"idle", take_idle, ONE_WORD, true},
    {"tolerance", take_tolerance, ONE_WORD, true}, {"program", take_file, ONE_WORD, false}, {"pipeline", take_pipeline, ONE_WORD, false},
    {"in", take_in, MAY_WORD, false}, {"after", take_after, ONE_WORD, false}, {"out", take_out, MAY_WORD, false},
    {"file", take_content, ONE_WORD, false}, {"dead", take_dead, NO_WORD, false}, {"errors", take_errors, ONE_WORD, false}, {"faults", take_faults, NO_WORD, false},
};
#define DIRECTIVES (sizeof directives / sizeof *directives)

static int unknown_directive(reader_t *reader, text_t name) {
    const char *names[DIRECTIVES];
    for (size_t i = 0; i < DIRECTIVES; i++)
        names[i] = directives[i].name;
    char *wanted = mem_text_n(name.data, name.size);
    const char *near = text_nearest(wanted, names, DIRECTIVES);
    char *text = mem_format("there is no -- %s%s%s%s", wanted, near ? "; did you mean -- " : "; see TESTING PROGRAMS in streamctl(1)", near ? near : "",
                            near ? "?" : "");
    fault(reader, text);
    mem_free(text);
    mem_free(wanted);
    return -1;
}

static int take_directive(reader_t *reader, text_t line) {
    text_t rest = text_trim(text_make(line.data + 2, line.size - 2)), name = {0};
    text_split(&rest, ' ', &name);
    rest = text_trim(rest);
    for (size_t i = 0; i < DIRECTIVES; i++) {
        const directive_t *directive = &directives[i];
        if (!text_is(name, directive->name))
            continue;
        if (!reader->test && !directive->early)
            return fault(reader, "it belongs to a case, which begins with == NAME");
        if (directive->words == ONE_WORD && !rest.size)
            return fault(reader, "something is to follow on this line");
        if (directive->words == NO_WORD && rest.size)
            return fault(reader, "nothing is to follow on this line");
        return directive->take(reader, rest);
    }
    return unknown_directive(reader, name);
}

/* Cases. */

static void begin_case(reader_t *reader, text_t line) {
    case_file_t *file = reader->file;
    file->cases = mem_resize(file->cases, (file->case_count + 1) * sizeof *file->cases);
    test_case_t *test = reader->test = &file->cases[file->case_count++];
    text_t title = text_trim(text_make(line.data + 2, line.size - 2));
    *test = (test_case_t){.title = mem_text_n(title.data, title.size), .line = reader->line, .end = reader->line + 1, .options = reader->options};
    test->options.name = mem_text(reader->options.name);
    test->options.config = mem_text(reader->options.config);
    test->directory = case_directory(file->path);
    reader->part = NULL;
    if (!title.size)
        fault(reader, "a case needs a name: == NAME");
}

/* A line of the program. */
static void take_text(reader_t *reader, text_t line) {
    test_case_t *test = reader->test;
    if (!text_trim(line).size)
        return;
    if (test->origin)
        fault(reader, "a second program of this case");
    else if (!test->program_line)
        test->program_line = reader->line;
    test->program_end = reader->line + 1;
}

static void take_line(reader_t *reader, text_t line) {
    bool directive = line.size > 2 && memcmp(line.data, "--", 2) == 0 && line.data[2] == ' ';
    if (line.size >= 2 && memcmp(line.data, "==", 2) == 0 && (line.size == 2 || line.data[2] == ' ')) {
        begin_case(reader, line);
    } else if (directive) {
        take_directive(reader, line);
    } else if (reader->part && text_trim(line).size) {
        if (reader->part->kind == PART_AFTER || reader->part->kind == PART_ERRORS)
            fault(reader, "only -- in, -- file, -- out, -- dead and -- faults have lines of their own");
        reader->part->last = reader->line + 1;
    } else if (reader->test && !reader->part) {
        take_text(reader, line);
    }
    if (reader->test && text_trim(line).size)
        reader->test->end = reader->line + 1;
}

static char *text_between(const case_file_t *file, size_t first, size_t last) {
    buf_t text = {0};
    for (size_t i = first; i < last; i++) {
        buf_put(&text, file->lines[i].data, file->lines[i].size);
        if (i + 1 < last)
            buf_put_byte(&text, '\n');
    }
    buf_text(&text);
    return text.data ? (char *) buf_take(&text) : mem_text("");
}

/* What a case needs to be one. */
static void check_case(reader_t *reader, test_case_t *test) {
    bool expects = false, faults = false;
    for (size_t i = 0; i < test->part_count; i++) {
        case_part_kind_t kind = test->parts[i].kind;
        expects |= kind >= PART_OUT;
        faults |= kind == PART_FAULTS;
    }
    reader->line = test->line;
    if (!test->program) /* an empty one passes everything on */
        test->program = text_between(reader->file, test->program_line, test->program_line ? test->program_end : 0);
    if (!expects)
        fault(reader, "nothing is expected of this case: it needs -- out (with nothing behind it when nothing is to come out)");
    if (faults && part_of(test, PART_OUT, (text_t){0}))
        fault(reader, "a faulty program (-- faults) has no output (-- out)");
}

static void split_lines(case_file_t *file) {
    text_t rest = text_make((char *) file->text.data, file->text.size), line;
    while (text_split(&rest, '\n', &line)) {
        if (!line.size && line.data == (char *) file->text.data + file->text.size)
            break; /* behind the last line's end */
        if (line.size && line.data[line.size - 1] == '\r')
            line.size--;
        if (file->line_count % 1024 == 0)
            file->lines = mem_resize(file->lines, (file->line_count + 1024) * sizeof *file->lines);
        file->lines[file->line_count++] = line;
    }
}

int case_file_read(case_file_t **out, const char *path, const char *config, config_errors_t *errors) {
    case_file_t *file = *out = mem_zero(sizeof *file);
    err_t err;
    file->path = mem_text(path);
    if (file_read(path, FILE_MAX, &file->text, &err) < 0) {
        config_errors_add(errors, (config_place_t){0, 0}, "%s", err.text);
        return -1;
    }
    buf_consume(&file->text, unicode_mark((const char *) file->text.data, file->text.size));
    char *absolute = config ? realpath(config, NULL) : NULL;
    reader_t reader = {.file = file, .errors = errors, .config = absolute ? absolute : config,
                       .options = {.idle = 30 * NS_PER_S, .tolerance = TOLERANCE}};
    split_lines(file);
    for (reader.line = 0; reader.line < file->line_count; reader.line++)
        take_line(&reader, file->lines[reader.line]);
    for (size_t i = 0; i < file->case_count; i++)
        check_case(&reader, &file->cases[i]);
    reader.line = 0;
    if (!file->case_count)
        fault(&reader, "there is no case in this file: a case begins with == NAME");
    mem_free(reader.options.name);
    mem_free(reader.options.config);
    free(absolute);
    config_errors_sort(errors);
    return errors->count ? -1 : 0;
}

void case_file_free(case_file_t *file) {
    if (!file)
        return;
    for (size_t i = 0; i < file->case_count; i++) {
        test_case_t *test = &file->cases[i];
        for (size_t j = 0; j < test->part_count; j++)
            mem_free(test->parts[j].word);
        mem_free(test->parts);
        mem_free(test->title);
        mem_free(test->program);
        mem_free(test->origin);
        mem_free(test->directory);
        mem_free(test->options.name);
        mem_free(test->options.config);
    }
    mem_free(file->cases);
    mem_free(file->lines);
    buf_fini(&file->text);
    mem_free(file->path);
    mem_free(file);
}
