/* The formats of parse: JSON, CSV, logfmt, syslog, regular expressions with named groups. */
#include "parse_format.h"

#include "data/csv.h"
#include "data/json.h"
#include "data/lang/pattern.h"

static int read_json(reading_t *reading, text_t text, err_t *err) {
    buf_clear(&reading->packed);
    text = text_trim(text);
    if (text.size && text.data[0] == '{') { /* the quick way: such texts are mostly of one shape */
        json_found_t found;
        if (!reading->json)
            reading->json = json_reader_new(NULL, false, false);
        if (json_read_event(reading->json, text, &reading->packed, &found, err))
            return -1;
    } else {
        ssize_t used = json_read_value(text, &reading->packed, err);
        if (used < 0)
            return -1;
        if (text_trim(text_make(text.data + used, text.size - (size_t) used)).size)
            return err_set(err, "more text behind the value");
    }
    pack_cursor_t cursor = pack_cursor(reading->packed.data, reading->packed.size);
    if (!pack_read_value(&cursor, &reading->whole))
        return err_set(err, "a value that is nested too deep");
    fields_clear(&reading->fields);
    if (reading->whole.type == VALUE_MAP)
        fields_put_map(&reading->fields, reading->whole);
    return 0;
}

/* Values are packed to `packed`, which has room for them all: `size` bytes of text in `count` parts. */
static void begin(reading_t *reading, size_t size, size_t count) {
    fields_clear(&reading->fields);
    buf_clear(&reading->packed);
    buf_reserve(&reading->packed, size + 9 * count);
    reading->whole = (value_t){.type = VALUE_MAP};
}

static void add(reading_t *reading, text_t name, value_t value) {
    size_t start = reading->packed.size;
    pack_value(&reading->packed, value);
    fields_put(&reading->fields, name, reading->packed.data + start, (uint32_t) (reading->packed.size - start));
}

/* What a text without quotes stands for. */
static value_t plain(const reading_t *reading, text_t text) {
    value_t value;
    if ((reading->strings && text.size) || !csv_infer(text, &value))
        value = value_text(text.data, text.size);
    return value;
}

/* csv (A, B, ...) [separator "S"] */
static int csv_options(reading_t *reading, parser_t *parser) {
    reading->separator = ',';
    if (!parser_accept(parser, TOKEN_OPEN))
        return parser_expected(parser, "( and the names of the columns", "parse line as csv (time, device, value)");
    do {
        const token_t *token = parser_token(parser);
        text_t name;
        if (parse_name(parser, "the name of a column", &name) < 0 || parser_check_name(parser, token, name) < 0)
            return -1;
        for (unsigned i = 0; i < reading->names_count; i++)
            if (text_equal(reading->names[i], name))
                return parser_error(parser, token, NULL, "two columns are named %.*s", (int) name.size, name.data);
        reading->names = mem_resize(reading->names, (reading->names_count + 1) * sizeof *reading->names);
        reading->names[reading->names_count++] = name;
    } while (parser_accept(parser, TOKEN_COMMA));
    if (parser_expect(parser, TOKEN_CLOSE, ", or )") < 0)
        return -1;
    const token_t *token = parser_token(parser) + 1;
    text_t separator;
    if (!parser_accept_word(parser, "separator"))
        return 0;
    if (parse_string(parser, "the separator in quotes", &separator) < 0)
        return -1;
    if (separator.size != 1 || separator.data[0] < 0 || strchr("\"\r\n", separator.data[0]))
        return parser_error(parser, token, NULL, "the separator is one ASCII character other than a quote or line end");
    reading->separator = separator.data[0];
    return 0;
}

