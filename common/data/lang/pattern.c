/* Regular expressions: a layer over pcre2 that bounds the work of a search. pcre2 counts steps for each place where a match could begin, and a
 * step can be a walk through all of the text, so that its limit alone bounds a search only at (limit × length × length). Here a place gets
 * the fewer steps the longer the text is: first few, so that all places together have a bound, then many for a limited number of places. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/lang/pattern.h"

#include <pcre2.h>

#include "base/memory.h"

#define STEPS_ALL 20000000        /* steps of all places, when they get few */
#define STEPS_LEAST 100           /* of a place, in the longest texts */
#define STEPS_MANY 1000000        /* of a place that gets many, in texts up to a thousand bytes */
#define WALKS_MANY 1000000000     /* such steps times the bytes of longer ones */
#define STEPS_MANY_LEAST 2000
#define TRIALS 4                  /* places that get many */
#define HEAP_LIMIT 20000          /* KiB, without JIT */
#define STACK_START (32 * 1024)
#define STACK_LIMIT (512 * 1024)  /* with JIT */

struct pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    uint32_t groups, names, name_size;
    const char *name_table;
};

pattern_t *pattern_new(text_t source, size_t *error_at, err_t *err) {
    int number;
    PCRE2_SIZE place = 0;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR) source.data, source.size, options, &number, &place, NULL);
    if (!code) {
        char reason[256];
        pcre2_get_error_message(number, (PCRE2_UCHAR *) reason, sizeof reason);
        *error_at = place;
        err_set(err, "%s", reason);
        return NULL;
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* without JIT the interpreter does it */
    pattern_t *pattern = mem_zero(sizeof *pattern);
    pattern->code = code;
    pattern->data = pcre2_match_data_create_from_pattern(code, NULL);
    pattern->context = pcre2_match_context_create(NULL);
    ASSERT(pattern->data && pattern->context);
    pcre2_set_heap_limit(pattern->context, HEAP_LIMIT);
    pattern->stack = pcre2_jit_stack_create(STACK_START, STACK_LIMIT, NULL);
    pcre2_jit_stack_assign(pattern->context, NULL, pattern->stack);
    pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &pattern->groups);
    pcre2_pattern_info(code, PCRE2_INFO_NAMECOUNT, &pattern->names);
    pcre2_pattern_info(code, PCRE2_INFO_NAMEENTRYSIZE, &pattern->name_size);
    pcre2_pattern_info(code, PCRE2_INFO_NAMETABLE, &pattern->name_table);
    return pattern;
}

void pattern_free(void *memory) {
    pattern_t *pattern = memory;
    if (!pattern)
        return;
    pcre2_jit_stack_free(pattern->stack);
    pcre2_match_context_free(pattern->context);
    pcre2_match_data_free(pattern->data);
    pcre2_code_free(pattern->code);
    mem_free(pattern);
}

unsigned pattern_groups(const pattern_t *pattern) {
    return pattern->groups;
}

unsigned pattern_names(const pattern_t *pattern) {
    return pattern->names;
}

text_t pattern_name(const pattern_t *pattern, unsigned index, unsigned *group) {
    const char *entry = pattern->name_table + (size_t) index * pattern->name_size; /* the number in two bytes, the name, NUL */
    *group = (unsigned) (unsigned char) entry[0] << 8 | (unsigned char) entry[1];
    return text_of(entry + 2);
}

/* A match that begins at `from` to `last`, with so many steps for each place. pcre2's result. */
static int match(const pattern_t *pattern, pattern_search_t *search, size_t from, size_t last, uint32_t steps) {
    text_t text = search->text;
    pcre2_set_match_limit(pattern->context, steps);
    pcre2_set_offset_limit(pattern->context, last);
    /* Invalid UTF-8 is an error of the first match, so a text from a foreign peer can do no harm. */
    int found = pcre2_match(pattern->code, (PCRE2_SPTR) (text.data ? text.data : ""), text.size, from, search->checked ? PCRE2_NO_UTF_CHECK : 0,
                            pattern->data, pattern->context);
    search->checked = search->checked || found >= 0 || found == PCRE2_ERROR_NOMATCH || found == PCRE2_ERROR_MATCHLIMIT;
    return found;
}

static uint32_t few_steps(size_t size) {
    size_t steps = STEPS_ALL / (size + 1);
    return (uint32_t) (steps > STEPS_MANY ? STEPS_MANY : steps < STEPS_LEAST ? STEPS_LEAST : steps);
}

static uint32_t many_steps(size_t size) {
    size_t steps = WALKS_MANY / (size + 1);
    return (uint32_t) (steps > STEPS_MANY ? STEPS_MANY : steps < STEPS_MANY_LEAST ? STEPS_MANY_LEAST : steps);
}

static size_t next_character(text_t text, size_t at) {
    while (at < text.size && ((unsigned char) text.data[at] & 0xC0) == 0x80)
        at++;
    return at;
}

/* Looks for the place that needs many steps in windows that grow while there is none, and shrink around it. */
static int match_patiently(const pattern_t *pattern, pattern_search_t *search, size_t from) {
    size_t window = 1, size = search->text.size;
    uint32_t few = few_steps(size);
    for (size_t at = from; at <= size;) {
        size_t last = window > size - at ? size : at + window - 1;
        int found = match(pattern, search, at, last, few);
        if (found == PCRE2_ERROR_MATCHLIMIT && last > at) {
            window = (last - at + 1) / 2;
            continue;
        }
        bool alone = found == PCRE2_ERROR_MATCHLIMIT;
        if (alone) {
            if (search->trials == TRIALS)
                return found;
            search->trials++;
            found = match(pattern, search, at, last, many_steps(size));
        }
        if (found != PCRE2_ERROR_NOMATCH)
            return found;
        window = alone ? 1 : 2 * window;
        at = next_character(search->text, last + 1);
    }
    return PCRE2_ERROR_NOMATCH;
}

int pattern_find(const pattern_t *pattern, pattern_search_t *search, size_t from) {
    int found = match(pattern, search, from, PCRE2_UNSET, few_steps(search->text.size));
    if (__builtin_expect(found == PCRE2_ERROR_MATCHLIMIT, 0))
        found = match_patiently(pattern, search, from);
    if (found <= 0)
        return found == PCRE2_ERROR_NOMATCH ? 0 : -1;
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(pattern->data);
    return ends[0] <= ends[1] && ends[0] >= from ? 1 : -1; /* \K in a lookaround */
}

text_t pattern_found(const pattern_t *pattern, const pattern_search_t *search, unsigned group) {
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(pattern->data);
    if (group > pattern->groups || ends[2 * group] == PCRE2_UNSET || ends[2 * group] > ends[2 * group + 1])
        return (text_t){0};
    return text_make((search->text.data ? search->text.data : "") + ends[2 * group], ends[2 * group + 1] - ends[2 * group]);
}

int pattern_match(const pattern_t *pattern, text_t text) {
    pattern_search_t search = {.text = text};
    return pattern_find(pattern, &search, 0);
}
