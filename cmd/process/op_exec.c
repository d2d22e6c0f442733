/* exec: asks a program about each event, a line of JSON each, and goes on with its answers. The events wait in order; the answers come from outside and
 * are recorded as input, so a replay asks nobody, and what was not answered before a crash is asked again. */
#include "base/clock.h"
#include "data/json.h"
#include "exec_child.h"
#include "held.h"
#include "remake.h"

#define IN_FLIGHT 100
#define IN_FLIGHT_MAX 100000
#define HELD_BYTES (4u << 20)
#define TIMEOUT (10 * NS_PER_S)

typedef struct asked {        /* an event that waits for its answer */
    int64_t time, ingest_time, watermark;
    int64_t after;            /* the watermark that came behind it; FRAME_NO_WATERMARK: none */
    uint32_t source, size;
    uint8_t record[];
} asked_t;

typedef struct exec {
    op_t op;
    char *command;
    int64_t timeout, in_flight;
    bool into;                /* the answer goes into a field, */
    unsigned value;           /* number of it among a row's values */
    remake_t *remake;
    rows_t *made;
    char place[40];           /* of dead letters */

    /* state: the queue, a ring */
    asked_t **queue;
    size_t first, count, room, bytes;
    held_sources_t sources;
    int64_t announced;        /* watermark passed on */
    bool ended;               /* the stream has, behind all of them */

    /* answers at hand */
    buf_t answers;            /* those that were recorded together */
    size_t answers_at;
    asked_t *head;            /* the event that the present one is about; NULL: none */
    buf_t answer;             /* it, packed */
    pack_cursor_t items;      /* the events in it */
    uint32_t left;
    bool passing;             /* a watermark is next: */
    int64_t after;            /* the one behind the event before; INT64_MAX: the end */

    exec_child_t *child;      /* NULL: not live */
    bool holding, silent;     /* silent: nothing has been answered for the timeout */
    buf_t scratch;
} exec_t;

extern const op_class_t op_exec;

/* Reading. */

static int parse_parts(exec_t *exec, parser_t *parser, text_t *into) {
    for (;;) {
        const token_t *token = parser_token(parser);
        if (!exec->timeout && parser_accept_word(parser, "timeout")) {
            if (parse_duration(parser, "a duration after timeout", &exec->timeout) < 0)
                return -1;
        } else if (!exec->in_flight && parser_accept_word(parser, "in")) {
            if (!parser_accept_word(parser, "flight"))
                return parser_expected(parser, "flight and a number", "exec \"COMMAND\" in flight 10");
            token = parser_token(parser);
            if (token->type != TOKEN_NUMBER || token->value.type != VALUE_INT || token->value.integer < 1 || token->value.integer > IN_FLIGHT_MAX)
                return parser_expected(parser, "a number from 1 to 100000", "exec \"COMMAND\" in flight 10");
            exec->in_flight = parser_take(parser)->value.integer;
        } else if (!into->data && parser_accept_word(parser, "into")) {
            if (parse_name(parser, "a field's name after into", into) < 0)
                return -1;
        } else {
            return 0;
        }
    }
}

static int parse_exec(exec_t *exec, program_t *program, parser_t *parser) {
    const token_t *token = parser_token(parser);
    text_t command, into = {0};
    if (token->type != TOKEN_STRING)
        return parser_expected(parser, "a command in quotes", "exec \"jq -c --unbuffered '.v += 1'\"");
    if (parse_string(parser, "a command", &command) < 0)
        return -1;
    if (!text_trim(command).size || memchr(command.data, 0, command.size))
        return parser_error(parser, token, NULL, "there is no command in it");
    exec->command = mem_text_n(command.data, command.size);
    if (parse_parts(exec, parser, &into) < 0)
        return -1;
    exec->timeout = exec->timeout ? exec->timeout : TIMEOUT;
    exec->in_flight = exec->in_flight ? exec->in_flight : IN_FLIGHT;
    unsigned line, column;
    diagnostics_place(parser->diagnostics->source, token->at, &line, &column);
    snprintf(exec->place, sizeof exec->place, "exec in line %u", line);
    exec->remake = remake_new(program, parser->scope);
    exec->into = into.data != NULL;
    if (exec->into) {
        exec->value = scope_new_value(parser->scope);
        scope_bind(parser->scope, into, SOURCE_VALUE, exec->value, TYPES_ANY);
    }
    return 0;
}

