/* Secrets: ${NAME} and {"file": PATH} are filled in for the stages, and left out of everything that is shown. */
#include "run/config.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/secret.h"
#include "base/url.h"
#include "run/config_private.h"

#define SECRET_FILE_MAX (64u * 1024)

static bool name_character(char c, bool first) {
    return isalpha((unsigned char) c) || c == '_' || (!first && isdigit((unsigned char) c));
}

/* At "${": the length of the reference, its name in *name; 0 when it is none. */
static size_t reference_at(const char *text, text_t *name) {
    if (text[0] != '$' || text[1] != '{' || !name_character(text[2], true))
        return 0;
    size_t end = 2;
    while (name_character(text[end], end == 2))
        end++;
    if (text[end] != '}')
        return 0;
    *name = text_make(text + 2, end - 2);
    return end + 1;
}

static json_t *fill_in_text(checker_t *checker, const char *text, const char *pointer) {
    buf_t out = {0};
    bool failed = false;
    while (*text) {
        text_t name;
        size_t length = reference_at(text, &name);
        if (text[0] == '$' && text[1] == '$' && text[2] == '{') { /* $${ is a plain ${ */
            buf_put_text(&out, "${");
            text += 3;
        } else if (length) {
            char *variable = mem_text_n(name.data, name.size);
            const char *value = getenv(variable);
            if (value)
                buf_put_text(&out, value);
            else
                checker_error(checker, pointer, "the environment variable %s is not set", variable);
            failed |= !value;
            mem_free(variable);
            text += length;
        } else if (text[0] == '$' && text[1] == '{') {
            checker_error(checker, pointer, "a reference is written ${NAME}; for a plain ${ write $${");
            failed = true;
            break;
        } else {
            buf_put_byte(&out, (uint8_t) *text++);
        }
    }
    json_t *result = failed ? NULL : json_stringn(out.data ? (const char *) out.data : "", out.size);
    if (!failed && !result)
        checker_error(checker, pointer, "the value of an environment variable used here is not UTF-8");
    if (out.data)
        explicit_bzero(out.data, out.capacity);
    buf_fini(&out);
    return result;
}

static bool is_file_reference(const json_t *value) {
    return json_is_object(value) && json_object_size(value) == 1 && json_object_get(value, "file");
}

static json_t *fill_in_file(checker_t *checker, const json_t *value, const char *pointer) {
    const char *path = json_string_value(json_object_get(value, "file"));
    if (!path || !*path) {
        checker_error(checker, pointer, "{\"file\": PATH} takes the path of a file as text");
        return NULL;
    }
    char *full = *path == '/' ? mem_text(path) : mem_format("%s/%s", checker->config->directory, path);
    buf_t text = {0};
    err_t err = {{0}};
    json_t *result = NULL;
    if (file_read(full, SECRET_FILE_MAX, &text, &err)) {
        checker_error(checker, pointer, "%s", err.text);
    } else {
        while (text.size && (text.data[text.size - 1] == '\n' || text.data[text.size - 1] == '\r'))
            text.size--;
        result = json_stringn(text.data ? (const char *) text.data : "", text.size);
        if (!result || strlen(json_string_value(result)) != text.size) {
            checker_error(checker, pointer, "%s is not UTF-8 text", full);
            json_decref(result);
            result = NULL;
        }
    }
    if (text.data)
        explicit_bzero(text.data, text.capacity);
    buf_fini(&text);
    mem_free(full);
    return result;
}

json_t *config_fill_in(checker_t *checker, const json_t *value, const char *pointer) {
    if (json_is_string(value))
        return fill_in_text(checker, json_string_value(value), pointer);
    if (is_file_reference(value))
        return fill_in_file(checker, value, pointer);
    bool failed = false;
    if (json_is_array(value)) {
        json_t *copy = json_array();
        for (size_t i = 0; i < json_array_size(value); i++) {
            json_t *item = config_fill_in(checker, json_array_get(value, i), checker_element(checker, pointer, i));
            failed |= !item || json_array_append_new(copy, item);
        }
        if (failed)
            json_decref(copy);
        return failed ? NULL : copy;
    }
    if (json_is_object(value)) {
        json_t *copy = json_object();
        const char *key;
        json_t *item;
        json_object_foreach((json_t *) value, key, item) {
            json_t *filled = config_fill_in(checker, item, checker_member(checker, pointer, key));
            failed |= !filled || json_object_set_new(copy, key, filled);
        }
        if (failed)
            json_decref(copy);
        return failed ? NULL : copy;
    }
    return json_deep_copy(value);
}

bool config_has_reference(const json_t *value) {
    if (json_is_string(value))
        return strstr(json_string_value(value), "${") != NULL;
    if (is_file_reference(value))
        return true;
    for (size_t i = 0; i < json_array_size(value); i++)
        if (config_has_reference(json_array_get(value, i)))
            return true;
    return false;
}

