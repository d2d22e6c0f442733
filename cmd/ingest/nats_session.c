/* A session with a NATS server: the connection, its subscriptions, and with JetStream the requests for messages (CONSUMER.MSG.NEXT) and the
 * acknowledgements. It runs in the reader's thread; libnats calls the on_ functions from its own. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "nats_key.h"
#include "nats_private.h"
#include "nats_seen.h"

#define BATCH 4096                     /* messages asked for at once */
#define SHARED_BATCH 256               /* the same, of a consumer that others may ask as well: each request is served whole */
#define REQUEST_BYTES (4 * 1024 * 1024)
#define REQUEST_TIME (30 * NS_PER_S)   /* an unanswered request is made again */
#define HEARTBEAT (5 * NS_PER_S)       /* the server shows that it still knows our request */
#define SILENCE (3 * HEARTBEAT)
#define FLOOR_INTERVAL (1 * NS_PER_S)
#define ACKS_AT_ONCE 512
#define SUBJECT_ROOM 65536             /* of a message, beyond its payload */

typedef struct session session_t;

/* With JetStream there is one, for the answers to all requests: each has a thread of libnats, and two would mix up the order. */
typedef struct subscription {
    session_t *session;
    natsSubscription *handle;
    int64_t lost_before;               /* dropped by libnats, as counted before */
} subscription_t;

struct session {
    nats_reader_t *reader;
    natsOptions *options;
    natsConnection *connection;
    jsCtx *js;
    nats_stream_t stream;
    subscription_t *subscriptions;
    size_t count;
    natsInbox *inbox;                  /* where requests are answered to */
    char *next;                        /* the subject of requests */
    char *request;
    int64_t batch;
    bool unsure;                       /* libnats may still use this: it is not freed */
    int64_t progress_at, floor_at, drops_at;          /* monotonic ns: when that is due */

    /* under the reader's mutex */
    bool closed;                       /* libnats calls back for the connection no more */
    unsigned running;                  /* subscriptions that it may still call back for */
    int64_t asked;                     /* messages that were asked for and may still come */
    int64_t heard;                     /* monotonic ns: the last answer, or request */
};

/* What libnats calls. */

static void on_closed(natsConnection *connection, void *argument) {
    session_t *self = argument;
    const char *text = NULL;
    natsStatus status = natsConnection_GetLastError(connection, &text);
    char reason[400];
    if (text && *text)
        snprintf(reason, sizeof reason, "the connection was lost: %s", text);
    else
        snprintf(reason, sizeof reason, "the connection was lost%s%s", status == NATS_OK ? "" : ": ", status == NATS_OK ? "" : natsStatus_GetText(status));
    pthread_mutex_lock(&self->reader->mutex);
    self->closed = true;
    reader_lost(self->reader, reason);
    pthread_cond_broadcast(&self->reader->condition);
    pthread_mutex_unlock(&self->reader->mutex);
}

/* A subscription that is not allowed is told this way. Messages that libnats drops are counted elsewhere. */
static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status, void *argument) {
    session_t *self = argument;
    const char *text = NULL;
    char reason[400];
    if (status == NATS_SLOW_CONSUMER)
        return;
    natsConnection_GetLastError(connection, &text);
    snprintf(reason, sizeof reason, "the server says: %s%s", text && *text ? text : natsStatus_GetText(status),
             status == NATS_NOT_PERMITTED ? "; other credentials, or other permissions there" : "");
    pthread_mutex_lock(&self->reader->mutex);
    reader_lost(self->reader, reason);
    pthread_mutex_unlock(&self->reader->mutex);
}

static void on_complete(void *argument) {
    session_t *self = argument;
    pthread_mutex_lock(&self->reader->mutex);
    self->running--;
    pthread_cond_broadcast(&self->reader->condition);
    pthread_mutex_unlock(&self->reader->mutex);
}

static void on_message(natsConnection *connection, natsSubscription *handle, natsMsg *message, void *argument) {
    subscription_t *subscription = argument;
    nats_reader_t *reader = subscription->session->reader;
    pthread_mutex_lock(&reader->mutex);
    bool taken = reader_put(reader, message, NULL, 0);
    pthread_mutex_unlock(&reader->mutex);
    if (!taken)
        natsMsg_Destroy(message);
}

static const char *header(natsMsg *message, const char *name) {
    const char *text = NULL;
    return natsMsgHeader_Get(message, name, &text) == NATS_OK && text ? text : "";
}

