/* One JSON object → one event, predicting that it looks like an earlier one. A shape is the bytes that stand before each value
 * (brace or comma, white space, key, colon) and the packed key. While the text agrees byte for byte, keys cost one comparison and one copy,
 * and, being those of an event without duplicates and in its order, cannot be duplicates. Fields that are absent this time are
 * skipped. Whatever does not agree is read the general way and remembered in turn. */
#include "data/json_event.h"

#include "base/clock.h"
#include "data/frame.h"

#define SHAPES 4
#define FIELDS_MAX 128
#define TEXT_MAX 64           /* bytes before a value */
#define KEY_MAX 48            /* of a packed key */
#define LOOKAHEAD 8           /* absent fields in a row */
/* An event that no shape fits counts 1, one that fits counts -4. From COLD on, prediction is tried on every 61st event only. */
#define COLD 16
#define MISSES_MAX 24

#define SECOND_SIZE 19        /* "2026-01-02T03:04:05" */

typedef enum role { ROLE_PLAIN, ROLE_TIME, ROLE_TIME_INSIDE, ROLE_STREAM } role_t;

typedef struct field {
    char text[TEXT_MAX];
    uint8_t key[KEY_MAX];
    uint16_t mask;            /* bits of the first 16 bytes of text that count */
    uint8_t text_size, key_size;
    uint8_t role;
} field_t;

typedef struct shape {
    field_t *fields;
    unsigned count, capacity;
    uint64_t used;            /* the event that it last fitted */
} shape_t;

struct json_reader {
    json_parser_t parser;
    shape_t shapes[SHAPES];
    unsigned last;            /* the shape to try first */
    unsigned misses;
    uint64_t events;
    char *time_name;
    /* packed keys; size 0: none */
    buf_t time_key;
    buf_t time_head;          /* of a dotted name: up to the first dot */
    buf_t stream_key;
    bool take_time;
    buf_t text;               /* a copy with slack */
    char stream[FRAME_TOPIC_MAX + 1];
    /* the last time's text up to its seconds, and what it is in ns */
    char second_text[SECOND_SIZE];
    int64_t second;
};

json_reader_t *json_reader_new(const char *time_field, bool take_time, bool streams) {
    json_reader_t *reader = mem_zero(sizeof *reader);
    reader->parser.seed = (uint64_t) clock_monotonic() * UINT64_C(0x9e3779b97f4a7c15) ^ (uintptr_t) reader;
    reader->take_time = take_time;
    reader->time_name = mem_text(time_field);
    if (streams)
        pack_text(&reader->stream_key, "@stream");
    if (time_field) {
        pack_text(&reader->time_key, time_field);
        const char *dot = strchr(time_field, '.');
        if (dot)
            pack_string(&reader->time_head, time_field, (size_t) (dot - time_field));
    }
    return reader;
}

void json_reader_free(json_reader_t *reader) {
    if (!reader)
        return;
    for (unsigned i = 0; i < SHAPES; i++)
        mem_free(reader->shapes[i].fields);
    json_parser_fini(&reader->parser);
    buf_fini(&reader->text);
    buf_fini(&reader->time_key);
    buf_fini(&reader->time_head);
    buf_fini(&reader->stream_key);
    mem_free(reader->time_name);
    mem_free(reader);
}

static inline bool is_key(const buf_t *name, const uint8_t *key, size_t size) {
    return name->size == size && memcmp(name->data, key, size) == 0;
}

/* What a packed key means. */
static inline role_t role_of(const json_reader_t *reader, const uint8_t *key, size_t size) {
    if (is_key(&reader->time_key, key, size))
        return ROLE_TIME;
    if (is_key(&reader->time_head, key, size))
        return ROLE_TIME_INSIDE;
    if (is_key(&reader->stream_key, key, size))
        return ROLE_STREAM;
    return ROLE_PLAIN;
}

static void take_time_value(value_t value, json_found_t *found) {
    if (value.type == VALUE_NULL)
        return;
    int64_t time;
    found->has_time = value_to_time(value, &time) && time >= 0 && time <= EVENT_TIME_MAX;
    found->bad_time = !found->has_time;
    if (found->has_time)
        found->time = time;
}