/* "NAME=VALUE", as parameters are written, or "NAME: VALUE": where the value begins when the name is one of a secret, else 0. */
static size_t secret_pair(const char *text) {
    size_t name = strcspn(text, ":= \t\n");
    if (!name || (text[name] != ':' && text[name] != '=') || !secret_name(text_make(text, name)))
        return 0;
    return name + 1 + (text[name] == ':' && text[name + 1] == ' ');
}

static bool is_reference(const json_t *value) {
    text_t name;
    const char *text = json_string_value(value);
    return is_file_reference(value) || (text && *text && reference_at(text, &name) == strlen(text));
}

static json_t *redact_text(const char *text) {
    buf_t out = {0};
    const char *scheme = strstr(text, "://");
    size_t value = secret_pair(text);
    if (value) {
        buf_put(&out, text, value);
        buf_put_text(&out, SECRET_MASK);
    } else if (scheme && strcspn(text, " \t\n") >= (size_t) (scheme - text)) {
        url_put_redacted_whole(&out, text_of(text));
    } else {
        buf_put_text(&out, text);
    }
    json_t *result = json_string(buf_text(&out));
    buf_fini(&out);
    return result;
}

/* "Name: value"; of what is none of these only that it is there. */
static json_t *redact_header(const char *header) {
    buf_t out = {0};
    const char *colon = strchr(header, ':');
    text_t name = text_make(header, colon ? (size_t) (colon - header) : 0);
    if (colon && secret_header_shown(name))
        buf_put_text(&out, header);
    else
        buf_format(&out, "%.*s%s" SECRET_MASK, (int) name.size, name.data, colon ? ": " : "");
    json_t *result = json_string(buf_text(&out));
    buf_fini(&out);
    return result;
}

/* JSON that goes to somebody else: there every name counts. */
static json_t *redact_foreign(const json_t *value) {
    json_t *copy;
    const char *member;
    json_t *item;
    if (json_is_array(value)) {
        copy = json_array();
        for (size_t i = 0; i < json_array_size(value); i++)
            json_array_append_new(copy, redact_foreign(json_array_get(value, i)));
        return copy;
    }
    if (!json_is_object(value))
        return config_redact(value);
    copy = json_object();
    json_object_foreach((json_t *) value, member, item)
        json_object_set_new(copy, member, secret_name(text_of(member)) ? json_string(SECRET_MASK) : redact_foreign(item));
    return copy;
}

/* What a request sends: the values in its JSON or form by their names; of a body of another kind nothing can be told, so nothing is shown. */
static json_t *redact_body(const char *body) {
    json_t *value = json_loads(body, JSON_DECODE_ANY, NULL), *shown;
    if (json_is_object(value) || json_is_array(value)) {
        json_t *redacted = redact_foreign(value);
        char *text = json_dumps(redacted, JSON_COMPACT);
        shown = json_string(text);
        free(text);
        json_decref(redacted);
    } else if (!*body || strpbrk(body, " \t\r\n\"<>") || *body == '{' || !strchr(body, '=')) {
        shown = json_string(*body ? SECRET_MASK : "");
    } else {
        buf_t out = {0};
        url_put_query_redacted(&out, text_of(body));
        shown = json_string(buf_text(&out));
        buf_fini(&out);
    }
    json_decref(value);
    return shown;
}

/* What a secret member shows: whole references as they are, all else masked. */
static json_t *redact_secret(const json_t *value) {
    if (is_reference(value))
        return json_deep_copy(value);
    return json_is_null(value) ? json_null() : json_string(SECRET_MASK);
}

static json_t *redact_headers(const json_t *value) {
    if (json_is_string(value))
        return redact_header(json_string_value(value));
    json_t *copy = json_array();
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        json_array_append_new(copy, json_is_string(item) ? redact_header(json_string_value(item)) : redact_secret(item));
    }
    return copy;
}

/* Members that are named like secrets and are none: the field of a pipeline's keys, a table's key, the file of a key. */
static bool is_plain(const char *member) {
    static const char *const plain[] = {"program", "key", "tls_key", "tls-key"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(member, plain[i]) == 0)
            return true;
    return false;
}

static json_t *redact_member(const char *member, const json_t *value) {
    if (is_plain(member))
        return json_deep_copy(value);
    if (strcmp(member, "header") == 0 || strcmp(member, "headers") == 0)
        return redact_headers(value);
    if (strcmp(member, "body") == 0 && json_is_string(value) && !is_reference(value))
        return redact_body(json_string_value(value));
    return secret_name(text_of(member)) ? redact_secret(value) : config_redact(value);
}

json_t *config_redact(const json_t *value) {
    if (json_is_string(value))
        return redact_text(json_string_value(value));
    if (json_is_array(value)) {
        json_t *copy = json_array();
        for (size_t i = 0; i < json_array_size(value); i++)
            json_array_append_new(copy, config_redact(json_array_get(value, i)));
        return copy;
    }
    if (json_is_object(value)) {
        json_t *copy = json_object();
        const char *member;
        json_t *item;
        json_object_foreach((json_t *) value, member, item)
            json_object_set_new(copy, member, redact_member(member, item));
        return copy;
    }
    return json_deep_copy(value);
}