/* Words about a request, instead of messages. An expired one, or one whose bytes are used up, tells how many messages of it will not come. */
static void read_status(session_t *self, natsMsg *message) {
    const char *status = header(message, "Status"), *words = header(message, "Description");
    char reason[400];
    int64_t left = self->asked;
    if (!*status || strcmp(status, "100") == 0)
        return;
    if (strcmp(status, "404") == 0 || strcmp(status, "408") == 0 || (strcmp(status, "409") == 0 && strstr(words, "Message Size Exceeds"))) {
        text_to_int(text_of(header(message, "Nats-Pending-Messages")), &left, NULL);
        self->asked = left >= 0 && left < self->asked ? self->asked - left : 0;
        return;
    }
    if (strcmp(status, "503") == 0 || strcasecmp(words, "Consumer Deleted") == 0)
        snprintf(reason, sizeof reason, "the consumer %s was deleted on the server", self->reader->setup.stream.consumer);
    else
        snprintf(reason, sizeof reason, "the server says: %s %s", status, words);
    reader_lost(self->reader, reason);
}

static bool should_ask(const session_t *self) {
    return self->asked <= self->batch / 2 && reader_has_room(self->reader);
}

static void on_answer(natsConnection *connection, natsSubscription *handle, natsMsg *message, void *argument) {
    subscription_t *subscription = argument;
    session_t *self = subscription->session;
    nats_reader_t *reader = self->reader;
    const char *reply = natsMsg_GetReply(message);
    nats_meta_t meta;
    bool is_message = nats_meta_read(&meta, reply), taken = false;
    pthread_mutex_lock(&reader->mutex);
    self->heard = clock_monotonic();
    if (is_message && self->asked > 0)
        self->asked--;
    if (!is_message)
        read_status(self, message);
    else if (!reader->lost)
        taken = reader_put(reader, message, reply, meta.sequence);
    if (should_ask(self))
        pthread_cond_broadcast(&reader->condition);
    pthread_mutex_unlock(&reader->mutex);
    if (!taken)
        natsMsg_Destroy(message);
}

/* Connecting. */

static int set_login(natsOptions *options, const nats_reader_setup_t *setup, err_t *err) {
    char key[NATS_PUBLIC_KEY_SIZE + 1];
    natsStatus status = NATS_OK;
    if (setup->nkey && nats_key_public(setup->nkey, key, err))
        return -1;
    if (setup->creds && access(setup->creds, R_OK) < 0)
        return err_errno(err, "--creds: read %s", setup->creds);
    if (setup->nkey)
        status = natsOptions_SetNKeyFromSeed(options, key, setup->nkey);
    else if (setup->creds)
        status = natsOptions_SetUserCredentialsFromFiles(options, setup->creds, NULL);
    else if (setup->token)
        status = natsOptions_SetToken(options, setup->token);
    else if (setup->user)
        status = natsOptions_SetUserInfo(options, setup->user, setup->password ? setup->password : "");
    return status == NATS_OK ? 0 : nats_failure(err, status, "prepare the login");
}

static int set_tls(natsOptions *options, const nats_reader_setup_t *setup, err_t *err) {
    natsStatus status = setup->tls ? natsOptions_SetSecure(options, true) : NATS_OK;
    if (status == NATS_OK && setup->tls_ca && (status = natsOptions_LoadCATrustedCertificates(options, setup->tls_ca)) != NATS_OK)
        return nats_failure(err, status, "read the certificates of --tls-ca");
    if (status == NATS_OK && setup->tls_cert && (status = natsOptions_LoadCertificatesChain(options, setup->tls_cert, setup->tls_key)) != NATS_OK)
        return nats_failure(err, status, "read --tls-cert and --tls-key");
    return status == NATS_OK ? 0 : nats_failure(err, status, "prepare TLS");
}

static natsStatus connect_watched(nats_reader_t *reader, natsConnection **connection, natsOptions *options) {
    pthread_mutex_lock(&reader->mutex);
    reader->connecting = true;
    pthread_mutex_unlock(&reader->mutex);
    natsStatus status = natsConnection_Connect(connection, options);
    pthread_mutex_lock(&reader->mutex);
    reader->connecting = false;
    if (status != NATS_OK && reader->cut)
        status = NATS_TIMEOUT;
    pthread_mutex_unlock(&reader->mutex);
    return status;
}

