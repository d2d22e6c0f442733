/* Option tables: defaults, setting from text and JSON, help and description. */
#include "data/option.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/url.h"

static void *field(const option_t *option, void *settings) {
    return (char *) settings + option->offset;
}

static void replace_text(char **text, text_t value) {
    char *copy = mem_text_n(value.data, value.size);
    mem_free(*text);
    *text = copy;
}

static void list_add(option_list_t *list, text_t value) {
    list->items = mem_resize(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = mem_text_n(value.data, value.size);
}

static int out_of_range(const option_t *option, err_t *err) {
    buf_t text = {0};
    if (option->type == OPTION_DURATION) {
        buf_put_text(&text, "between ");
        text_put_duration(&text, option->minimum);
        buf_put_text(&text, " and ");
        text_put_duration(&text, option->maximum);
    } else {
        buf_format(&text, "between %lld and %lld", (long long) option->minimum, (long long) option->maximum);
    }
    err_set(err, "%s takes a value %s", option->name, buf_text(&text));
    buf_fini(&text);
    return -1;
}

static bool in_range(const option_t *option, int64_t value) {
    return option->maximum <= option->minimum || (value >= option->minimum && value <= option->maximum);
}

/* The index of `value` among the choices "a|b|c", or -1. */
static int choice_index(const option_t *option, text_t value) {
    text_t rest = text_of(option->value), word;
    for (int i = 0; text_split(&rest, '|', &word); i++)
        if (text_equal(word, value))
            return i;
    return -1;
}

static int set_choice(const option_t *option, int *to, text_t value, err_t *err) {
    int index = choice_index(option, value);
    if (index >= 0) {
        *to = index;
        return 0;
    }
    buf_t quoted = {0};
    text_put_quoted(&quoted, value, 60);
    err_set(err, "%s is one of %s, not %s", option->name, option->value, buf_text(&quoted));
    buf_fini(&quoted);
    return -1;
}

static int set_number(const option_t *option, double *to, text_t value, err_t *err) {
    char *text = mem_text_n(value.data, value.size), *end;
    double number = strtod(text, &end); /* set-up only; the tools never call setlocale */
    bool decimal = value.size && strspn(text, "+-.0123456789eE") == value.size; /* no hexadecimal, no "inf", no NUL */
    int result = 0;
    if (!decimal || *end || !isfinite(number))
        result = err_set(err, "%s takes a number", option->name);
    else
        *to = number;
    mem_free(text);
    return result;
}

static bool has_nul(text_t value) {
    return value.size && memchr(value.data, 0, value.size);
}

static int nul_byte(const option_t *option, err_t *err) {
    return err_set(err, "%s: the value holds a NUL byte", option->name);
}

int option_set(const option_t *option, void *settings, text_t value, err_t *err) {
    void *to = field(option, settings);
    int64_t integer;
    uint64_t size;
    switch (option->type) {
    case OPTION_TEXT:
    case OPTION_SECRET:
        if (has_nul(value))
            return nul_byte(option, err);
        replace_text(to, value);
        return 0;
    case OPTION_LIST:
        if (has_nul(value))
            return nul_byte(option, err);
        list_add(to, value);
        return 0;
    case OPTION_BOOL:
        return text_to_bool(value, to, err) ? err_wrap(err, "%s", option->name) : 0;
    case OPTION_INT:
        if (text_to_int(value, &integer, err))
            return err_wrap(err, "%s", option->name);
        if (!in_range(option, integer))
            return out_of_range(option, err);
        *(int64_t *) to = integer;
        return 0;
    case OPTION_DURATION:
        if (text_to_duration(value, 0, &integer, err))
            return err_wrap(err, "%s", option->name);
        if (!in_range(option, integer))
            return out_of_range(option, err);
        *(int64_t *) to = integer;
        return 0;
    case OPTION_SIZE:
        if (text_to_size(value, &size, err))
            return err_wrap(err, "%s", option->name);
        if (!in_range(option, (int64_t) size))
            return out_of_range(option, err);
        *(uint64_t *) to = size;
        return 0;
    case OPTION_NUMBER:
        return set_number(option, to, value, err);
    case OPTION_CHOICE:
        return set_choice(option, to, value, err);
    }
    ASSERT(!"an option type without a setter");
    return -1;
}

static int wrong_type(const option_t *option, const char *wanted, err_t *err) {
    return err_set(err, "%s takes %s", option->name, wanted);
}

static text_t json_text(const json_t *value) {
    return text_make(json_string_value(value), json_string_length(value));
}

static int set_json_list(const option_t *option, void *settings, const json_t *value, err_t *err) {
    if (json_is_string(value))
        return option_set(option, settings, json_text(value), err);
    if (!json_is_array(value))
        return wrong_type(option, "an array of strings, or one string", err);
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!json_is_string(json_array_get(value, i)))
            return wrong_type(option, "an array of strings, or one string", err);
        if (has_nul(json_text(json_array_get(value, i))))
            return nul_byte(option, err);
    }
    for (size_t i = 0; i < json_array_size(value); i++)
        list_add(field(option, settings), json_text(json_array_get(value, i)));
    return 0;
}