/* Follows the rest of a dotted name into a packed map. */
static void find_time_inside(const json_reader_t *reader, value_t value, json_found_t *found) {
    text_t rest = text_of(reader->time_name), part;
    if (!text_split(&rest, '.', &part))
        return;
    while (text_split(&rest, '.', &part))
        if (value.type != VALUE_MAP || !pack_map_get(value.packed, value.size, part, &value))
            return;
    take_time_value(value, found);
}

/* What a field that means something says. True: it leaves the record. */
static bool note_field(json_reader_t *reader, role_t role, const uint8_t *packed, size_t size, json_found_t *found) {
    pack_cursor_t cursor = pack_cursor(packed, size);
    value_t value;
    if (!pack_read_value(&cursor, &value))
        return false;
    switch (role) {
    case ROLE_TIME:
        found->has_time = found->bad_time = false; /* of duplicates the last counts */
        take_time_value(value, found);
        return reader->take_time && !found->bad_time;
    case ROLE_TIME_INSIDE:
        if (!found->has_time && !found->bad_time)
            find_time_inside(reader, value, found);
        return false;
    case ROLE_STREAM:
        if (value.type != VALUE_STRING || !frame_topic_valid(value.text, value.size))
            return false;
        memcpy(reader->stream, value.text, value.size);
        reader->stream[value.size] = 0;
        found->stream = text_make(reader->stream, value.size);
        return true;
    default:
        return false;
    }
}

static inline bool text_agrees(const field_t *field, const char *p) {
#ifdef JSON_SSE2
    __m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *) (const void *) p),
                                  _mm_loadu_si128((const __m128i *) (const void *) field->text));
    if (((unsigned) _mm_movemask_epi8(same) & field->mask) != field->mask)
        return false;
    return field->text_size <= 16 || memcmp(p + 16, field->text + 16, field->text_size - 16u) == 0;
#else
    return memcmp(p, field->text, field->text_size) == 0;
#endif
}

/* The first of the fields behind `field` that agrees; `last` when none of the near ones does. */
static const field_t *skip_absent(const field_t *field, const field_t *last, const char *p) {
    for (unsigned i = 0; i < LOOKAHEAD && ++field < last; i++)
        if (text_agrees(field, p))
            return field;
    return last;
}

/* Decimals of a second and 'Z', and nothing behind it. */
static bool read_fraction(const char *p, const char *end, int64_t *fraction) {
    int64_t unit = NS_PER_S, sum = 0;
    if (p < end && *p == '.')
        for (p++; p < end && *p >= '0' && *p <= '9' && unit > 1; p++) {
            unit /= 10;
            sum += (*p - '0') * unit;
        }
    *fraction = sum;
    return p + 1 == end && *p == 'Z' && p[-1] != '.';
}

/* The usual times: integers of 64 bits, and RFC 3339 in UTC, whose seconds are mostly those of the event before. False: whatever it
 * is, note_field knows. */
static inline bool note_usual_time(json_reader_t *reader, const uint8_t *packed, json_found_t *found) {
    if (*packed == 0xcf) {
        uint64_t number;
        memcpy(&number, packed + 1, sizeof number);
        number = __builtin_bswap64(number);
        if (number > INT64_MAX)
            return false;
        found->time = clock_from_integer((int64_t) number);
        if (found->time > EVENT_TIME_MAX)
            return false;
        found->has_time = true;
        found->bad_time = false;
        return true;
    }
    unsigned size = *packed & 31;
    if (*packed < 0xa0 + SECOND_SIZE + 1 || *packed > 0xbf)
        return false;
    const char *text = (const char *) packed + 1;
    int64_t fraction;
    if (!read_fraction(text + SECOND_SIZE, text + size, &fraction))
        return false;
    if (memcmp(text, reader->second_text, SECOND_SIZE) != 0) {
        if (!clock_parse(text_make(text, SECOND_SIZE), &reader->second) || reader->second < 0 || reader->second > EVENT_TIME_MAX - NS_PER_S) {
            reader->second_text[0] = 0;
            return false;
        }
        memcpy(reader->second_text, text, SECOND_SIZE);
    }
    found->time = reader->second + fraction;
    found->has_time = true;
    found->bad_time = false;
    return true;
}

/* Reads the object as one of this shape. NULL: it is not, or it is wrong. What is used after a store to the output is kept in locals: for all the
 * compiler knows, the store might change it. */
