/* CSV as RFC 4180 has it, and what is found beyond it: other separators, line ends without CR, a byte order mark, header names that are empty
 * or come twice. One row is one event; a row that cannot be read costs only itself. TSV is the same with tabs. */
#include "data/csv.h"

#include "base/clock.h"
#include "base/err.h"
#include "data/json.h"
#include "data/json_parse.h"
#include "data/pack.h"

typedef enum column_type { TYPE_INFERRED, TYPE_STRING, TYPE_INT, TYPE_DOUBLE, TYPE_BOOL, TYPE_TIME } column_type_t;
static const char *const type_names[] = {"inferred", "string", "int", "double", "bool", "time"};

typedef enum role { ROLE_PLAIN, ROLE_TIME, ROLE_TIME_TAKEN, ROLE_STREAM } role_t;

typedef struct column {
    char *name;
    buf_t key;                /* packed */
    column_type_t type;
    role_t role;
} column_t;

typedef struct csv {
    decoder_t decoder;
    line_state_t skip;        /* its limit, and whether the rest of a row that is too long is passed over */
    char separator;
    bool tabs;                /* the format is tsv: nobody can say another */
    bool header_row;          /* there is one */
    bool strings;
    bool header_read;
    char *time_field;         /* NULL: @timestamp, which may be missing and leaves the record */
    csv_names_t given;        /* --csv-columns */
    csv_names_t typed;        /* "FIELD=TYPE" of --csv-type */
    column_t *columns;
    size_t count;
    buf_t unquoted;           /* a field without its doubled quotes */
    char stream[FRAME_TOPIC_MAX + 1];
} csv_t;

static void free_columns(csv_t *csv) {
    for (size_t i = 0; i < csv->count; i++) {
        mem_free(csv->columns[i].name);
        buf_fini(&csv->columns[i].key);
    }
    mem_free(csv->columns);
    csv->columns = NULL;
    csv->count = 0;
}

static bool has_column(const csv_t *csv, const char *name) {
    for (size_t i = 0; i < csv->count; i++)
        if (strcmp(csv->columns[i].name, name) == 0)
            return true;
    return false;
}

static column_type_t type_of(const csv_t *csv, const char *name) {
    for (size_t i = csv->typed.count; i--;) { /* the last word counts */
        const char *entry = csv->typed.names[i], *equals = strrchr(entry, '=');
        if (!text_is(text_make(entry, (size_t) (equals - entry)), name))
            continue;
        for (column_type_t type = TYPE_STRING; type <= TYPE_TIME; type++)
            if (strcmp(equals + 1, type_names[type]) == 0)
                return type;
    }
    return csv->strings ? TYPE_STRING : TYPE_INFERRED;
}

/* An empty name becomes column_N, one that was there already gets _2, _3, ... */
static void add_column(csv_t *csv, text_t name) {
    buf_t unique = {0};
    if (name.size == 0)
        buf_format(&unique, "column_%zu", csv->count + 1);
    while (name.size) { /* what is not UTF-8, and NUL, cannot be in a name */
        size_t valid = text_utf8_valid(name.data, name.size);
        const char *nul = memchr(name.data, 0, valid);
        valid = nul ? (size_t) (nul - name.data) : valid;
        buf_put(&unique, name.data, valid);
        if (valid == name.size)
            break;
        buf_put_text(&unique, "\xef\xbf\xbd");
        name = text_make(name.data + valid + 1, name.size - valid - 1);
    }
    size_t size = unique.size;
    for (size_t n = 2; has_column(csv, buf_text(&unique)); n++) {
        unique.size = size;
        buf_format(&unique, "_%zu", n);
    }
    csv->columns = mem_resize(csv->columns, (csv->count + 1) * sizeof *csv->columns);
    column_t *column = &csv->columns[csv->count];
    *column = (column_t){.name = mem_text(buf_text(&unique))};
    pack_text(&column->key, column->name);
    column->type = type_of(csv, column->name);
    if (csv->time_field ? strcmp(column->name, csv->time_field) == 0 : strcmp(column->name, "@timestamp") == 0)
        column->role = csv->time_field ? ROLE_TIME : ROLE_TIME_TAKEN;
    else if (strcmp(column->name, "@stream") == 0)
        column->role = ROLE_STREAM;
    csv->count++;
    buf_fini(&unique);
}

