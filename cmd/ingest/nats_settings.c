/* Options of the source "nats": the table, and what can be told wrong before anything starts. */
#include "nats_settings.h"

#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tag.h"

#define NAME_MAX_SIZE 200

#define AT(field) offsetof(nats_settings_t, field)
const option_t nats_options[] = {
    {"subject", OPTION_LIST, AT(subjects), NULL, "SUBJECT", "a subject besides the URL's; * and > stand for one and all further tokens"},
    {"jetstream", OPTION_TEXT, AT(stream), NULL, "NAME", "take messages from this stream of JetStream: acknowledged, none lost; without it what is published meanwhile"},
    {"consumer", OPTION_TEXT, AT(consumer), NULL, "NAME", "a consumer of the stream that others may use as well; default: one of our own", .needs = "jetstream"},
    {"start", OPTION_TEXT, AT(start), "all", "all|new|last|NUMBER|TIME", "the stream's first message that a new consumer gives: a sequence number, or a time", .needs = "jetstream"},
    {"domain", OPTION_TEXT, AT(domain), NULL, "NAME", "domain of JetStream", .needs = "jetstream"},
    {"ack-wait", OPTION_DURATION, AT(ack_wait), "30s", "DURATION", "the server gives a message again when it has not heard of it for so long", NS_PER_S, 86400 * NS_PER_S, .needs = "jetstream"},
    {"unacknowledged", OPTION_INT, AT(unacknowledged), "16384", "N", "messages under way at most, for a new consumer", 1, 1000000, .needs = "jetstream"},
    {"queue", OPTION_TEXT, AT(queue), NULL, "GROUP", "without --jetstream: share the messages with the others of this group", .needs = "!jetstream"},
    {"subject-field", OPTION_TEXT, AT(subject_field), NULL, "NAME", "the field that gets the message's subject"},
    {"subject-fields", OPTION_TEXT, AT(subject_fields), NULL, "NAME,...", "fields that get the subject's tokens, from the first on; - for none"},
    {"header-field", OPTION_TEXT, AT(header_field), NULL, "NAME", "the field that gets the message's headers, as a map"},
    {"sequence-field", OPTION_TEXT, AT(sequence_field), NULL, "NAME", "the field that gets the message's sequence number in the stream", .needs = "jetstream"},
    {"message-time", OPTION_BOOL, AT(message_time), "yes", NULL, "with --jetstream and without --time: an event's time is when the stream took the message", .needs = "jetstream"},
    {"server", OPTION_LIST, AT(servers), NULL, "HOST:PORT", "another server of the same cluster, to be tried when the URL's does not answer"},
    {"user", OPTION_TEXT, AT(user), NULL, "NAME", "user name, instead of the URL's"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings than on the command line", .needs = "user or @login:a user in the URL"},
    {"token", OPTION_SECRET, AT(token), NULL, "SECRET", "token, instead of user and password"},
    {"nkey", OPTION_TEXT, AT(nkey), NULL, "FILE", "file with the seed of an NKey, to log in with that"},
    {"creds", OPTION_TEXT, AT(creds), NULL, "FILE", "credentials file (JWT and seed), to log in with that"},
    {"keepalive", OPTION_DURATION, AT(keepalive), "20s", "DURATION", "interval at which the connection is tested", 100 * NS_PER_MS, 3600 * NS_PER_S},
    {"connect-timeout", OPTION_DURATION, AT(connect_timeout), "5s", "DURATION", "for connecting, and for each answer of the server", 10 * NS_PER_MS, 3600 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait after a first failure; doubled with each further one", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts", NS_PER_MS, 86400 * NS_PER_S},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust instead of the system's", .needs = "@tls:nats+tls://", .readable = true},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for servers that want one", .needs = "@tls:nats+tls://, tls-key", .readable = true},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key", .needs = "@tls:nats+tls://, tls-cert", .readable = true},
    {0},
};

int nats_url_read(server_url_t *url, const source_setup_t *setup, err_t *err) {
    url->tls = strncasecmp(setup->url, "nats:", 5) != 0;
    return server_url_read(url, setup->rest, 4222, "an address of NATS looks like nats://host:4222/subject.>", err);
}

static int wrong(err_t *err, const char *what, const char *text, const char *why) {
    buf_t shown = {0};
    text_put_quoted(&shown, text_of(text), 80);
    err_set(err, "%s %s: %s", what, buf_text(&shown), why);
    buf_fini(&shown);
    return -1;
}

/* As the documentation of NATS has it ("Subject-Based Messaging"). */
static int check_subject(const char *subject, err_t *err) {
    text_t rest = text_of(subject), token;
    if (rest.size > 4096 || text_utf8_valid(subject, rest.size) != rest.size)
        return wrong(err, "subject", subject, "takes up to 4096 bytes of UTF-8");
    for (const char *at = subject; *at; at++) {
        if ((unsigned char) *at <= ' ' || *at == 127)
            return wrong(err, "subject", subject, "has no blanks");
    }
    do {
        if (!text_split(&rest, '.', &token) || !token.size)
            return wrong(err, "subject", subject, "has an empty token between its dots");
        if (text_is(token, ">") && rest.data)
            return wrong(err, "subject", subject, "> stands for all further tokens: last");
    } while (rest.data);
    return 0;
}

/* Names of streams, consumers and domains become tokens of subjects. */
static int check_name(const char *option, const char *name, err_t *err) {
    if (!name)
        return 0;
    if (!*name || strlen(name) > NAME_MAX_SIZE || strpbrk(name, ".*>/\\ \t\r\n"))
        return wrong(err, option, name, "is a name without blanks and . * > / \\, of up to 200 bytes");
    return 0;
}

static bool read_start(const char *text, jsDeliverPolicy *policy, uint64_t *sequence, int64_t *time) {
    static const struct { const char *word; jsDeliverPolicy policy; } words[] = {
        {"all", js_DeliverAll}, {"new", js_DeliverNew}, {"last", js_DeliverLast}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i].word) == 0) {
            *policy = words[i].policy;
            return true;
        }
    }
    *policy = js_DeliverByStartSequence;
    if (text_to_uint(text_of(text), sequence, NULL) == 0)
        return *sequence > 0 && *sequence < (uint64_t) INT64_MAX;
    *policy = js_DeliverByStartTime;
    return clock_parse(text_of(text), time);
}

