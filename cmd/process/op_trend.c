/* trend: adds to each event how a value of its key has moved lately: its slope, whether it goes up or down, and how sure that is. The points and
 * the arithmetic are in trend.c. */
#include <math.h>

#include "series.h"
#include "trend.h"

enum { SLOPE, TREND, P, RESULTS };

typedef struct trending {
    op_t op;
    node_t *node;
    unsigned results[RESULTS];            /* computed values' numbers */
    trend_window_t window;
    double significance;
    keyed_class_t class;
    series_options_t options;
} trending_t;

typedef struct block {        /* of a key */
    const trend_window_t *window;
    trend_t trend;
} block_t;

extern const op_class_t op_trend;

/* State. */

static void block_save(const void *state, buf_t *out) {
    const block_t *block = state;
    trend_save(&block->trend, block->window, out);
}

static bool block_load(void *context, void *state, pack_cursor_t *cursor) {
    block_t *block = state;
    block->window = &((const trending_t *) context)->window;
    return trend_restore(&block->trend, block->window, cursor);
}

static void block_drop(void *state) {
    trend_fini(&((block_t *) state)->trend);
}

static size_t block_memory(const void *state) {
    return trend_memory(&((const block_t *) state)->trend);
}

static void trending_save(const op_t *op, buf_t *out) {
    keyed_save(((const trending_t *) op)->options.keyed, out);
}

static int trending_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    return keyed_load(((trending_t *) op)->options.keyed, cursor, err);
}

static size_t trending_memory(const op_t *op) {
    return keyed_memory(((const trending_t *) op)->options.keyed);
}

static void trending_free(op_t *op) {
    keyed_free(((trending_t *) op)->options.keyed);
}

/* Reading. */

static int parse_significance(trending_t *trending, parser_t *parser) {
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_NUMBER)
        return parser_expected(parser, "a number after significance", "significance 0.01");
    trending->significance = value_to_double(token->value);
    if (trending->significance <= 0 || trending->significance >= 1)
        return parser_error(parser, token, "significance 0.01: one series without a trend in a hundred seems to have one", "a significance is above 0 and below 1");
    parser_take(parser);
    return 0;
}

static int parse_options(trending_t *trending, parser_t *parser) {
    for (bool more = true; more;) {
        if (parser_accept_word(parser, "over")) {
            if (parse_over(parser, &trending->window.span, &trending->window.most, TREND_MOST) < 0)
                return -1;
        } else if (parser_accept_word(parser, "significance")) {
            if (parse_significance(trending, parser) < 0)
                return -1;
        } else if (parse_series_option(&trending->options, parser, &more) < 0) {
            return -1;
        }
    }
    if (!trending->window.span && !trending->window.most)
        return parser_expected(parser, "over and a duration or a number of events", "trend x over 1h by KEY");
    return 0;
}

static int parse_trend(trending_t *trending, program_t *program, parser_t *parser, text_t *name) {
    const token_t *place = parser_token(parser);
    if (!(trending->node = parse_named(parser, "a value", name)))
        return -1;
    if (!(trending->node->types & TYPES_NUMBER)) {
        buf_t types = {0};
        types_put(&types, trending->node->types);
        parser_error_at(parser, trending->node, NULL, "trend takes no %s", buf_text(&types));
        buf_fini(&types);
    }
    trending->class = (keyed_class_t){.size = sizeof(block_t), .elements = 1, .save = block_save, .load = block_load, .drop = block_drop,
                                      .memory = block_memory};
    trending->options.keyed = keyed_new(program, &trending->class, trending);
    trending->significance = 0.05;
    if (parse_options(trending, parser) < 0 || keyed_window_keys(trending->options.keyed, parser, place) < 0)
        return -1;
    trend_window_t *window = &trending->window;
    if (window->span) {
        window->slice = window->span < TREND_SLICES ? 1 : window->span / TREND_SLICES;
        window->most = (uint32_t) (window->span / window->slice) + 1;
        if (!trending->options.expires && window->span > KEYED_EXPIRE)
            keyed_set_expire(trending->options.keyed, window->span);
    }
    return 0;
}

static op_t *trending_parse(program_t *program, parser_t *parser) {
    trending_t *trending = op_new(program, &op_trend, sizeof *trending);
    text_t name;
    if (parse_trend(trending, program, parser, &name) < 0) {
        trending_free(&trending->op);
        mem_free(trending);
        return NULL;
    }
    trending->results[SLOPE] = bind_value(parser, joined_name(parser, name, text_of("slope")), TYPE(VALUE_DOUBLE));
    trending->results[TREND] = bind_value(parser, joined_name(parser, name, text_of("trend")), TYPES_TEXT);
    trending->results[P] = bind_value(parser, joined_name(parser, name, text_of("p")), TYPE(VALUE_DOUBLE));
    return &trending->op;
}

/* Running. */

static value_t direction(const trending_t *trending, const trend_t *trend, double p) {
    if (p >= trending->significance)
        return value_text("flat", 4);
    return trend->score > 0 ? value_text("up", 2) : value_text("down", 4);
}

static void trending_row(trending_t *trending, trend_t *trend, row_t *row) {
    value_t value = finite_number(trending->node, row, "trend", false);
    double slope, p;
    if (value.type == VALUE_NULL)
        trend_pass(trend, &trending->window, row->event.time);
    else
        trend_add(trend, &trending->window, row->event.time, value_to_double(value));
    bool sloped = trend_slope(trend, &slope) && isfinite(slope), tested = trend_significance(trend, &p);
    row->values[trending->results[SLOPE]] = sloped ? value_double(slope) : value_null();
    row->values[trending->results[TREND]] = tested ? direction(trending, trend, p) : value_null();
    row->values[trending->results[P]] = tested ? value_double(p) : value_null();
}

static void trending_event(op_t *op, row_t **rows, unsigned count) {
    trending_t *trending = (trending_t *) op;
    keyed_t *keyed = trending->options.keyed;
    keyed_prepare(keyed, rows, count);
    for (unsigned i = 0; i < count; i++) {
        block_t *block = keyed_get(keyed, i, rows[i]);
        if (keyed_is_new(keyed)) {
            block->window = &trending->window;
            trend_init(&block->trend);
        }
        trending_row(trending, &block->trend, rows[i]);
    }
    op_pass(op, rows, count);
}

const op_class_t op_trend = {
    .name = "trend",
    .syntax = "trend EXPRESSION [as NAME] over DURATION|NUMBER [by KEY, ...] [significance P] [expire D]",
    .help = "Adds to each event how the value of its key moves: NAME_slope (per second, least squares), NAME_trend (up, down or flat) and NAME_p, the p-value of Mann and "
            "Kendall's test. It is flat where p is not below P, 0.05 unless given.",
    .parse = trending_parse,
    .event = trending_event,
    .save = trending_save,
    .load = trending_load,
    .memory = trending_memory,
    .free = trending_free,
};