/* What a field is, by its column's type. False: it cannot be that. */
static bool typed_value(const column_t *column, text_t text, bool quoted, value_t *value) {
    if (text.size == 0 && column->type != TYPE_STRING && !(quoted && column->type == TYPE_INFERRED)) {
        *value = value_null();
        return true;
    }
    int64_t integer;
    double number;
    bool boolean;
    switch (column->type) {
    case TYPE_INFERRED:
        if (quoted || !csv_infer(text, value))
            *value = value_text(text.data, text.size);
        return true;
    case TYPE_STRING:
        *value = value_text(text.data, text.size);
        return true;
    case TYPE_INT:
        if (text_to_int(text, &integer, NULL))
            return false;
        *value = value_int(integer);
        return true;
    case TYPE_DOUBLE:
        if (text.size > 1 && text.data[0] == '+')
            text = text_make(text.data + 1, text.size - 1);
        if (!json_parse_double(text.data, text.size, &number))
            return false;
        *value = value_double(number);
        return true;
    case TYPE_BOOL:
        if (text_to_bool(text, &boolean, NULL))
            return false;
        *value = value_bool(boolean);
        return true;
    default:
        if (!value_to_time(value_text(text.data, text.size), &integer))
            return false;
        *value = value_time(integer);
        return true;
    }
}

/* A row while it is read. */
typedef struct row {
    size_t fields;
    uint32_t kept;            /* in the record */
    bool has_time, has_stream;
    bool broken;              /* its fields could not be told apart */
    int64_t time;
    err_t reason;             /* why it is bad; "" while it is not */
} row_t;

static bool is_text(text_t text) {
    return text_utf8_valid(text.data, text.size) == text.size && !memchr(text.data, 0, text.size);
}

/* True: the field does not go into the record. */
static bool note_field(csv_t *csv, const column_t *column, value_t value, row_t *row) {
    if (column->role == ROLE_STREAM) {
        if (value.type != VALUE_STRING || !frame_topic_valid(value.text, value.size))
            return value.type == VALUE_NULL;
        memcpy(csv->stream, value.text, value.size);
        csv->stream[value.size] = 0;
        row->has_stream = true;
        return true;
    }
    if (value.type == VALUE_NULL)
        return column->role == ROLE_TIME_TAKEN;
    row->has_time = value_to_time(value, &row->time) && row->time >= 0 && row->time <= EVENT_TIME_MAX;
    if (!row->has_time)
        err_set(&row->reason, FORMAT_BAD_TIME, column->name);
    return column->role == ROLE_TIME_TAKEN;
}

/* The usual fields of a column whose type is inferred, straight to the output: short plain numbers and ASCII that cannot be anything but text. */
static bool put_usual_field(const column_t *column, const csv_field_t *field, const char *end, buf_t *body) {
    text_t text = field->text;
    if (field->quoted || !field->ascii || text.size == 0)
        return false;
    char first = text.data[0];
    if (first == '-' || (first >= '0' && first <= '9')) {
        if (text.size > 16 || (size_t) (end - text.data) < JSON_SLACK)
            return false;
        uint8_t *out = buf_reserve(body, column->key.size + 16), *value = out + column->key.size;
        if (json_fast_number(text.data, &value) != text.data + text.size)
            return false;
        memcpy(out, column->key.data, column->key.size);
        body->size = (size_t) (value - body->data);
        return true;
    }
    if (first == 't' || first == 'f')
        return false;
    buf_put(body, column->key.data, column->key.size);
    pack_string(body, text.data, text.size);
    return true;
}

