/* The aggregates of a window: reading them, and the states that a group has for them. See summary.h. */
#include "summary.h"

/* The number of the argument among the distinct ones: an expression that stands twice is evaluated once. */
static unsigned argument_of(summary_t *summary, parser_t *parser, node_t *node) {
    const char *source = parser->diagnostics->source.data;
    for (unsigned i = 0; i < summary->argument_count; i++)
        if (summary->arguments[i]->size == node->size && memcmp(source + summary->arguments[i]->at, source + node->at, node->size) == 0)
            return i;
    summary->arguments = mem_resize(summary->arguments, (summary->argument_count + 1) * sizeof *summary->arguments);
    summary->arguments[summary->argument_count] = node;
    return summary->argument_count++;
}

static unsigned accumulator_of(summary_t *summary, const accumulator_t *wanted) {
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        const accumulator_t *found = &summary->accumulators[i];
        if (found->class == wanted->class && found->argument == wanted->argument && found->limit == wanted->limit && found->takes == wanted->takes)
            return i;
    }
    unsigned number = summary->accumulator_count++;
    summary->accumulators = mem_resize(summary->accumulators, summary->accumulator_count * sizeof *summary->accumulators);
    summary->accumulators[number] = *wanted;
    summary->accumulators[number].offset = summary->size;
    summary->size += wanted->class->size;
    summary->elements += wanted->class->elements;
    return number;
}

static void name_after(parser_t *parser, text_t word, const node_t *node, text_t *name) {
    text_t field = {0};
    if (node && !parser_default_name(node, &field)) {
        *name = (text_t){0};
        return;
    }
    char *joined = node ? mem_format("%.*s_%.*s", (int) word.size, word.data, (int) field.size, field.data) : mem_text_n(word.data, word.size);
    *name = text_make(arena_copy(&parser->unit->arena, joined, strlen(joined)), strlen(joined));
    for (size_t i = 0; i < word.size; i++) /* p99.9 */
        if (joined[i] == '.')
            ((char *) (uintptr_t) name->data)[i] = '_';
    mem_free(joined);
}

static int parse_parameter(parser_t *parser, aggregate_t *aggregate) {
    const aggregate_class_t *class = aggregate->class;
    if (!parser_accept(parser, TOKEN_COMMA)) {
        if (class->parameter && !class->optional)
            return parser_error(parser, parser_token(parser), class->signature, "%s needs %s", class->name, class->parameter);
        return 0;
    }
    if (!class->parameter)
        return parser_error(parser, parser_token(parser), class->signature, "%s takes one value", class->name);
    node_t *node = parse_expression(parser);
    if (!node)
        return -1;
    value_t value = node->constant;
    bool whole = class->limit != 0;
    if (node->kind != NODE_CONSTANT || !value_is_number(value) || (whole && value.type != VALUE_INT))
        return parser_error_at(parser, node, class->signature, "this must be %s: a constant", class->parameter);
    aggregate->parameter = value_to_double(value);
    if (aggregate->parameter < class->least || aggregate->parameter > class->most)
        return parser_error_at(parser, node, class->signature, "this must be %s", class->parameter);
    if (class->most == 100 && aggregate->parameter > 0 && aggregate->parameter < 1) /* of 1, as in SQL */
        return parser_error_at(parser, node, "percentages go from 0 to 100: percentile(x, 90); less than one percent is written p0.5(x)",
                               "this is less than one percent: nearly all values are above");
    return 0;
}

static int parse_value(parser_t *parser, const aggregate_class_t *class, node_t **node) {
    *node = parse_expression(parser);
    if (!*node)
        return -1;
    if (class->takes && !((*node)->types & class->takes)) {
        buf_t types = {0};
        types_put(&types, (*node)->types);
        parser_error_at(parser, *node, class->signature, "%s takes no %s", class->name, buf_text(&types));
        buf_fini(&types);
    }
    return 0;
}