static const char *read_shape(json_reader_t *reader, const shape_t *shape, const char *p, json_found_t *found) {
    json_parser_t *parser = &reader->parser;
    const char *end = parser->end;
    uint8_t *head = parser->base, *out = head + (shape->count < 16 ? 1 : 3);
    const field_t *first = shape->fields, *last = first + shape->count;
    unsigned count = 0;
    for (const field_t *field = first; field < last; field++) {
        if (p >= end)
            return NULL;
        if (__builtin_expect(!text_agrees(field, p), 0)) {
            if (field == first) /* the one with the brace */
                return NULL;
            field = skip_absent(field, last, p);
            if (field == last)
                break;
        }
        p += field->text_size;
        uint8_t *key = out;
        unsigned key_size = field->key_size;
        role_t role = field->role;
        memcpy(out, field->key, 16);
        if (key_size > 16)
            memcpy(out + 16, field->key + 16, KEY_MAX - 16);
        out += key_size;
        uint8_t *value = out;
        const char *next;
        if (*p == '"') {
            next = json_fast_string(p + 1, &out);
            if (__builtin_expect(!next, 0)) {
                parser->out = out;
                next = json_parse_string(parser, p + 1);
                out = parser->out;
            }
        } else {
            next = json_fast_number(p, &out);
            if (!next) {
                parser->out = out;
                next = json_parse_value(parser, p, 1);
                out = parser->out;
            }
        }
        if (!next)
            return NULL;
        p = next;
        count++;
        if (role && (role == ROLE_TIME && note_usual_time(reader, value, found) ? reader->take_time
                     : note_field(reader, role, value, (size_t) (out - value), found))) {
            out = key;
            count--;
        }
    }
    p = json_skip_space(parser, p);
    if (p >= end || *p != '}')
        return NULL;
    parser->out = out;
    if (first + 16 > last)
        *head = (uint8_t) (0x80 | count);
    else if (count >= 16)
        json_put16(head, 0xde, (uint16_t) count);
    else {
        *head = (uint8_t) (0x80 | count);
        memmove(head + 1, head + 3, (size_t) (out - head - 3));
        parser->out = out - 2;
    }
    return p + 1;
}

/* Remembers the event whose entries stand in the parser, in the place of the shape that went unused the longest. */
static void learn(json_reader_t *reader) {
    json_parser_t *parser = &reader->parser;
    const json_entry_t *entries = json_entries(parser);
    size_t count = parser->entries.size / sizeof *entries;
    if (count == 0 || count > FIELDS_MAX)
        return;
    uint32_t from = 0;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].text - from > TEXT_MAX || entries[i].value - entries[i].key > KEY_MAX)
            return;
        from = entries[i].text_end;
    }
    unsigned oldest = 0;
    for (unsigned i = 1; i < SHAPES; i++)
        if (reader->shapes[i].used < reader->shapes[oldest].used)
            oldest = i;
    shape_t *shape = &reader->shapes[oldest];
    if (shape->capacity < count) {
        shape->fields = mem_resize(shape->fields, count * sizeof *shape->fields);
        shape->capacity = (unsigned) count;
    }
    from = 0;
    for (size_t i = 0; i < count; i++) {
        field_t *field = &shape->fields[i];
        memset(field, 0, sizeof *field);
        field->text_size = (uint8_t) (entries[i].text - from);
        field->key_size = (uint8_t) (entries[i].value - entries[i].key);
        memcpy(field->text, parser->start + from, field->text_size);
        memcpy(field->key, parser->base + entries[i].key, field->key_size);
        field->mask = field->text_size < 16 ? (uint16_t) ((1u << field->text_size) - 1) : UINT16_MAX;
        field->role = role_of(reader, field->key, field->key_size);
        from = entries[i].text_end;
    }
    shape->count = (unsigned) count;
    shape->used = reader->events;
    reader->last = oldest;
}

