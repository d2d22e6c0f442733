/* Decodes what the plugin pgoutput sends. */
#include "pg_output.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/memory.h"

#define EPOCH_2000 (INT64_C(946684800) * 1000000)      /* µs: PostgreSQL counts from 2000-01-01 */
#define TRUNCATED_MAX 100000

static text_t take_name(bytes_t *reader) {
    const uint8_t *begin = reader->at, *nul = reader->bad || begin == reader->end ? NULL : memchr(begin, 0, (size_t) (reader->end - begin));
    if (!nul) {
        reader->bad = true;
        return text_make("", 0);
    }
    reader->at = nul + 1;
    return text_make((const char *) begin, (size_t) (nul - begin));
}

static int64_t take_time(bytes_t *reader) {
    int64_t us = (int64_t) bytes_big(reader, 8), ns;
    if (__builtin_add_overflow(us, EPOCH_2000, &us) || __builtin_mul_overflow(us, NS_PER_US, &ns))
        return 0;
    return ns;
}

static void free_relation(output_relation_t *relation) {
    for (unsigned i = 0; i < relation->count; i++)
        mem_free(relation->columns[i].name);
    mem_free(relation->columns);
    mem_free(relation->schema);
    mem_free(relation->table);
    mem_free(relation);
}

void output_forget(output_decoder_t *decoder) {
    size_t position = 0;
    text_t key;
    void *relation;
    while (map_next(decoder->relations, &position, &key, &relation))
        free_relation(relation);
    map_free(decoder->relations);
    decoder->relations = map_new();
}

void output_decoder_init(output_decoder_t *decoder) {
    *decoder = (output_decoder_t){.relations = map_new()};
}

void output_decoder_fini(output_decoder_t *decoder) {
    output_forget(decoder);
    map_free(decoder->relations);
    mem_free(decoder->truncations);
}

static text_t key_of(const uint32_t *oid) {
    return text_make((const char *) oid, sizeof *oid);
}

static void take_relation(output_decoder_t *decoder, bytes_t *reader, output_t *message) {
    uint32_t oid = (uint32_t) bytes_big(reader, 4);
    text_t schema = take_name(reader), table = take_name(reader);
    bytes_big(reader, 1);
    unsigned count = (unsigned) bytes_big(reader, 2);
    if (reader->bad || count > OUTPUT_COLUMNS_MAX) {
        reader->bad = true;
        return;
    }
    output_relation_t *relation = mem_zero(sizeof *relation);
    relation->schema = schema.size ? mem_text_n(schema.data, schema.size) : mem_text("pg_catalog");
    relation->table = mem_text_n(table.data, table.size);
    relation->columns = mem_zero((count + 1) * sizeof *relation->columns);
    for (; relation->count < count && !reader->bad; relation->count++) {
        output_column_t *column = &relation->columns[relation->count];
        column->key = bytes_big(reader, 1) & 1;
        text_t name = take_name(reader);
        column->name = mem_text_n(name.data, name.size);
        column->type = (uint32_t) bytes_big(reader, 4);
        bytes_big(reader, 4);
    }
    if (reader->bad) {
        free_relation(relation);
        return;
    }
    output_relation_t *before = map_put(decoder->relations, key_of(&oid), relation);
    if (before)
        free_relation(before);
    message->relation = relation;
}

static output_relation_t *take_known(output_decoder_t *decoder, bytes_t *reader) {
    uint32_t oid = (uint32_t) bytes_big(reader, 4);
    output_relation_t *relation = reader->bad ? NULL : map_get(decoder->relations, key_of(&oid));
    if (!relation)
        reader->bad = true;
    return relation;
}

static void take_row(bytes_t *reader, const output_relation_t *relation, output_row_t *row) {
    unsigned count = (unsigned) bytes_big(reader, 2);
    if (reader->bad || count > relation->count) {
        reader->bad = true;
        return;
    }
    for (unsigned i = 0; i < count && !reader->bad; i++) {
        output_field_t *field = &row->fields[i];
        field->kind = (char) bytes_big(reader, 1);
        field->text = text_make("", 0);
        if (field->kind == 't') {
            size_t size = bytes_big(reader, 4);
            field->text = text_make((const char *) bytes_take(reader, size), size);
        } else if (field->kind != 'n' && field->kind != 'u') {
            reader->bad = true;
        }
    }
    row->count = count;
}

/* Row by row, each with the letter that says which one it is. */
static void take_change(output_decoder_t *decoder, bytes_t *reader, output_t *message) {
    message->relation = take_known(decoder, reader);
    if (reader->bad)
        return;
    char which = (char) bytes_big(reader, 1);
    if (message->kind != 'I' && (which == 'K' || which == 'O')) {
        message->old_kind = which;
        take_row(reader, message->relation, &message->old);
        if (message->kind == 'D')
            return;
        which = (char) bytes_big(reader, 1);
    }
    if (which != 'N' || message->kind == 'D')
        reader->bad = true;
    else
        take_row(reader, message->relation, &message->new);
}

static void take_truncate(output_decoder_t *decoder, bytes_t *reader, output_t *message) {
    uint64_t count = bytes_big(reader, 4);
    bytes_big(reader, 1);
    if (reader->bad || count > TRUNCATED_MAX || count * 4 > (size_t) (reader->end - reader->at)) {
        reader->bad = true;
        return;
    }
    decoder->truncations = mem_resize(decoder->truncations, (count + 1) * sizeof *decoder->truncations);
    for (; message->truncated < count && !reader->bad; message->truncated++)
        decoder->truncations[message->truncated] = take_known(decoder, reader);
    message->truncations = decoder->truncations;
}

int output_decode(output_decoder_t *decoder, const uint8_t *bytes, size_t size, err_t *err) {
    bytes_t reader = {bytes, bytes + size, false};
    output_t *message = &decoder->message;
    message->kind = (char) bytes_big(&reader, 1);
    message->relation = NULL;
    message->old_kind = 0;
    message->old.count = message->new.count = message->truncated = 0;
    switch (message->kind) {
    case 'B':
        message->lsn = bytes_big(&reader, 8);
        message->time = take_time(&reader);
        message->xid = (uint32_t) bytes_big(&reader, 4);
        break;
    case 'C':
        bytes_big(&reader, 1);
        message->lsn = bytes_big(&reader, 8);
        message->end = bytes_big(&reader, 8);
        message->time = take_time(&reader);
        break;
    case 'R': take_relation(decoder, &reader, message); break;
    case 'I':
    case 'U':
    case 'D': take_change(decoder, &reader, message); break;
    case 'T': take_truncate(decoder, &reader, message); break;
    case 'O':
        bytes_big(&reader, 8);
        take_name(&reader);
        break;
    case 'Y':
        bytes_big(&reader, 4);
        take_name(&reader);
        take_name(&reader);
        break;
    case 'M': return 0;
    default: return err_set(err, "the server sent a message of an unknown kind (%d)", message->kind);
    }
    if (reader.bad)
        return err_set(err, "the server sent a message that is malformed (kind %c, %zu bytes)", message->kind, size);
    return 0;
}
