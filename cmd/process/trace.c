/* process --trace: a probe stands before each operator and before the output. It sees every row that passes there, asks what the operator's expressions
 * give for it, and, when the operator has returned, whether the row came out behind it; if not, what the ledger says became of it. Operators know
 * nothing of all this, and without --trace there is none of it. */
#include <inttypes.h>

#include "chain.h"
#include "data/json.h"
#include "data/lang/print.h"

#define VALUE_SHOWN 200       /* bytes of a value */
#define EVENT_SHOWN 2000      /* and of an event */
#define NAMES_SHOWN 32        /* of an expression */
#define STREAMS_MAX 64        /* side streams that are watched */

typedef struct trace trace_t;

/* A row on its way, as long as the call lasts that brought it. */
typedef struct tracked {
    const row_t *row;
    uint64_t number;          /* of the events that came in, or that operator `maker` made */
    unsigned maker;           /* from 1; 0: it came in */
    bool quiet;               /* nobody follows it */
    bool passed;              /* it has come out of the operator that has it */
} tracked_t;

typedef struct probe {
    op_t op;
    trace_t *trace;
    unsigned step;            /* of the operator that is next; outline->count: the output */
    uint64_t made;            /* rows that appeared here */
} probe_t;

struct trace {
    program_t *program;
    uint64_t every;
    void (*put)(text_t lines);
    tracked_t *rows;
    unsigned row_count, row_room;
    program_counts_t inner;   /* what became of events within the calls of the probes inside the present one */
    size_t seen[STREAMS_MAX]; /* bytes of side streams' frames that were shown */
    context_t context;        /* of evaluations that are only looked at */
    buf_t error, out;
};

static trace_t *trace_of(const probe_t *probe) { return probe->trace; }
static const outline_t *outline_of(const trace_t *trace) { return trace->program->outline; }

/* Lines. */

static void begin(trace_t *trace, const tracked_t *tracked) {
    buf_put_byte(&trace->out, '#');
    if (tracked->maker)
        buf_format(&trace->out, "%u:", tracked->maker);
    buf_format(&trace->out, "%" PRIu64 " ", tracked->number);
}

static void begin_step(trace_t *trace, const tracked_t *tracked, unsigned step) {
    begin(trace, tracked);
    buf_put_text(&trace->out, "  ");
    outline_put_step(outline_of(trace), step, &trace->out);
    buf_put_text(&trace->out, "  ");
}

static void end(trace_t *trace) {
    buf_put_byte(&trace->out, '\n');
    trace->put(text_make((char *) trace->out.data, trace->out.size));
    buf_clear(&trace->out);
}

static void cut(buf_t *out, size_t start, size_t limit) {
    if (out->size - start <= limit)
        return;
    out->size = start + text_utf8_valid((char *) out->data + start, limit);
    buf_put_text(out, "...");
}

/* Values. */

static void take_error(void *argument, const node_t *node, const char *text) {
    trace_t *trace = argument;
    if (!trace->error.size)
        buf_put_text(&trace->error, text);
}

/* The same row with a context of its own: what fails here is not counted. */
static row_t looked_at(trace_t *trace, const row_t *row) {
    row_t copy = *row;
    copy.context = &trace->context;
    return copy;
}

static value_t look(trace_t *trace, const node_t *node, const row_t *row) {
    buf_clear(&trace->error);
    trace->context.limit = (log_limit_t){0};
    return evaluate(node, row);
}

static void put_value(trace_t *trace, value_t value) {
    if (value_is_absent(value))
        buf_put_text(&trace->out, "absent");
    else
        value_put(&trace->out, value, VALUE_SHOWN);
}

static void put_result(trace_t *trace, const node_t *node, const row_t *row) {
    value_t value = look(trace, node, row);
    node_put(&trace->out, node);
    buf_put_text(&trace->out, " = ");
    put_value(trace, value);
    if (trace->error.size)
        buf_format(&trace->out, " (%.*s)", (int) trace->error.size, (char *) trace->error.data);
}

