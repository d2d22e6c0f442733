/* Functions that take texts apart. */
#include "data/csv.h"
#include "data/fields.h"
#include "data/lang/function_make.h"
#include "data/logfmt.h"
#include "data/syslog.h"

/* Memory that the events share. */
typedef struct reader {
    fields_t fields;
    logfmt_t logfmt;
    syslog_t syslog;
    buf_t values;
} reader_t;

static void end_reader(void *thing) {
    reader_t *reader = thing;
    fields_fini(&reader->fields);
    logfmt_fini(&reader->logfmt);
    syslog_fini(&reader->syslog);
    buf_fini(&reader->values);
}

static int prepare_reader(parser_t *parser, node_t *node) {
    reader_t *reader = arena_alloc(&parser->unit->arena, sizeof *reader);
    *reader = (reader_t){0};
    unit_own(parser->unit, reader, end_reader);
    node->data = reader;
    return 0;
}

static value_t map_of(const node_t *node, const row_t *row, const fields_t *fields) {
    buf_t *out = function_buffer(row);
    for (uint32_t i = 0; i < fields->count && out->size <= RESULT_MAX; i++) {
        pack_string(out, fields->items[i].name.data, fields->items[i].name.size);
        buf_put(out, fields->items[i].value, fields->items[i].size);
    }
    return function_made_map(node, row, out, fields->count);
}

FUNCTION(fn_parse_logfmt) {
    reader_t *reader = node->data;
    err_t err;
    if (logfmt_read(&reader->logfmt, text_make(arguments[0].text, arguments[0].size), false, &err) < 0)
        return evaluation_failed(node, row, "parse_logfmt: %s", err.text);
    return map_of(node, row, &reader->logfmt.fields);
}

FUNCTION(fn_parse_syslog) {
    reader_t *reader = node->data;
    err_t err;
    if (syslog_read(&reader->syslog, text_make(arguments[0].text, arguments[0].size), row->event.time, &err) < 0)
        return evaluation_failed(node, row, "parse_syslog: %s", err.text);
    return map_of(node, row, &reader->syslog.fields);
}

/* Texts that are found are put into `values`, which has room for all of them, so that what was put stays where it is. */
static void add(reader_t *reader, text_t name, text_t value) {
    size_t start = reader->values.size;
    pack_string(&reader->values, value.data, value.size);
    fields_put(&reader->fields, name, reader->values.data + start, (uint32_t) (reader->values.size - start));
}

static text_t cut(text_t *rest, value_t separator) {
    const char *found = separator.size ? memmem(rest->data, rest->size, separator.text, separator.size) : NULL;
    size_t size = found ? (size_t) (found - rest->data) : rest->size;
    text_t part = text_make(rest->data, size);
    size_t used = found ? size + separator.size : size;
    *rest = text_make(rest->data + used, rest->size - used);
    return part;
}

/* Room for the packed values of a text of so many bytes: a head of up to 5 bytes for every second one. */
static void begin(reader_t *reader, size_t size) {
    fields_clear(&reader->fields);
    buf_clear(&reader->values);
    buf_reserve(&reader->values, 4 * size + 16);
}

FUNCTION(fn_parse_key_value) {
    reader_t *reader = node->data;
    value_t between = count > 1 ? arguments[1] : value_text(" ", 1), equals = count > 2 ? arguments[2] : value_text("=", 1);
    if (!between.size || !equals.size)
        return evaluation_failed(node, row, "parse_key_value: an empty separator");
    text_t rest = text_make(arguments[0].text, arguments[0].size);
    begin(reader, rest.size);
    while (rest.size) {
        text_t value = text_trim(cut(&rest, between));
        if (!value.size)
            continue;
        text_t name = text_trim(cut(&value, equals));
        add(reader, name, text_trim(value));
    }
    return map_of(node, row, &reader->fields);
}

/* Escapes resolved, in the row's arena. */
static bool unescaped(const row_t *row, text_t text, text_t *out) {
    char *bytes = arena_alloc(&row->context->arena, text.size);
    *out = text_make(bytes, url_unescape(bytes, text, true));
    return text_utf8_valid(out->data, out->size) == out->size;
}