int option_set_json(const option_t *option, void *settings, const json_t *value, err_t *err) {
    void *to = field(option, settings);
    if (json_is_string(value) && option->type != OPTION_LIST)
        return option_set(option, settings, json_text(value), err);
    switch (option->type) {
    case OPTION_LIST:
        return set_json_list(option, settings, value, err);
    case OPTION_TEXT:
    case OPTION_SECRET:
    case OPTION_CHOICE:
        return wrong_type(option, "a string", err);
    case OPTION_BOOL:
        if (!json_is_boolean(value))
            return wrong_type(option, "true or false", err);
        *(bool *) to = json_is_true(value);
        return 0;
    case OPTION_INT:
    case OPTION_SIZE:
        if (!json_is_integer(value) || (option->type == OPTION_SIZE && json_integer_value(value) < 0))
            return wrong_type(option, option->type == OPTION_INT ? "a whole number" : "a size: bytes, or text like \"64MiB\"", err);
        if (!in_range(option, json_integer_value(value)))
            return out_of_range(option, err);
        *(int64_t *) to = json_integer_value(value); /* a uint64_t of the same value for SIZE */
        return 0;
    case OPTION_DURATION: {
        if (!json_is_number(value) || !(json_number_value(value) >= 0) || json_number_value(value) > 4e9)
            return wrong_type(option, "a duration: seconds, or text like \"250ms\"", err);
        int64_t ns = (int64_t) (json_number_value(value) * 1e9 + 0.5);
        if (!in_range(option, ns))
            return out_of_range(option, err);
        *(int64_t *) to = ns;
        return 0;
    }
    case OPTION_NUMBER:
        if (!json_is_number(value))
            return wrong_type(option, "a number", err);
        *(double *) to = json_number_value(value);
        return 0;
    }
    ASSERT(!"an option type without a JSON setter");
    return -1;
}

void option_defaults(const option_t *table, void *settings) {
    for (const option_t *option = table; option && option->name; option++) {
        err_t err = {{0}};
        if (option->fallback && option_set(option, settings, text_of(option->fallback), &err))
            err_panic(option->name, 0, err.text);
    }
}

void option_fini(const option_t *table, void *settings) {
    for (const option_t *option = table; option && option->name; option++) {
        if (option->type == OPTION_TEXT || option->type == OPTION_SECRET) {
            char **text = field(option, settings);
            mem_free(*text);
            *text = NULL;
        } else if (option->type == OPTION_LIST) {
            option_list_t *list = field(option, settings);
            for (size_t i = 0; i < list->count; i++)
                mem_free(list->items[i]);
            mem_free(list->items);
            *list = (option_list_t){0};
        }
    }
}

static bool same_name(const char *name, text_t text) {
    if (strlen(name) != text.size)
        return false;
    for (size_t i = 0; i < text.size; i++)
        if (name[i] != (text.data[i] == '_' ? '-' : text.data[i]))
            return false;
    return true;
}

const option_t *option_find(const option_t *table, text_t name) {
    for (const option_t *option = table; option && option->name; option++)
        if (same_name(option->name, name))
            return option;
    return NULL;
}

const char *option_nearest(const option_t *const *tables, text_t name) {
    const char **names = NULL;
    size_t n = 0;
    for (; *tables; tables++)
        for (const option_t *option = *tables; option->name; option++) {
            names = mem_resize(names, (n + 1) * sizeof *names);
            names[n++] = option->name;
        }
    char *copy = mem_text_n(name.data, name.size);
    const char *nearest = text_nearest(copy, names, n);
    mem_free(copy);
    mem_free(names);
    return nearest;
}