/* Names below an expression, each once. */
static void put_names(trace_t *trace, const node_t *node, const row_t *row, const node_t **shown, unsigned *count, const char *open) {
    if (node->kind == NODE_FIELD || node->kind == NODE_VALUE) {
        for (unsigned i = 0; i < *count; i++)
            if (shown[i]->kind == node->kind && shown[i]->index == node->index)
                return;
        if (*count == NAMES_SHOWN)
            return;
        buf_put_text(&trace->out, *count ? ", " : open);
        shown[(*count)++] = node;
        put_result(trace, node, row);
    }
    for (unsigned i = 0; i < node->count; i++)
        put_names(trace, node->arguments[i], row, shown, count, open);
}

/* An expression and its value; of conditions joined by and, or, not also each part; then the names that it reads. */
static void put_expression(trace_t *trace, const tracked_t *tracked, unsigned step, const node_t *node, const row_t *row, unsigned depth) {
    begin_step(trace, tracked, step);
    for (unsigned i = 0; i < depth; i++)
        buf_put_text(&trace->out, "  ");
    put_result(trace, node, row);
    bool joined = node->kind == NODE_AND || node->kind == NODE_OR || node->kind == NODE_NOT;
    if (!joined && node->kind != NODE_FIELD && node->kind != NODE_VALUE) {
        const node_t *shown[NAMES_SHOWN];
        unsigned count = 0;
        put_names(trace, node, row, shown, &count, "  [");
        buf_put_text(&trace->out, count ? "]" : "");
    }
    end(trace);
    for (unsigned i = 0; joined && i < node->count; i++)
        put_expression(trace, tracked, step, node->arguments[i], row, depth + 1);
}

static bool is_name(const node_t *node) {
    return node->kind == NODE_FIELD || node->kind == NODE_VALUE;
}

/* Those that are computed each in a line, those that are names all in one. */
static void put_expressions(trace_t *trace, const tracked_t *tracked, unsigned step, const row_t *row) {
    const outline_step_t *now = &outline_of(trace)->steps[step];
    row_t copy = looked_at(trace, row);
    const node_t *shown[NAMES_SHOWN];
    unsigned count = 0;
    for (unsigned i = 0; i < now->expression_count; i++)
        if (!is_name(now->expressions[i]) && now->expressions[i]->kind != NODE_CONSTANT && outline_ready(now, now->expressions[i]))
            put_expression(trace, tracked, step, now->expressions[i], &copy, 0);
    for (unsigned i = 0; i < now->expression_count; i++) {
        if (!is_name(now->expressions[i]) || !outline_ready(now, now->expressions[i]))
            continue;
        if (!count)
            begin_step(trace, tracked, step);
        put_names(trace, now->expressions[i], &copy, shown, &count, "");
    }
    if (count)
        end(trace);
    arena_reset(&trace->context.arena);
}

/* What the operator has made of a row that came out of it. */
static void put_made(trace_t *trace, const tracked_t *tracked, unsigned step, const row_t *row) {
    const outline_step_t *now = &outline_of(trace)->steps[step];
    unsigned count = 0;
    for (size_t i = 0; i < now->behind.count; i++) {
        const binding_t *binding = &now->behind.bindings[i];
        if (binding->source != SOURCE_VALUE || !outline_changed(now, binding))
            continue;
        if (!count)
            begin_step(trace, tracked, step);
        buf_put_text(&trace->out, count++ ? ", " : "-> ");
        name_put(&trace->out, binding->name);
        buf_put_text(&trace->out, ": ");
        put_value(trace, row->values[binding->index]);
    }
    if (!count && !now->expression_count)
        return; /* it does nothing with events at all: to, rename, ... */
    if (!count) {
        begin_step(trace, tracked, step);
        buf_put_text(&trace->out, "passes on");
    }
    end(trace);
}

/* The event as it would be written here. */
static void put_event(trace_t *trace, const outline_scope_t *scope, const row_t *row) {
    size_t start = trace->out.size;
    if (!scope && row->event.record) {
        json_put_packed(&trace->out, row->event.record, row->event.record_size);
    } else if (scope) {
        unsigned count = 0;
        for (size_t i = 0; i < scope->count; i++) {
            const binding_t *binding = &scope->bindings[i];
            if (binding->source != SOURCE_VALUE || value_is_absent(row->values[binding->index]))
                continue;
            buf_put_text(&trace->out, count++ ? ", " : "");
            name_put(&trace->out, binding->name);
            buf_put_text(&trace->out, ": ");
            put_value(trace, row->values[binding->index]);
        }
    }
    cut(&trace->out, start, EVENT_SHOWN);
}

