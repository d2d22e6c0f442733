/* JSON documents: an object, an array of objects, or any number of these in a row, over any number of lines. Each object is an event as soon as
 * its last byte is there: a long array needs no more memory than its longest element. An element that cannot be used is passed over by its
 * brackets and quotes. */
#include "base/err.h"
#include "data/format_record.h"
#include "data/json_event.h"

#define TIME_FIELD "@timestamp"
#define WINDOW 4096           /* bytes to look for an object's end in at first */

typedef enum place { PLACE_TOP, PLACE_FIRST, PLACE_ELEMENT, PLACE_NEXT } place_t; /* outside, behind '[', behind ',', behind an element */

/* Passing over an element, over any number of calls. */
typedef struct skip {
    bool active, in_string, escaped, scalar;
    unsigned depth;
} skip_t;

typedef struct document {
    decoder_t decoder;
    uint64_t limit;
    json_reader_t *reader;
    char *time_field;         /* NULL: @timestamp, which may be missing and leaves the record */
    place_t place;
    skip_t skip;
    skip_t cut;               /* active: the data begins with an object that is not all there, of which */
    size_t seen;              /* so many bytes were looked at for its end: they are not read again until it has come */
    buf_t copy;               /* an object near the end of the data, with slack */
} document_t;

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == 0x1e; /* RS begins a text in RFC 7464's sequences */
}

static void begin_skip(skip_t *skip, char c) {
    *skip = (skip_t){.active = true, .scalar = c != '{' && c != '[' && c != '"'};
}

/* Passes over the element's bytes; returns where it ends or, still active, the data. */
static const char *go_on_skipping(skip_t *skip, const char *p, const char *end) {
    for (; p < end; p++) {
        char c = *p;
        if (skip->scalar) {
            if (is_space(c) || strchr(",]}{[\"", c)) {
                skip->active = false;
                return p;
            }
            continue;
        }
        if (skip->in_string) {
            if (skip->escaped)
                skip->escaped = false;
            else if (c == '\\')
                skip->escaped = true;
            else if (c == '"')
                skip->in_string = false;
        } else if (c == '"') {
            skip->in_string = true;
        } else if (c == '{' || c == '[') {
            skip->depth++;
        } else if (c == '}' || c == ']') {
            skip->depth -= skip->depth > 0;
        }
        if (!skip->in_string && skip->depth == 0) {
            skip->active = false;
            return p + 1;
        }
    }
    return p;
}

/* Reports the element at p and passes over it; NULL: its end is not here yet. Of one beyond the limit no more is looked at than shows that, so that
 * what is told does not depend on how the bytes came in. */
static const char *refuse(document_t *document, const char *p, const char *end, bool at_end, const char *reason, decode_target_t *target) {
    skip_t skip;
    size_t left = (size_t) (end - p);
    begin_skip(&skip, *p);
    const char *stop = go_on_skipping(&skip, skip.scalar ? p + 1 : p, left > document->limit ? p + document->limit + 1 : end);
    if (skip.active && left <= document->limit && !at_end)
        return NULL;
    document->decoder.records++;
    document->skip = skip;
    format_bad(&document->decoder, target, text_make(p, format_shown((size_t) (stop - p), document->limit)), reason);
    return stop;
}

typedef enum object_result { OBJECT_READ, OBJECT_STOP, OBJECT_CUT, OBJECT_BAD } object_result_t;

/* Tries to read the object that begins at the text's start; what lies behind the text must be readable. */
static object_result_t try_object(document_t *document, text_t text, const char **stop, decode_target_t *target, err_t *err) {
    frame_builder_t *builder = target->builder;
    builder_begin(builder);
    json_found_t found;
    if (json_read_event_at(document->reader, text, false, stop, &builder->body, &found, err)) {
        builder_abort(builder);
        return *stop >= text.data + text.size ? OBJECT_CUT : OBJECT_BAD;
    }
    int result = 0;
    if ((uint64_t) (*stop - text.data) > document->limit)
        result = err_set(err, "longer than %llu bytes (--max-record)", (unsigned long long) document->limit);
    else if (!found.has_time && (document->time_field || found.bad_time))
        result = err_set(err, found.bad_time ? FORMAT_BAD_TIME : FORMAT_NO_TIME, document->time_field ? document->time_field : TIME_FIELD);
    else if (!format_fits(target))
        result = err_set(err, FORMAT_TOO_LARGE);
    if (result) {
        builder_abort(builder);
        return OBJECT_BAD;
    }
    document->decoder.records++;
    target->topic = found.stream.size ? found.stream.data : NULL;
    return format_commit(target, found.has_time, found.time) ? OBJECT_STOP : OBJECT_READ;
}

