/* Events → CSV. The columns are those of --csv-columns, else the first event's fields, @timestamp before them when times came from the data. What later
 * events have beyond them is left out, with a warning that names it: a CSV file cannot change its header. What must stay text for our
 * reader is put in quotes: so null, "", 1 and "1" come back as what they were. */
#include "base/clock.h"
#include "base/log.h"
#include "data/csv.h"
#include "data/json.h"
#include "data/pack.h"

typedef struct csv_writer {
    encoder_t encoder;
    char separator;
    bool headless;            /* --csv-no-header */
    bool header_due;
    bool learned;             /* the columns are those of an event, not of --csv-columns */
    csv_names_t columns;
    text_t *cells;            /* of the event being written: packed bytes, or no data */
    buf_t text;               /* a field's text before quoting */
    log_limit_t warned;
} csv_writer_t;

static void put_cell(csv_writer_t *csv, text_t text, bool quote, buf_t *out) {
    for (size_t i = 0; i < text.size && !quote; i++)
        quote = text.data[i] == csv->separator || text.data[i] == '"' || text.data[i] == '\n' || text.data[i] == '\r';
    if (!quote) {
        buf_put(out, text.data, text.size);
        return;
    }
    buf_put_byte(out, '"');
    for (const char *found; text.size && (found = memchr(text.data, '"', text.size));) {
        size_t size = (size_t) (found + 1 - text.data);
        buf_put(out, text.data, size);
        buf_put_byte(out, '"');
        text = text_make(text.data + size, text.size - size);
    }
    buf_put(out, text.data, text.size);
    buf_put_byte(out, '"');
}

static void put_value(csv_writer_t *csv, value_t value, buf_t *out) {
    value_t inferred;
    switch (value.type) {
    case VALUE_NULL:
        break;
    case VALUE_STRING: {
        text_t text = text_make(value.text, value.size);
        put_cell(csv, text, csv_infer(text, &inferred), out);
        break;
    }
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_UINT:
    case VALUE_DOUBLE:
        if (value.type == VALUE_DOUBLE && !(value.number - value.number == 0))
            break; /* NaN and infinities: no value */
        json_put_value(out, value);
        break;
    case VALUE_ARRAY:
    case VALUE_MAP:
        buf_clear(&csv->text);
        json_put_value(&csv->text, value);
        put_cell(csv, text_make((const char *) csv->text.data, csv->text.size), false, out);
        break;
    default: { /* time and binary: JSON's text without its quotes */
        buf_clear(&csv->text);
        json_put_value(&csv->text, value);
        put_cell(csv, text_make((const char *) csv->text.data + 1, csv->text.size - 2), false, out);
    }
    }
}

static void put_header(csv_writer_t *csv, buf_t *out) {
    for (size_t i = 0; i < csv->columns.count; i++) {
        if (i)
            buf_put_byte(out, (uint8_t) csv->separator);
        put_cell(csv, text_of(csv->columns.names[i]), csv->columns.names[i][0] == 0, out);
    }
    buf_put_byte(out, '\n');
    csv->header_due = false;
}

static size_t find_column(const csv_writer_t *csv, text_t name, size_t likely) {
    if (likely < csv->columns.count && text_is(name, csv->columns.names[likely]))
        return likely;
    for (size_t i = 0; i < csv->columns.count; i++)
        if (text_is(name, csv->columns.names[i]))
            return i;
    return SIZE_MAX;
}

/* Checks that the record is a whole map with string keys. */
static bool is_record(const event_t *event) {
    pack_cursor_t cursor = pack_cursor(event->record, event->record_size);
    uint32_t count;
    text_t key;
    if (!pack_read_map(&cursor, &count))
        return false;
    for (; count; count--)
        if (!pack_read_string(&cursor, &key) || !pack_skip(&cursor))
            return false;
    return cursor.at == cursor.end;
}

static void learn_columns(csv_writer_t *csv, const event_t *event, bool data_time, const char *stream) {
    csv->learned = true;
    if (data_time)
        csv_names_add(&csv->columns, text_of("@timestamp"));
    if (stream)
        csv_names_add(&csv->columns, text_of("@stream"));
    pack_cursor_t cursor = pack_cursor(event->record, event->record_size);
    uint32_t count;
    pack_read_map(&cursor, &count);
    for (; count; count--) {
        text_t key;
        pack_read_string(&cursor, &key);
        pack_skip(&cursor);
        if (find_column(csv, key, 0) == SIZE_MAX)
            csv_names_add(&csv->columns, key);
    }
}