static void exec_free(op_t *op) {
    exec_t *exec = (exec_t *) op;
    exec_child_free(exec->child);
    for (size_t i = 0; i < exec->count; i++)
        mem_free(exec->queue[(exec->first + i) % exec->room]);
    mem_free(exec->queue);
    mem_free(exec->head);
    held_sources_fini(&exec->sources);
    remake_free(exec->remake);
    rows_free(exec->made);
    buf_fini(&exec->answers);
    buf_fini(&exec->answer);
    buf_fini(&exec->scratch);
    mem_free(exec->command);
}

static op_t *exec_parse(program_t *program, parser_t *parser) {
    exec_t *exec = op_new(program, &op_exec, sizeof *exec);
    if (parse_exec(exec, program, parser) < 0) {
        exec_free(&exec->op);
        mem_free(exec);
        return NULL;
    }
    exec->announced = FRAME_NO_WATERMARK;
    return &exec->op;
}

/* The queue. */

static asked_t *at(const exec_t *exec, size_t index) {
    return exec->queue[(exec->first + index) % exec->room];
}

/* No frames are wanted while enough waits. Of a program that does not answer that is as much as memory should hold: behind it may be the stream's
 * end, at which nothing is waited for for ever. */
static void update_hold(exec_t *exec) {
    size_t limit = exec->silent ? SIZE_MAX : 4 * (size_t) exec->in_flight;
    bool hold = exec->holding ? exec->count > limit / 2 || exec->bytes > HELD_BYTES / 2 : exec->count > limit || exec->bytes > HELD_BYTES;
    if (hold == exec->holding)
        return;
    exec->holding = hold;
    op_hold(&exec->op, hold);
    if (exec->child)
        exec_child_crowded(exec->child, hold);
}

static void push(exec_t *exec, const asked_t *what, text_t record) {
    if (exec->count == exec->room) {
        size_t room = exec->room ? 2 * exec->room : 64;
        asked_t **queue = mem_alloc(room * sizeof *queue);
        for (size_t i = 0; i < exec->count; i++)
            queue[i] = at(exec, i);
        mem_free(exec->queue);
        exec->queue = queue;
        exec->room = room;
        exec->first = 0;
    }
    asked_t *asked = mem_alloc(sizeof *asked + record.size);
    *asked = *what;
    asked->size = (uint32_t) record.size;
    memcpy(asked->record, record.data, record.size);
    exec->queue[(exec->first + exec->count++) % exec->room] = asked;
    exec->bytes += sizeof *asked + record.size;
}

static asked_t *shift(exec_t *exec) {
    asked_t *asked = at(exec, 0);
    exec->first = (exec->first + 1) % exec->room;
    exec->count--;
    exec->bytes -= sizeof *asked + asked->size;
    return asked;
}

static void exec_event(op_t *op, row_t **rows, unsigned count) {
    exec_t *exec = (exec_t *) op;
    for (unsigned i = 0; i < count; i++) {
        const row_t *row = rows[i];
        value_t record = remake_record(exec->remake, row);
        if (record.type != VALUE_MAP) {
            remake_failed(exec->remake, row);
            continue;
        }
        asked_t asked = {.time = row->event.time, .ingest_time = row->ingest_time, .watermark = row->watermark, .after = FRAME_NO_WATERMARK,
                         .source = held_source(&exec->sources, row->frame)};
        push(exec, &asked, text_make((const char *) record.packed, record.size));
        program_ledger(op->program)->held++;
    }
    update_hold(exec);
    if (exec->child)
        exec_child_look(exec->child);
}

