/* Moving windows of one key: the ring, what is kept beside each event, and the results. See rolling.h; snapshots are in rolling_state.c. */
#include "rolling.h"

#include <math.h>

#include "base/log.h"
#include "base/memory.h"
#include "rolling_state.h"

#define FIRST_CAPACITY 4

/* The plan. */

static unsigned needs_of(rolling_function_t function) {
    switch (function) {
    case ROLLING_SUM: case ROLLING_AVG: return NEEDS_SUM;
    case ROLLING_MIN: return NEEDS_LEAST;
    case ROLLING_MAX: return NEEDS_GREATEST;
    case ROLLING_VAR: case ROLLING_STDDEV: return NEEDS_SPREAD;
    case ROLLING_MEDIAN: return NEEDS_MIDDLE;
    default: return 0;
    }
}

void rolling_plan_add(rolling_plan_t *plan, rolling_use_t use) {
    if (use.function == ROLLING_EWMA)
        use.ewma = plan->ewma_count++;
    plan->uses = mem_resize(plan->uses, (plan->use_count + 1) * sizeof *plan->uses);
    plan->uses[plan->use_count++] = use;
    if (use.column == ROLLING_NO_COLUMN)
        return;
    ASSERT(use.column <= plan->column_count);
    if (use.column == plan->column_count) {
        plan->columns = mem_resize(plan->columns, (plan->column_count + 1) * sizeof *plan->columns);
        plan->columns[plan->column_count++] = (rolling_column_t){0};
    }
    plan->columns[use.column].needs |= needs_of(use.function);
}

static uint32_t room_for(rolling_plan_t *plan, size_t size) {
    uint32_t at = plan->entry;
    plan->entry += (uint32_t) size;
    return at;
}

/* The ring is one block: an array of times, then one of values for each column, then what each column keeps. */
void rolling_plan_finish(rolling_plan_t *plan) {
    plan->entry = (uint32_t) (sizeof(int64_t) + plan->column_count * sizeof(value_t));
    for (unsigned i = 0; i < plan->column_count; i++) {
        rolling_column_t *column = &plan->columns[i];
        if (column->needs & NEEDS_SUM)
            column->sums = room_for(plan, sizeof(sum_t));
        if (column->needs & NEEDS_SPREAD)
            column->spreads = room_for(plan, sizeof(spread_t));
        if (column->needs & NEEDS_LEAST)
            column->least = room_for(plan, sizeof(value_t));
        if (column->needs & NEEDS_GREATEST)
            column->greatest = room_for(plan, sizeof(value_t));
        if (column->needs & NEEDS_MIDDLE) {
            column->places = room_for(plan, sizeof(uint32_t));
            column->heap = room_for(plan, sizeof(middle_entry_t));
        }
    }
}

void rolling_plan_fini(rolling_plan_t *plan) {
    mem_free(plan->columns);
    mem_free(plan->uses);
}

/* Values. */

/* Numbers come before times. */
static bool is_less(value_t a, value_t b) {
    if (a.type == VALUE_DOUBLE && b.type == VALUE_DOUBLE)
        return a.number < b.number;
    int order = value_order(a, b);
    return order < ORDER_NONE ? order < 0 : value_is_number(a) && !value_is_number(b);
}

static inline void sum_put(sum_t *sum, double x) {
    double high = sum->high + x, part = high - sum->high;
    sum->low += (sum->high - (high - part)) + (x - part);
    sum->high = high;
}

static inline void sum_join(sum_t *sum, const sum_t *other) {
    sum_put(sum, other->high);
    sum->low += other->low;
}

/* The mean is kept in two parts, so that what is subtracted from values of any offset is as exact as they are. */
static inline void shift_mean(spread_t *spread, double by) {
    double mean = spread->mean + by, part = mean - spread->mean;
    spread->rest += (spread->mean - (mean - part)) + (by - part);
    spread->mean = mean;
}

/* Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979). */
static inline void spread_join(spread_t *spread, const spread_t *other) {
    if (other->n == 0)
        return;
    if (spread->n == 0) {
        *spread = *other;
        return;
    }
    double n = spread->n + other->n, apart = (other->mean - spread->mean) + (other->rest - spread->rest);
    spread->squares += other->squares + apart * apart * (spread->n * (other->n / n));
    shift_mean(spread, apart * (other->n / n));
    spread->n = n;
}

