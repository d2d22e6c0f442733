/* The JetStream side of the source "nats": which stream and consumer messages come from, and from where on. A consumer of our own stands behind what
 * was taken: where it has given more than that (we were killed, or a connection was lost), it is made again there, so that messages
 * come in the stream's order. */
#include "nats_stream.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

#define PASSING_TIME (60 * NS_PER_S)   /* the server forgets a passing consumer that long after we are gone */

typedef struct place {
    uint64_t floor;
    bool first;                    /* nothing is known of this stream yet: the user says where to start */
} place_t;

/* libnats puts its own file and line before what it has to say. */
static const char *library_words(natsStatus status) {
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last), *behind = text ? strstr(text, "): ") : NULL;
    if (!text || !*text || last != status)
        return natsStatus_GetText(status);
    return text[0] == '(' && behind ? behind + 3 : text;
}

int nats_failure(err_t *err, natsStatus status, const char *what) {
    const char *words = library_words(status);
    switch (status) {
    case NATS_CONNECTION_AUTH_FAILED:
        return err_set(err, "%s: the server refuses the credentials (--user and --password, --token, --nkey, --creds)", what);
    case NATS_SECURE_CONNECTION_WANTED:
        return err_set(err, "%s: the server has no TLS: nats:// is for that", what);
    case NATS_SECURE_CONNECTION_REQUIRED:
        return err_set(err, "%s: the server wants TLS: nats+tls:// is for that", what);
    case NATS_SSL_ERROR:
        return err_set(err, "%s: %s%s", what, words, strstr(words, "issuer") || strstr(words, "self-signed") ? " (nats+tls:// and --tls-ca say whom to trust)" : "");
    case NATS_NO_SERVER:
        return err_set(err, "%s: no server answers there", what);
    case NATS_TIMEOUT:
        return err_set(err, "%s: the server does not answer in the time that --connect-timeout allows", what);
    case NATS_NO_RESPONDERS:
        return err_set(err, "%s: the server has no JetStream for us: it needs -js or jetstream {} in its configuration, and the account must be allowed it", what);
    default:
        return err_set(err, "%s: %s", what, words);
    }
}

static int stream_failure(err_t *err, natsStatus status, jsErrCode code, const nats_stream_setup_t *setup) {
    if (code == JSStreamNotFoundErr)
        return err_set(err, "there is no stream %s: make it (nats stream add), or correct --jetstream", setup->stream);
    if (code == JSNotEnabledErr || code == JSNotEnabledForAccountErr)
        status = NATS_NO_RESPONDERS;
    char *what = mem_format("look up the stream %s", setup->stream);
    nats_failure(err, status, what);
    mem_free(what);
    return -1;
}

static int consumer_failure(err_t *err, natsStatus status, jsErrCode code, const nats_stream_setup_t *setup, const char *verb) {
    if (code == JSConsumerWQMultipleUnfilteredErr || code == JSConsumerWQConsumerNotUniqueErr)
        return err_set(err, "the stream %s is a work queue, which gives a message to one consumer only, and has another one: %s", setup->stream,
                       setup->trial ? "no sample can be taken beside it" : "name that by --consumer, or take other subjects");
    if (code == JSConsumerFilterNotSubsetErr)
        return err_set(err, "the stream %s does not have the subject %s", setup->stream, setup->subject);
    if (code == JSStreamNotFoundErr)
        return stream_failure(err, status, code, setup);
    char *what = mem_format("%s the consumer %s of the stream %s", verb, setup->consumer, setup->stream);
    nats_failure(err, status, what);
    mem_free(what);
    return -1;
}

static const char *filter_of(const jsConsumerInfo *consumer) {
    return consumer->Config && consumer->Config->FilterSubject ? consumer->Config->FilterSubject : "";
}

/* A work queue gives what it has, and takes no other start. */
static void set_start(jsConsumerConfig *config, const nats_stream_setup_t *setup, jsRetentionPolicy retention, place_t place) {
    if (retention == js_WorkQueuePolicy || (!place.first && !place.floor))
        return;
    if (!place.first) {
        config->DeliverPolicy = js_DeliverByStartSequence;
        config->OptStartSeq = place.floor + 1;
        return;
    }
    config->DeliverPolicy = (jsDeliverPolicy) setup->start;
    config->OptStartSeq = setup->start_sequence;
    config->OptStartTime = setup->start_time;
}

