/* Source "forward:": listens for Fluentd, Fluent Bit and whoever else speaks their Forward protocol. A chunk that is to be acknowledged is so when the
 * log has it. */
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/fields.h"
#include "data/pack.h"
#include "forward.h"
#include "forward_chunk.h"
#include "listen.h"
#include "source.h"
#include "text_server.h"

#define PORT 24224
#define WORK (256u * 1024)             /* bytes of entries that are taken from one in a row, then others get their turn */
#define BESIDE (64u * 1024)            /* time and metadata of an entry */

typedef struct forward_settings {
    char *shared_key, *tag_field;
    int64_t connections, idle;
    uint64_t chunk_limit;
    tls_files_t tls;
} forward_settings_t;

#define AT(field) offsetof(forward_settings_t, field)
static const option_t options[] = {
    {"shared-key", OPTION_SECRET, AT(shared_key), NULL, "SECRET", "what peers must prove to know"},
    {"tag-field", OPTION_TEXT, AT(tag_field), "tag", "NAME", "the field that takes an event's tag; empty: none"},
    {"chunk-limit", OPTION_SIZE, AT(chunk_limit), "16MiB", "SIZE", "largest message, and largest chunk when it is decompressed", 1024, 1 << 30},
    {"connections", OPTION_INT, AT(connections), "256", "N", TEXT_SERVER_CONNECTIONS},
    {"idle", OPTION_DURATION, AT(idle), "0", "DURATION", TEXT_SERVER_IDLE},
    TLS_FILES_OPTIONS(forward_settings_t, tls),
    {0},
};

typedef struct forward_source forward_source_t;

typedef struct forward_peer {
    forward_source_t *self;
    connection_t *connection;
    struct forward_peer *next;     /* that waits for the same turn */
    uint8_t nonce[FORWARD_NONCE];
    bool greeted;                  /* knows the shared key, or needs not to */
    bool over;                     /* ended by us */
    bool waits;                    /* for its turn to have a chunk decompressed */
    bool whole, loaded;            /* a message is all there; and is being taken */
    forward_pass_t pass;
    forward_message_t message;
    size_t at;                     /* in its entries */
    size_t worked;                 /* bytes gone through in this turn */
    uint64_t number;               /* of entries on this connection */
} forward_peer_t;

/* A chunk between its last event and the disk. */
typedef struct chunk {
    struct chunk *next;
    forward_peer_t *peer;          /* NULL: has gone */
    uint64_t number;               /* of its last event */
    size_t size;
    char id[];
} chunk_t;

struct forward_source {
    source_t source;
    source_setup_t setup;
    const forward_settings_t *settings;
    listener_t *listener;
    char hostname[256];
    uint64_t run, taken;           /* tells our positions from those of earlier runs; events in this one */
    chunk_t *first, **last;
    forward_chunk_t *unpacked;     /* one at a time, as it takes memory: */
    forward_peer_t *turn;          /* whose turn it is, */
    forward_peer_t *waiting, **last_waiting;     /* and who waits for it */
    buf_t tag, out;                /* the tag, packed; scratch */
    fields_t fields;
    log_limit_t limit;
};

/* ---- acknowledgements ---- */

static void acknowledge(forward_source_t *self, forward_peer_t *peer, text_t id) {
    buf_clear(&self->out);
    forward_put_ack(&self->out, id);
    connection_put(peer->connection, self->out.data, self->out.size);
}

static void acknowledge_later(forward_source_t *self, forward_peer_t *peer, text_t id) {
    chunk_t *chunk = mem_zero(sizeof *chunk + id.size);
    chunk->peer = peer;
    chunk->number = self->taken;
    chunk->size = id.size;
    memcpy(chunk->id, id.data, id.size);
    *self->last = chunk;
    self->last = &chunk->next;
}

/* Those whose events are all among the first `number`. */
static void settle(forward_source_t *self, uint64_t number) {
    while (self->first && self->first->number <= number) {
        chunk_t *chunk = self->first;
        self->first = chunk->next;
        if (!self->first)
            self->last = &self->first;
        if (chunk->peer)
            acknowledge(self, chunk->peer, text_make(chunk->id, chunk->size));
        mem_free(chunk);
    }
}

/* ---- messages ---- */