static void put_event(csv_writer_t *csv, const event_t *event, bool data_time, const char *stream, buf_t *out) {
    size_t row = out->size;
    memset(csv->cells, 0, csv->columns.count * sizeof *csv->cells);
    pack_cursor_t cursor = pack_cursor(event->record, event->record_size);
    uint32_t count;
    pack_read_map(&cursor, &count);
    size_t likely = 0;
    for (; count; count--) {
        text_t key;
        pack_read_string(&cursor, &key);
        const uint8_t *start = cursor.at;
        pack_skip(&cursor);
        size_t at = find_column(csv, key, likely);
        if (at != SIZE_MAX)
            csv->cells[at] = text_make((const char *) start, (size_t) (cursor.at - start));
        else if (csv->learned && log_limited(&csv->warned))
            log_warning("CSV: field \"%.*s\" is not among the columns and is left out (%llu such fields before); --csv-columns names the columns",
                        key.size > 100 ? 100 : (int) key.size, key.data, (unsigned long long) csv->warned.reported);
        likely = at == SIZE_MAX ? likely : at + 1;
    }
    for (size_t i = 0; i < csv->columns.count; i++) {
        if (i)
            buf_put_byte(out, (uint8_t) csv->separator);
        value_t value;
        if (data_time && strcmp(csv->columns.names[i], "@timestamp") == 0) {
            char time[CLOCK_TEXT_MAX];
            buf_put(out, time, clock_print(time, event->time));
        } else if (stream && strcmp(csv->columns.names[i], "@stream") == 0) {
            put_cell(csv, text_of(stream), false, out);
        } else if (csv->cells[i].data) {
            cursor = pack_cursor(csv->cells[i].data, csv->cells[i].size);
            if (pack_read_value(&cursor, &value))
                put_value(csv, value, out);
        }
    }
    if (out->size == row)
        buf_put_text(out, "\"\""); /* a blank line would be no row at all */
    buf_put_byte(out, '\n');
}

static uint32_t put_frame(encoder_t *encoder, const frame_t *frame, const char *stream, buf_t *out) {
    csv_writer_t *csv = (csv_writer_t *) encoder;
    frame_walk_t walk = {0};
    event_t event;
    uint32_t failed = 0, seen = 0;
    while (frame_next(frame, &walk, &event) > 0) {
        seen++;
        if (!is_record(&event)) {
            failed++;
            continue;
        }
        if (!csv->columns.count)
            learn_columns(csv, &event, frame->data_time, stream);
        if (!csv->columns.count) { /* an event without fields: there is nothing to name a column after */
            failed++;
            continue;
        }
        if (!csv->cells)
            csv->cells = mem_zero(csv->columns.count * sizeof *csv->cells);
        if (csv->header_due)
            put_header(csv, out);
        put_event(csv, &event, frame->data_time, stream, out);
    }
    return failed + (frame->events - seen);
}

static void header(encoder_t *encoder, buf_t *out) {
    csv_writer_t *csv = (csv_writer_t *) encoder;
    csv->header_due = !csv->headless;
    if (csv->header_due && csv->columns.count)
        put_header(csv, out);
}

static void free_encoder(encoder_t *encoder) {
    csv_writer_t *csv = (csv_writer_t *) encoder;
    csv_names_fini(&csv->columns);
    mem_free(csv->cells);
    buf_fini(&csv->text);
    mem_free(csv);
}

/* A file's own header decides the columns: rows in another order would be worth nothing. */
static int resume(encoder_t *encoder, text_t beginning, err_t *err) {
    csv_writer_t *csv = (csv_writer_t *) encoder;
    csv_names_t found = {0};
    if (csv->headless)
        return 0;
    if (!csv_names_read(&found, beginning, csv->separator)) {
        csv_names_fini(&found);
        return err_set(err, "its first line is no CSV header");
    }
    bool same = found.count == csv->columns.count;
    for (size_t i = 0; same && i < found.count; i++)
        same = strcmp(found.names[i], csv->columns.names[i]) == 0;
    if (csv->columns.count && !same) {
        csv_names_fini(&found);
        return err_set(err, "its header has other columns than --csv-columns; move it away or name another file");
    }
    csv_names_fini(&csv->columns);
    csv->columns = found;
    csv->learned = !same;
    return 0;
}

static int open_encoder(encoder_t **encoder, const format_settings_t *settings, char separator, err_t *err) {
    static const encoder_class_t class = {header, put_frame, free_encoder, resume};
    csv_writer_t *csv = mem_zero(sizeof *csv);
    csv->encoder.class = &class;
    csv->separator = separator;
    csv->headless = settings->no_header;
    if (csv_names_split(&csv->columns, &settings->columns, err)) {
        free_encoder(&csv->encoder);
        return -1;
    }
    *encoder = &csv->encoder;
    return 0;
}

int format_csv_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err) {
    char separator;
    return csv_separator(settings, &separator, err) ? -1 : open_encoder(encoder, settings, separator, err);
}

int format_tsv_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err) {
    return open_encoder(encoder, settings, '\t', err);
}