static int read_csv(reading_t *reading, text_t text, err_t *err) {
    const char *p = text.data, *end = text.data + text.size;
    csv_field_t field = {0};
    unsigned count = 0;
    begin(reading, text.size, reading->names_count);
    do {
        csv_result_t result = csv_read_field(&p, end, reading->separator, true, &field);
        if (result != CSV_READ)
            return err_set(err, result == CSV_BAD ? "field %u: text behind a closing quote" : "field %u: its quote is never closed", count + 1);
        if (count < reading->names_count) {
            text_t inside = csv_field_text(&field, &reading->scratch);
            add(reading, reading->names[count], field.quoted ? value_text(inside.data, inside.size) : plain(reading, inside));
        }
        count++;
    } while (!field.last);
    if (p < end)
        return err_set(err, "more than one row");
    return count == reading->names_count ? 0 : err_set(err, "expected %u fields, found %u", reading->names_count, count);
}

static int read_logfmt(reading_t *reading, text_t text, err_t *err) {
    fields_clear(&reading->fields);
    reading->whole = (value_t){.type = VALUE_MAP};
    if (logfmt_read(&reading->logfmt, text, reading->strings, err))
        return -1;
    for (uint32_t i = 0; i < reading->logfmt.fields.count; i++) {
        const field_t *field = &reading->logfmt.fields.items[i];
        fields_put(&reading->fields, field->name, field->value, field->size);
    }
    return 0;
}

static int read_syslog(reading_t *reading, text_t text, err_t *err) {
    fields_clear(&reading->fields);
    reading->whole = (value_t){.type = VALUE_MAP};
    if (syslog_read(&reading->syslog, text, reading->row->event.time, err))
        return -1;
    for (uint32_t i = 0; i < reading->syslog.fields.count; i++) {
        const field_t *field = &reading->syslog.fields.items[i];
        fields_put(&reading->fields, field->name, field->value, field->size);
    }
    return 0;
}

/* regex "PATTERN" */
static int regex_options(reading_t *reading, parser_t *parser) {
    static const char hint[] = "parse line as regex \"^(?<host>\\S+) (?<bytes>\\d+)\"";
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_STRING)
        return parser_expected(parser, "a pattern in quotes", hint);
    parser_take(parser);
    reading->pattern = parser_pattern(parser, token);
    if (!reading->pattern)
        return -1;
    reading->names_count = pattern_groups(reading->pattern) + 1;
    reading->names = mem_zero(reading->names_count * sizeof *reading->names);
    for (unsigned i = 0; i < pattern_names(reading->pattern); i++) {
        unsigned group;
        text_t name = pattern_name(reading->pattern, i, &group);
        reading->names[group] = name;
    }
    return pattern_names(reading->pattern) ? 0 : parser_error(parser, token, hint, "no group of the pattern has a name: (?<name>...)");
}

static int read_regex(reading_t *reading, text_t text, err_t *err) {
    begin(reading, reading->names_count * text.size, reading->names_count);
    pattern_search_t search = {.text = text};
    int found = pattern_find(reading->pattern, &search, 0);
    if (found <= 0)
        return err_set(err, found ? "the pattern is too hard for it, or it is not UTF-8" : "the pattern does not match");
    for (unsigned i = 1; i < reading->names_count; i++) {
        text_t group = pattern_found(reading->pattern, &search, i);
        if (reading->names[i].data)
            add(reading, reading->names[i], !group.data ? value_null() : !group.size ? value_text("", 0) : plain(reading, group));
    }
    return 0;
}

void reading_fini(reading_t *reading) {
    json_reader_free(reading->json);
    fields_fini(&reading->fields);
    logfmt_fini(&reading->logfmt);
    syslog_fini(&reading->syslog);
    buf_fini(&reading->packed);
    buf_fini(&reading->scratch);
    mem_free(reading->names);
}

const parse_format_t parse_formats[] = {
    {"json", NULL, false, read_json},
    {"csv", csv_options, true, read_csv},
    {"logfmt", NULL, true, read_logfmt},
    {"syslog", NULL, false, read_syslog},
    {"regex", regex_options, true, read_regex},
    {NULL},
};
