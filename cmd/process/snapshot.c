/* A program's whole state as bytes and back. One msgpack array: [version, identity, the program's beginning, number of inputs, watermarks
 * and counts, inputs, origins, one element per operator with state, checksum]. It is written in pieces, so that state of any size needs no
 * second copy in memory, and read in place. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <inttypes.h>

#include "chain.h"

#define SNAPSHOT_VERSION 4
#define ELEMENTS 19         /* beside those of operators */
#define PIECE (256u << 10)  /* bytes that are written at a time */
#define CHECKSUM 10         /* bytes that it takes: always the same, as it stands last */

struct saver {
    program_flush_t *flush;
    void *argument;
    XXH3_state_t sum;
};

static void save_piece(saver_t *saver, buf_t *out) {
    XXH3_64bits_update(&saver->sum, out->data, out->size);
    saver->flush(saver->argument, out);
}

void program_saved(program_t *program, buf_t *out) {
    if (out->size >= PIECE && program->saver->flush)
        save_piece(program->saver, out);
}

static void save_inputs(const program_t *program, buf_t *out) {
    pack_array(out, 2 * program->setup.inputs);
    for (unsigned i = 0; i < program->setup.inputs; i++) {
        pack_bool(out, program->inputs[i].known);
        pack_int(out, program->inputs[i].silent);
    }
    pack_array(out, 6 * program->origin_count);
    for (unsigned i = 0; i < program->origin_count; i++) {
        const origin_t *origin = &program->origins[i];
        pack_uint(out, origin->input);
        pack_text(out, origin->name);
        pack_int(out, origin->watermark);
        pack_bool(out, origin->heard);
        pack_bool(out, origin->idle);
        pack_int(out, origin->silent);
    }
}

void program_save(program_t *program, buf_t *out, program_flush_t *flush, void *argument) {
    saver_t saver = {.flush = flush, .argument = argument};
    XXH3_64bits_reset(&saver.sum);
    program->saver = &saver;
    if (out->size && flush) /* what stands there already is not ours */
        flush(argument, out);
    size_t start = out->size;
    unsigned stateful = 0;
    for (const op_t *op = program->first; op; op = op->next)
        stateful += op->class->save != NULL;
    pack_array(out, ELEMENTS + stateful);
    pack_uint(out, SNAPSHOT_VERSION);
    pack_uint(out, program->identity);
    pack_text(out, program->excerpt);
    pack_uint(out, program->setup.inputs);
    pack_int(out, program->ticked);
    pack_int(out, program->ended);
    pack_int(out, program->watermark);
    pack_int(out, program->announced);
    pack_int(out, program->out_watermark);
    pack_int(out, program->sent_watermark);
    pack_uint(out, program->ledger.filtered);
    pack_uint(out, program->ledger.late);
    pack_uint(out, program->ledger.held);
    pack_uint(out, program->ledger.created);
    pack_uint(out, program->context.errors);
    save_inputs(program, out);
    pack_uint(out, stateful);
    for (const op_t *op = program->first; op; op = op->next) {
        if (op->class->save)
            op->class->save(op, out);
        program_saved(program, out);
    }
    XXH3_64bits_update(&saver.sum, out->data + start, out->size - start);
    uint64_t sum = XXH3_64bits_digest(&saver.sum);
    pack_binary(out, &sum, sizeof sum);
    program->saver = NULL;
}

static bool read_bool(pack_cursor_t *cursor, bool *truth) {
    value_t value;
    if (!pack_read_value(cursor, &value) || value.type != VALUE_BOOL)
        return false;
    *truth = value.boolean;
    return true;
}

static bool load_origins(program_t *program, pack_cursor_t *cursor) {
    uint32_t elements;
    if (!pack_read_array(cursor, &elements) || elements % 6)
        return false;
    for (uint32_t i = 0; i < elements / 6; i++) {
        origin_t origin = {0};
        uint64_t input;
        text_t name;
        if (!pack_read_uint(cursor, &input) || input >= program->setup.inputs || !pack_read_string(cursor, &name) || name.size > FRAME_ORIGIN_MAX ||
            !pack_read_int(cursor, &origin.watermark) || !read_bool(cursor, &origin.heard) || !read_bool(cursor, &origin.idle) ||
            !pack_read_int(cursor, &origin.silent))
            return false;
        origin.input = (unsigned) input;
        memcpy(origin.name, name.data, name.size);
        program->origins = mem_resize(program->origins, (program->origin_count + 1) * sizeof *program->origins);
        program->origins[program->origin_count++] = origin;
    }
    return true;
}