static inline void spread_put(spread_t *spread, double x) {
    spread_join(spread, &(spread_t){.n = 1, .mean = x});
}

static inline bool is_some(value_t value) { return value.type != VALUE_NULL; }

static inline void least_join(value_t *least, value_t value) {
    if (is_some(value) && (!is_some(*least) || is_less(value, *least)))
        *least = value;
}

static inline void greatest_join(value_t *greatest, value_t value) {
    if (is_some(value) && (!is_some(*greatest) || is_less(*greatest, value)))
        *greatest = value;
}

/* The parts of the memory. */

middle_t rolling_middle(const rolling_t *rolling, unsigned column) {
    const rolling_column_t *part = &rolling->plan->columns[column];
    rolling_running_t *running = &rolling_runnings(rolling)[column];
    return (middle_t){.heap = rolling_array(rolling, part->heap), .places = rolling_array(rolling, part->places),
                      .capacity = rolling->capacity, .lower = &running->lower, .upper = &running->upper};
}

size_t rolling_size(const rolling_plan_t *plan) {
    return sizeof(rolling_t) + rolling_running_count(plan) * sizeof(rolling_running_t) + plan->ewma_count * sizeof(rolling_ewma_t);
}

void rolling_init(rolling_t *rolling, const rolling_plan_t *plan) {
    rolling->plan = plan;
    rolling->newest = INT64_MIN;
}

void rolling_fini(rolling_t *rolling) {
    mem_free(rolling->memory);
    rolling->memory = NULL;
}

size_t rolling_memory(const rolling_t *rolling) {
    return rolling->plan ? (size_t) rolling->capacity * rolling->plan->entry : rolling->count;
}

/* Entries of all arrays that have their place in `to`: copies one. */
static void copy_entry(const rolling_t *from, uint32_t source, const rolling_t *to, uint32_t target) {
    rolling_times(to)[target] = rolling_times(from)[source];
    for (unsigned i = 0; i < to->plan->column_count; i++) {
        const rolling_column_t *column = &to->plan->columns[i];
        rolling_values(to, i)[target] = rolling_values(from, i)[source];
        if (column->needs & NEEDS_SUM)
            ((sum_t *) rolling_array(to, column->sums))[target] = ((sum_t *) rolling_array(from, column->sums))[source];
        if (column->needs & NEEDS_SPREAD)
            ((spread_t *) rolling_array(to, column->spreads))[target] = ((spread_t *) rolling_array(from, column->spreads))[source];
        if (column->needs & NEEDS_LEAST)
            ((value_t *) rolling_array(to, column->least))[target] = ((value_t *) rolling_array(from, column->least))[source];
        if (column->needs & NEEDS_GREATEST)
            ((value_t *) rolling_array(to, column->greatest))[target] = ((value_t *) rolling_array(from, column->greatest))[source];
    }
}

void rolling_resize(rolling_t *rolling, uint32_t capacity) {
    rolling_t old = *rolling;
    rolling->memory = mem_alloc((size_t) capacity * rolling->plan->entry);
    rolling->capacity = capacity;
    rolling->head = 0;
    const rolling_plan_t *plan = rolling->plan;
    for (unsigned i = 0; i < plan->column_count; i++)
        rolling_runnings(rolling)[i].lower = rolling_runnings(rolling)[i].upper = 0;
    for (uint32_t at = 0; at < rolling->count; at++) {
        copy_entry(&old, rolling_slot(&old, at), rolling, at);
        rolling_enter_middles(rolling, at);
    }
    mem_free(old.memory);
}

void rolling_enter_middles(rolling_t *rolling, uint32_t slot) {
    for (unsigned i = 0; i < rolling->plan->column_count; i++) {
        value_t value;
        if ((rolling->plan->columns[i].needs & NEEDS_MIDDLE) && is_some(value = rolling_values(rolling, i)[slot])) {
            middle_t middle = rolling_middle(rolling, i);
            middle_add(&middle, slot, value_to_double(value));
        }
    }
}

