/* The report of a failed case: a unified diff of each thing that differs, and, where a line stands against a line, which members do. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "case_run.h"
#include "data/json.h"

#define MARGIN "    "
#define CONTEXT 3             /* lines around a difference */
#define TABLE_MAX 4000000     /* cells; where more would be needed, lines are set against each other in order */
#define VALUE_SHOWN 120       /* bytes of a value */

/* One line of the diff: an expected one, a found one, or both. */
typedef struct pair {
    const case_item_t *expected, *found;
} pair_t;

typedef struct pairs {
    pair_t *items;
    size_t count;
} pairs_t;

static void add_pair(pairs_t *pairs, const case_item_t *expected, const case_item_t *found) {
    pairs->items[pairs->count++] = (pair_t){expected, found};
}

/* The longest common subsequence of lines i.. and j.., by the usual table. */
static void align_middle(const case_check_t *check, const case_options_t *options, size_t from, size_t expected_end, size_t found_end, pairs_t *pairs) {
    size_t rows = expected_end - from, columns = found_end - from;
    const case_item_t *expected = check->expected.items + from, *found = check->found.items + from;
    bool table_fits = rows * columns <= TABLE_MAX;
    uint32_t *length = table_fits ? mem_zero((rows + 1) * (columns + 1) * sizeof *length) : NULL;
    bool *same = table_fits ? mem_zero(rows * columns + 1) : NULL;
    for (size_t i = rows; table_fits && i-- > 0;) {
        for (size_t j = columns; j-- > 0;) {
            uint32_t *cell = &length[i * (columns + 1) + j];
            same[i * columns + j] = case_item_matches(&expected[i], &found[j], options, check->kind);
            uint32_t down = cell[columns + 1], right = cell[1];
            *cell = same[i * columns + j] ? cell[columns + 2] + 1 : down > right ? down : right;
        }
    }
    size_t i = 0, j = 0;
    while (table_fits && i < rows && j < columns) {
        const uint32_t *cell = &length[i * (columns + 1) + j];
        if (same[i * columns + j])
            add_pair(pairs, &expected[i++], &found[j++]);
        else if (cell[columns + 1] >= cell[1])
            add_pair(pairs, &expected[i++], NULL);
        else
            add_pair(pairs, NULL, &found[j++]);
    }
    while (i < rows)
        add_pair(pairs, &expected[i++], NULL);
    while (j < columns)
        add_pair(pairs, NULL, &found[j++]);
    mem_free(length);
    mem_free(same);
}

static void align(const case_check_t *check, const case_options_t *options, pairs_t *pairs) {
    size_t expected_end = check->expected.count, found_end = check->found.count, from = 0;
    while (from < expected_end && from < found_end &&
           case_item_matches(&check->expected.items[from], &check->found.items[from], options, check->kind))
        from++;
    while (expected_end > from && found_end > from &&
           case_item_matches(&check->expected.items[expected_end - 1], &check->found.items[found_end - 1], options, check->kind)) {
        expected_end--;
        found_end--;
    }
    for (size_t i = 0; i < from; i++)
        add_pair(pairs, &check->expected.items[i], &check->found.items[i]);
    align_middle(check, options, from, expected_end, found_end, pairs);
    for (size_t i = 0; expected_end + i < check->expected.count; i++)
        add_pair(pairs, &check->expected.items[expected_end + i], &check->found.items[found_end + i]);
}

static void put_line(buf_t *out, char mark, text_t line) {
    buf_format(out, MARGIN "%c%.*s\n", mark, (int) line.size, line.data);
}

static void put_value(buf_t *out, const json_t *value) {
    if (json_is_real(value)) { /* as it stands in the file and in what came out */
        char digits[JSON_DOUBLE_MAX];
        buf_put(out, digits, json_print_double(digits, json_real_value(value)));
        return;
    }
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) : NULL;
    if (text)
        text_put_visible(out, text_of(text), VALUE_SHOWN);
    else
        buf_put_text(out, "nothing");
    free(text);
}

static void put_member(buf_t *out, const char *key, const json_t *expected, const json_t *found, bool *any) {
    buf_put_text(out, *any ? "; " : MARGIN "?  ");
    buf_format(out, "%s: ", key);
    put_value(out, expected);
    buf_put_text(out, " expected, ");
    put_value(out, found);
    buf_put_text(out, " found");
    *any = true;
}