static int connect_to(session_t *self, err_t *err) {
    const nats_reader_setup_t *setup = &self->reader->setup;
    natsStatus status = natsOptions_Create(&self->options);
    if (status == NATS_OK)
        status = natsOptions_SetServers(self->options, (const char **) setup->servers, (int) setup->server_count);
    natsOptions *options = self->options;
    if (status == NATS_OK)
        status = natsOptions_SetName(options, setup->name);
    if (status == NATS_OK)
        status = natsOptions_SetTimeout(options, setup->timeout / NS_PER_MS);
    if (status == NATS_OK)
        status = natsOptions_SetAllowReconnect(options, false);
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(options, setup->keepalive / NS_PER_MS);
    if (status == NATS_OK)
        status = natsOptions_SetMaxPingsOut(options, 2);
    if (status == NATS_OK)
        status = natsOptions_SetWriteDeadline(options, setup->timeout / NS_PER_MS);
    if (status == NATS_OK)
        status = natsOptions_SetClosedCB(options, on_closed, self);
    if (status == NATS_OK)
        status = natsOptions_SetErrorHandler(options, on_error, self);
    if (status != NATS_OK)
        return nats_failure(err, status, "prepare a connection");
    if (set_tls(options, setup, err) || set_login(options, setup, err))
        return -1;
    status = connect_watched(self->reader, &self->connection, options);
    if (status != NATS_OK) {
        self->connection = NULL;
        return nats_failure(err, status, "connect");
    }
    return 0;
}

/* Subscriptions. */

static int subscribe(session_t *self, subscription_t *subscription, const char *subject, const char *queue, natsMsgHandler handler, err_t *err) {
    natsStatus status;
    subscription->session = self;
    pthread_mutex_lock(&self->reader->mutex);
    self->running++;
    pthread_mutex_unlock(&self->reader->mutex);
    if (queue)
        status = natsConnection_QueueSubscribe(&subscription->handle, self->connection, subject, queue, handler, subscription);
    else
        status = natsConnection_Subscribe(&subscription->handle, self->connection, subject, handler, subscription);
    if (status == NATS_OK)
        status = natsSubscription_SetOnCompleteCB(subscription->handle, on_complete, self);
    if (status == NATS_OK) {
        natsSubscription_SetPendingLimits(subscription->handle, 1 << 20, 64 << 20);
        return 0;
    }
    self->unsure |= subscription->handle != NULL; /* the connection was lost already: nobody will tell when its last call is over */
    on_complete(self);
    char *what = mem_format("subscribe to %s", subject);
    nats_failure(err, status, what);
    mem_free(what);
    return -1;
}

static int begin_plain(session_t *self, err_t *err) {
    const nats_reader_setup_t *setup = &self->reader->setup;
    self->subscriptions = mem_zero(setup->subject_count * sizeof *self->subscriptions);
    for (size_t i = 0; i < setup->subject_count; i++) {
        if (subscribe(self, &self->subscriptions[self->count++], setup->subjects[i], setup->queue, on_message, err))
            return -1;
    }
    natsStatus status = natsConnection_FlushTimeout(self->connection, setup->timeout / NS_PER_MS);
    return status == NATS_OK ? 0 : nats_failure(err, status, "subscribe");
}

static int64_t least(int64_t value, int64_t limit) {
    return limit > 0 && limit < value ? limit : value;
}

/* The bytes of a request have room for the largest message that the server takes: it would never be given otherwise. */
static void prepare_requests(session_t *self) {
    const nats_stream_setup_t *setup = &self->reader->setup.stream;
    int64_t expires = least(REQUEST_TIME, self->stream.expires_max), bytes = natsConnection_GetMaxPayload(self->connection) + SUBJECT_ROOM;
    bytes = least(bytes > REQUEST_BYTES ? bytes : REQUEST_BYTES, self->stream.bytes_max);
    self->batch = least(least(self->stream.alone ? BATCH : SHARED_BATCH, setup->unacknowledged), self->stream.batch_max);
    int64_t heartbeat = expires / 2 < HEARTBEAT ? expires / 2 : HEARTBEAT;
    self->request = mem_format("{\"batch\":%lld,\"max_bytes\":%lld,\"expires\":%lld,\"idle_heartbeat\":%lld}", (long long) self->batch, (long long) bytes,
                               (long long) expires, (long long) heartbeat);
    self->next = mem_format("$JS%s%s.API.CONSUMER.MSG.NEXT.%s.%s", setup->domain ? "." : "", setup->domain ? setup->domain : "", setup->stream, setup->consumer);
}