static void pass_watermark(exec_t *exec, int64_t watermark) {
    if (watermark <= exec->announced)
        return;
    exec->announced = watermark;
    op_pass_watermark(&exec->op, watermark);
}

/* The stream has ended, and there are still questions. */
static bool is_ending(const exec_t *exec) {
    return exec->count && exec->ended;
}

static void exec_watermark(op_t *op, int64_t watermark) {
    exec_t *exec = (exec_t *) op;
    if (!exec->count)
        pass_watermark(exec, watermark);
    else if (watermark == INT64_MAX)
        exec->ended = true;
    else
        at(exec, exec->count - 1)->after = watermark;
    if (exec->child && is_ending(exec))
        exec_child_ending(exec->child);
}

/* Answers. */

static row_t *make_row(exec_t *exec, unsigned index) {
    row_t *row = &exec->made->row[index];
    row->event = (event_t){.time = exec->head->time};
    row->ingest_time = exec->head->ingest_time;
    row->watermark = exec->head->watermark;
    row->frame = held_frame(&exec->sources, exec->head->source);
    row->original = NULL;
    return row;
}

static value_t head_record(const exec_t *exec) {
    return record_value(exec->head->record, exec->head->record + exec->head->size);
}

static void close_head(exec_t *exec) {
    exec->after = exec->head->after;
    exec->passing = exec->after != FRAME_NO_WATERMARK || (exec->ended && !exec->count);
    mem_free(exec->head);
    exec->head = NULL;
}

/* The event ends here, as it was when it was asked about. `index`: of a row that may be used. */
static void fail(exec_t *exec, unsigned index, const char *reason) {
    row_t *row = make_row(exec, index);
    if (remake_row(exec->remake, row, index, head_record(exec)))
        program_dead(exec->op.program, row, NULL, exec->place, reason);
    close_head(exec);
}

/* Time and stream stay those of the question, which had them beside its fields. */
static value_t without_beside(exec_t *exec, value_t map) {
    pack_cursor_t cursor = pack_cursor(map.packed, map.size);
    uint32_t entries, kept = 0;
    text_t name;
    pack_read_map(&cursor, &entries);
    pack_cursor_t from = cursor;
    for (uint32_t i = 0; i < entries; i++) {
        kept += pack_read_string(&cursor, &name) && !name_is_beside(name);
        pack_skip(&cursor);
    }
    if (kept == entries)
        return map;
    buf_clear(&exec->scratch);
    pack_map(&exec->scratch, kept);
    for (uint32_t i = 0; i < entries; i++) {
        const uint8_t *start = from.at;
        bool wanted = pack_read_string(&from, &name) && !name_is_beside(name);
        pack_skip(&from);
        if (wanted)
            buf_put(&exec->scratch, start, (size_t) (from.at - start));
    }
    return record_value(exec->scratch.data, exec->scratch.data + exec->scratch.size);
}

static bool all_are_maps(value_t array) {
    pack_cursor_t cursor = pack_cursor(array.packed, array.size);
    uint32_t count;
    value_t item;
    pack_read_array(&cursor, &count);
    while (count--)
        if (!pack_read_value(&cursor, &item) || item.type != VALUE_MAP)
            return false;
    return true;
}

/* What the answer makes of the event: nothing, or `left` events. */
static void open_answer(exec_t *exec, unsigned index, value_t answer) {
    program_counts_t *ledger = program_ledger(exec->op.program);
    exec->items = pack_cursor(exec->answer.data, exec->answer.size);
    exec->left = 1;
    if (exec->into || answer.type == VALUE_MAP)
        return;
    exec->left = 0;
    if (answer.type == VALUE_ARRAY && all_are_maps(answer)) {
        pack_read_array(&exec->items, &exec->left);
        if (exec->left)
            ledger->created += exec->left - 1;
    } else if (answer.type != VALUE_NULL) {
        fail(exec, index, answer.type == VALUE_ARRAY ? "an item of the answer is no object" : "the answer is neither an object nor an array of objects nor null");
        return;
    }
    if (!exec->left) {
        ledger->filtered++;
        close_head(exec);
    }
}

