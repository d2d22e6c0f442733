/* The settings of librdkafka that our options stand for. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "kafka.h"

#define MESSAGE_COST 640               /* bytes, beside what is in it */

static int set(kafka_source_t *self, rd_kafka_conf_t *conf, const char *name, const char *value, err_t *err) {
    char why[512];
    buf_t words = {0};
    if (!value || rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return 0;
    secrets_put_masked(&self->secrets, &words, text_of(why), 300);
    if (secret_name(text_of(name)))
        err_set(err, "%s: this value is not taken", name);
    else
        err_set(err, "%s: %s", name, buf_text(&words));
    buf_fini(&words);
    return -1;
}

static int set_ms(kafka_source_t *self, rd_kafka_conf_t *conf, const char *name, int64_t ns, int64_t least, err_t *err) {
    char text[24];
    int64_t ms = ns / NS_PER_MS;
    snprintf(text, sizeof text, "%lld", (long long) (ms < least ? least : ms));
    return set(self, conf, name, text, err);
}

static int set_number(kafka_source_t *self, rd_kafka_conf_t *conf, const char *name, uint64_t number, uint64_t most, err_t *err) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long) (number < most ? number : most));
    return set(self, conf, name, text, err);
}

/* What librdkafka fetches ahead stays within --memory: a quarter of it waits, of small messages as many as cost all of it; and half as much comes in one
 * answer of a broker, which may be more when a single batch is. Not fewer: librdkafka may sleep for a second when it has enough. */
static int set_room(kafka_source_t *self, rd_kafka_conf_t *conf, err_t *err) {
    uint64_t memory = source_memory(self->setup.host), room = memory / 4;
    return set_number(self, conf, "queued.max.messages.kbytes", room / 1024 + 1, 2097151, err) ||
                   set_number(self, conf, "queued.min.messages", memory / MESSAGE_COST + 1, 100000, err) ||
                   set_number(self, conf, "fetch.max.bytes", room / 2, 52428800, err)
               ? -1
               : 0;
}

static int set_more(kafka_source_t *self, rd_kafka_conf_t *conf, err_t *err) {
    const option_list_t *list = &self->settings->set;
    int result = 0;
    for (size_t i = 0; i < list->count && !result; i++) {
        const char *equals = strchr(list->items[i], '=');
        char *name = equals ? mem_text_n(list->items[i], (size_t) (equals - list->items[i])) : NULL;
        if (!name)
            result = err_set(err, "--set takes NAME=VALUE, as librdkafka has them");
        else if (strcmp(name, "group.id") == 0 || strcmp(name, "enable.auto.commit") == 0 || strcmp(name, "bootstrap.servers") == 0)
            result = err_set(err, "--set %s: that is for %s to say", name, strcmp(name, "group.id") == 0 ? "--group" : "ingest");
        else
            result = set(self, conf, name, equals + 1, err);
        mem_free(name);
    }
    return result;
}

static int set_all(kafka_source_t *self, rd_kafka_conf_t *conf, err_t *err) {
    const kafka_settings_t *settings = self->settings;
    const char *user = settings->user ? settings->user : self->url.user, *password = settings->password ? settings->password : self->url.password;
    bool tls = settings->tls || settings->tls_ca || settings->tls_cert;
    const char *const words[][2] = {
        {"bootstrap.servers", self->servers},
        {"client.id", "ingest"},
        {"group.id", self->grouped ? settings->group : "ingest"}, /* without a group it is never told to anyone */
        {"group.instance.id", self->grouped ? self->consumer : NULL},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", settings->begin == KAFKA_NEW ? "latest" : "earliest"},
        {"allow.auto.create.topics", "false"},
        {"log.queue", "true"},
        {"security.protocol", user ? (tls ? "sasl_ssl" : "sasl_plaintext") : tls ? "ssl" : "plaintext"},
        {"sasl.mechanism", user ? "PLAIN" : NULL},
        {"sasl.username", user},
        {"sasl.password", password},
        {"ssl.endpoint.identification.algorithm", tls ? "https" : NULL},
        {"ssl.ca.location", settings->tls_ca},
        {"ssl.certificate.location", settings->tls_cert},
        {"ssl.key.location", settings->tls_key},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (set(self, conf, words[i][0], words[i][1], err))
            return -1;
    }
    return set_ms(self, conf, "socket.connection.setup.timeout.ms", settings->connect_timeout, 1000, err) ||
                   set_ms(self, conf, "reconnect.backoff.ms", settings->retry_min, 0, err) ||
                   set_ms(self, conf, "reconnect.backoff.max.ms", settings->retry_max, 0, err) || set_room(self, conf, err) || set_more(self, conf, err)
               ? -1
               : 0;
}

int kafka_configure(kafka_source_t *self, rd_kafka_conf_t **conf, err_t *err) {
    rd_kafka_conf_t *made = rd_kafka_conf_new();
    if (set_all(self, made, err)) {
        rd_kafka_conf_destroy(made);
        return -1;
    }
    *conf = made;
    return 0;
}