FUNCTION(fn_parse_query) {
    reader_t *reader = node->data;
    text_t rest = text_make(arguments[0].text, arguments[0].size);
    if (rest.size && rest.data[0] == '?') {
        rest.data++;
        rest.size--;
    }
    begin(reader, rest.size);
    while (rest.size) {
        text_t value = cut(&rest, value_text("&", 1)), name;
        if (!value.size)
            continue;
        name = cut(&value, value_text("=", 1));
        if (!unescaped(row, name, &name) || !unescaped(row, value, &value))
            return evaluation_failed(node, row, "parse_query: an escape that is not UTF-8");
        add(reader, name, value);
    }
    return map_of(node, row, &reader->fields);
}

/* Takes what stands before the first of the marks; the mark stays. */
static text_t until(text_t *rest, const char *marks) {
    size_t size = 0;
    while (size < rest->size && !strchr(marks, rest->data[size]))
        size++;
    text_t part = text_make(rest->data, size);
    *rest = text_make(rest->data + size, rest->size - size);
    return part;
}

static bool accept(text_t *rest, const char *mark) {
    size_t size = strlen(mark);
    if (rest->size < size || memcmp(rest->data, mark, size) != 0)
        return false;
    *rest = text_make(rest->data + size, rest->size - size);
    return true;
}

