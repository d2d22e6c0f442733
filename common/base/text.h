#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "base/err.h"

/* A borrowed run of bytes, usually UTF-8, not NUL-terminated. */
typedef struct text {
    const char *data;
    size_t size;
} text_t;

static inline text_t text_of(const char *string) {
    return (text_t){string, string ? strlen(string) : 0};
}

static inline text_t text_make(const char *data, size_t size) {
    return (text_t){data, size};
}

static inline bool text_equal(text_t a, text_t b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool text_is(text_t a, const char *string) {
    return text_equal(a, text_of(string));
}

bool text_starts(const char *string, const char *prefix);
bool text_ends(const char *string, const char *suffix);
text_t text_trim(text_t text);                        /* without white space at both ends */

/* Splits off what stands before the first `separator`; false when *rest is used up. */
bool text_split(text_t *rest, char separator, text_t *part);

/* Strict UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). Returns how many leading bytes are valid. */
size_t text_utf8_valid(const char *data, size_t size);

/* The name out of `names` (n of them) nearest to `name` for "did you mean", or NULL when none is near
 * (Damerau-Levenshtein distance above a third of the length, rounded up). Borrowed from names. */
const char *text_nearest(const char *name, const char *const *names, size_t n);

/* Numbers as users write them. Out-parameters stay untouched on failure. Locale does not matter. */
int text_to_int(text_t text, int64_t *value, err_t *err);
int text_to_uint(text_t text, uint64_t *value, err_t *err);
int text_to_bool(text_t text, bool *value, err_t *err);            /* true false yes no on off 1 0 */

/* Durations: 250us 250ms 10s 5m 1h 1d, sums like 1h30m, decimals like 1.5s. In ns. A bare number takes
 * `bare_unit` ns (0: a bare number is an error, except 0). Never negative. */
int text_to_duration(text_t text, int64_t bare_unit, int64_t *ns, err_t *err);
bool text_is_endless(text_t text);                    /* a duration with a unit, but a longer one than 64 bits take (146 years) */
void text_put_duration(buf_t *out, int64_t ns);                    /* shortest exact form: 1h30m, 250ms */

/* Sizes: 512, 64KiB, 64K (1024), 1MB (1000000), 2GiB. In bytes. */
int text_to_size(text_t text, uint64_t *bytes, err_t *err);

/* The text for a log line or an error: quotes, control characters and invalid UTF-8 escaped, cut at
 * `limit` bytes with "...". */
void text_put_quoted(buf_t *out, text_t text, size_t limit);

/* The same without the quotes, and with quotes and backslashes as they are. */
void text_put_visible(buf_t *out, text_t text, size_t limit);

/* Each byte that is not part of valid UTF-8 becomes '?'. */
void text_make_valid(char *text);

/* As a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void text_put_json(buf_t *out, text_t text);

/* Base64 (RFC 4648, section 4), padded. */
void text_put_base64(buf_t *out, text_t text);

#endif