/* The general way. */
static const char *read_any(json_reader_t *reader, const char *p, bool remember, json_found_t *found) {
    json_parser_t *parser = &reader->parser;
    buf_clear(&parser->entries);
    parser->out = parser->base + 1;
    p = json_skip_space(parser, p);
    if (p >= parser->end || *p != '{')
        return json_fail(parser, p, "expected an object");
    p = json_parse_entries(parser, p + 1, 1);
    if (!p)
        return NULL;
    bool drop = json_mark_duplicates(parser, 0);
    if (!drop && remember)
        learn(reader);
    json_entry_t *entries = json_entries(parser);
    size_t count = parser->entries.size / sizeof *entries;
    for (size_t i = 0; i < count; i++) {
        if (!entries[i].value)
            continue;
        role_t role = role_of(reader, parser->base + entries[i].key, entries[i].value - entries[i].key);
        const uint8_t *end = i + 1 < count ? parser->base + entries[i + 1].key : parser->out;
        const uint8_t *value = parser->base + entries[i].value;
        if (role && note_field(reader, role, value, (size_t) (end - value), found)) {
            entries[i].value = 0;
            drop = true;
        }
    }
    uint32_t left = drop ? json_drop_marked(parser, 0) : (uint32_t) count;
    json_finish_map(parser, parser->base, left);
    return p;
}

static const char *read_predicted(json_reader_t *reader, const char *p, json_found_t *found) {
    for (unsigned i = 0; i < SHAPES; i++) {
        unsigned at = (reader->last + i) % SHAPES;
        shape_t *shape = &reader->shapes[at];
        if (!shape->count)
            continue;
        *found = (json_found_t){0};
        const char *end = read_shape(reader, shape, p, found);
        if (end) {
            shape->used = reader->events;
            reader->last = at;
            return end;
        }
    }
    return NULL;
}

int json_read_event_at(json_reader_t *reader, text_t text, bool whole, const char **end, buf_t *out, json_found_t *found, err_t *err) {
    if (text.size > JSON_TEXT_MAX) {
        *end = text.data;
        return err_set(err, "the text is larger than 1 GiB");
    }
    json_parser_t *parser = &reader->parser;
    parser->start = text.data;
    parser->end = text.data + text.size;
    parser->base = buf_reserve(out, JSON_OUT_MAX(text.size));
    reader->events++;
    bool predict = reader->misses < COLD || reader->events % 61 == 0;
    const char *p = predict ? read_predicted(reader, text.data, found) : NULL;
    if (p) {
        reader->misses = reader->misses > 4 ? reader->misses - 4 : 0;
    } else {
        reader->misses += predict && reader->misses < MISSES_MAX;
        *found = (json_found_t){0};
        p = read_any(reader, text.data, predict, found);
    }
    if (p && whole) {
        p = json_skip_space(parser, p);
        if (p != parser->end)
            p = json_fail(parser, p, "expected nothing more behind the object");
    }
    if (!p || p > parser->end) {
        *end = p ? p : parser->at;
        return p ? err_set(err, "unexpected end") : json_parse_error(parser, err);
    }
    out->size += (size_t) (parser->out - parser->base);
    *end = p;
    return 0;
}

static text_t copy_with_slack(buf_t *buf, text_t text) {
    buf_clear(buf);
    char *copy = (char *) buf_reserve(buf, text.size + JSON_SLACK);
    if (text.size)
        memcpy(copy, text.data, text.size);
    memset(copy + text.size, 0, JSON_SLACK);
    return text_make(copy, text.size);
}

int json_read_event(json_reader_t *reader, text_t text, buf_t *out, json_found_t *found, err_t *err) {
    if (text.size > JSON_TEXT_MAX)
        return err_set(err, "the text is larger than 1 GiB");
    const char *end;
    return json_read_event_at(reader, copy_with_slack(&reader->text, text), true, &end, out, found, err);
}

ssize_t json_read_value(text_t text, buf_t *out, err_t *err) {
    if (text.size > JSON_TEXT_MAX)
        return err_set(err, "the text is larger than 1 GiB");
    buf_t copy = {0};
    text = copy_with_slack(&copy, text);
    json_parser_t parser = {.start = text.data, .end = text.data + text.size};
    parser.seed = (uint64_t) clock_monotonic() ^ (uintptr_t) &parser;
    parser.base = parser.out = buf_reserve(out, JSON_OUT_MAX(text.size));
    const char *end = json_parse_value(&parser, text.data, 0);
    ssize_t result;
    if (end) {
        out->size += (size_t) (parser.out - parser.base);
        result = end - text.data;
    } else {
        result = json_parse_error(&parser, err);
    }
    json_parser_fini(&parser);
    buf_fini(&copy);
    return result;
}