/* Sums. */

static inline void set_whole(rolling_running_t *running, whole_t whole) { memcpy(running->whole, &whole, sizeof whole); }

static inline whole_t whole_of(const rolling_running_t *running) {
    whole_t whole;
    memcpy(&whole, running->whole, sizeof whole);
    return whole;
}

void rolling_count_in(rolling_running_t *running, value_t value, int by) {
    if (!is_some(value))
        return;
    running->n += (uint32_t) by;
    if (value.type == VALUE_DOUBLE)
        running->doubles += (uint32_t) by;
    else
        set_whole(running, whole_of(running) + by * (value.type == VALUE_UINT ? (whole_t) value.unsigned_integer : (whole_t) value.integer));
}

/* For the older part's event at `at`: the sums of it and those behind it. */
static void sum_up(rolling_t *rolling, unsigned index, uint32_t at) {
    const rolling_column_t *column = &rolling->plan->columns[index];
    uint32_t slot = rolling_slot(rolling, at), next = rolling_slot(rolling, at + 1);
    bool last = at + 1 == rolling->split;
    value_t value = rolling_values(rolling, index)[slot];
    if (column->needs & NEEDS_SUM) {
        sum_t none = {0}, *sums = rolling_array(rolling, column->sums), sum = last ? none : sums[next];
        if (value.type == VALUE_DOUBLE)
            sum_put(&sum, value.number);
        sums[slot] = sum;
    }
    if (column->needs & NEEDS_SPREAD) {
        spread_t none = {0}, *spreads = rolling_array(rolling, column->spreads), spread = last ? none : spreads[next];
        if (is_some(value))
            spread_put(&spread, value_to_double(value));
        spreads[slot] = spread;
    }
    if (column->needs & NEEDS_LEAST) {
        value_t *least = rolling_array(rolling, column->least), join = last ? value_null() : least[next];
        least_join(&join, value);
        least[slot] = join;
    }
    if (column->needs & NEEDS_GREATEST) {
        value_t *greatest = rolling_array(rolling, column->greatest), join = last ? value_null() : greatest[next];
        greatest_join(&join, value);
        greatest[slot] = join;
    }
}

/* The first `count` events of the older part. */
void rolling_sum_up(rolling_t *rolling, uint32_t count) {
    for (unsigned i = 0; i < rolling->plan->column_count; i++)
        if (rolling->plan->columns[i].needs & ~NEEDS_MIDDLE)
            for (uint32_t at = count; at-- > 0;)
                sum_up(rolling, i, at);
}

/* Into the younger part's sums. */
static inline void put_young(const rolling_column_t *column, rolling_running_t *running, value_t value) {
    if (!is_some(value))
        return;
    if ((column->needs & NEEDS_SUM) && value.type == VALUE_DOUBLE)
        sum_put(&running->sum, value.number);
    if (column->needs & NEEDS_SPREAD)
        spread_put(&running->spread, value_to_double(value));
    if (column->needs & NEEDS_LEAST)
        least_join(&running->least, value);
    if (column->needs & NEEDS_GREATEST)
        greatest_join(&running->greatest, value);
}

static void clear_young(rolling_t *rolling) {
    for (unsigned i = 0; i < rolling->plan->column_count; i++) {
        rolling_running_t *running = &rolling_runnings(rolling)[i];
        running->sum = (sum_t){0};
        running->spread = (spread_t){0};
        running->least = running->greatest = value_null();
    }
}

/* Events come and go. */

static void forget(rolling_t *rolling, uint32_t slot) {
    for (unsigned i = 0; i < rolling->plan->column_count; i++) {
        value_t value = rolling_values(rolling, i)[slot];
        rolling_count_in(&rolling_runnings(rolling)[i], value, -1);
        if ((rolling->plan->columns[i].needs & NEEDS_MIDDLE) && is_some(value)) {
            middle_t middle = rolling_middle(rolling, i);
            middle_remove(&middle, slot);
        }
    }
}

