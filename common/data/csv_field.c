/* CSV: what reader and writer share: the settings' words, fields as they stand in a text, and what they stand for. */
#include <string.h>

#include "data/csv.h"
#include "data/json_parse.h"

int csv_separator(const format_settings_t *settings, char *separator, err_t *err) {
    const char *name = settings->separator ? settings->separator : ",";
    if (strcmp(name, "tab") == 0 || strcmp(name, "\\t") == 0)
        name = "\t";
    if (strlen(name) != 1 || *name == '"' || *name == '\n' || *name == '\r' || *name < 0)
        return err_set(err, "csv-separator: \"%s\" is not one ASCII character other than a quote or line end (or \"tab\")", name);
    *separator = *name;
    return 0;
}

void csv_names_add(csv_names_t *names, text_t name) {
    names->names = mem_resize(names->names, (names->count + 1) * sizeof *names->names);
    names->names[names->count++] = mem_text_n(name.data, name.size);
}

int csv_names_split(csv_names_t *names, const option_list_t *list, err_t *err) {
    for (size_t i = 0; i < list->count; i++) {
        text_t rest = text_of(list->items[i]), name;
        while (text_split(&rest, ',', &name)) {
            name = text_trim(name);
            if (name.size == 0 || text_utf8_valid(name.data, name.size) < name.size)
                return err_set(err, "csv-columns: \"%s\": a name is empty or not UTF-8", list->items[i]);
            for (size_t k = 0; k < names->count; k++)
                if (text_is(name, names->names[k]))
                    return err_set(err, "csv-columns: \"%s\" comes twice", names->names[k]);
            csv_names_add(names, name);
        }
    }
    return 0;
}

void csv_names_fini(csv_names_t *names) {
    for (size_t i = 0; i < names->count; i++)
        mem_free(names->names[i]);
    mem_free(names->names);
    *names = (csv_names_t){0};
}

static unsigned significant_digits(text_t field) {
    unsigned count = 0;
    for (size_t i = 0; i < field.size && field.data[i] != 'e' && field.data[i] != 'E'; i++)
        count += field.data[i] >= (count ? '0' : '1') && field.data[i] <= '9';
    return count;
}

static bool is_number(text_t field, value_t *value) {
    if (field.size > 32 || (field.data[0] != '-' && (field.data[0] < '0' || field.data[0] > '9')))
        return false;
    json_number_t number;
    const char *reason, *at, *end = field.data + field.size;
    if (json_number_read(field.data, end, &number, &reason, &at) != end)
        return false;
    if (!number.is_double) {
        if (number.magnitude >= UINT64_C(100000000000000000))
            return false;
        *value = value_int(number.negative ? -(int64_t) number.magnitude : (int64_t) number.magnitude);
        return true;
    }
    const char *point = memchr(field.data, '.', field.size);
    for (const char *p = field.data; p < end; p++)
        if ((*p == 'e' || *p == 'E') && !point && p[1] != '+' && p[1] != '-')
            return false;
    *value = value_double(number.value);
    return significant_digits(field) <= 17;
}

bool csv_infer(text_t field, value_t *value) {
    if (field.size == 0)
        *value = value_null();
    else if (text_is(field, "true") || text_is(field, "false"))
        *value = value_bool(field.data[0] == 't');
    else
        return is_number(field, value);
    return true;
}

/* The end of the unquoted field at p, and whether it is ASCII without NUL. */
static const char *plain_end(const char *p, const char *end, char separator, bool *ascii) {
#ifdef JSON_SSE2
    const __m128i separators = _mm_set1_epi8(separator), line_ends = _mm_set1_epi8('\n');
    unsigned odd = 0; /* bits of bytes from 0x80 on, and of NUL */
    for (; end - p >= 16; p += 16) {
        __m128i block = _mm_loadu_si128((const __m128i *) (const void *) p);
        unsigned stops = (unsigned) _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(block, separators), _mm_cmpeq_epi8(block, line_ends)));
        unsigned here = (unsigned) _mm_movemask_epi8(_mm_or_si128(block, _mm_cmpeq_epi8(block, _mm_setzero_si128())));
        if (stops) {
            *ascii = (odd | (here & (stops - 1) & ~stops)) == 0;
            return p + __builtin_ctz(stops);
        }
        odd |= here;
    }
#endif
    while (p < end && *p != separator && *p != '\n')
        p++;
    *ascii = false; /* not known */
    return p;
}

csv_result_t csv_read_field(const char **at, const char *end, char separator, bool at_end, csv_field_t *field) {
    const char *p = *at;
    *field = (csv_field_t){0};
    if (p < end && *p == '"') {
        const char *start = ++p;
        for (;;) {
            p = memchr(p, '"', (size_t) (end - p));
            if (!p || (p + 1 == end && !at_end))
                return CSV_CUT;
            if (p + 1 == end || p[1] != '"')
                break;
            field->doubled = true;
            p += 2;
        }
        field->text = text_make(start, (size_t) (p - start));
        field->quoted = true;
        p++;
        if (p < end && *p == '\r') {
            if (p + 1 == end && !at_end)
                return CSV_CUT;
            if (p + 1 == end || p[1] == '\n')
                p++;
        }
        if (p < end && *p != separator && *p != '\n') {
            *at = p;
            return CSV_BAD;
        }
    } else {
        const char *stop = plain_end(p, end, separator, &field->ascii);
        if (stop == end && !at_end)
            return CSV_CUT;
        field->text = text_make(p, (size_t) (stop - p));
        p = stop;
        if ((p == end || *p == '\n') && field->text.size && p[-1] == '\r')
            field->text.size--;
    }
    field->last = p == end || *p == '\n';
    *at = p < end ? p + 1 : p;
    return CSV_READ;
}

text_t csv_field_text(const csv_field_t *field, buf_t *buf) {
    if (!field->doubled)
        return field->text;
    buf_clear(buf);
    text_t rest = field->text;
    for (const char *quote; (quote = memchr(rest.data, '"', rest.size)); ) {
        size_t size = (size_t) (quote + 1 - rest.data);
        buf_put(buf, rest.data, size);
        rest = text_make(quote + 2, rest.size - size - 1);
    }
    buf_put(buf, rest.data, rest.size);
    return text_make((const char *) buf->data, buf->size);
}

bool csv_names_read(csv_names_t *names, text_t text, char separator) {
    const char *p = text.data, *end = text.data + text.size;
    csv_field_t field = {0};
    buf_t buf = {0};
    while (!field.last && csv_read_field(&p, end, separator, false, &field) == CSV_READ)
        csv_names_add(names, csv_field_text(&field, &buf));
    buf_fini(&buf);
    return field.last;
}
