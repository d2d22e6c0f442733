/* What all text formats share: their options, finding one by name, cutting data into lines, and reporting bad records. */
#include "data/format.h"

#include <stddef.h>

#include "base/clock.h"
#include "data/multiline.h"

#define AT(field) offsetof(format_settings_t, field)
#define RECORD_LIMIT (1024 * 1024)
#define RECORD_MAX (14 * 1024 * 1024)   /* fits in a frame, even as one long string */
#define BAD_SAMPLE 1024       /* bytes of a record too long that are reported */

#define TEXT_OPTIONS \
    {"time", OPTION_TEXT, AT(time_field), NULL, "FIELD", \
     "field that holds the event's time (a.b: inside); default @timestamp in JSON, else the time of arrival", .needs = "@time:text or rows to read it from"}, \
    {"max-record", OPTION_SIZE, AT(record_limit), "1MiB", "SIZE", "bytes of a line or record at most", 16, RECORD_MAX, .needs = "@text:text to read"}

#define WRITTEN_OPTIONS \
    {"csv-separator", OPTION_TEXT, AT(separator), ",", "CHARACTER", "what separates fields: one character, or tab", .needs = "format=csv"}, \
    {"csv-no-header", OPTION_BOOL, AT(no_header), "false", NULL, "the first row is data; columns are column_1, column_2, ...", .needs = "format=csv|tsv"}, \
    {"csv-columns", OPTION_LIST, AT(columns), NULL, "A,B,...", "names of the columns, instead of the header's (CSV written: which, in order)", .needs = "format=csv|tsv"}

#define MULTILINE "multiline or multiline-start or multiline-continue"
#define READ_OPTIONS \
    {"csv-type", OPTION_LIST, AT(types), NULL, "FIELD=TYPE", "type of a column: string, int, double, bool or time", .needs = "format=csv|tsv"}, \
    {"csv-strings", OPTION_BOOL, AT(no_inference), "false", NULL, "every field stays text unless --csv-type says otherwise", .needs = "format=csv|tsv|logfmt|regex|xml"}, \
    {"pattern", OPTION_TEXT, AT(pattern), NULL, "REGEX", "the format \"regex\": what each line is, its fields being named groups (?<name>...)", .needs = "format=regex"}, \
    {"multiline", OPTION_TEXT, AT(multiline), NULL, "NAME", "the formats \"lines\" and \"regex\": lines of stack traces are one record: java, python, go, or indent (any indented lines)", \
     .needs = "format=lines|regex"}, \
    {"multiline-start", OPTION_TEXT, AT(multiline_start), NULL, "REGEX", "a record begins at a line that this is found in; the lines behind belong to it", .needs = "format=lines|regex"}, \
    {"multiline-continue", OPTION_TEXT, AT(multiline_continue), NULL, "REGEX", "a line that this is found in belongs to the record before it", .needs = "format=lines|regex"}, \
    {"multiline-lines", OPTION_INT, AT(multiline_lines), "1000", "N", "lines of such a record at most; those behind are another one", 1, 1000000, .needs = MULTILINE}, \
    {"multiline-wait", OPTION_DURATION, AT(multiline_wait), "1s", "DURATION", "in a followed file: the last such record is complete when nothing has been written for so long", \
     NS_PER_MS, 3600 * NS_PER_S, .needs = MULTILINE ", follow"}, \
    {"xml-records", OPTION_TEXT, AT(xml_records), NULL, "PATH", "the format \"xml\": elements that are events, such as rss.channel.item, or a name; default *.*", .needs = "format=xml"}, \
    {"line-field", OPTION_TEXT, AT(line_field), "message", "FIELD", "field that holds a line of the format \"lines\"", .needs = "format=lines or stream"}

const option_t format_options[] = {TEXT_OPTIONS, WRITTEN_OPTIONS, READ_OPTIONS, {0}};
const option_t format_text_options[] = {TEXT_OPTIONS, {0}};
const option_t format_written_options[] = {TEXT_OPTIONS, WRITTEN_OPTIONS, {0}};

const format_t *format_find(const char *name) {
    for (size_t i = 0; format_table[i]; i++)
        if (strcmp(format_table[i]->name, name) == 0)
            return format_table[i];
    return NULL;
}

