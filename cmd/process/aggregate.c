/* The table of aggregates, and finding one by its name. */
#include "aggregate.h"

#include "group.h"
#include "data/json.h"

#define ORDERED ((types_t) (TYPES_NUMBER | TYPES_TEXT | TYPE(VALUE_TIME)))
#define REAL TYPE(VALUE_DOUBLE)

static const aggregate_class_t rate_of_events = {"rate", .gives = REAL, .state = &counting_state, .result = count_rate_result};
static const aggregate_class_t distinct_sliding = {"distinct", .gives = TYPES_INTEGER, .state = &occurrence_state, .result = distinct_exact_result};
static const aggregate_class_t quantile = {"percentile", "p50(x)", NULL, TYPES_NUMBER, REAL, &quantile_state, quantile_result};

const aggregate_class_t aggregate_table[] = {
    {"count", "count() or count(x)", "How many events, or how many in which x is not null.", 0, TYPES_INTEGER, &counting_state, count_result},
    {"sum", "sum(x)", "The sum: an integer while all x are and 64 bits hold it, else a double (compensated).", TYPES_NUMBER, TYPES_NUMBER,
     &summing_state, sum_result},
    {"avg", "avg(x)", "The mean.", TYPES_NUMBER, REAL, &summing_state, avg_result},
    {"min", "min(x)", "The least number, text or time.", ORDERED, ORDERED, &least_state, keep_result},
    {"max", "max(x)", "The greatest number, text or time.", ORDERED, ORDERED, &greatest_state, keep_result},
    {"range", "range(x)", "The greatest number less the least.", TYPES_NUMBER, TYPES_NUMBER, &extent_state, range_result},
    {"first", "first(x)", "The value of the earliest event that has one; of several at that time the first to arrive.", TYPES_ANY, TYPES_ANY,
     &first_state, keep_result},
    {"last", "last(x)", "The value of the latest event that has one; of several at that time the last to arrive.", TYPES_ANY, TYPES_ANY, &last_state,
     keep_result},
    {"stddev", "stddev(x)", "The standard deviation of the sample (divided by n - 1, Welford's method); null for less than two values.", TYPES_NUMBER,
     REAL, &spreading_state, stddev_result},
    {"var", "var(x)", "The variance of the sample, the square of stddev.", TYPES_NUMBER, REAL, &spreading_state, var_result},
    {"median", "median(x)", "The value in the middle, or the mean of the two there; exact up to 32 values, then within 0.8 % of them.", TYPES_NUMBER,
     REAL, &quantile_state, quantile_result, .usual = 50},
    {"percentile", "percentile(x, 97.5), or p50(x), p99.9(x)",
     "The value below which so many % lie, between two values in proportion; exact up to 32 values, then within 0.8 % of them.", TYPES_NUMBER, REAL,
     &quantile_state, quantile_result, .parameter = "a percentage, 0 to 100", .most = 100},
    {"distinct", "distinct(x)", "How many different values: exact up to 768, then an estimate with a standard error of 1.15 % (HyperLogLog).", TYPES_ANY,
     TYPES_INTEGER, &distinct_state, distinct_result, .sliding = &distinct_sliding},
    {"top", "top(x, k)",
     "The k most frequent values, an array of {value, count}; exact up to 10 k values (128 at least), then counts may be up to n / 10 k too high.",
     TYPES_ANY, TYPE(VALUE_ARRAY), &occurrence_state, top_result, .parameter = "a number of values, 1 to 1000", .least = 1, .most = 1000, .limit = 10},
    {"rate", "rate() or rate(x)", "Events per second of the window, or the sum of x per second.", TYPES_NUMBER, REAL, &summing_state, sum_rate_result,
     .bare = &rate_of_events},
    {"slope", "slope(x)", "The slope of the line through x over event time (least squares), per second; null when all times are the same.",
     TYPES_NUMBER, REAL, &trend_state, slope_result},
    {"collect", "collect(x, limit?)", "The values as an array in order of event time: the last ones when there are more than the limit (100).", TYPES_ANY,
     TYPE(VALUE_ARRAY), &collect_state, collect_result, .parameter = "a number of values, 1 to 10000", .optional = true, .least = 1, .most = 10000,
     .usual = 100, .limit = 1},
    {NULL},
};