static bool load_head(program_t *program, pack_cursor_t *cursor) {
    uint32_t inputs;
    uint64_t stateful, expected = 0;
    program_counts_t *ledger = &program->ledger;
    if (!pack_read_int(cursor, &program->ticked) || !pack_read_int(cursor, &program->ended) || !pack_read_int(cursor, &program->watermark) ||
        !pack_read_int(cursor, &program->announced) || !pack_read_int(cursor, &program->out_watermark) ||
        !pack_read_int(cursor, &program->sent_watermark) || !pack_read_uint(cursor, &ledger->filtered) ||
        !pack_read_uint(cursor, &ledger->late) || !pack_read_uint(cursor, &ledger->held) || !pack_read_uint(cursor, &ledger->created) ||
        !pack_read_uint(cursor, &program->context.errors) || !pack_read_array(cursor, &inputs) || inputs != 2 * program->setup.inputs)
        return false;
    for (unsigned i = 0; i < program->setup.inputs; i++)
        if (!read_bool(cursor, &program->inputs[i].known) || !pack_read_int(cursor, &program->inputs[i].silent))
            return false;
    for (const op_t *op = program->first; op; op = op->next)
        expected += op->class->save != NULL;
    return load_origins(program, cursor) && pack_read_uint(cursor, &stateful) && stateful == expected;
}

static const char choice[] = "--reset begins anew (open windows, alerts that are on, and output that was not delivered yet are lost)";

static int check_sum(const uint8_t *bytes, size_t size, err_t *err) {
    uint64_t sum = XXH3_64bits(bytes, size - CHECKSUM);
    pack_cursor_t cursor = pack_cursor(bytes + size - CHECKSUM, CHECKSUM);
    text_t stored;
    bool right = pack_read_binary(&cursor, &stored) && stored.size == sizeof sum && memcmp(stored.data, &sum, sizeof sum) == 0;
    return right ? 0 : err_set(err, "the stored state is damaged: its checksum is wrong. %s", choice);
}

int program_load(program_t *program, const void *bytes, size_t size, err_t *err) {
    pack_cursor_t cursor = pack_cursor(bytes, size);
    uint32_t elements;
    uint64_t version, identity, inputs;
    text_t excerpt;
    if (size < CHECKSUM || !pack_read_array(&cursor, &elements) || elements < ELEMENTS || !pack_read_uint(&cursor, &version))
        return err_set(err, "the stored state is damaged. %s", choice);
    if (version != SNAPSHOT_VERSION)
        return err_set(err, "the stored state has format %" PRIu64 ", this process reads %d. Go back to the version that wrote it, or: %s", version,
                       SNAPSHOT_VERSION, choice);
    if (check_sum(bytes, size, err))
        return -1;
    if (!pack_read_uint(&cursor, &identity) || !pack_read_string(&cursor, &excerpt) || !pack_read_uint(&cursor, &inputs))
        return err_set(err, "the stored state is damaged: its beginning. %s", choice);
    if (identity != program->identity)
        return err_set(err, "the stored state is of another program, which begins with: %.*s -- go back to that program, or: %s", (int) excerpt.size,
                       excerpt.data, choice);
    if (inputs != program->setup.inputs)
        return err_set(err, "the stored state is of %" PRIu64 " inputs (--from), not %u. Go back to those, or: %s", inputs, program->setup.inputs, choice);
    if (!load_head(program, &cursor))
        return err_set(err, "the stored state is damaged: its watermarks. %s", choice);
    for (op_t *op = program->first; op; op = op->next)
        if (op->class->load && op->class->load(op, &cursor, err) < 0)
            return -1;
    return cursor.at == cursor.end - CHECKSUM ? 0 : err_set(err, "the stored state is damaged: its size. %s", choice);
}