/* Takes up the next answer of those at hand. False: there is none. */
static bool next_answer(exec_t *exec, unsigned index) {
    pack_cursor_t cursor = pack_cursor(exec->answers.data, exec->answers.size);
    cursor.at += exec->answers_at;
    uint32_t failed = 0;
    text_t line;
    err_t err;
    bool is_failure = pack_read_array(&cursor, &failed);
    if (!exec->count || !pack_read_string(&cursor, &line))
        return false;
    exec->answers_at = (size_t) (cursor.at - exec->answers.data);
    exec->head = shift(exec);
    program_ledger(exec->op.program)->held--;
    if (exec->child)
        exec_child_closed(exec->child);
    if (is_failure) {
        char reason[200];
        snprintf(reason, sizeof reason, "%.*s", (int) line.size, line.data);
        fail(exec, index, reason);
        return true;
    }
    exec->silent = false;
    buf_clear(&exec->answer);
    ssize_t size = json_read_value(line, &exec->answer, &err);
    if (size >= 0 && text_trim(text_make(line.data + size, line.size - (size_t) size)).size)
        size = err_set(&err, "more than one value");
    if (size < 0) {
        char reason[300];
        snprintf(reason, sizeof reason, "the answer is no JSON: %.200s", err.text);
        fail(exec, index, reason);
        return true;
    }
    open_answer(exec, index, record_value(exec->answer.data, exec->answer.data + exec->answer.size));
    return true;
}

/* The next event of the answer. False: it has ended as a dead letter. */
static bool take_item(exec_t *exec, unsigned index) {
    row_t *row = make_row(exec, index);
    value_t item = value_null();
    const uint8_t *start = exec->items.at;
    pack_read_value(&exec->items, &item);
    bool made = remake_row(exec->remake, row, index, exec->into ? head_record(exec) : without_beside(exec, item));
    if (made && exec->into) {
        const uint8_t *copy = arena_copy(&row->context->arena, start, (size_t) (exec->items.at - start));
        row->values[exec->value] = record_value(copy, copy + (exec->items.at - start));
    }
    if (!--exec->left)
        close_head(exec);
    return made;
}

static bool exec_outside(op_t *op, uint64_t number, text_t bytes) {
    exec_t *exec = (exec_t *) op;
    unsigned count = 0;
    if (!exec->made)
        exec->made = rows_new(op->program);
    if (bytes.data) {
        buf_clear(&exec->answers);
        buf_put(&exec->answers, bytes.data, bytes.size);
        exec->answers_at = 0;
    }
    if (exec->passing) {
        int64_t watermark = exec->after; /* one at a time: whoever is behind may have to wait in between */
        exec->after = INT64_MAX;
        exec->passing = watermark != INT64_MAX && exec->ended && !exec->count;
        pass_watermark(exec, watermark);
    } else {
        while (count < program_batch(op->program) && !exec->passing && (exec->left || next_answer(exec, count)))
            if (exec->left)
                count += take_item(exec, count);
        for (unsigned i = 0; i < count; i++)
            exec->made->pointers[i] = &exec->made->row[i];
        op_pass(op, exec->made->pointers, count);
    }
    if (exec->passing || exec->left || (exec->answers_at < exec->answers.size && exec->count))
        return true;
    update_hold(exec);
    if (exec->child)
        exec_child_look(exec->child);
    return false;
}

static bool exec_busy(const op_t *op) {
    return ((const exec_t *) op)->count > 0;
}

/* Outside. */

static bool question(void *argument, uint64_t index, buf_t *line) {
    const exec_t *exec = argument;
    if (index >= exec->count)
        return false;
    const asked_t *asked = at(exec, index);
    const frame_t *frame = held_frame(&exec->sources, asked->source);
    event_t event = {.time = asked->time, .record = asked->record, .record_size = asked->size};
    if (!json_put_event(line, &event, !frame || frame->data_time, NULL))
        buf_put_text(line, "{}"); /* can't be: it was read before */
    buf_put_byte(line, '\n');
    return true;
}