static int make_consumer(jsConsumerInfo **consumer, jsCtx *js, const nats_stream_setup_t *setup, jsRetentionPolicy retention, place_t place, err_t *err) {
    jsConsumerConfig config;
    jsErrCode code = 0;
    jsConsumerConfig_Init(&config);
    if (setup->passing) {
        config.Name = setup->consumer;
        config.InactiveThreshold = PASSING_TIME;
    } else {
        config.Durable = setup->consumer;
    }
    config.Description = "ingest";
    /* In the stream's order one acknowledgement may stand for all before it. */
    config.AckPolicy = setup->own && !setup->trial && retention == js_LimitsPolicy ? js_AckAll : js_AckExplicit;
    config.AckWait = setup->ack_wait;
    config.MaxAckPending = setup->unacknowledged;
    config.FilterSubject = setup->subject;
    set_start(&config, setup, retention, place);
    natsStatus status = js_AddConsumer(consumer, js, setup->stream, &config, NULL, &code);
    return status == NATS_OK ? 0 : consumer_failure(err, status, code, setup, "make");
}

static int remove_consumer(jsCtx *js, const nats_stream_setup_t *setup, err_t *err) {
    jsErrCode code = 0;
    natsStatus status = js_DeleteConsumer(js, setup->stream, setup->consumer, NULL, &code);
    return status == NATS_OK || code == JSConsumerNotFoundErr ? 0 : consumer_failure(err, status, code, setup, "remove");
}

/* A consumer that others may use as well is taken as it is. */
static int check_foreign(const jsConsumerInfo *consumer, const nats_stream_setup_t *setup, err_t *err) {
    const jsConsumerConfig *config = consumer->Config;
    if (config->DeliverSubject && *config->DeliverSubject)
        return err_set(err, "the consumer %s of the stream %s is one that the server pushes from: --consumer takes a pull consumer", setup->consumer,
                       setup->stream);
    if (config->AckPolicy == js_AckNone)
        return err_set(err, "the consumer %s of the stream %s takes no acknowledgements, so what is under way would be lost: its ack policy must be explicit or all",
                       setup->consumer, setup->stream);
    if (setup->subject && strcmp(setup->subject, filter_of(consumer)) != 0)
        return err_set(err, "the consumer %s of the stream %s is there already, for the subject %s: name that one or none", setup->consumer, setup->stream,
                       *filter_of(consumer) ? filter_of(consumer) : ">");
    return 0;
}

/* What all acknowledged is. */
static uint64_t raise_floor(uint64_t floor, const jsConsumerInfo *consumer) {
    if (consumer->AckFloor.Stream > floor)
        floor = consumer->AckFloor.Stream;
    if (consumer->NumAckPending == 0 && consumer->Delivered.Stream > floor)
        floor = consumer->Delivered.Stream;
    return floor;
}

static bool is_as_wanted(const jsConsumerInfo *consumer, const nats_stream_setup_t *setup, jsRetentionPolicy retention) {
    const jsConsumerConfig *config = consumer->Config;
    return strcmp(filter_of(consumer), setup->subject ? setup->subject : "") == 0 && config->AckWait == setup->ack_wait &&
           config->MaxAckPending == setup->unacknowledged && (!config->DeliverSubject || !*config->DeliverSubject) &&
           (config->AckPolicy == js_AckExplicit || (config->AckPolicy == js_AckAll && retention == js_LimitsPolicy));
}

/* Our own: kept when it stands where we do. In a stream that keeps messages only for those who want them it cannot be taken away meanwhile. */
static int open_own(jsConsumerInfo **consumer, jsCtx *js, const nats_stream_setup_t *setup, jsRetentionPolicy retention, place_t *place, bool moved, err_t *err) {
    bool fits = is_as_wanted(*consumer, setup, retention);
    if (!moved)
        place->floor = raise_floor(place->floor, *consumer);
    if (retention == js_InterestPolicy && !fits)
        return err_set(err, "the consumer %s of the stream %s has other settings (subject, --ack-wait, --unacknowledged), and removing it would lose what waits there: "
                       "remove it by hand (nats consumer rm), or go back to those", setup->consumer, setup->stream);
    if ((fits && !moved && (*consumer)->Delivered.Stream <= place->floor) || retention == js_InterestPolicy)
        return 0;
    jsConsumerInfo_Destroy(*consumer);
    *consumer = NULL;
    place->first = false;
    return remove_consumer(js, setup, err) || make_consumer(consumer, js, setup, retention, *place, err) ? -1 : 0;
}