static int begin_stream(session_t *self, const nats_place_t *place, err_t *err) {
    const nats_stream_setup_t *setup = &self->reader->setup.stream;
    jsOptions options;
    jsOptions_Init(&options);
    options.Domain = setup->domain;
    options.Wait = setup->timeout / NS_PER_MS;
    natsStatus status = natsConnection_JetStream(&self->js, self->connection, &options);
    if (status != NATS_OK)
        return nats_failure(err, status, "begin with JetStream");
    if (nats_stream_open(&self->stream, self->js, setup, place->floor, place->tail, place->created, err))
        return -1;
    prepare_requests(self);
    status = natsInbox_Create(&self->inbox);
    if (status != NATS_OK)
        return nats_failure(err, status, "prepare requests");
    self->subscriptions = mem_zero(sizeof *self->subscriptions);
    self->count = 1;
    return subscribe(self, self->subscriptions, self->inbox, NULL, on_answer, err);
}

/* The work, with the mutex held but for the calls of libnats. */

static void publish(session_t *self, const char *subject, const char *text) {
    natsStatus status = natsConnection_PublishString(self->connection, subject, text);
    if (status == NATS_OK)
        return;
    pthread_mutex_lock(&self->reader->mutex);
    reader_lost(self->reader, natsStatus_GetText(status));
    pthread_mutex_unlock(&self->reader->mutex);
}

/* One for all, or each. */
static void acknowledge(session_t *self) {
    nats_reader_t *reader = self->reader;
    nats_acks_t *acks = &reader->acks;
    char *replies[ACKS_AT_ONCE];
    size_t count = 0, n = 0;
    ssize_t last = -1;
    for (; count < ACKS_AT_ONCE && count < acks->count && acks->ring[(acks->first + count) % acks->capacity].ordinal <= reader->durable; count++) {
        const nats_ack_t *ack = &acks->ring[(acks->first + count) % acks->capacity];
        if (ack->sequence <= reader->durable_floor)
            last = (ssize_t) count;
        replies[n++] = ack->reply;
    }
    if (count) {
        acks->first = (acks->first + count) % acks->capacity;
        acks->count -= count;
    }
    pthread_mutex_unlock(&reader->mutex);
    for (size_t i = 0; i < n; i++) {
        if (!reader->setup.stream.trial && (!self->stream.ack_all || (ssize_t) i == last))
            publish(self, replies[i], "+ACK");
        mem_free(replies[i]);
    }
    pthread_mutex_lock(&reader->mutex);
}

/* The server is to have patience with messages that have waited for half of its patience. */
static void ask_for_patience(session_t *self, int64_t now) {
    nats_reader_t *reader = self->reader;
    nats_acks_t *acks = &reader->acks;
    char **replies = mem_zero((acks->count + 1) * sizeof *replies);
    size_t n = 0;
    for (size_t i = 0; i < acks->count; i++) {
        nats_ack_t *ack = &acks->ring[(acks->first + i) % acks->capacity];
        if (now - ack->touched < self->stream.ack_wait / 2)
            continue;
        ack->touched = now;
        replies[n++] = ack->reply; /* freed by nobody but us while the session lasts */
    }
    pthread_mutex_unlock(&reader->mutex);
    for (size_t i = 0; i < n; i++)
        publish(self, replies[i], "+WPI");
    mem_free(replies);
    pthread_mutex_lock(&reader->mutex);
}

static void ask_for_messages(session_t *self) {
    nats_reader_t *reader = self->reader;
    if (reader->lost || !should_ask(self))
        return;
    self->asked += self->batch;
    self->heard = clock_monotonic();
    pthread_mutex_unlock(&reader->mutex);
    natsStatus status = natsConnection_PublishRequestString(self->connection, self->next, self->inbox, self->request);
    pthread_mutex_lock(&reader->mutex);
    if (status != NATS_OK)
        reader_lost(reader, natsStatus_GetText(status));
}

