/* Lines that are joined to records. A line is looked at once: what has been seen of a record that is not complete is remembered while its bytes
 * stay with the caller. Where a record was ended because nothing more came, how many lines it had is part of the decoder's state, so that a
 * decoder which begins there again ends it at the same line, whatever has been written behind it since. */
#include "data/multiline.h"

#include <string.h>

#include "base/memory.h"
#include "data/lang/pattern.h"

/* What a trace of some language looks like. Does the line go on with the record? *trace is 0 at the record's beginning, and what the function
 * wants to remember of it; the first line is shown as well, and its answer does not count. */
typedef bool trace_fn(text_t line, unsigned *trace);

struct multiline {
    pattern_t *start, *going_on;           /* either, or neither */
    trace_fn *trace;
    uint64_t lines_most;
};

static bool begins(text_t line, const char *with) {
    size_t size = strlen(with);
    return line.size >= size && memcmp(line.data, with, size) == 0;
}

static bool is_indented(text_t line) {
    return line.size && (*line.data == ' ' || *line.data == '\t');
}

static bool is_blank(text_t line) {
    for (size_t i = 0; i < line.size; i++)
        if (!strchr(" \t\r", line.data[i]))
            return false;
    return true;
}

static bool indent_goes_on(text_t line, unsigned *trace) {
    return is_indented(line);
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' || c == '.';
}

/* java.io.IOException: ..., at the beginning of a line */
static bool is_throwable(text_t line) {
    static const char *const endings[] = {"Exception", "Error", "Throwable"};
    size_t size = 0;
    while (size < line.size && is_name(line.data[size]))
        size++;
    if (size < line.size && !strchr(": \r", line.data[size]))
        return false;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t ending = strlen(endings[i]);
        if (size > ending && memchr(line.data, '.', size) && memcmp(line.data + size - ending, endings[i], ending) == 0)
            return true;
    }
    return false;
}

/* A message, the exception on the next line, its frames, and what caused it. */
static bool java_goes_on(text_t line, unsigned *trace) {
    enum { FIRST = 1, LATER = 2 };
    unsigned before = *trace;
    *trace = before ? LATER : FIRST;
    return is_indented(line) || begins(line, "Caused by: ") || (before == FIRST && is_throwable(line));
}

/* Traceback, indented lines, and the exception on the first that is not indented; then perhaps another one. */
static bool python_goes_on(text_t line, unsigned *trace) {
    enum { FIRST = 0, MESSAGE = 1, INSIDE = 2, OVER = 3, CHAINED = 4 };
    unsigned before = *trace;
    if (begins(line, "Traceback (most recent call last):")) {
        *trace = INSIDE;
        return before != OVER;
    }
    bool chains = begins(line, "During handling of the above exception") || begins(line, "The above exception was the direct cause");
    switch (before) {
    case INSIDE:
        if (!is_indented(line) && !is_blank(line))
            *trace = OVER;
        return true;
    case OVER:
        if (chains)
            *trace = CHAINED;
        return chains || is_indented(line) || is_blank(line);
    case CHAINED:
        return is_blank(line);
    default:
        *trace = MESSAGE;
        return is_indented(line);
    }
}

/* main.(*T).f(0xc000012345, ...) */
static bool is_call(text_t line) {
    if (line.size && line.data[line.size - 1] == '\r')
        line.size--;
    const char *open = line.size ? memchr(line.data, '(', line.size) : NULL, *blank = line.size ? memchr(line.data, ' ', line.size) : NULL;
    return open && open > line.data && line.data[line.size - 1] == ')' && (!blank || blank > open) && memchr(line.data, '.', line.size);
}

/* panic, signal, and the goroutines with their calls. */
static bool go_goes_on(text_t line, unsigned *trace) {
    bool first = !*trace, heads = begins(line, "panic: ") || begins(line, "fatal error: ");
    if (heads || (first && begins(line, "goroutine "))) {
        *trace = 2;
        return false;
    }
    if (*trace == 2)
        return is_indented(line) || is_blank(line) || begins(line, "goroutine ") || begins(line, "[signal ") || begins(line, "created by ") ||
               begins(line, "exit status ") || is_call(line);
    *trace = 1;
    return is_indented(line);
}

static const struct { const char *name; trace_fn *trace; } traces[] = {
    {"java", java_goes_on}, {"python", python_goes_on}, {"go", go_goes_on}, {"indent", indent_goes_on},
};

/* False: the line begins another record. The first line of one is shown too. */
static bool goes_on(const multiline_t *self, text_t line, unsigned *trace) {
    if (self->trace)
        return self->trace(line, trace);
    if (line.size && line.data[line.size - 1] == '\r')
        line.size--;
    if (self->start)
        return pattern_match(self->start, line) <= 0;
    return pattern_match(self->going_on, line) > 0;
}