static void put_time(buf_t *out, int64_t time) {
    value_put(out, value_time(time), SIZE_MAX);
    buf_put_text(out, "  ");
}

static void put_arrival(trace_t *trace, const tracked_t *tracked, const row_t *row) {
    begin(trace, tracked);
    put_time(&trace->out, row->event.time);
    if (tracked->maker) {
        const outline_step_t *maker = &outline_of(trace)->steps[tracked->maker - 1];
        buf_put_text(&trace->out, "made by ");
        outline_put_step(outline_of(trace), tracked->maker - 1, &trace->out);
        buf_put_text(&trace->out, ": ");
        put_event(trace, row->event.record ? NULL : &maker->behind, row);
    } else {
        put_event(trace, NULL, row);
    }
    end(trace);
}

/* What has been added to side streams since it was last looked: all of it by the operator that has just returned. */
static bool put_sides(trace_t *trace, const tracked_t *tracked, unsigned step) {
    const program_t *program = trace->program;
    bool any = false;
    for (unsigned i = 1; i < program->stream_count && i < STREAMS_MAX; i++) {
        const buf_t *body = &program->streams[i].builder.body;
        size_t at = body->size < trace->seen[i] ? 0 : trace->seen[i];
        trace->seen[i] = body->size;
        while (tracked && at + EVENT_HEAD < body->size) {
            const uint8_t *record = body->data + at + EVENT_HEAD, *behind = record_skip(record, body->data + body->size);
            if (!behind)
                break;
            begin_step(trace, tracked, step);
            buf_format(&trace->out, "to the stream %s: ", program->streams[i].name);
            size_t start = trace->out.size;
            json_put_packed(&trace->out, record, (size_t) (behind - record));
            cut(&trace->out, start, EVENT_SHOWN);
            end(trace);
            at = (size_t) (behind - body->data);
            any = true;
        }
    }
    return any;
}

static void put_end(trace_t *trace, const tracked_t *tracked, unsigned step, const program_counts_t *own, bool aside) {
    const char *dead = outline_of(trace)->dead;
    const outline_step_t *now = &outline_of(trace)->steps[step];
    begin_step(trace, tracked, step);
    if (dead[0])
        buf_format(&trace->out, "ends here, dead: %s", dead);
    else if (own->late)
        buf_put_text(&trace->out, "ends here, late");
    else if (trace->program->waiting)
        buf_put_text(&trace->out, "waits for room");
    else if (own->filtered && !now->op->class->watermark) /* else it may be others: what a window held counts so when it is over */
        buf_put_text(&trace->out, aside ? "ends here" : "ends here, filtered");
    else if (!now->op->class->save) /* it can hold nothing */
        buf_put_text(&trace->out, aside ? "ends here, out to the stream" : "ends here, in what was made of it");
    else
        buf_put_text(&trace->out, "held here");
    buf_format(&trace->out, " (line %u, column %u)", now->line, now->column);
    end(trace);
}

/* Probes. */

static tracked_t *tracked_row(trace_t *trace, const row_t *row) {
    for (unsigned i = trace->row_count; i-- > 0;)
        if (trace->rows[i].row == row)
            return &trace->rows[i];
    return NULL;
}

/* A row that comes in, or that the operator before has made: followed when its turn is. */
static tracked_t *arrives(probe_t *probe, const row_t *row) {
    trace_t *trace = trace_of(probe);
    bool quiet = probe->made++ % trace->every != 0;
    if (trace->row_count == trace->row_room) {
        trace->row_room += 4 * BATCH;
        trace->rows = mem_resize(trace->rows, trace->row_room * sizeof *trace->rows);
    }
    tracked_t *tracked = &trace->rows[trace->row_count++];
    *tracked = (tracked_t){.row = row, .number = probe->made, .maker = probe->step, .quiet = quiet};
    if (!quiet)
        put_arrival(trace, tracked, row);
    return tracked;
}