/* end: of what may be read, behind the field. */
static void put_field(csv_t *csv, const csv_field_t *field, const char *end, buf_t *body, row_t *row) {
    const column_t *column = &csv->columns[row->fields];
    if (column->type == TYPE_INFERRED && !column->role && put_usual_field(column, field, end, body)) {
        row->kept++;
        return;
    }
    text_t text = csv_field_text(field, &csv->unquoted);
    value_t value;
    if (!field->ascii && !is_text(text)) {
        err_set(&row->reason, "field \"%s\": invalid UTF-8 or a NUL byte", column->name);
        return;
    }
    if (!typed_value(column, text, field->quoted, &value)) {
        buf_t quoted = {0};
        text_put_quoted(&quoted, text, 60);
        err_set(&row->reason, "field \"%s\": %s is not of type %s (--csv-type)", column->name, buf_text(&quoted), type_names[column->type]);
        buf_fini(&quoted);
        return;
    }
    if (column->role && note_field(csv, column, value, row))
        return;
    row->kept++;
    buf_put(body, column->key.data, column->key.size);
    pack_value(body, value);
}

/* The map's head is written for all columns; with fewer in the record it is written anew. */
static void fix_head(csv_t *csv, frame_builder_t *builder, const row_t *row) {
    if (row->kept == csv->count)
        return;
    size_t start = builder->start + EVENT_HEAD;
    size_t head = csv->count < 16 ? 1 : csv->count <= UINT16_MAX ? 3 : 5;
    buf_t fresh = {0};
    pack_map(&fresh, row->kept);
    memmove(builder->body.data + start + fresh.size, builder->body.data + start + head, builder->body.size - start - head);
    memcpy(builder->body.data + start, fresh.data, fresh.size);
    builder->body.size -= head - fresh.size;
    buf_fini(&fresh);
}

typedef enum row_result { ROW_DONE, ROW_STOP, ROW_CUT } row_result_t;

static row_result_t end_row(csv_t *csv, text_t record, row_t *row, decode_target_t *target) {
    frame_builder_t *builder = target->builder;
    if (!row->broken && row->fields != csv->count) /* this explains whatever else is wrong */
        err_set(&row->reason, "expected %zu field%s, found %zu", csv->count, csv->count == 1 ? "" : "s", row->fields);
    if (!row->reason.text[0] && csv->time_field && !row->has_time)
        err_set(&row->reason, FORMAT_NO_TIME, csv->time_field);
    if (!row->reason.text[0] && !format_fits(target))
        err_set(&row->reason, FORMAT_TOO_LARGE);
    if (row->reason.text[0]) {
        builder_abort(builder);
        format_bad(&csv->decoder, target, record, row->reason.text);
        return ROW_DONE;
    }
    fix_head(csv, builder, row);
    target->topic = row->has_stream ? csv->stream : NULL;
    return format_commit(target, row->has_time, row->time) ? ROW_STOP : ROW_DONE;
}

/* The end of the line at p, for records that are broken. */
static const char *line_end(const char *p, const char *end) {
    const char *found = memchr(p, '\n', (size_t) (end - p));
    return found ? found + 1 : end;
}

/* Takes back what was read of a row that is not all there yet. */
static row_result_t cut_row(csv_t *csv, bool header, frame_builder_t *builder) {
    if (header)
        free_columns(csv);
    else
        builder_abort(builder);
    return ROW_CUT;
}

/* A first row of one column that holds what elsewhere separates columns is most likely a file with another separator. */
static void remark_on_separator(const csv_t *csv, text_t row, const decode_target_t *target) {
    static const char usual[] = ";\t|,";
    if (!target->remark)
        return;
    for (const char *other = usual; *other; other++) {
        if (*other == csv->separator || !memchr(row.data, *other, row.size))
            continue;
        err_t remark = {{0}};
        buf_t quoted = {0};
        text_put_quoted(&quoted, row, 60);
        if (*other == '\t')
            err_set(&remark, "the first row is one column, %s; where tabs separate columns, say --csv-separator tab", buf_text(&quoted));
        else
            err_set(&remark, "the first row is one column, %s; where \"%c\" separates columns, say %s--csv-separator '%c'", buf_text(&quoted), *other,
                    csv->tabs ? "--format csv " : "", *other);
        buf_fini(&quoted);
        target->remark(target->argument, csv->decoder.records, remark.text);
        return;
    }
}