/* Which members differ, when a line was expected in the other's place. */
static void put_members(buf_t *out, const case_item_t *expected, const case_item_t *found, const case_options_t *options, case_part_kind_t kind) {
    if (!json_is_object(expected->json) || !json_is_object(found->json))
        return;
    bool any = false;
    const char *key;
    json_t *value;
    json_object_foreach(expected->json, key, value) {
        json_t *one = json_pack("{sO}", key, value), *other = json_object_get(found->json, key);
        json_t *with = other ? json_pack("{sO}", key, other) : json_object();
        if (!case_item_matches(&(case_item_t){.json = one}, &(case_item_t){.json = with, .text = text_of(" ")}, options, kind))
            put_member(out, key, value, other, &any);
        json_decref(one);
        json_decref(with);
    }
    json_object_foreach(found->json, key, value)
        if (kind == PART_OUT && key[0] != '@' && !json_object_get(expected->json, key))
            put_member(out, key, NULL, value, &any);
    if (any)
        buf_put_byte(out, '\n');
}

/* Lines first..last that differ: all that were expected, then all that came, then what differs between those of the same place. */
static void put_change(buf_t *out, const pair_t *pairs, size_t count, const case_options_t *options, case_part_kind_t kind) {
    const case_item_t *expected[count], *found[count];
    size_t missing = 0, extra = 0;
    for (size_t i = 0; i < count; i++) {
        if (pairs[i].expected)
            expected[missing++] = pairs[i].expected;
        else
            found[extra++] = pairs[i].found;
    }
    for (size_t i = 0; i < missing || i < extra; i++) {
        if (i < missing)
            put_line(out, '-', expected[i]->text);
        if (i < extra)
            put_line(out, '+', found[i]->text);
        if (i < missing && i < extra)
            put_members(out, expected[i], found[i], options, kind);
    }
}

static bool differs(const pair_t *pair) {
    return !pair->expected || !pair->found;
}

/* Equal lines first..last, those far from a difference left out. */
static void put_equal(buf_t *out, const pairs_t *pairs, size_t first, size_t last) {
    size_t before = first ? CONTEXT : 0, after = last < pairs->count ? CONTEXT : 0;
    bool all = last - first <= before + after + 1;
    for (size_t i = first; i < last; i++) {
        if (all || i - first < before || last - i <= after)
            put_line(out, ' ', pairs->items[i].found->text);
        else if (i - first == before)
            buf_format(out, MARGIN "     (%zu lines that are as expected)\n", last - first - before - after);
    }
}

void case_diff(const case_check_t *check, const case_options_t *options, buf_t *out) {
    pairs_t pairs = {mem_zero((check->expected.count + check->found.count + 1) * sizeof(pair_t)), 0};
    align(check, options, &pairs);
    for (size_t i = 0, end; i < pairs.count; i = end) {
        end = i + 1;
        while (end < pairs.count && differs(&pairs.items[end]) == differs(&pairs.items[i]))
            end++;
        if (differs(&pairs.items[i]) && end - i > 10000)
            end = i + 10000; /* they go through the stack */
        if (differs(&pairs.items[i]))
            put_change(out, pairs.items + i, end - i, options, check->kind);
        else
            put_equal(out, &pairs, i, end);
    }
    mem_free(pairs.items);
}

static void put_heading(const case_check_t *check, const case_outcome_t *outcome, buf_t *out) {
    buf_t what = {0};
    if (check->kind == PART_DEAD)
        buf_put_text(&what, "dead letters");
    else if (check->kind == PART_FAULTS)
        buf_put_text(&what, "faults of the program");
    else
        buf_format(&what, "stream %s", check->stream);
    buf_format(out, MARGIN "--- expected: %s", buf_text(&what));
    if (check->part)
        buf_format(out, " (line %zu)", check->part->heading + 1);
    buf_format(out, "\n" MARGIN "+++ found\n");
    buf_fini(&what);
}

void case_print(const case_file_t *file, const test_case_t *test, const case_outcome_t *outcome, FILE *out) {
    buf_t text = {0};
    buf_format(&text, "FAILED %s:%zu: %s\n", file->path, test->line + 1, test->title);
    if (outcome->failure)
        buf_format(&text, MARGIN "%s\n", outcome->failure);
    for (size_t i = 0; i < outcome->check_count; i++) {
        const case_check_t *check = &outcome->checks[i];
        if (check->same)
            continue;
        put_heading(check, outcome, &text);
        case_diff(check, &test->options, &text);
    }
    if (!outcome->failure && outcome->errors_expected != outcome->errors_found) {
        buf_format(&text, MARGIN "errors: %lld expected, %lld found\n", (long long) outcome->errors_expected, (long long) outcome->errors_found);
        const json_t *reports = json_object_get(outcome->answer, "reports");
        for (size_t i = 0; i < json_array_size(reports); i++)
            buf_format(&text, MARGIN "   %s\n", json_string_value(json_array_get(reports, i)));
    }
    fwrite(text.data, 1, text.size, out);
    buf_fini(&text);
}