/* ---- settings ---- */

bool multiline_wanted(const format_settings_t *settings) {
    return settings->multiline || settings->multiline_start || settings->multiline_continue;
}

static int compile(pattern_t **pattern, const char *source, const char *option, err_t *err) {
    size_t at = 0;
    err_t why;
    if (!source || (*pattern = pattern_new(text_of(source), &at, &why)))
        return 0;
    return err_set(err, "--%s, byte %zu: %s", option, at + 1, why.text);
}

static int find_trace(multiline_t *self, const char *name, err_t *err) {
    const char *names[sizeof traces / sizeof *traces];
    for (size_t i = 0; i < sizeof traces / sizeof *traces; i++) {
        names[i] = traces[i].name;
        if (strcmp(traces[i].name, name) == 0)
            self->trace = traces[i].trace;
    }
    if (self->trace)
        return 0;
    const char *nearest = text_nearest(name, names, sizeof names / sizeof *names);
    return err_set(err, "--multiline %s: known are java, python, go and indent%s%s%s; others by --multiline-start or --multiline-continue", name,
                   nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

int multiline_new(multiline_t **multiline, const format_settings_t *settings, err_t *err) {
    *multiline = NULL;
    if (!multiline_wanted(settings))
        return 0;
    if (!settings->multiline + !settings->multiline_start + !settings->multiline_continue != 2)
        return err_set(err, "one of --multiline, --multiline-start and --multiline-continue says which lines belong together, not several");
    multiline_t *self = mem_zero(sizeof *self);
    self->lines_most = settings->multiline_lines > 0 ? (uint64_t) settings->multiline_lines : 1;
    if ((settings->multiline && find_trace(self, settings->multiline, err)) || compile(&self->start, settings->multiline_start, "multiline-start", err) ||
        compile(&self->going_on, settings->multiline_continue, "multiline-continue", err)) {
        multiline_free(self);
        return -1;
    }
    *multiline = self;
    return 0;
}

void multiline_free(multiline_t *self) {
    if (!self)
        return;
    pattern_free(self->start);
    pattern_free(self->going_on);
    mem_free(self);
}

/* ---- feeding ---- */

static void begin_record(line_state_t *state) {
    state->lines = state->scanned = state->forced = 0;
    state->trace = 0;
}

/* The record's bytes so far are [p, at). Does it end before the line [at, end)? */
static bool ends_before(line_state_t *state, const char *p, const char *at, const char *end, bool over) {
    if (!state->lines)
        return false;
    return over || state->lines == state->forced || state->lines >= state->join->lines_most || (uint64_t) (end - p) > state->limit ||
           !goes_on(state->join, text_make(at, (size_t) (end - at)), &state->trace);
}

size_t multiline_feed(line_state_t *state, decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target, line_fn *handle) {
    const char *p = data, *readable = data + size;
    if (state->scanned > size) /* not the bytes that were seen before */
        begin_record(state);
    const char *at = p + state->scanned;
    while (at < readable || (state->lines && (at_end || state->lines == state->forced))) {
        const char *newline = at < readable ? memchr(at, '\n', (size_t) (readable - at)) : NULL, *end = newline ? newline : readable;
        const char *next = newline ? newline + 1 : readable;
        bool over = at == readable, cut = state->lines && state->lines == state->forced;
        if (state->skipping) {
            state->skipping = !newline && !at_end;
            p = at = next;
            continue;
        }
        if (!newline && !at_end && !cut && (uint64_t) (end - at) <= state->limit)
            break;
        if (ends_before(state, p, at, end, over)) {
            text_t record = text_make(p, (size_t) (at - p));
            while (record.size && (record.data[record.size - 1] == '\n' || record.data[record.size - 1] == '\r'))
                record.size--;
            p = at;
            begin_record(state);
            decoder->records++;
            if (handle(decoder, record, readable, target))
                break;
        } else if ((uint64_t) (end - at) > state->limit) {
            decoder->records++;
            format_bad_long(decoder, target, text_make(at, (size_t) (end - at)), state->limit);
            state->skipping = !newline && !at_end;
            p = at = next;
        } else {
            if (!state->lines)
                goes_on(state->join, text_make(at, (size_t) (end - at)), &state->trace);
            state->lines++;
            at = next;
        }
    }
    state->scanned = (size_t) (at - p);
    return (size_t) (p - data);
}

/* ---- state ---- */

void line_state_reset(line_state_t *state) {
    begin_record(state);
    state->skipping = false;
}

uint64_t line_state_save(const line_state_t *state) {
    return (state->forced << 1) | state->skipping;
}

void line_state_restore(line_state_t *state, uint64_t saved) {
    begin_record(state);
    state->skipping = saved & 1;
    state->forced = saved >> 1;
}
