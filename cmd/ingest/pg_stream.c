/* Change data capture: the stream of changes becomes events, and the server is told how far they are safe. */
#include <endian.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"
#include "pg_capture.h"

#define EPOCH_2000 (INT64_C(946684800) * 1000000)      /* µs */

void stream_put_lsn(buf_t *out, uint64_t lsn) {
    buf_format(out, "%X/%X", (unsigned) (lsn >> 32), (unsigned) lsn);
}

bool stream_read_lsn(const char *text, uint64_t *lsn) {
    unsigned high, low;
    int end = 0;
    if (sscanf(text, "%8X/%8X%n", &high, &low, &end) != 2 || text[end])
        return false;
    *lsn = (uint64_t) high << 32 | low;
    return true;
}

static void put_u64(uint8_t *to, uint64_t number) {
    number = htobe64(number);
    memcpy(to, &number, sizeof number);
}

static uint64_t get_u64(const char *from) {
    uint64_t number;
    memcpy(&number, from, sizeof number);
    return be64toh(number);
}

/* The standby's status: the server may forget what is before `durable`. */
void stream_status(capture_t *self, bool reply) {
    uint8_t message[34] = {'r'};
    if (!self->streaming)
        return;
    uint64_t received = self->received > self->durable ? self->received : self->durable;
    put_u64(message + 1, received);
    put_u64(message + 9, self->durable);
    put_u64(message + 17, self->durable);
    put_u64(message + 25, (uint64_t) (clock_now() / NS_PER_US - EPOCH_2000));
    message[33] = reply;
    pg_send(self->stream, message, sizeof message);
    self->told = self->durable;
}

/* Names of the columns and their values; unchanged ones from the old row if that has them, else they are left out. key: the replica
 * identity's columns only. */
static void put_row(const capture_t *self, buf_t *out, const output_relation_t *relation, const output_row_t *row, const output_row_t *old, bool key) {
    uint32_t count = 0;
    const output_field_t *fields[OUTPUT_COLUMNS_MAX];
    for (unsigned i = 0; i < row->count; i++) {
        const output_field_t *field = &row->fields[i];
        if (field->kind == 'u' && old && i < old->count)
            field = &old->fields[i];
        if (field->kind == 'u' || (key && !relation->columns[i].key))
            field = NULL;
        fields[i] = field;
        count += field != NULL;
    }
    pack_map(out, count);
    for (unsigned i = 0; i < row->count; i++) {
        if (!fields[i])
            continue;
        pack_text(out, relation->columns[i].name);
        if (fields[i]->kind == 'n')
            pack_nil(out);
        else
            pg_put_value(&self->base.types, out, relation->columns[i].type, fields[i]->text);
    }
}

static bool unchanged(const output_t *message, unsigned i) {
    bool from_old = message->old_kind == 'O' && i < message->old.count && message->old.fields[i].kind != 'u';
    return message->new.fields[i].kind == 'u' && !from_old;
}

static uint32_t count_unchanged(const output_t *message) {
    uint32_t count = 0;
    for (unsigned i = 0; i < message->new.count; i++)
        count += unchanged(message, i);
    return count;
}

static void put_transaction(const capture_t *self, buf_t *out, const output_t *message, uint32_t kept) {
    buf_t lsn = {0};
    stream_put_lsn(&lsn, self->tx_lsn);
    pack_text(out, "lsn");
    pack_string(out, (const char *) lsn.data, lsn.size);
    pack_text(out, "xid");
    pack_uint(out, self->tx_xid);
    pack_text(out, "committed");
    pack_time(out, self->tx_time);
    pack_text(out, "change");
    pack_uint(out, self->number);
    if (kept) {
        pack_text(out, "unchanged");
        pack_array(out, kept);
        for (unsigned i = 0; i < message->new.count; i++) {
            if (unchanged(message, i))
                pack_text(out, message->relation->columns[i].name);
        }
    }
    buf_fini(&lsn);
}

static void put_event(const capture_t *self, buf_t *out, const output_t *message, const output_relation_t *relation) {
    const char *name = message->kind == 'I' ? "insert" : message->kind == 'U' ? "update" : message->kind == 'D' ? "delete" : "truncate";
    bool old = message->old.count > 0, new = message->new.count > 0;
    uint32_t kept = count_unchanged(message);
    pack_map(out, 7u + old + new + (kept > 0));
    pack_text(out, "op");
    pack_text(out, name);
    pack_text(out, "schema");
    pack_text(out, relation->schema);
    pack_text(out, "table");
    pack_text(out, relation->table);
    if (new) {
        pack_text(out, "new");
        put_row(self, out, relation, &message->new, message->old_kind == 'O' ? &message->old : NULL, false);
    }
    if (old) {
        pack_text(out, "old");
        put_row(self, out, relation, &message->old, NULL, message->old_kind == 'K');
    }
    put_transaction(self, out, message, kept);
}

/* Counts the present transaction's change. True: it was passed on before. */
static bool count_change(capture_t *self) {
    self->number++;
    return self->skipped || self->number <= self->skip;
}

static void emit(capture_t *self, const output_t *message, const output_relation_t *relation) {
    if (count_change(self))
        return;
    source_host_t *host = self->base.setup.host;
    frame_builder_t *builder = source_begin(host);
    char place[200];
    put_event(self, &builder->body, message, relation);
    self->commit = self->tx_lsn;
    self->changes = self->number;
    self->complete = self->all_durable = false;
    snprintf(place, sizeof place, "%s.%s", relation->schema, relation->table);
    if (!postgres_fits(&self->base, builder, place))
        return;
    if (self->base.settings->commit_time && self->tx_time >= 0 && self->tx_time <= EVENT_TIME_MAX)
        source_commit_at(host, self->tx_time);
    else
        source_commit(host);
}