static void leave(rolling_t *rolling, uint32_t leaving) {
    for (uint32_t i = 0; i < leaving; i++)
        forget(rolling, rolling_slot(rolling, i));
    rolling->head = rolling_slot(rolling, leaving);
    rolling->count -= leaving;
    if (leaving <= rolling->split && rolling->count) {
        rolling->split -= leaving;
        return;
    }
    rolling->split = rolling->count; /* the younger part becomes the older one */
    clear_young(rolling);
    if (rolling->capacity > FIRST_CAPACITY && rolling->count < rolling->capacity / 8)
        rolling_resize(rolling, rolling->capacity / 4 > FIRST_CAPACITY ? rolling->capacity / 4 : FIRST_CAPACITY);
    rolling_sum_up(rolling, rolling->split);
}

bool rolling_outside(const rolling_t *rolling, int64_t time) {
    int64_t bound;
    return rolling->plan->span && !__builtin_sub_overflow(rolling->newest, rolling->plan->span, &bound) && time <= bound;
}

/* Events of a later time make room for the one that is to stand at `at`. */
static void open_gap(rolling_t *rolling, uint32_t at) {
    for (uint32_t i = rolling->count; i-- > at;) {
        uint32_t from = rolling_slot(rolling, i), to = rolling_slot(rolling, i + 1);
        copy_entry(rolling, from, rolling, to);
        for (unsigned j = 0; j < rolling->plan->column_count; j++) {
            if ((rolling->plan->columns[j].needs & NEEDS_MIDDLE) && is_some(rolling_values(rolling, j)[to])) {
                middle_t middle = rolling_middle(rolling, j);
                middle_moved(&middle, from, to);
            }
        }
    }
}

static void enter(rolling_t *rolling, int64_t time, const value_t *values) {
    if (rolling->count == rolling->capacity)
        rolling_resize(rolling, rolling->capacity ? rolling->capacity * 2 : FIRST_CAPACITY);
    uint32_t at = rolling->count;
    if (rolling->plan->span)
        while (at > 0 && rolling_times(rolling)[rolling_slot(rolling, at - 1)] > time)
            at--;
    open_gap(rolling, at);
    rolling->count++;
    uint32_t slot = rolling_slot(rolling, at);
    rolling_times(rolling)[slot] = time;
    bool old = at < rolling->split;
    for (unsigned i = 0; i < rolling->plan->column_count; i++) {
        rolling_values(rolling, i)[slot] = values[i];
        rolling_count_in(&rolling_runnings(rolling)[i], values[i], 1);
        if (!old)
            put_young(&rolling->plan->columns[i], &rolling_runnings(rolling)[i], values[i]);
    }
    rolling_enter_middles(rolling, slot);
    if (old) {
        rolling->split++;
        rolling_sum_up(rolling, at + 1);
    }
}

/* Exponentially weighted means: by number the new value has the weight alpha (the first one all of it); by time each has the weight 2^(-age / half-life),
 * whatever the order in which they come. */
static double between(double mean, double x, double share) {
    double moved = mean + (x - mean) * share;
    return isfinite(moved) ? moved : mean * (1 - share) + x * share;
}

static void weigh(rolling_ewma_t *ewma, const rolling_use_t *use, int64_t time, value_t value) {
    if (!is_some(value))
        return;
    double x = value_to_double(value);
    if (!use->half_life) {
        ewma->mean = ewma->weight == 0 ? x : between(ewma->mean, x, use->alpha);
        ewma->weight = 1;
        return;
    }
    int64_t apart;
    double weight = 1, age = __builtin_sub_overflow(time, ewma->time, &apart) ? (double) time - (double) ewma->time : (double) apart;
    if (ewma->weight == 0) {
        ewma->time = time;
    } else if (time >= ewma->time) {
        ewma->weight *= exp2(-age / (double) use->half_life);
        ewma->time = time;
    } else {
        weight = exp2(age / (double) use->half_life);
    }
    ewma->weight += weight;
    ewma->mean = between(ewma->mean, x, weight / ewma->weight);
}