/* Reads the row at *at. The header is a row whose fields become columns. */
static row_result_t read_row(csv_t *csv, const char **at, const char *end, bool at_end, decode_target_t *target) {
    const char *start = *at, *p = start;
    bool header = csv->header_row && !csv->header_read, first = header || csv->decoder.records == 0;
    row_t row;
    row.fields = row.kept = 0;
    row.has_time = row.has_stream = row.broken = false;
    row.reason.text[0] = 0;
    frame_builder_t *builder = target->builder;
    if (!header) {
        builder_begin(builder);
        if (csv->count)
            pack_map(&builder->body, (uint32_t) csv->count);
    }
    csv_field_t field;
    do {
        csv_result_t result = csv_read_field(&p, end, csv->separator, at_end, &field);
        if (result == CSV_CUT && !at_end)
            return cut_row(csv, header, builder);
        if (result != CSV_READ) {
            bool closed = result == CSV_BAD;
            row.broken = true;
            err_set(&row.reason, closed ? "field %zu: text behind a closing quote" : "field %zu: its quote is never closed", row.fields + 1);
            const char *stop = closed ? memchr(p, '\n', (size_t) (end - p)) : end;
            if (!stop && !at_end)
                return cut_row(csv, header, builder);
            p = closed ? line_end(p, end) : end;
            break;
        }
        if (header) {
            if (!field.quoted && memchr(field.text.data, '\r', field.text.size))
                err_set(&row.reason, "a carriage return alone ends no row; make it a line feed (tr '\\r' '\\n')");
            row.fields++;
            if (!csv->given.count)
                add_column(csv, csv_field_text(&field, &csv->unquoted));
        } else if (!csv->count) { /* no header: the first row counts the columns */
            row.fields++;
        } else if (row.fields < csv->count && !row.reason.text[0]) {
            put_field(csv, &field, end, &builder->body, &row);
            row.fields++;
        } else {
            row.fields++;
        }
    } while (!field.last);
    if (!header && !csv->count && !row.reason.text[0]) {
        builder_abort(builder);
        for (size_t i = 0; i < row.fields; i++)
            add_column(csv, text_make("", 0));
        return read_row(csv, at, end, at_end, target);
    }
    *at = p;
    text_t record = {start, (size_t) (p - start)};
    while (record.size && (record.data[record.size - 1] == '\n' || record.data[record.size - 1] == '\r'))
        record.size--;
    csv->decoder.records++;
    if (header)
        format_look(&csv->decoder, target, record, NULL);
    if (first && row.fields == 1 && !row.broken && !field.quoted)
        remark_on_separator(csv, record, target);
    if (!header)
        return end_row(csv, record, &row, target);
    if (row.reason.text[0]) { /* the next row is tried as the header */
        free_columns(csv);
        format_bad(&csv->decoder, target, record, row.reason.text);
    } else {
        csv->header_read = true;
        for (size_t i = 0; i < csv->given.count; i++)
            add_column(csv, text_of(csv->given.names[i]));
    }
    return ROW_DONE;
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    csv_t *csv = (csv_t *) decoder;
    if (!size)
        return 0;
    const char *p = data, *end = data + size;
    while (p < end) {
        if (csv->skip.skipping) {
            const char *stop = memchr(p, '\n', (size_t) (end - p));
            csv->skip.skipping = !stop && !at_end;
            p = stop ? stop + 1 : end;
            continue;
        }
        if (decoder->records == 0 && *p == '\xef') { /* a byte order mark, perhaps not all of it here yet */
            if (end - p < 3 && !at_end)
                break;
            if (end - p >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) {
                p += 3;
                continue;
            }
        }
        if (*p == '\n' || (*p == '\r' && end - p > 1 && p[1] == '\n') || (*p == '\r' && end - p == 1 && at_end)) {
            decoder->records++; /* a blank line */
            p += *p == '\n' || end - p == 1 ? 1 : 2;
            continue;
        }
        /* no row is looked at beyond the limit and the bytes that show that it goes on */
        const char *bound = (uint64_t) (end - p) > csv->skip.limit + 2 ? p + csv->skip.limit + 2 : end;
        const char *start = p;
        row_result_t result = read_row(csv, &p, bound, at_end && bound == end, target);
        if (result == ROW_STOP)
            break;
        if (result == ROW_CUT) {
            if (bound == end)
                break;
            decoder->records++;
            format_bad_long(decoder, target, text_make(start, (size_t) (bound - start)), csv->skip.limit);
            csv->skip.skipping = true;
        }
    }
    return (size_t) (p - data);
}