/* Behind "name(". */
static int parse_arguments(summary_t *summary, parser_t *parser, aggregate_t *aggregate, text_t word, text_t *name) {
    const aggregate_class_t *class = aggregate->class;
    node_t *node = NULL;
    token_type_t second = parser_token(parser)->type == TOKEN_END ? TOKEN_END : parser_token(parser)[1].type;
    if (parser_is_word(parser, "distinct") && (second == TOKEN_NAME || second == TOKEN_OPEN))
        return parser_error(parser, parser_token(parser), "write distinct(x)", "there is no %s(distinct x)", class->name);
    if (parser_accept(parser, TOKEN_STAR)) { /* count(*), as SQL writes it */
        if (class->takes && !class->bare)
            return parser_error(parser, parser_token(parser) - 1, NULL, "%s needs a value", class->name);
    } else if (parser_token(parser)->type != TOKEN_CLOSE) {
        if (parse_value(parser, class, &node) < 0)
            return -1;
    } else if (class->takes && !class->bare) {
        return parser_error(parser, parser_token(parser), class->signature, "%s needs a value", class->name);
    }
    if (parse_parameter(parser, aggregate) < 0)
        return -1;
    if (!node && class->bare)
        aggregate->class = class->bare;
    name_after(parser, word, node, name);
    aggregate->accumulator = node ? argument_of(summary, parser, node) : NO_ARGUMENT; /* for now */
    return parser_expect(parser, TOKEN_CLOSE, ")");
}

/* The aggregate's name, p99.9 in one. */
static text_t take_name(parser_t *parser) {
    const token_t *token = parser_take(parser), *end = token;
    const char *source = parser->diagnostics->source.data;
    if (source[token->at] == 'p' && token[1].type == TOKEN_DOT && token[1].at == token->at + token->size && token[2].type == TOKEN_NUMBER &&
        token[2].at == token[1].at + 1) {
        parser_take(parser);
        end = parser_take(parser);
    }
    return text_make(source + token->at, end->at + end->size - token->at);
}

static void add_aggregate(summary_t *summary, const token_t *place, text_t name, aggregate_t aggregate, unsigned how) {
    const aggregate_class_t *class = aggregate.class;
    bool removes = how & SUMMARY_REMOVES;
    if (removes && class->sliding)
        aggregate.class = class->sliding;
    accumulator_t accumulator = {.class = aggregate.class->state, .name = class->name, .takes = class->takes, .argument = aggregate.accumulator,
                                 .limit = (uint32_t) (class->limit * aggregate.parameter), .removes = removes,
                                 .arrival = (how & SUMMARY_ARRIVAL) && aggregate.class->state != &trend_state};
    aggregate.accumulator = accumulator_of(summary, &accumulator);
    unsigned number = summary->aggregate_count++;
    summary->aggregates = mem_resize(summary->aggregates, summary->aggregate_count * sizeof *summary->aggregates);
    summary->names = mem_resize(summary->names, summary->aggregate_count * sizeof *summary->names);
    summary->places = mem_resize(summary->places, summary->aggregate_count * sizeof *summary->places);
    summary->aggregates[number] = aggregate;
    summary->names[number] = name;
    summary->places[number] = place;
}

static int parse_aggregate(summary_t *summary, parser_t *parser, unsigned how) {
    const token_t *token = parser_token(parser);
    if (token->type != TOKEN_NAME)
        return parser_expected(parser, "an aggregate, as in count() or avg(x)", NULL);
    text_t word = take_name(parser), name;
    double percentage = 0;
    aggregate_t aggregate = {.class = aggregate_find(word, &percentage)};
    char hint[400];
    if (!aggregate.class)
        return parser_error(parser, token, aggregate_suggest(word, hint, sizeof hint), "there is no aggregate %.*s", (int) word.size, word.data);
    aggregate.parameter = aggregate.class->usual ? aggregate.class->usual : percentage;
    if (parser_expect(parser, TOKEN_OPEN, "( after the aggregate's name") < 0 || parse_arguments(summary, parser, &aggregate, word, &name) < 0)
        return -1;
    if (parser_is_word(parser, "filter") || parser_is_word(parser, "FILTER") || parser_is_word(parser, "where") || parser_is_word(parser, "WHERE"))
        return parser_expected(parser, ", or |", "of some events only: avg(if(CONDITION, x)) as NAME, and their number count(if(CONDITION, true)) as NAME");
    const token_t *named = token;
    if (parser_accept_word(parser, "as")) {
        named = parser_token(parser);
        if (parse_name(parser, "a name after as", &name) < 0)
            return -1;
    } else if (!name.data) {
        parser_error(parser, token, "write AGGREGATE(EXPRESSION) as NAME", "an aggregate of an expression needs a name");
        name = text_of("?");
    }
    add_aggregate(summary, named, name, aggregate, how);
    return 0;
}