/* Reads the object at *at: in place, looking farther and farther for its end, and in a copy when it reaches the end of the data. */
static object_result_t read_object(document_t *document, const char **at, const char *end, bool at_end, decode_target_t *target, err_t *err) {
    const char *p = *at, *stop;
    size_t left = (size_t) (end - p);
    size_t most = left > document->limit ? (size_t) document->limit + 1 : left; /* no more is looked at than shows that it is too long */
    for (size_t window = WINDOW; left > JSON_SLACK; window *= 8) {
        size_t size = left - JSON_SLACK < most ? left - JSON_SLACK : most;
        if (window < size)
            size = window;
        object_result_t result = try_object(document, text_make(p, size), &stop, target, err);
        if (result != OBJECT_CUT) {
            *at = result == OBJECT_BAD ? p : stop;
            return result;
        }
        if (size > document->limit)
            break;
        if (size < window)
            break;
    }
    buf_clear(&document->copy);
    char *copy = (char *) buf_reserve(&document->copy, most + JSON_SLACK);
    memcpy(copy, p, most);
    memset(copy + most, 0, JSON_SLACK);
    object_result_t result = try_object(document, text_make(copy, most), &stop, target, err);
    if (result == OBJECT_READ || result == OBJECT_STOP)
        *at = p + (stop - copy);
    if (result != OBJECT_CUT)
        return result;
    if (left > document->limit)
        err_set(err, "longer than %llu bytes (--max-record)", (unsigned long long) document->limit);
    else if (!at_end)
        return OBJECT_CUT;
    return OBJECT_BAD;
}

/* The object at p, which was not all there, may be by now. */
static bool may_read(document_t *document, const char *p, const char *end, bool at_end) {
    if (!document->cut.active || at_end || (size_t) (end - p) > document->limit)
        return true;
    document->seen = (size_t) (go_on_skipping(&document->cut, p + document->seen, end) - p);
    return !document->cut.active;
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    document_t *document = (document_t *) decoder;
    const char *p = data, *end = size ? data + size : data;
    if (p < end && !may_read(document, p, end, at_end))
        return 0;
    document->cut.active = false;
    while (p < end) {
        if (document->skip.active) {
            p = go_on_skipping(&document->skip, p, end);
            continue;
        }
        if (is_space(*p)) {
            p++;
            continue;
        }
        if (*p == '\xef' && decoder->records == 0 && document->place == PLACE_TOP) { /* a byte order mark, perhaps not all of it here yet */
            if (end - p < 3 && !at_end)
                break;
            if (end - p >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) {
                p += 3;
                continue;
            }
        }
        if (document->place == PLACE_NEXT) {
            if (*p == ',' || *p == ']') {
                document->place = *p == ',' ? PLACE_ELEMENT : PLACE_TOP;
                p++;
            } else {
                decoder->records++;
                format_bad(decoder, target, text_make(p, 1), "expected ',' or ']' behind an element");
                document->place = PLACE_ELEMENT;
            }
            continue;
        }
        if (*p == ']' && document->place == PLACE_FIRST) {
            document->place = PLACE_TOP;
            p++;
            continue;
        }
        if (*p == '[' && document->place == PLACE_TOP) {
            document->place = PLACE_FIRST;
            p++;
            continue;
        }
        bool inside = document->place != PLACE_TOP;
        object_result_t result = OBJECT_BAD;
        err_t err;
        if (*p == '{')
            result = read_object(document, &p, end, at_end, target, &err);
        else
            err_set(&err, inside ? "expected an object" : "expected an object or an array of objects");
        const char *stop = result == OBJECT_BAD ? refuse(document, p, end, at_end, err.text, target) : p;
        if (result == OBJECT_CUT || !stop) {
            begin_skip(&document->cut, *p);
            document->seen = 0;
            break;
        }
        p = stop;
        if (inside)
            document->place = PLACE_NEXT;
        if (result == OBJECT_STOP)
            break;
    }
    if (at_end && p == end && document->place != PLACE_TOP) {
        decoder->records++;
        format_bad(decoder, target, text_make(end, 0), "the text ends inside an array");
        document->place = PLACE_TOP;
    }
    return (size_t) (p - data);
}

static void reset(decoder_t *decoder) {
    document_t *document = (document_t *) decoder;
    document->place = PLACE_TOP;
    document->skip = document->cut = (skip_t){0};
}

/* place, then the skip's four flags and its depth */
static uint64_t state(const decoder_t *decoder) {
    const document_t *document = (const document_t *) decoder;
    const skip_t *skip = &document->skip;
    uint64_t packed = (uint64_t) document->place;
    if (skip->active)
        packed |= 1 << 2 | (uint64_t) skip->in_string << 3 | (uint64_t) skip->escaped << 4 | (uint64_t) skip->scalar << 5 | (uint64_t) skip->depth << 8;
    return packed;
}

static void restore(decoder_t *decoder, uint64_t state) {
    document_t *document = (document_t *) decoder;
    document->place = (place_t) (state & 3);
    document->cut = (skip_t){0};
    document->skip = (skip_t){.active = state >> 2 & 1, .in_string = state >> 3 & 1, .escaped = state >> 4 & 1, .scalar = state >> 5 & 1,
                              .depth = (unsigned) (state >> 8)};
}

static void free_decoder(decoder_t *decoder) {
    document_t *document = (document_t *) decoder;
    json_reader_free(document->reader);
    buf_fini(&document->copy);
    mem_free(document->time_field);
    mem_free(document);
}

int format_json_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore};
    document_t *document = mem_zero(sizeof *document);
    document->decoder.class = &class;
    document->limit = format_record_limit(settings);
    document->time_field = mem_text(settings->time_field);
    document->reader = json_reader_new(document->time_field ? document->time_field : TIME_FIELD, !document->time_field, true);
    *decoder = &document->decoder;
    return 0;
}
