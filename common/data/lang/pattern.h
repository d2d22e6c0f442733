#ifndef DATA_LANG_PATTERN_H
#define DATA_LANG_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/text.h"

/* Regular expressions (pcre2, compiled once to machine code). A search gives up after a limited number of steps, whatever the pattern and the
 * text, so that no event can hold the stream up. */
typedef struct pattern pattern_t;

pattern_t *pattern_new(text_t source, size_t *error_at, err_t *err);      /* NULL on failure */
void pattern_free(void *pattern);
unsigned pattern_groups(const pattern_t *pattern);
/* The names of groups, `index` below pattern_names: its text, and the group's number. Borrowed from the pattern. */
unsigned pattern_names(const pattern_t *pattern);
text_t pattern_name(const pattern_t *pattern, unsigned index, unsigned *group);

/* Searches of one pattern in one text, one after the other: they share the steps. Initialise with the text alone. */
typedef struct pattern_search {
    text_t text;
    unsigned trials;          /* long ones so far */
    bool checked;             /* it is UTF-8 */
} pattern_search_t;

/* From byte `from` on (a character's first, or the end). 1 found, 0 not, -1 gave up or no UTF-8. */
int pattern_find(const pattern_t *pattern, pattern_search_t *search, size_t from);
/* What the last find found: the group's text (0: the whole match); data NULL when it took no part. */
text_t pattern_found(const pattern_t *pattern, const pattern_search_t *search, unsigned group);

int pattern_match(const pattern_t *pattern, text_t text);     /* as find, once */

#endif