static void take_begin(capture_t *self, const output_t *message) {
    self->inside = true;
    self->number = self->skip = 0;
    self->tx_lsn = message->lsn;
    self->tx_time = message->time;
    self->tx_xid = message->xid;
    self->skipped = message->lsn < self->commit || (message->lsn == self->commit && self->complete);
    if (message->lsn == self->commit && !self->complete)
        self->skip = self->changes;
}

static void take_commit(capture_t *self, const output_t *message) {
    self->inside = false;
    if (self->skipped)
        return;
    self->commit = self->tx_lsn;
    self->changes = self->number;
    self->complete = true;
    self->passed = message->end;
    uint64_t last = self->segment_count ? self->segments[self->segment_count - 1].lsn : 0;
    if (self->segment_count && message->lsn >= last)
        snapshot_forget(self);
    source_moved(self->base.setup.host);
    self->all_durable = !source_keeps_position(self->base.setup.host);
    if (self->all_durable) {
        self->durable = self->passed;
        if (self->number)
            stream_status(self, false);
    }
}

/* A change of rows that were read later than it was committed is in what was read. */
static void take_change(capture_t *self, const output_t *message) {
    const output_row_t *before = message->old.count ? &message->old : &message->new, *after = message->new.count ? &message->new : before;
    if (self->segment_count && snapshot_covers(self, message->relation, before) && snapshot_covers(self, message->relation, after))
        count_change(self);
    else
        emit(self, message, message->relation);
}

static void take_truncate(capture_t *self, const output_t *message) {
    for (unsigned i = 0; i < message->truncated; i++) {
        if (self->segment_count && snapshot_covers(self, message->truncations[i], &message->new))
            count_change(self);
        else
            emit(self, message, message->truncations[i]);
    }
}

static void on_types(void *argument, const PGresult *result, const char *error, const char *state) {
    capture_t *self = argument;
    if (error) {
        capture_lost(self, error);
        return;
    }
    self->catalog_ready = true;
    pg_types_load(&self->base.types, result);
    self->types_wanted = false;
    if (!self->base.paused)
        pg_resume(self->stream);
}

/* A table with types that were made by a user: they may be newer than what we know. */
static void take_relation(capture_t *self, const output_relation_t *relation) {
    bool foreign = false;
    for (unsigned i = 0; i < relation->count; i++)
        foreign |= relation->columns[i].type >= 16384;
    if (!foreign || !self->catalog_ready)
        return;
    self->types_wanted = true;
    self->catalog_ready = false;
    pg_pause(self->stream);
    pg_ask(self->catalog, pg_types_query, 0, NULL, NULL, on_types);
}

static void take_message(capture_t *self, const char *bytes, size_t size) {
    err_t err;
    if (output_decode(&self->decoder, (const uint8_t *) bytes, size, &err)) {
        capture_lost(self, err.text);
        return;
    }
    const output_t *message = &self->decoder.message;
    switch (message->kind) {
    case 'B': take_begin(self, message); break;
    case 'C': take_commit(self, message); break;
    case 'R': take_relation(self, message->relation); break;
    case 'I':
    case 'U':
    case 'D': take_change(self, message); break;
    case 'T': take_truncate(self, message); break;
    default: break;
    }
}

/* When all that was committed up to there has been passed on and is safe, the server need keep nothing before it, not even other databases' changes. */
static void take_keepalive(capture_t *self, uint64_t end, bool reply) {
    if (end > self->received)
        self->received = end;
    if (!self->inside && self->all_durable && end > self->durable)
        self->durable = end;
    if (reply || self->durable > self->told)
        stream_status(self, false);
}

void stream_data(void *argument, const char *bytes, size_t size) {
    capture_t *self = argument;
    if (!self->heard) {
        self->heard = true;
        backoff_reset(&self->base.backoff);
        source_healthy(self->base.setup.host);
    }
    if (size >= 18 && bytes[0] == 'k') {
        take_keepalive(self, get_u64(bytes + 1), bytes[17]);
    } else if (size >= 26 && bytes[0] == 'w') {
        uint64_t start = get_u64(bytes + 1);
        if (start > self->received)
            self->received = start;
        take_message(self, bytes + 25, size - 25);
    }
}

void stream_begin(capture_t *self) {
    buf_t sql = {0};
    buf_put_text(&sql, "START_REPLICATION SLOT ");
    pg_put_identifier(&sql, text_of(self->slot));
    buf_put_text(&sql, " LOGICAL ");
    stream_put_lsn(&sql, self->passed);
    buf_t name = {0};
    pg_put_identifier(&name, text_of(self->publication));
    buf_put_text(&sql, " (proto_version '1', publication_names ");
    pg_put_literal(&sql, text_of(buf_text(&name)));
    buf_put_text(&sql, ")");
    output_forget(&self->decoder);
    self->inside = self->heard = false;
    self->streaming = true;
    self->all_durable = !source_keeps_position(self->base.setup.host) || self->all_durable;
    pg_copy(self->stream, buf_text(&sql), stream_data);
    buf_fini(&sql);
    buf_fini(&name);
}
