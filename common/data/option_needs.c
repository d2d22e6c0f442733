/* Options that mean nothing without another one, or without a file: what they need stands in their tables, and is refused here when it is not there. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "data/option.h"

void option_note(option_given_t *given, const option_t *option) {
    if (!given)
        return;
    given->items = mem_resize(given->items, (given->count + 1) * sizeof *given->items);
    given->items[given->count++] = option;
}

void option_given_fini(option_given_t *given) {
    mem_free(given->items);
    *given = (option_given_t){0};
}

typedef bool holds_fn(const void *argument, text_t name, text_t value);

/* "name=value|value", "name" or "@fact:words". */
typedef struct term {
    text_t name, values, words;
} term_t;

static term_t read_term(text_t text) {
    term_t term = {0};
    text_t rest = text_trim(text);
    if (rest.size && *rest.data == '@') {
        term.words = text_make(rest.data + 1, rest.size - 1);
        text_split(&term.words, ':', &term.name);
    } else {
        term.values = rest;
        text_split(&term.values, '=', &term.name);
    }
    return term;
}

/* Cuts the next " or "-alternative off. */
static bool next_term(text_t *rest, term_t *term) {
    if (!rest->data)
        return false;
    bool fact = rest->size && *rest->data == '@'; /* the last one; its words may say "or", too */
    for (size_t i = 0; !fact && i + 4 <= rest->size; i++) {
        if (memcmp(rest->data + i, " or ", 4) == 0) {
            *term = read_term(text_make(rest->data, i));
            *rest = text_make(rest->data + i + 4, rest->size - i - 4);
            return true;
        }
    }
    *term = read_term(*rest);
    *rest = (text_t){0};
    return true;
}

static bool term_holds(const term_t *term, holds_fn *holds, const void *argument) {
    text_t rest = term->values, value;
    if (!rest.data)
        return holds(argument, term->name, (text_t){0});
    while (text_split(&rest, '|', &value))
        if (holds(argument, term->name, value))
            return true;
    return false;
}

static void put_name(buf_t *out, text_t name, bool json) {
    buf_put_text(out, json ? "\"" : "--");
    for (size_t i = 0; i < name.size; i++)
        buf_put_byte(out, (uint8_t) (json && name.data[i] == '-' ? '_' : name.data[i]));
    buf_put_text(out, json ? "\"" : "");
}

/* "--mode cdc or trigger" */
static void put_term(buf_t *out, const term_t *term, bool json) {
    if (term->words.data) {
        buf_put(out, term->words.data, term->words.size);
        return;
    }
    put_name(out, term->name, json);
    text_t rest = term->values, value;
    for (int i = 0; rest.data && text_split(&rest, '|', &value); i++)
        buf_format(out, "%s%.*s", i == 0 ? " " : rest.data ? ", " : " or ", (int) value.size, value.data);
}

/* The first condition of the option that does not hold, as an error; 0: all do. */
static int check(const option_t *option, holds_fn *holds, const void *argument, bool json, err_t *err) {
    text_t rest = text_of(option->needs), clause;
    while (rest.data && text_split(&rest, ',', &clause)) {
        clause = text_trim(clause);
        bool without = clause.size && *clause.data == '!';
        text_t terms = text_make(clause.data + without, clause.size - without);
        buf_t words = {0};
        put_name(&words, text_of(option->name), json);
        buf_put_text(&words, without ? " goes without " : " needs ");
        bool met = false;
        term_t term;
        for (int i = 0; !met && next_term(&terms, &term); i++) {
            met = term_holds(&term, holds, argument) != without;
            buf_put_text(&words, i ? " or " : "");
            put_term(&words, &term, json);
        }
        int result = met ? 0 : err_set(err, "%s", buf_text(&words));
        buf_fini(&words);
        if (result)
            return -1;
    }
    return 0;
}

int option_check_needs_json(const option_t *option, holds_fn *holds, const void *argument, err_t *err) {
    return check(option, holds, argument, true, err);
}

static const void *field(const option_t *option, const void *settings) {
    return (const char *) settings + option->offset;
}

static bool has_value(const option_t *option, const void *at, text_t value) {
    const option_list_t *list = at;
    switch (option->type) {
    case OPTION_TEXT:
    case OPTION_SECRET: {
        const char *text = *(char *const *) at;
        return value.data ? text && text_is(value, text) : text != NULL;
    }
    case OPTION_BOOL:
        return *(const bool *) at;
    case OPTION_NUMBER:
        return *(const double *) at > 0;
    case OPTION_INT:
    case OPTION_DURATION:
    case OPTION_SIZE:
        return *(const int64_t *) at != 0;
    case OPTION_LIST:
        return list->count > 0;
    case OPTION_CHOICE: {
        text_t rest = text_of(option->value), word;
        for (int i = 0; text_split(&rest, '|', &word); i++)
            if (i == *(const int *) at)
                return !value.data || text_equal(word, value);
        return false;
    }
    }
    return false;
}

static bool holds_in_scope(const void *argument, text_t name, text_t value) {
    const option_scope_t *scope = argument;
    int known = scope->holds ? scope->holds(scope->argument, name, value) : -1;
    if (known >= 0)
        return known;
    for (size_t i = 0; scope->tables[i]; i++) {
        const option_t *option = option_find(scope->tables[i], name);
        if (option)
            return has_value(option, field(option, scope->settings[i]), value);
    }
    return false;
}

/* A switch that says what is so anyway: "follow": false. */
static bool says_default(const option_t *option, const option_scope_t *scope) {
    for (size_t i = 0; scope->tables[i] && option->type == OPTION_BOOL; i++) {
        bool fallback = false;
        if (option_find(scope->tables[i], text_of(option->name)) != option)
            continue;
        if (option->fallback)
            text_to_bool(text_of(option->fallback), &fallback, NULL);
        return *(const bool *) field(option, scope->settings[i]) == fallback;
    }
    return false;
}

int option_check_needs(const option_given_t *given, const option_scope_t *scope, err_t *err) {
    for (size_t i = 0; i < given->count; i++) {
        const option_t *option = given->items[i];
        if (option->needs && !says_default(option, scope) && check(option, holds_in_scope, scope, false, err))
            return -1;
    }
    return 0;
}

/* The settings that a table's option is in; NULL: none of these. */
static const void *settings_of(const option_t *option, const option_scope_t *scope) {
    for (size_t i = 0; scope->tables[i]; i++)
        if (option_find(scope->tables[i], text_of(option->name)) == option)
            return scope->settings[i];
    return NULL;
}

int option_check_files(const option_given_t *given, const option_scope_t *scope, err_t *err) {
    for (size_t i = 0; i < given->count; i++) {
        const option_t *option = given->items[i];
        const void *settings = option->readable ? settings_of(option, scope) : NULL;
        const char *path = settings ? *(char *const *) field(option, settings) : NULL;
        struct stat status;
        if (!path)
            continue;
        if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
            return err_set(err, "--%s %s: is a directory, not a file", option->name, path);
        if (faccessat(AT_FDCWD, path, R_OK, AT_EACCESS))
            return err_errno(err, "--%s %s", option->name, path);
    }
    return 0;
}
