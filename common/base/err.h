#ifndef BASE_ERR_H
#define BASE_ERR_H

/* What went wrong, in words for the user: what was attempted, on what, why, and the remedy where there
 * is one. Fallible functions return 0 or -1 and fill an err_t; every function here accepts NULL. The text is always
 * valid UTF-8, and the arguments may be the present text. */
typedef struct err {
    char text[1024];
} err_t;

/* Sets the text. Always returns -1, so that `return err_set (...)` reads well. */
int err_set(err_t *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As err_set, followed by ": " and strerror (errno). errno is preserved. */
int err_errno(err_t *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "PREFIX: " before the present text. A prefix that is too long is cut, not the reason behind it. */
int err_wrap(err_t *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Ends the process with a message when one of our own invariants is broken (never for input or I/O).
 * Active in release builds too. */
#define ASSERT(condition) \
    ((condition) ? (void) 0 : err_panic(__FILE__, __LINE__, #condition))

_Noreturn void err_panic(const char *file, int line, const char *what);

#endif