const aggregate_class_t *aggregate_find(text_t name, double *parameter) {
    for (const aggregate_class_t *class = aggregate_table; class->name; class++)
        if (text_is(name, class->name))
            return class;
    if (name.size < 2 || name.size > 20 || name.data[0] != 'p')
        return NULL;
    for (size_t i = 1; i < name.size; i++)
        if ((name.data[i] < '0' || name.data[i] > '9') && (name.data[i] != '.' || i == 1))
            return NULL;
    return json_parse_double(name.data + 1, name.size - 1, parameter) && *parameter <= 100 ? &quantile : NULL;
}

const char *aggregate_suggest(text_t name, char *buffer, size_t size) {
    static const char *const foreign[][2] = {
        {"mean", "avg"}, {"average", "avg"}, {"total", "sum"}, {"std", "stddev"}, {"stdev", "stddev"}, {"stddev_samp", "stddev"}, {"variance", "var"},
        {"var_samp", "var"}, {"minimum", "min"}, {"maximum", "max"}, {"any", "first"}, {"any_value", "first"}, {"first_value", "first"},
        {"last_value", "last"}, {"n", "count"}, {"size", "count"}, {"nunique", "distinct"}, {"count_distinct", "distinct"},
        {"approx_count_distinct", "distinct"}, {"cardinality", "distinct"}, {"quantile", "percentile"}, {"percentile_cont", "percentile"},
        {"approx_percentile", "percentile"}, {"topk", "top"}, {"approx_top_k", "top"}, {"mode", "top(x, 1)"}, {"value_counts", "top"},
        {"collect_list", "collect"}, {"array_agg", "collect"}, {"list", "collect"}, {"count_if", "sum(if(condition, 1, 0)) as NAME"},
        {"countif", "sum(if(condition, 1, 0)) as NAME"}, {"spread", "range"}, {"regr_slope", "slope"}};
    const char *names[32];
    size_t count = 0;
    if (name.size > 1 && name.data[0] == 'p' && name.data[1] >= '0' && name.data[1] <= '9')
        return "percentiles are p0 to p100, as in p50(x), p99.9(x)";
    for (const aggregate_class_t *class = aggregate_table; class->name; class++)
        names[count++] = class->name;
    char *wanted = mem_text_n(name.data, name.size);
    const char *near = text_nearest(wanted, names, count);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (strcmp(wanted, foreign[i][0]) == 0)
            near = foreign[i][1];
    mem_free(wanted);
    if (near) {
        snprintf(buffer, size, "did you mean %s?", near);
        return buffer;
    }
    size_t used = (size_t) snprintf(buffer, size, "aggregates are");
    for (size_t i = 0; i < count; i++)
        used += (size_t) snprintf(buffer + used, size - used, " %s", names[i]);
    snprintf(buffer + used, size - used, "; also p50, p99.9; compute with their results behind the window: | set x = a / b");
    return buffer;
}

void aggregate_list(FILE *out) {
    fputs("\nAggregates of windows:\n", out);
    for (const aggregate_class_t *class = aggregate_table; class->name; class++)
        fprintf(out, "  %s\n      %s\n", class->signature, class->help);
}

/* Numbers, then strings, then times: a string that reads as a time is a string here, or else there would be no order of all values. */
int aggregate_order(value_t a, value_t b) {
    unsigned left = value_is_number(a) ? VALUE_INT : a.type, right = value_is_number(b) ? VALUE_INT : b.type;
    int found = left == right ? value_order(a, b) : ORDER_NONE;
    return found < ORDER_NONE ? found : left < right ? -1 : left > right;
}

uint64_t aggregate_hash(accumulator_t *self, value_t value) {
    buf_clear(&self->scratch);
    key_put(&self->scratch, value);
    uint64_t hash = XXH3_64bits(self->scratch.data, self->scratch.size);
    return hash ? hash : 1;
}