static void dismiss(forward_peer_t *peer, const char *why) {
    if (log_limited(&peer->self->limit))
        log_warning("%s: %s: the connection is closed", connection_place(peer->connection), why);
    peer->over = true;
    connection_end(peer->connection);
}

static void bad(forward_peer_t *peer, text_t record, const char *reason) {
    char place[ADDRESS_TEXT + 40];
    snprintf(place, sizeof place, "%s:%llu", connection_place(peer->connection), (unsigned long long) peer->number);
    source_bad(peer->self->setup.host, text_make(record.data, record.size < 1024 ? record.size : 1024), place, reason);
}

static void take_entry(forward_source_t *self, const forward_entry_t *entry) {
    frame_builder_t *builder = source_begin(self->setup.host);
    if (self->tag.size) {
        fields_clear(&self->fields);
        fields_put_map(&self->fields, (value_t){.type = VALUE_MAP, .size = (uint32_t) entry->record.size, .packed = (const uint8_t *) entry->record.data});
        fields_put(&self->fields, text_of(self->settings->tag_field), self->tag.data, (uint32_t) self->tag.size);
        fields_pack(&self->fields, &builder->body);
    } else {
        buf_put(&builder->body, entry->record.data, entry->record.size);
    }
    self->taken++; /* before: a frame, and with it the position, may be cut now */
    source_commit_at(self->setup.host, entry->time);
}

static void on_again(void *argument) {
    forward_peer_t *peer = argument;
    connection_resume(peer->connection);
}

/* The rest of the message comes when others have had their turn. */
static bool again(forward_peer_t *peer) {
    connection_pause(peer->connection);
    loop_defer(peer->self->setup.loop, on_again, peer);
    return false;
}

static void take_or_tell(forward_peer_t *peer, text_t bytes, bool bare, size_t *at) {
    forward_source_t *self = peer->self;
    forward_entry_t entry;
    const char *reason;
    size_t start = *at;
    peer->number++;
    int found = forward_next(bytes, bare, at, &entry, &reason);
    if (found > 0 && entry.record.size <= self->setup.format_settings->record_limit) {
        take_entry(self, &entry);
        return;
    }
    if (found < 0)
        *at = bytes.size;
    bad(peer, text_make(bytes.data + start, *at - start), found > 0 ? "longer than --max-record" : reason);
}

/* False: they come again. */
static bool take_entries(forward_peer_t *peer, text_t entries) {
    while (peer->at < entries.size) {
        size_t start = peer->at;
        if (!source_room(peer->self->setup.host))
            return false;
        if (peer->worked >= WORK)
            return again(peer);
        take_or_tell(peer, entries, peer->message.bare, &peer->at);
        peer->worked += peer->at - start;
    }
    return true;
}

/* ---- compressed ones ---- */

static void end_turn(forward_source_t *self) {
    forward_peer_t *next = self->waiting;
    self->turn = NULL;
    if (!next)
        return;
    self->waiting = next->next;
    if (!self->waiting)
        self->last_waiting = &self->waiting;
    next->waits = false;
    connection_resume(next->connection);
}

/* False: it has to wait for it. */
static bool get_turn(forward_peer_t *peer) {
    forward_source_t *self = peer->self;
    if (self->turn == peer)
        return true;
    if (!self->turn) {
        self->turn = peer;
        forward_chunk_begin(self->unpacked);
        return true;
    }
    peer->waits = true;
    peer->next = NULL;
    *self->last_waiting = peer;
    self->last_waiting = &peer->next;
    connection_pause(peer->connection);
    return false;
}

/* Who has gone neither has it nor waits for it. */
static void leave_turn(forward_peer_t *peer) {
    forward_source_t *self = peer->self;
    for (forward_peer_t **link = &self->waiting; peer->waits && *link; link = &(*link)->next) {
        if (*link != peer)
            continue;
        *link = peer->next;
        if (!*link)
            self->last_waiting = link;
        break;
    }
    if (self->turn == peer)
        end_turn(self);
}