static int answers(void *argument, text_t packed, unsigned count, err_t *err) {
    exec_t *exec = argument;
    return op_tell(&exec->op, packed, false, err);
}

static void silence(void *argument) {
    exec_t *exec = argument;
    exec->silent = true;
    update_hold(exec);
}

static void trouble(void *argument, const char *text) {
    exec_t *exec = argument;
    op_trouble(&exec->op, "%s: %s", exec->place, text);
}

static int exec_live(op_t *op, loop_t *loop, err_t *err) {
    exec_t *exec = (exec_t *) op;
    if (!loop)
        return 0;
    exec_setup_t setup = {.loop = loop, .command = exec->command, .timeout = exec->timeout, .in_flight = (unsigned) exec->in_flight,
                          .question = question, .answers = answers, .silence = silence, .trouble = trouble, .argument = exec};
    exec->child = exec_child_new(&setup);
    exec_child_crowded(exec->child, exec->holding);
    if (is_ending(exec))
        exec_child_ending(exec->child);
    exec_child_look(exec->child);
    return 0;
}

/* Snapshots: [announced, ended, the streams, [[time, ingest time, watermark, the watermark behind it, source, record]...]]. */

static void exec_save(const op_t *op, buf_t *out) {
    const exec_t *exec = (const exec_t *) op;
    pack_array(out, 4);
    pack_int(out, exec->announced);
    pack_bool(out, exec->ended);
    held_sources_save(&exec->sources, out);
    pack_array(out, (uint32_t) exec->count);
    for (size_t i = 0; i < exec->count; i++) {
        const asked_t *asked = at(exec, i);
        pack_array(out, 6);
        pack_int(out, asked->time);
        pack_int(out, asked->ingest_time);
        pack_int(out, asked->watermark);
        pack_int(out, asked->after);
        pack_uint(out, asked->source);
        pack_binary(out, asked->record, asked->size);
        program_saved(op->program, out);
    }
}

static int exec_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    exec_t *exec = (exec_t *) op;
    uint32_t elements, count;
    value_t ended;
    if (!pack_read_array(cursor, &elements) || elements != 4 || !pack_read_int(cursor, &exec->announced) || !pack_read_value(cursor, &ended) ||
        ended.type != VALUE_BOOL || !held_sources_load(&exec->sources, cursor) || !pack_read_array(cursor, &count))
        return err_set(err, "the state of exec is damaged");
    for (uint32_t i = 0; i < count; i++) {
        asked_t asked;
        uint64_t source;
        text_t record;
        if (!pack_read_array(cursor, &elements) || elements != 6 || !pack_read_int(cursor, &asked.time) || !pack_read_int(cursor, &asked.ingest_time) ||
            !pack_read_int(cursor, &asked.watermark) || !pack_read_int(cursor, &asked.after) || !pack_read_uint(cursor, &source) || source > UINT32_MAX ||
            !pack_read_binary(cursor, &record))
            return err_set(err, "the state of exec is damaged");
        asked.source = (uint32_t) source;
        push(exec, &asked, record);
    }
    exec->ended = ended.boolean;
    update_hold(exec);
    return 0;
}

static size_t exec_memory(const op_t *op) {
    const exec_t *exec = (const exec_t *) op;
    return exec->bytes + exec->room * sizeof *exec->queue;
}

const op_class_t op_exec = {
    .name = "exec",
    .syntax = "exec \"COMMAND\" [timeout D] [in flight N] [into NAME]",
    .help = "Asks a program: each event goes to its standard input as a line of JSON, and the line that it answers with is the event from then on; null leaves it out, an "
            "array of objects makes several events. into: the answer goes into this field instead. The program is run by sh, and again when it ends.",
    .keeps = "the events that wait for an answer",
    .parse = exec_parse,
    .event = exec_event,
    .watermark = exec_watermark,
    .live = exec_live,
    .outside = exec_outside,
    .busy = exec_busy,
    .save = exec_save,
    .load = exec_load,
    .memory = exec_memory,
    .free = exec_free,
};