int option_unknown(const option_t *const *tables, text_t name, err_t *err) {
    const char *nearest = option_nearest(tables, name);
    buf_t shown = {0};
    text_put_visible(&shown, name.size ? name : text_of("\"\""), 80);
    if (nearest)
        err_set(err, "unknown option %s; did you mean %s?", buf_text(&shown), nearest);
    else
        err_set(err, "unknown option %s", buf_text(&shown));
    buf_fini(&shown);
    return -1;
}

static const char *value_word(const option_t *option) {
    static const char *const words[] = {"TEXT", "TEXT", "", "N", "NUMBER", "DURATION", "SIZE", "", "TEXT"};
    return option->value ? option->value : words[option->type];
}

#define HELP_COLUMN 34

void option_help(const option_t *table, FILE *out) {
    for (const option_t *option = table; option && option->name; option++) {
        char left[160];
        const char *value = option->type == OPTION_BOOL ? "" : value_word(option);
        char letter[8] = "    ";
        if (option->letter)
            snprintf(letter, sizeof letter, "-%c, ", option->letter);
        int size = snprintf(left, sizeof left, "  %s--%s%s%s", letter, option->name, *value ? " " : "", value);
        if (size < HELP_COLUMN - 1)
            fprintf(out, "%-*s%s", HELP_COLUMN, left, option->help);
        else
            fprintf(out, "%s\n%*s%s", left, HELP_COLUMN, "", option->help);
        if (option->type == OPTION_LIST)
            fputs(" (may be repeated)", out);
        bool plain = option->type == OPTION_BOOL && (!option->fallback || strcmp(option->fallback, "false") == 0);
        if (option->fallback && !plain)
            fprintf(out, " (default %s)", option->fallback);
        fputc('\n', out);
    }
}

json_t *option_describe(const option_t *table) {
    static const char *const types[] = {"text", "secret", "bool", "int", "number", "duration", "size", "choice", "list"};
    json_t *list = json_array();
    for (const option_t *option = table; option && option->name; option++) {
        json_t *item = json_pack("{s:s, s:s, s:s, s:s}", "name", option->name, "type", types[option->type], "value",
                                 value_word(option), "help", option->help);
        if (option->fallback)
            json_object_set_new(item, "default", json_string(option->fallback));
        if (option->maximum > option->minimum) {
            json_object_set_new(item, "minimum", json_integer(option->minimum));
            json_object_set_new(item, "maximum", json_integer(option->maximum));
        }
        if (option->needs)
            json_object_set_new(item, "needs", json_string(option->needs));
        json_array_append_new(list, item);
    }
    return list;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static void percent_decode(buf_t *out, text_t text) {
    for (size_t i = 0; i < text.size; i++) {
        int high = i + 2 < text.size ? hex_digit(text.data[i + 1]) : -1;
        int low = i + 2 < text.size ? hex_digit(text.data[i + 2]) : -1;
        if (text.data[i] == '%' && high >= 0 && low >= 0) {
            buf_put_byte(out, (uint8_t) (high << 4 | low));
            i += 2;
        } else {
            buf_put_byte(out, (uint8_t) text.data[i]);
        }
    }
}

/* Names the URL that the error is about, without its password. */
static int wrap_url(text_t url, err_t *err) {
    buf_t shown = {0};
    url_put_redacted(&shown, url);
    err_wrap(err, "%s", buf_text(&shown));
    buf_fini(&shown);
    return -1;
}

int option_from_query(const option_t *table, void *settings, const char *url, char **rest, option_given_t *given, err_t *err) {
    const char *mark = strchr(url, '?');
    text_t query = mark ? text_of(mark + 1) : (text_t){0}, pair;
    while (text_split(&query, '&', &pair)) {
        text_t value = pair, name;
        if (!pair.size)
            continue;
        text_split(&value, '=', &name);
        const option_t *option = option_find(table, name);
        if (!option) {
            const option_t *tables[] = {table, NULL};
            option_unknown(tables, name, err);
            return wrap_url(text_make(url, (size_t) (mark - url)), err);
        }
        buf_t decoded = {0};
        if (!value.data && option->type == OPTION_BOOL)
            buf_put_text(&decoded, "true");
        else
            percent_decode(&decoded, value);
        int failed = option_set(option, settings, text_make(buf_text(&decoded), decoded.size), err);
        buf_fini(&decoded);
        if (failed)
            return wrap_url(text_make(url, (size_t) (mark - url)), err);
        option_note(given, option);
    }
    *rest = mark ? mem_text_n(url, (size_t) (mark - url)) : mem_text(url);
    return 0;
}