bool rolling_add(rolling_t *rolling, int64_t time, const value_t *values) {
    const rolling_plan_t *plan = rolling->plan;
    for (unsigned i = 0; i < plan->use_count; i++)
        if (plan->uses[i].function == ROLLING_EWMA)
            weigh(&rolling_ewmas(rolling)[plan->uses[i].ewma], &plan->uses[i], time, values[plan->uses[i].column]);
    if (plan->most == 0)
        return true;
    if (time > rolling->newest) {
        rolling->newest = time;
        uint32_t leaving = 0;
        while (leaving < rolling->count && rolling_outside(rolling, rolling_times(rolling)[rolling_slot(rolling, leaving)]))
            leaving++;
        if (leaving)
            leave(rolling, leaving);
    } else if (rolling_outside(rolling, time)) {
        return true;
    }
    bool full = rolling->count == plan->most;
    if (full)
        leave(rolling, 1);
    enter(rolling, time, values);
    return !full || !plan->span;
}

/* Results. */

static value_t finite_or_null(double number) {
    return isfinite(number) ? value_double(number) : value_null();
}

static double total_of(const rolling_t *rolling, unsigned index) {
    const rolling_column_t *column = &rolling->plan->columns[index];
    const rolling_running_t *running = &rolling_runnings(rolling)[index];
    sum_t sum = running->sum;
    if (rolling->split)
        sum_join(&sum, &((sum_t *) rolling_array(rolling, column->sums))[rolling->head]);
    double low = isfinite(sum.low) ? sum.low : 0;
    return (double) whole_of(running) + sum.high + low;
}

static value_t sum_result(const rolling_t *rolling, unsigned index) {
    const rolling_running_t *running = &rolling_runnings(rolling)[index];
    whole_t whole = whole_of(running);
    if (running->doubles || whole < INT64_MIN || whole > UINT64_MAX)
        return finite_or_null(total_of(rolling, index));
    return whole < 0 ? value_int((int64_t) whole) : value_uint((uint64_t) whole);
}

static value_t var_result(const rolling_t *rolling, unsigned index, bool root) {
    const rolling_column_t *column = &rolling->plan->columns[index];
    spread_t spread = rolling_runnings(rolling)[index].spread;
    if (rolling->split)
        spread_join(&spread, &((spread_t *) rolling_array(rolling, column->spreads))[rolling->head]);
    if (spread.n < 2)
        return value_null();
    double var = spread.squares / (spread.n - 1);
    return finite_or_null(root ? sqrt(var) : var);
}

static value_t extreme_result(const rolling_t *rolling, unsigned index, bool greatest) {
    const rolling_column_t *column = &rolling->plan->columns[index];
    const rolling_running_t *running = &rolling_runnings(rolling)[index];
    value_t result = value_null();
    if (rolling->split)
        result = ((value_t *) rolling_array(rolling, greatest ? column->greatest : column->least))[rolling->head];
    if (greatest)
        greatest_join(&result, running->greatest);
    else
        least_join(&result, running->least);
    return result;
}

value_t rolling_result(const rolling_t *rolling, unsigned index) {
    const rolling_use_t *use = &rolling->plan->uses[index];
    if (use->column == ROLLING_NO_COLUMN)
        return value_uint(rolling->count);
    if (use->function == ROLLING_EWMA) {
        const rolling_ewma_t *ewma = &rolling_ewmas(rolling)[use->ewma];
        return ewma->weight == 0 ? value_null() : finite_or_null(ewma->mean);
    }
    uint32_t n = rolling_runnings(rolling)[use->column].n;
    if (use->function == ROLLING_COUNT)
        return value_uint(n);
    if (n == 0)
        return value_null();
    switch (use->function) {
    case ROLLING_SUM: return sum_result(rolling, use->column);
    case ROLLING_AVG: return finite_or_null(total_of(rolling, use->column) / n);
    case ROLLING_VAR: return var_result(rolling, use->column, false);
    case ROLLING_STDDEV: return var_result(rolling, use->column, true);
    case ROLLING_MIN: return extreme_result(rolling, use->column, false);
    case ROLLING_MAX: return extreme_result(rolling, use->column, true);
    default: {
        middle_t middle = rolling_middle(rolling, use->column);
        return finite_or_null(middle_result(&middle));
    }
    }
}