static int open_consumer(jsConsumerInfo **consumer, jsCtx *js, const nats_stream_setup_t *setup, jsRetentionPolicy retention, place_t *place, bool moved,
                         bool known, err_t *note, err_t *err) {
    jsErrCode code = 0;
    natsStatus status = js_GetConsumerInfo(consumer, js, setup->stream, setup->consumer, NULL, &code);
    if (status == NATS_OK && setup->own)
        return open_own(consumer, js, setup, retention, place, moved, err);
    if (status == NATS_OK) {
        if (check_foreign(*consumer, setup, err))
            return -1;
        place->floor = raise_floor(place->floor, *consumer);
        return 0;
    }
    if (code != JSConsumerNotFoundErr)
        return consumer_failure(err, status, code, setup, "look up");
    if (!setup->own && known)
        return err_set(err, "the consumer %s of the stream %s is gone: make it again (nats consumer add), or leave --consumer out, and ingest keeps one of its own",
                       setup->consumer, setup->stream);
    if (known && !setup->passing)
        err_set(note, "the consumer %s of the stream %s is gone: it is made again, for messages behind %llu", setup->consumer, setup->stream,
                (unsigned long long) place->floor);
    return make_consumer(consumer, js, setup, retention, *place, err);
}

/* Sequence numbers tell messages apart only in one and the same stream. */
static bool is_other_stream(const jsStreamInfo *stream, const nats_stream_setup_t *setup, uint64_t *floor, uint64_t tail, int64_t created, err_t *note) {
    if (!created)
        return false;
    if (stream->Created != created) {
        err_set(note, "the stream %s was made anew since the last connection: it is read from its beginning", setup->stream);
        *floor = 0;
        return true;
    }
    if (stream->State.LastSeq >= tail)
        return false;
    err_set(note, "the stream %s ends at message %llu, and had %llu already: the server has lost what was behind", setup->stream,
            (unsigned long long) stream->State.LastSeq, (unsigned long long) tail);
    if (*floor > stream->State.LastSeq)
        *floor = stream->State.LastSeq;
    return true;
}

int nats_stream_open(nats_stream_t *found, jsCtx *js, const nats_stream_setup_t *setup, uint64_t floor, uint64_t tail, int64_t created, err_t *err) {
    jsStreamInfo *stream = NULL;
    jsConsumerInfo *consumer = NULL;
    jsErrCode code = 0;
    err_t note = {0};
    natsStatus status = js_GetStreamInfo(&stream, js, setup->stream, NULL, &code);
    if (status != NATS_OK)
        return stream_failure(err, status, code, setup);
    bool moved = is_other_stream(stream, setup, &floor, tail, created, &note);
    place_t place = {.floor = floor, .first = !floor && !moved};
    bool known = created && stream->Created == created;
    int result = open_consumer(&consumer, js, setup, stream->Config->Retention, &place, moved, known, &note, err);
    if (!result) {
        const jsConsumerConfig *config = consumer->Config;
        *found = (nats_stream_t){
            .created = stream->Created,
            .floor = raise_floor(place.floor, consumer),
            .note = note,
            .moved = moved,
            .alone = setup->own,
            .ack_all = config->AckPolicy == js_AckAll,
            .delivered = consumer->Delivered.Stream,
            .consumer_delivered = consumer->Delivered.Consumer,
            .ack_wait = config->AckWait > 0 ? config->AckWait : setup->ack_wait,
            .batch_max = config->MaxRequestBatch,
            .bytes_max = config->MaxRequestMaxBytes,
            .expires_max = config->MaxRequestExpires,
        };
    }
    jsConsumerInfo_Destroy(consumer);
    jsStreamInfo_Destroy(stream);
    return result;
}

int nats_stream_acknowledged(jsCtx *js, const nats_stream_setup_t *setup, uint64_t *floor, err_t *err) {
    jsConsumerInfo *consumer = NULL;
    jsErrCode code = 0;
    natsStatus status = js_GetConsumerInfo(&consumer, js, setup->stream, setup->consumer, NULL, &code);
    if (code == JSConsumerNotFoundErr)
        return err_set(err, "the consumer %s of the stream %s was deleted", setup->consumer, setup->stream);
    if (status != NATS_OK)
        return consumer_failure(err, status, code, setup, "look up");
    *floor = raise_floor(0, consumer);
    jsConsumerInfo_Destroy(consumer);
    return 0;
}

void nats_stream_close(jsCtx *js, const nats_stream_setup_t *setup) {
    if (setup->passing)
        remove_consumer(js, setup, NULL);
}