int summary_parse(summary_t *summary, parser_t *parser, unsigned how) {
    summary->timed = how & SUMMARY_TIMED;
    if (summary->timed) {
        accumulator_t times = {.class = &extent_state, .name = "time", .takes = TYPES_INTEGER, .argument = NO_ARGUMENT};
        accumulator_of(summary, &times);
    }
    do {
        if (parse_aggregate(summary, parser, how) < 0)
            return -1;
    } while (parser_accept(parser, TOKEN_COMMA));
    if (summary->timed)
        summary->accumulators[0].argument = summary->argument_count;
    return 0;
}

void summary_fini(summary_t *summary) {
    for (unsigned i = 0; i < summary->accumulator_count; i++)
        buf_fini(&summary->accumulators[i].scratch);
    mem_free(summary->arguments);
    mem_free(summary->accumulators);
    mem_free(summary->aggregates);
    mem_free(summary->names);
    mem_free(summary->places);
    arena_fini(&summary->arena);
    buf_fini(&summary->scratch);
}

/* States. */

void summary_refuse(const summary_t *summary, const accumulator_t *accumulator, value_t value, const row_t *row) {
    const node_t *node = summary->arguments[accumulator->argument];
    if (value.type == VALUE_DOUBLE)
        evaluation_failed(node, row, "%s of what is not a number", accumulator->name);
    else
        evaluation_failed(node, row, "%s of %s", accumulator->name, value_type_names[value.type]);
}

void summary_check(const summary_t *summary, const value_t *values, const row_t *row) {
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        value_t value = summary_value(&summary->accumulators[i], values);
        if (value.type != VALUE_NULL && !summary_takes(&summary->accumulators[i], value))
            summary_refuse(summary, &summary->accumulators[i], value, row);
    }
}

void summary_put(summary_t *summary, void *block, const value_t *values, int64_t time) {
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        accumulator_t *accumulator = &summary->accumulators[i];
        value_t value = summary_value(accumulator, values);
        if (value.type != VALUE_NULL && summary_takes(accumulator, value))
            accumulator->class->add(accumulator, (char *) block + accumulator->offset, value, summary_time(accumulator, time));
    }
}

void summary_merge(summary_t *summary, void *into, const void *from) {
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        accumulator_t *accumulator = &summary->accumulators[i];
        accumulator->class->merge(accumulator, (char *) into + accumulator->offset, (const char *) from + accumulator->offset);
    }
}

void summary_results(summary_t *summary, const void *block, int64_t span, value_t *out) {
    if (summary->timed) {
        extent_times(block, &summary->earliest, &summary->latest);
        span = summary->latest - summary->earliest;
    }
    finish_t finish = {.span = span, .arena = &summary->arena, .scratch = &summary->scratch};
    for (unsigned i = 0; i < summary->aggregate_count; i++) {
        const aggregate_t *aggregate = &summary->aggregates[i];
        out[i] = aggregate->class->result(aggregate, (const char *) block + summary->accumulators[aggregate->accumulator].offset, &finish);
    }
}

void summary_keep(summary_t *summary, value_t *out) {
    for (unsigned i = 0; i < summary->aggregate_count; i++)
        if (out[i].type >= VALUE_STRING && out[i].type <= VALUE_MAP)
            out[i].text = arena_copy(&summary->arena, out[i].text, out[i].size);
}

void summary_save(const summary_t *summary, const void *block, buf_t *out) {
    for (unsigned i = 0; i < summary->accumulator_count; i++)
        summary->accumulators[i].class->save((const char *) block + summary->accumulators[i].offset, out);
}

bool summary_load(summary_t *summary, void *block, pack_cursor_t *cursor) {
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        accumulator_t *accumulator = &summary->accumulators[i];
        if (!accumulator->class->load(accumulator, (char *) block + accumulator->offset, cursor))
            return false;
    }
    return true;
}

void summary_drop(summary_t *summary, void *block) {
    for (unsigned i = 0; i < summary->accumulator_count; i++) {
        accumulator_t *accumulator = &summary->accumulators[i];
        if (accumulator->class->drop)
            accumulator->class->drop(accumulator, (char *) block + accumulator->offset);
    }
}

size_t summary_memory(const summary_t *summary) {
    size_t size = summary->owned;
    for (unsigned i = 0; i < summary->accumulator_count; i++)
        size += summary->accumulators[i].owned;
    return size;
}
