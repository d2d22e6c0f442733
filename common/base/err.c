/* Error texts, and the panic for broken invariants. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log_output.h"
#include "base/text.h"

/* The text, which may be made of the present one. */
static void store(err_t *err, char *text) {
    text_make_valid(text); /* it was cut somewhere, or holds bytes of the user's */
    memcpy(err->text, text, strlen(text) + 1);
}

int err_set(err_t *err, const char *format, ...) {
    if (!err)
        return -1;
    char text[sizeof err->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    store(err, text);
    return -1;
}

/* "FRONT: REASON". Where both are too long the front is cut first, but not below half of the room. */
static void put_front(err_t *err, const char *format, va_list arguments, const char *reason) {
    char front[sizeof err->text], text[sizeof err->text];
    size_t room = sizeof text - strlen(": ") - 1;
    size_t size = (size_t) vsnprintf(front, sizeof front, format, arguments);
    size_t left = strlen(reason) < room / 2 ? room - strlen(reason) : room / 2;
    bool cut = size > left;
    snprintf(text, sizeof text, "%.*s%s: %s", (int) (cut ? left - strlen("...") : size), front, cut ? "..." : "", reason);
    store(err, text);
}

int err_errno(err_t *err, const char *format, ...) {
    int saved = errno;
    if (!err)
        return -1;
    va_list arguments;
    va_start(arguments, format);
    put_front(err, format, arguments, strerror(saved));
    va_end(arguments);
    errno = saved;
    return -1;
}

int err_wrap(err_t *err, const char *format, ...) {
    if (!err)
        return -1;
    va_list arguments;
    va_start(arguments, format);
    put_front(err, format, arguments, err->text);
    va_end(arguments);
    return -1;
}

_Noreturn void err_panic(const char *file, int line, const char *what) {
    char text[1024];
    int length = snprintf(text, sizeof text - 1, "panic: %s:%d: %s", file, line, what);
    size_t size = length < (int) sizeof text - 1 ? (size_t) length : sizeof text - 2;
    text[size] = '\n';
    log_output_last_words(text, size + 1);
    abort();
}