/* letter (letter | digit | + | - | .)* : */
static bool read_scheme(text_t *rest, text_t *scheme) {
    size_t size = 0;
    for (; size < rest->size; size++) {
        char c = rest->data[size], small = (char) (c | 0x20);
        if (!(small >= 'a' && small <= 'z') && (!size || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.')))
            break;
    }
    if (!size || size == rest->size || rest->data[size] != ':')
        return false;
    *scheme = text_make(rest->data, size);
    *rest = text_make(rest->data + size + 1, rest->size - size - 1);
    return true;
}

typedef struct url {
    text_t scheme, username, password, host, path, query, fragment;       /* data NULL: absent */
    int64_t port;             /* -1: absent */
} url_t;

/* [user[:password]@]host[:port], and brackets around an IPv6 address. */
static bool read_authority(text_t text, url_t *url) {
    const char *at = text.size ? memrchr(text.data, '@', text.size) : NULL;
    if (at) {
        text_t user = text_make(text.data, (size_t) (at - text.data));
        text = text_make(at + 1, text.size - user.size - 1);
        url->username = until(&user, ":");
        if (accept(&user, ":"))
            url->password = user;
    }
    if (accept(&text, "[")) {
        url->host = until(&text, "]");
        if (!accept(&text, "]"))
            return false;
    } else {
        url->host = until(&text, ":");
    }
    uint64_t port;
    if (!accept(&text, ":"))
        return !text.size;
    if (text.size && (text.data[0] < '0' || text.data[0] > '9' || text_to_uint(text, &port, NULL) < 0 || port > 65535))
        return false;
    url->port = text.size ? (int64_t) port : -1;
    return true;
}

static void put_part(buf_t *out, const char *name, text_t part) {
    pack_text(out, name);
    if (part.data)
        pack_string(out, part.data, part.size);
    else
        pack_nil(out);
}

/* RFC 3986, section 3. */
FUNCTION(fn_parse_url) {
    text_t rest = text_trim(text_make(arguments[0].text, arguments[0].size));
    url_t url = {.port = -1};
    read_scheme(&rest, &url.scheme);
    if (accept(&rest, "//") && !read_authority(until(&rest, "/?#"), &url))
        return evaluation_failed(node, row, "parse_url: \"%.*s\" has no valid host and port", SHOWN(arguments[0]));
    url.path = until(&rest, "?#");
    if (accept(&rest, "?"))
        url.query = until(&rest, "#");
    if (accept(&rest, "#"))
        url.fragment = rest;
    buf_t *out = function_buffer(row);
    put_part(out, "scheme", url.scheme);
    put_part(out, "username", url.username);
    put_part(out, "password", url.password);
    put_part(out, "host", url.host);
    pack_text(out, "port");
    pack_value(out, url.port >= 0 ? value_int(url.port) : value_null());
    put_part(out, "path", url.path.data ? url.path : text_of(""));
    put_part(out, "query", url.query);
    put_part(out, "fragment", url.fragment);
    return function_made_map(node, row, out, 8);
}

FUNCTION(fn_parse_csv) {
    reader_t *reader = node->data;
    value_t text = arguments[0];
    char separator = ',';
    if (count > 1) {
        if (arguments[1].size != 1 || arguments[1].text[0] < 0 || strchr("\"\r\n", arguments[1].text[0]))
            return evaluation_failed(node, row, "parse_csv: the separator is one ASCII character other than a quote or line end");
        separator = arguments[1].text[0];
    }
    const char *at = text.text, *end = text.text + text.size;
    csv_field_t field = {0};
    buf_t *items = function_buffer(row);
    uint32_t total = 0;
    do {
        value_t value = value_null();
        csv_result_t result = csv_read_field(&at, end, separator, true, &field);
        if (result != CSV_READ)
            return evaluation_failed(node, row, "parse_csv: field %u: %s", total + 1, result == CSV_BAD ? "text behind a closing quote" : "its quote is never closed");
        text_t inside = csv_field_text(&field, &reader->values);
        if (field.quoted || !csv_infer(inside, &value))
            value = value_text(inside.data, inside.size);
        pack_value(items, value);
        total++;
    } while (!field.last && items->size <= RESULT_MAX);
    if (at < end && items->size <= RESULT_MAX)
        return evaluation_failed(node, row, "parse_csv: more than one row");
    return function_made_array(node, row, items, total);
}

FUNCTION(fn_parse_bytes) {
    uint64_t bytes;
    value_t text = arguments[0];
    if (text_to_size(text_trim(text_make(text.text, text.size)), &bytes, NULL) < 0)
        return evaluation_failed(node, row, "parse_bytes: the text \"%.*s\" is no size", SHOWN(text));
    return value_uint(bytes);
}

const function_t functions_parsing[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"parse_bytes", "Parsing", "parse_bytes(text)", "The bytes of a size: K, KiB, M, MiB, G, GiB are by 1024, kB, MB, GB by 1000. An error when it is none.", "parse_bytes(\"10MiB\") = 10485760", 1, 1, ALL(TEXT), INTEGER, false, fn_parse_bytes},
    {"parse_csv", "Parsing", "parse_csv(text, separator?)", "The fields of one row: what stands in quotes is text, else numbers, true and false are what they look like, and nothing is null.", "parse_csv(\"a,1.5,,\\\"2\\\"\") = [\"a\", 1.5, null, \"2\"]", 1, 2, ALL(TEXT), ARRAY, false, fn_parse_csv, prepare_reader},
    {"parse_key_value", "Parsing", "parse_key_value(text, between?, equals?)", "A map of pairs that are separated by a text (a blank), each with another (=) between key and value, which stays a text. White space around them is taken off; of a repeated key the last counts.", "parse_key_value(\"a: 1; b: x y\", \";\", \":\") = {a: \"1\", b: \"x y\"}", 1, 3, ALL(TEXT), MAP, false, fn_parse_key_value, prepare_reader},
    {"parse_logfmt", "Parsing", "parse_logfmt(text)", "A map of pairs as programs log them; values as parse_csv takes them, a key alone is true.", "parse_logfmt(\"level=info msg=\\\"it works\\\" n=5 ok\") = {level: \"info\", msg: \"it works\", n: 5, ok: true}", 1, 1, ALL(TEXT), MAP, false, fn_parse_logfmt, prepare_reader},
    {"parse_query", "Parsing", "parse_query(text)", "A map of the parameters of a URL, with escapes resolved; of a repeated one the last counts.", "parse_query(\"?a=1&b=x+y&c\") = {a: \"1\", b: \"x y\", c: \"\"}", 1, 1, ALL(TEXT), MAP, false, fn_parse_query, prepare_reader},
    {"parse_syslog", "Parsing", "parse_syslog(text)", "A map of a message by RFC 5424 or RFC 3164, as parse FIELD as syslog reads it.", NULL, 1, 1, ALL(TEXT), MAP, false, fn_parse_syslog, prepare_reader, true},
    {"parse_url", "Parsing", "parse_url(text)", "A map of scheme, username, password, host, port, path, query and fragment; null where the URL has none, and escapes as they are.", "get(parse_url(\"http://example.com:8080/a?b=1\"), \"port\") = 8080", 1, 1, ALL(TEXT), MAP, false, fn_parse_url},
    {NULL},
};