size_t format_packed(const char *path) {
    static const char *const endings[] = {".gz", ".zst"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (text_ends(path, endings[i]) && strlen(path) > strlen(endings[i]))
            return strlen(endings[i]);
    return 0;
}

const format_t *format_for_path(const char *path) {
    static const struct { const char *ending, *format; } endings[] = {
        {".ndjson", "ndjson"}, {".jsonl", "ndjson"}, {".json", "json"}, {".csv", "csv"}, {".tsv", "tsv"}, {".log", "lines"},
        {".txt", "lines"}, {".logfmt", "logfmt"}, {".msgpack", "msgpack"}, {".xml", "xml"},
    };
    text_t name = text_of(path);
    name.size -= format_packed(path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        text_t ending = text_of(endings[i].ending);
        if (name.size >= ending.size && text_equal(text_make(name.data + name.size - ending.size, ending.size), ending))
            return format_find(endings[i].format);
    }
    return NULL;
}

int format_unknown(const char *name, err_t *err) {
    buf_t known = {0};
    const char *names[32];
    size_t count = 0;
    for (size_t i = 0; format_table[i] && count < 32; i++) {
        names[count++] = format_table[i]->name;
        buf_format(&known, "%s%s", i ? ", " : "", format_table[i]->name);
    }
    const char *nearest = text_nearest(name, names, count);
    if (nearest)
        err_set(err, "unknown format \"%s\"; did you mean \"%s\"? Known are: %s", name, nearest, buf_text(&known));
    else
        err_set(err, "unknown format \"%s\"; known are: %s", name, buf_text(&known));
    buf_fini(&known);
    return -1;
}

void decoder_reset(decoder_t *decoder) {
    decoder->records = 0;
    if (decoder->class->reset)
        decoder->class->reset(decoder);
}

void decoder_restore(decoder_t *decoder, uint64_t state, uint64_t records) {
    if (decoder->class->restore)
        decoder->class->restore(decoder, state);
    decoder->records = records;
}

void decoder_free(decoder_t *decoder) {
    if (decoder)
        decoder->class->free(decoder);
}

void encoder_free(encoder_t *encoder) {
    if (encoder)
        encoder->class->free(encoder);
}

uint64_t format_record_limit(const format_settings_t *settings) {
    return settings->record_limit ? settings->record_limit : RECORD_LIMIT;
}

void format_bad(const decoder_t *decoder, decode_target_t *target, text_t record, const char *reason) {
    target->bad(target->argument, record, decoder->records, reason);
    format_look(decoder, target, record, reason);
}

size_t format_shown(size_t size, uint64_t limit) {
    size_t most = limit < BAD_SAMPLE ? (size_t) limit : BAD_SAMPLE;
    return size <= limit || size < most ? size : most;
}

void format_bad_long(const decoder_t *decoder, decode_target_t *target, text_t record, uint64_t limit) {
    err_t err;
    err_set(&err, "longer than %llu bytes (--max-record)", (unsigned long long) limit);
    record.size = format_shown(record.size, limit);
    format_bad(decoder, target, record, err.text);
}

size_t format_feed_lines(line_state_t *state, decoder_t *decoder, const char *data, size_t size, bool at_end,
                         decode_target_t *target, line_fn *handle) {
    if (!size)
        return 0;
    if (state->join)
        return multiline_feed(state, decoder, data, size, at_end, target, handle);
    const char *p = data, *readable = data + size;
    while (p < readable) {
        const char *end = memchr(p, '\n', (size_t) (readable - p));
        const char *next = end ? end + 1 : readable;
        text_t line = {p, (size_t) ((end ? end : readable) - p)};
        if (state->skipping) {
            state->skipping = !end && !at_end;
            p = next;
            continue;
        }
        if (line.size > state->limit) {
            decoder->records++;
            format_bad_long(decoder, target, line, state->limit);
            state->skipping = !end && !at_end;
            p = next;
            continue;
        }
        if (!end && !at_end)
            break;
        decoder->records++;
        p = next;
        if (handle(decoder, line, readable, target))
            break;
    }
    return (size_t) (p - data);
}