/* False: it comes again. */
static bool take_compressed(forward_peer_t *peer, text_t packed) {
    forward_source_t *self = peer->self;
    forward_found_t found = FORWARD_ENTRY;
    if (!get_turn(peer))
        return false;
    while (found != FORWARD_END) {
        text_t entry;
        err_t err;
        size_t at = 0;
        if (!source_room(self->setup.host))
            return false;
        if (peer->worked >= WORK)
            return again(peer);
        found = forward_chunk_next(self->unpacked, packed, &entry, &err);
        if (found == FORWARD_ENTRY) {
            take_or_tell(peer, entry, false, &at);
            peer->worked += entry.size;
        } else if (found == FORWARD_MORE) {
            peer->worked = WORK;
        } else if (found == FORWARD_REFUSED) {
            peer->number++;
            bad(peer, packed, err.text);
            dismiss(peer, err.text);
            break;
        } else if (found != FORWARD_END) {
            peer->number++;
            bad(peer, entry, found == FORWARD_LONG ? "longer than --max-record" : "malformed msgpack, or cut short");
        }
    }
    end_turn(self);
    return true;
}

/* A whole message. False: it comes again. */
static bool take_message(forward_peer_t *peer, const char *data, size_t size) {
    forward_source_t *self = peer->self;
    forward_message_t *message = &peer->message;
    err_t err;
    if (!peer->loaded && forward_read(message, data, size, &err)) {
        peer->number++;
        bad(peer, text_make(data, size), err.text);
        dismiss(peer, err.text);
        return true;
    }
    source_healthy(self->setup.host);
    peer->loaded = true;
    text_t tag = forward_text(data, message->tag), chunk = forward_text(data, message->chunk), entries = forward_text(data, message->entries);
    buf_clear(&self->tag);
    if (*self->settings->tag_field)
        pack_string(&self->tag, tag.data, tag.size);
    if (!(message->compressed ? take_compressed(peer, entries) : take_entries(peer, entries)))
        return false;
    peer->loaded = false;
    peer->at = 0;
    if (!chunk.size || peer->over)
        return true;
    acknowledge_later(self, peer, chunk);
    if (!source_keeps_position(self->setup.host))
        settle(self, self->taken);
    else
        source_moved(self->setup.host); /* a chunk of bad entries alone has a position, too */
    return true;
}

static void greet(forward_peer_t *peer, const char *data, size_t size) {
    forward_source_t *self = peer->self;
    err_t err;
    buf_clear(&self->out);
    int rc = forward_read_ping(data, size, peer->nonce, self->settings->shared_key, self->hostname, &self->out, &err);
    connection_put(peer->connection, self->out.data, self->out.size);
    if (rc)
        dismiss(peer, err.text);
    peer->greeted = rc == 0;
}

/* The next message has begun to come. False: it is not all there. */
static bool have_message(forward_peer_t *peer, const char *data, size_t size) {
    size_t limit = peer->greeted ? (size_t) peer->self->settings->chunk_limit : 4096;
    if (peer->whole)
        return true;
    int found = forward_pass(&peer->pass, data, size);
    if (found < 0)
        dismiss(peer, "what comes is not the Forward protocol");
    else if (peer->pass.size > limit || (!found && size > limit))
        dismiss(peer, "a message is malformed, or larger than --chunk-limit");
    peer->whole = found > 0 && !peer->over;
    return peer->whole;
}

static size_t on_data(void *own, const char *data, size_t size, bool at_end) {
    forward_peer_t *peer = own;
    size_t used = 0;
    peer->worked = 0;
    while (used < size && !peer->over && !peer->waits && source_room(peer->self->setup.host)) {
        if (!have_message(peer, data + used, size - used))
            break;
        if (!peer->greeted)
            greet(peer, data + used, peer->pass.size);
        else if (!take_message(peer, data + used, peer->pass.size))
            break;
        used += peer->pass.size;
        peer->pass = (forward_pass_t){0};
        peer->whole = false;
    }
    return peer->over ? size : used;
}

static void *on_opened(void *argument, connection_t *connection) {
    forward_source_t *self = argument;
    forward_peer_t *peer = mem_zero(sizeof *peer);
    peer->self = self;
    peer->connection = connection;
    peer->greeted = !self->settings->shared_key;
    if (!peer->greeted) {
        ASSERT(getrandom(peer->nonce, sizeof peer->nonce, 0) == sizeof peer->nonce);
        buf_clear(&self->out);
        forward_put_hello(&self->out, peer->nonce);
        connection_put(connection, self->out.data, self->out.size);
    }
    return peer;
}

