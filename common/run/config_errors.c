/* The list of everything that is wrong with a configuration. */
#include "run/config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "run/config_private.h"

void config_errors_add(config_errors_t *errors, config_place_t place, const char *format, ...) {
    char text[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (size_t i = 0; i < errors->count; i++) /* a value may be looked at twice */
        if (errors->items[i].place.line == place.line && errors->items[i].place.column == place.column &&
            strcmp(errors->items[i].text, text) == 0)
            return;
    if (errors->count == CONFIG_ERRORS_MAX) {
        errors->left_out++;
        return;
    }
    errors->items = mem_resize(errors->items, (errors->count + 1) * sizeof *errors->items);
    errors->items[errors->count++] = (config_error_t){place, mem_text(text)};
}

static int by_place(const void *a, const void *b) {
    const config_error_t *x = a, *y = b;
    if (x->place.line != y->place.line)
        return x->place.line < y->place.line ? -1 : 1;
    if (x->place.column != y->place.column)
        return x->place.column < y->place.column ? -1 : 1;
    return strcmp(x->text, y->text);
}

void config_errors_sort(config_errors_t *errors) {
    if (errors->count)
        qsort(errors->items, errors->count, sizeof *errors->items, by_place);
}

void config_errors_print(const config_errors_t *errors, const char *path, FILE *out) {
    for (size_t i = 0; i < errors->count; i++) {
        const config_error_t *error = &errors->items[i];
        if (error->place.line)
            fprintf(out, "%s:%u:%u: %s\n", path, error->place.line, error->place.column, error->text);
        else
            fprintf(out, "%s: %s\n", path, error->text);
    }
    if (errors->left_out)
        fprintf(out, "%s: and %zu more errors\n", path, errors->left_out);
}

void config_errors_fini(config_errors_t *errors) {
    for (size_t i = 0; i < errors->count; i++)
        mem_free(errors->items[i].text);
    mem_free(errors->items);
    *errors = (config_errors_t){0};
}
