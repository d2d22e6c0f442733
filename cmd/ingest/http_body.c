/* JSON and XML bodies: finds the events inside, and what stands beside them: the next page's name, the greatest value of a field. */
#include <string.h>

#include "base/memory.h"
#include "base/unicode.h"
#include "data/json.h"
#include "data/pack.h"
#include "http_source.h"

/* Texts and numbers as text; false for all else and for what is too long. */
static bool put_plain(buf_t *out, value_t value) {
    if (value.type == VALUE_STRING)
        buf_put(out, value.text, value.size);
    else if (value.type == VALUE_INT || value.type == VALUE_UINT || value.type == VALUE_DOUBLE)
        json_put_value(out, value);
    return out->size > 0 && out->size <= HTTP_PLACE_MAX && !memchr(out->data, 0, out->size);
}

static bool is_greater(text_t a, text_t b) {
    int64_t ia, ib;
    double da, db;
    err_t err;
    if (text_to_int(a, &ia, &err) == 0 && text_to_int(b, &ib, &err) == 0)
        return ia > ib;
    if (json_parse_double(a.data, a.size, &da) && json_parse_double(b.data, b.size, &db))
        return da > db;
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order > 0 : a.size > b.size;
}

void http_keep_greatest(char **greatest, text_t value) {
    if (*greatest && !is_greater(value, text_of(*greatest)))
        return;
    mem_free(*greatest);
    *greatest = mem_text_n(value.data, value.size);
}

/* name: what a value that is no map is called in its event; size 0: it stays as it is. */
static void put_record(const http_settings_t *settings, value_t item, text_t name, buf_t *lines, http_found_t *found, buf_t *space) {
    bool wrap = name.size && item.type != VALUE_MAP;
    if (wrap) {
        buf_put_byte(lines, '{');
        text_put_json(lines, name);
        buf_put_byte(lines, ':');
    }
    json_put_value(lines, item);
    buf_put_text(lines, wrap ? "}\n" : "\n");
    found->records++;
    if (settings->cursor && pack_follow(text_of(settings->cursor), &item)) {
        buf_clear(space);
        if (put_plain(space, item))
            http_keep_greatest(&found->greatest, text_make((const char *) space->data, space->size));
    }
}

static bool is_nothing(value_t value) {
    bool holds = value.type == VALUE_ARRAY || value.type == VALUE_MAP;
    return value.type == VALUE_NULL || (value.type == VALUE_BOOL && !value.boolean) || (value.type == VALUE_STRING && !value.size) ||
           (holds && value.size == 1); /* an empty one */
}

/* What leads to the next page. That it is something else must not pass for the last page. */
static int take_next(const http_settings_t *settings, value_t value, http_found_t *found, buf_t *space, err_t *err) {
    if (!settings->next || !pack_follow(text_of(settings->next), &value) || is_nothing(value))
        return 0;
    if (!put_plain(space, value))
        return err_set(err, space->size ? "what stands at %s (--next) is longer than %d bytes, or has a NUL byte in it"
                                        : "what stands at %s (--next) is neither a text nor a number", settings->next, HTTP_PLACE_MAX);
    found->next = mem_text_n((const char *) space->data, space->size);
    return 0;
}

static int read_json(text_t body, buf_t *packed, err_t *err) {
    size_t mark = unicode_mark(body.data, body.size);
    body = text_make(body.data + mark, body.size - mark);
    ssize_t used = json_read_value(body, packed, err);
    if (used < 0)
        return -1;
    if (text_trim(text_make(body.data + used, body.size - (size_t) used)).size)
        return err_set(err, "more text after the JSON value, at byte %zd; for a value per line use --format ndjson", used + 1);
    return 0;
}

/* The last name of a path. */
static text_t last_name(const char *path) {
    const char *dot = strrchr(path, '.');
    return text_of(dot ? dot + 1 : path);
}

int http_body_to_lines(const http_settings_t *settings, xml_t *xml, text_t body, buf_t *lines, http_found_t *found, err_t *err) {
    buf_t packed = {0}, space = {0};
    int result = -1;
    if (xml ? xml_read(xml, body, NULL, false, &packed, err) : read_json(body, &packed, err))
        goto out;
    pack_cursor_t cursor = pack_cursor(packed.data, packed.size);
    value_t value;
    ASSERT(pack_read_value(&cursor, &value));
    if (take_next(settings, value, found, &space, err))
        goto out;
    if (settings->records && !pack_follow(text_of(settings->records), &value)) {
        if (!xml) {
            err_set(err, "the body has no %s (--records)", settings->records);
            goto out;
        }
        value = value_null(); /* of elements there may be none */
    }
    result = 0;
    uint32_t count = value.type == VALUE_NULL && settings->records ? 0 : 1;
    cursor = pack_cursor(value.packed, value.size);
    if (value.type == VALUE_ARRAY)
        ASSERT(pack_read_array(&cursor, &count));
    for (uint32_t i = 0; i < count; i++) {
        value_t item = value;
        if (value.type == VALUE_ARRAY)
            ASSERT(pack_read_value(&cursor, &item));
        put_record(settings, item, xml && settings->records ? last_name(settings->records) : (text_t){0}, lines, found, &space);
    }
out:
    buf_fini(&packed);
    buf_fini(&space);
    return result;
}

void http_found_fini(http_found_t *found) {
    mem_free(found->next);
    mem_free(found->greatest);
    *found = (http_found_t){0};
}