static void on_closed(void *own) {
    forward_peer_t *peer = own;
    for (chunk_t *chunk = peer->self->first; chunk; chunk = chunk->next)
        if (chunk->peer == peer)
            chunk->peer = NULL;
    loop_undefer(peer->self->setup.loop, on_again, peer);
    leave_turn(peer);
    mem_free(peer);
}

/* ---- the source ---- */

static int forward_start(source_t *source, err_t *err) {
    forward_source_t *self = (forward_source_t *) source;
    const listener_setup_t setup = {
        .loop = self->setup.loop,
        .scheme = "forward",
        .connections = (unsigned) self->settings->connections,
        .idle = self->settings->idle,
        .memory = source_memory(self->setup.host) / 4,
        .tls_option = "--tls-cert and --tls-key",
        .opened = on_opened,
        .data = on_data,
        .closed = on_closed,
        .argument = self,
    };
    self->listener = listener_at(&setup, self->setup.rest, PORT, &self->settings->tls, err);
    return self->listener ? 0 : -1;
}

static void forward_pause(source_t *source) {
    listener_pause(((forward_source_t *) source)->listener);
}

static void forward_resume(source_t *source) {
    listener_resume(((forward_source_t *) source)->listener);
}

static void forward_position(const source_t *source, buf_t *out) {
    const forward_source_t *self = (const forward_source_t *) source;
    pack_map(out, 2);
    pack_text(out, "run");
    pack_uint(out, self->run);
    pack_text(out, "records");
    pack_uint(out, self->taken);
}

static void forward_acknowledge(source_t *source, const uint8_t *position, size_t size) {
    forward_source_t *self = (forward_source_t *) source;
    value_t run, records;
    if (pack_map_get(position, size, text_of("run"), &run) && run.unsigned_integer == self->run &&
        pack_map_get(position, size, text_of("records"), &records))
        settle(self, records.unsigned_integer);
}

static void forward_free(source_t *source) {
    forward_source_t *self = (forward_source_t *) source;
    listener_free(self->listener);
    while (self->first) {
        chunk_t *chunk = self->first;
        self->first = chunk->next;
        mem_free(chunk);
    }
    forward_chunk_free(self->unpacked);
    fields_fini(&self->fields);
    buf_fini(&self->tag);
    buf_fini(&self->out);
    mem_free(self);
}

static const source_class_t class = {
    .start = forward_start,
    .pause = forward_pause,
    .resume = forward_resume,
    .position = forward_position,
    .acknowledge = forward_acknowledge,
    .free = forward_free,
};

static int forward_check(const source_setup_t *setup, err_t *err) {
    const forward_settings_t *settings = setup->settings;
    address_t address;
    if (setup->format)
        return err_set(err, "--format is of no use with forward: its messages have a form of their own");
    if (settings->shared_key && !*settings->shared_key)
        return err_set(err, "--shared-key is empty");
    if (tls_files_check(&settings->tls, err))
        return -1;
    return address_check(&address, setup->url, setup->rest, PORT, false, err);
}

static int forward_open(source_t **source, const source_setup_t *setup, err_t *err) {
    forward_source_t *self = mem_zero(sizeof *self);
    self->source.class = &class;
    self->setup = *setup;
    self->settings = setup->settings;
    self->run = (uint64_t) clock_now();
    self->last = &self->first;
    self->last_waiting = &self->waiting;
    self->unpacked = forward_chunk_new((size_t) self->settings->chunk_limit, (size_t) setup->format_settings->record_limit + BESIDE);
    if (gethostname(self->hostname, sizeof self->hostname - 1))
        snprintf(self->hostname, sizeof self->hostname, "localhost");
    *source = &self->source;
    return 0;
}

static int forward_holds(const source_setup_t *setup, text_t name, text_t value) {
    return text_is(name, "text") ? 1 : -1; /* --max-record is for entries, too */
}

const source_driver_t source_forward = {
    .name = "forward",
    .schemes = {"forward"},
    .types = {{"forward"}},
    .usage = "forward://HOST:PORT",
    .help = "listens for Fluentd, Fluent Bit and others that speak their Forward protocol",
    .options = options,
    .settings_size = sizeof(forward_settings_t),
    .query = true,
    .check = forward_check,
    .formats = "",
    .holds = forward_holds,
    .open = forward_open,
};