static void reset(decoder_t *decoder) {
    csv_t *csv = (csv_t *) decoder;
    csv->skip.skipping = false;
    csv->header_read = false;
    if (csv->header_row || !csv->given.count)
        free_columns(csv);
}

static uint64_t state(const decoder_t *decoder) {
    const csv_t *csv = (const csv_t *) decoder;
    return (uint64_t) csv->skip.skipping | (uint64_t) (csv->header_read || csv->count) << 1;
}

/* The columns themselves are not in it: whoever goes on behind the first row lets that be read before. */
static void restore(decoder_t *decoder, uint64_t state) {
    csv_t *csv = (csv_t *) decoder;
    if (!(state & 2))
        decoder_reset(decoder);
    csv->skip.skipping = state & 1;
}

static void free_decoder(decoder_t *decoder) {
    csv_t *csv = (csv_t *) decoder;
    free_columns(csv);
    csv_names_fini(&csv->given);
    csv_names_fini(&csv->typed);
    buf_fini(&csv->unquoted);
    mem_free(csv->time_field);
    mem_free(csv);
}

static int check_types(csv_t *csv, const option_list_t *types, err_t *err) {
    for (size_t i = 0; i < types->count; i++) {
        text_t rest = text_of(types->items[i]), entry;
        while (text_split(&rest, ',', &entry)) {
            csv_names_add(&csv->typed, text_trim(entry));
            const char *text = csv->typed.names[csv->typed.count - 1], *equals = strrchr(text, '=');
            bool known = false;
            for (size_t type = TYPE_STRING; equals && type <= TYPE_TIME; type++)
                known |= strcmp(equals + 1, type_names[type]) == 0;
            if (!known || equals == text)
                return err_set(err, "csv-type: \"%s\" is not FIELD=TYPE with string, int, double, bool or time", text);
        }
    }
    return 0;
}

static int open_decoder(decoder_t **decoder, const format_settings_t *settings, char separator, bool tabs, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore};
    csv_t *csv = mem_zero(sizeof *csv);
    csv->decoder.class = &class;
    csv->separator = separator;
    csv->tabs = tabs;
    csv->skip.limit = format_record_limit(settings);
    csv->header_row = !settings->no_header;
    csv->strings = settings->no_inference;
    csv->time_field = mem_text(settings->time_field);
    if (csv_names_split(&csv->given, &settings->columns, err) || check_types(csv, &settings->types, err)) {
        free_decoder(&csv->decoder);
        return -1;
    }
    for (size_t i = 0; settings->no_header && i < csv->given.count; i++)
        add_column(csv, text_of(csv->given.names[i]));
    *decoder = &csv->decoder;
    return 0;
}

int format_csv_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    char separator;
    return csv_separator(settings, &separator, err) ? -1 : open_decoder(decoder, settings, separator, false, err);
}

int format_tsv_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    return open_decoder(decoder, settings, '\t', true, err);
}