void nats_start_read(nats_stream_setup_t *stream, const char *text) {
    jsDeliverPolicy policy = js_DeliverAll;
    read_start(text, &policy, &stream->start_sequence, &stream->start_time);
    stream->start = policy;
}

const char **nats_subjects(const nats_settings_t *settings, const server_url_t *url, size_t *count) {
    const char **subjects = mem_zero((settings->subjects.count + 1) * sizeof *subjects);
    *count = 0;
    for (size_t i = 0; i < settings->subjects.count + 1; i++) {
        const char *subject = i ? settings->subjects.items[i - 1] : url->path;
        bool twice = !*subject;
        for (size_t j = 0; j < *count; j++)
            twice |= strcmp(subjects[j], subject) == 0;
        if (!twice)
            subjects[(*count)++] = subject;
    }
    return subjects;
}

static int check_subjects(const nats_settings_t *settings, const server_url_t *url, err_t *err) {
    size_t count;
    const char **subjects = nats_subjects(settings, url, &count);
    int result = 0;
    for (size_t i = 0; i < count && !result; i++)
        result = check_subject(subjects[i], err);
    if (!result && !count && !settings->stream)
        result = err_set(err, "which subject? nats://host/subject.> or --subject SUBJECT; > is all. For a stream of JetStream: --jetstream NAME");
    if (!result && count > 1 && settings->stream)
        result = err_set(err, "with --jetstream there is one subject at most: one with * or >, or a source for each");
    mem_free(subjects);
    return result;
}

static int check_kind(const nats_settings_t *settings, err_t *err) {
    jsDeliverPolicy policy;
    uint64_t sequence;
    int64_t time;
    if (settings->queue && (!*settings->queue || strpbrk(settings->queue, " \t\r\n")))
        return wrong(err, "--queue", settings->queue, "is a name without blanks");
    if (!read_start(settings->start, &policy, &sequence, &time))
        return wrong(err, "--start", settings->start, "takes all, new, last, a sequence number from 1, or a time like 2026-01-02T03:04:05Z");
    return check_name("--jetstream", settings->stream, err) || check_name("--consumer", settings->consumer, err) ||
           check_name("--domain", settings->domain, err) ? -1 : 0;
}

static int check_login(const nats_settings_t *settings, const server_url_t *url, err_t *err) {
    bool user = settings->user || url->user;
    int ways = (user ? 1 : 0) + (settings->token ? 1 : 0) + (settings->nkey ? 1 : 0) + (settings->creds ? 1 : 0);
    if (ways > 1)
        return err_set(err, "one way to log in: --user and --password, --token, --nkey or --creds");
    return 0;
}

static int check_fields(const nats_settings_t *settings, err_t *err) {
    buf_t seen = {0};
    int result = tag_check_parts(settings->subject_fields, "subject-fields", &seen, err) || tag_check_name(settings->subject_field, "subject-field", &seen, err) ||
                 tag_check_name(settings->header_field, "header-field", &seen, err) || tag_check_name(settings->sequence_field, "sequence-field", &seen, err) ? -1 : 0;
    buf_fini(&seen);
    return result;
}

static int check_servers(const nats_settings_t *settings, err_t *err) {
    for (size_t i = 0; i < settings->servers.count; i++) {
        server_url_t url = {0};
        char *rest = mem_format("//%s", settings->servers.items[i]);
        int result = server_url_read(&url, rest, 4222, "--server looks like HOST:PORT", err);
        if (!result && (url.user || *url.path))
            result = err_set(err, "--server looks like HOST:PORT, and has neither a user nor a subject");
        server_url_fini(&url);
        mem_free(rest);
        if (result)
            return -1;
    }
    return 0;
}

int nats_settings_check(const source_setup_t *setup, err_t *err) {
    const nats_settings_t *settings = setup->settings;
    server_url_t url = {0};
    if (nats_url_read(&url, setup, err))
        return -1;
    int result = check_kind(settings, err) || check_subjects(settings, &url, err) || check_login(settings, &url, err) || check_fields(settings, err) ||
                 check_servers(settings, err) ? -1 : 0;
    if (!result && settings->retry_max < settings->retry_min)
        result = err_set(err, "--retry-max is below --retry-min");
    server_url_fini(&url);
    return result;
}