static program_counts_t minus(program_counts_t a, program_counts_t b) {
    return (program_counts_t){a.filtered - b.filtered, a.late - b.late, a.held - b.held, a.created - b.created};
}

static program_counts_t plus(program_counts_t a, program_counts_t b) {
    return (program_counts_t){a.filtered + b.filtered, a.late + b.late, a.held + b.held, a.created + b.created};
}

static void put_output(trace_t *trace, const tracked_t *tracked, const row_t *row) {
    const op_t *output = trace->program->first;
    while (output->next)
        output = output->next;
    buf_t record = {0};
    begin(trace, tracked);
    buf_format(&trace->out, "  out to the stream %s: ", program_output_name(trace->program));
    size_t start = trace->out.size;
    row_t copy = looked_at(trace, row);
    if (plan_put(((const output_t *) (const void *) output)->plan, &copy, &record))
        json_put_packed(&trace->out, record.data, record.size);
    cut(&trace->out, start, EVENT_SHOWN);
    end(trace);
    buf_fini(&record);
}

static void probe_event(op_t *op, row_t **rows, unsigned count) {
    probe_t *probe = (probe_t *) op;
    trace_t *trace = trace_of(probe);
    const outline_t *outline = outline_of(trace);
    const row_t *here[BATCH];
    unsigned following = 0, kept = trace->row_count;
    bool last = probe->step == outline->count;
    const tracked_t *first = tracked_row(trace, rows[0]);
    put_sides(trace, probe->step && first && !first->quiet ? first : NULL, probe->step ? probe->step - 1 : 0);
    for (unsigned i = 0; i < count; i++) {
        tracked_t *tracked = tracked_row(trace, rows[i]);
        if (tracked && !tracked->quiet && probe->step)
            put_made(trace, tracked, probe->step - 1, rows[i]);
        if (!tracked)
            tracked = arrives(probe, rows[i]);
        if (tracked->quiet)
            continue;
        if (last)
            put_output(trace, tracked, rows[i]);
        else
            put_expressions(trace, tracked, probe->step, rows[i]);
        tracked->passed = false;
        here[following++] = rows[i];
    }
    program_counts_t before = trace->program->ledger, outside = trace->inner;
    trace->inner = (program_counts_t){0};
    trace->program->outline->dead[0] = 0;
    op_pass(op, rows, count);
    program_counts_t total = minus(trace->program->ledger, before), own = minus(total, trace->inner);
    trace->inner = plus(outside, total);
    for (unsigned i = 0; i < following; i++) {
        tracked_t *tracked = tracked_row(trace, here[i]);
        bool aside = put_sides(trace, tracked, probe->step);
        if (!last && !tracked->passed)
            put_end(trace, tracked, probe->step, &own, aside);
        tracked->passed = true; /* out of the operator before, whatever became of it here */
    }
    trace->program->outline->dead[0] = 0;
    trace->row_count = kept;
}

static void probe_free(op_t *op) {
    probe_t *probe = (probe_t *) op;
    if (probe->step)
        return; /* the first one has it */
    trace_t *trace = probe->trace;
    context_fini(&trace->context);
    mem_free(trace->rows);
    buf_fini(&trace->error);
    buf_fini(&trace->out);
    mem_free(trace);
}

static const op_class_t probe_class = {.name = "trace", .event = probe_event, .free = probe_free};

void trace_install(program_t *program, uint64_t every, void (*put)(text_t lines)) {
    trace_t *trace = mem_zero(sizeof *trace);
    *trace = (trace_t){.program = program, .every = every, .put = put};
    trace->context.report = take_error;
    trace->context.argument = trace;
    unsigned step = 0;
    for (op_t **link = &program->first; *link; link = &(*link)->next->next) {
        probe_t *probe = op_new(program, &probe_class, sizeof *probe);
        probe->op.number = UINT32_MAX;
        probe->op.next = *link;
        probe->trace = trace;
        probe->step = step++;
        *link = &probe->op;
    }
    program->batch = 1;
    program->verbatim = false;
}