/* The consumer is looked at: because the loop wants to know what is acknowledged, or as the server has fallen silent. */
static void look_at_consumer(session_t *self, bool silent) {
    nats_reader_t *reader = self->reader;
    uint64_t floor = 0;
    err_t err = {0};
    pthread_mutex_unlock(&reader->mutex);
    int result = nats_stream_acknowledged(self->js, &reader->setup.stream, &floor, &err);
    pthread_mutex_lock(&reader->mutex);
    if (result)
        reader_lost(reader, err.text);
    else if (silent)
        reader_lost(reader, "the server no longer answers a request for messages");
    else if (floor)
        reader_tell_floor(reader, floor);
}

static int64_t sooner(int64_t a, int64_t b) {
    return a && a < b ? a : b;
}

static int64_t next_time(const session_t *self) {
    int64_t until = sooner(self->asked > 0 ? self->heard + SILENCE + NS_PER_MS : 0, self->progress_at);
    return sooner(self->reader->want_floor ? self->floor_at : 0, until);
}

static void work_stream(session_t *self) {
    nats_reader_t *reader = self->reader;
    self->floor_at = clock_monotonic();
    while (!reader->stop && !reader->lost) {
        acknowledge(self);
        ask_for_messages(self);
        int64_t now = clock_monotonic();
        if (now >= self->progress_at) {
            self->progress_at = now + self->stream.ack_wait / 4;
            ask_for_patience(self, now);
        }
        if (reader->want_floor && now >= self->floor_at) {
            look_at_consumer(self, false);
            self->floor_at = clock_monotonic() + FLOOR_INTERVAL;
        }
        if (self->asked > 0 && now - self->heard > SILENCE)
            look_at_consumer(self, true);
        if (!reader->stop && !reader->lost && !reader_has_acks(reader) && !should_ask(self))
            reader_wait(reader, next_time(self));
    }
}

/* What libnats itself had no room for. */
static void count_drops(session_t *self) {
    for (size_t i = 0; i < self->count; i++) {
        int64_t dropped = 0;
        if (natsSubscription_GetDropped(self->subscriptions[i].handle, &dropped) == NATS_OK && dropped > self->subscriptions[i].lost_before) {
            reader_tell_dropped(self->reader, (uint64_t) (dropped - self->subscriptions[i].lost_before));
            self->subscriptions[i].lost_before = dropped;
        }
    }
}

static void work_plain(session_t *self) {
    nats_reader_t *reader = self->reader;
    while (!reader->stop && !reader->lost) {
        reader_wait(reader, clock_monotonic() + NS_PER_S);
        count_drops(self);
    }
}

/* The end. */

static void end(session_t *self) {
    nats_reader_t *reader = self->reader;
    pthread_mutex_lock(&reader->mutex);
    bool stop = reader->stop && !reader->lost;
    while (stop && self->js && reader_has_acks(reader))
        acknowledge(self);
    pthread_mutex_unlock(&reader->mutex);
    for (size_t i = 0; i < self->count; i++)
        natsSubscription_Destroy(self->subscriptions[i].handle);
    if (stop && self->js) {
        nats_stream_close(self->js, &reader->setup.stream);
        natsConnection_FlushTimeout(self->connection, 1000);
    }
    jsCtx_Destroy(self->js);
    if (self->connection)
        natsConnection_Close(self->connection);
    pthread_mutex_lock(&reader->mutex);
    while ((self->connection && !self->closed) || self->running)
        reader_wait(reader, 0);
    pthread_mutex_unlock(&reader->mutex);
    natsConnection_Destroy(self->connection);
    natsOptions_Destroy(self->options);
    natsInbox_Destroy(self->inbox);
    mem_free(self->next);
    mem_free(self->request);
    if (self->unsure)
        return;
    mem_free(self->subscriptions);
    mem_free(self);
}

int session_run(nats_reader_t *reader, const nats_place_t *place, err_t *err) {
    session_t *self = mem_zero(sizeof *self);
    self->reader = reader;
    bool jetstream = reader->setup.stream.stream;
    int result = connect_to(self, err);
    if (!result)
        result = jetstream ? begin_stream(self, place, err) : begin_plain(self, err);
    pthread_mutex_lock(&reader->mutex);
    if (!result) {
        reader_tell_up(reader, &self->stream);
        if (jetstream)
            work_stream(self);
        else
            work_plain(self);
        err_set(err, "%s", reader->stop ? "" : reader->lost_reason);
    }
    pthread_mutex_unlock(&reader->mutex);
    end(self);
    return result;
}
