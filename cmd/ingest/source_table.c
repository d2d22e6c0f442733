/* All sources, one line each, and how a URL or a configuration's type word finds its own. */
#include "source.h"

#include <unistd.h>

extern const source_driver_t source_stdin, source_file, source_http, source_generator, source_system, source_postgres, source_sqlite,
    source_mysql, source_tcp, source_udp, source_unix, source_webhook, source_syslog, source_exec, source_forward, source_mqtt,
    source_redis, source_kafka, source_statsd, source_nats, source_websocket;

const source_driver_t *const source_table[] = {
    &source_stdin,
    &source_file,
    &source_http,
    &source_generator,
    &source_system,
    &source_postgres,
    &source_sqlite,
    &source_mysql,
    &source_tcp,
    &source_udp,
    &source_unix,
    &source_webhook,
    &source_syslog,
    &source_exec,
    &source_forward,
    &source_mqtt,
    &source_redis,
    &source_kafka,
    &source_statsd,
    &source_nats,
    &source_websocket,
    NULL,
};

#define NAMES_MAX 128

static bool scheme_of(const char *url, text_t *scheme) {
    size_t size = strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    *scheme = text_make(url, size);
    return size > 1 && url[size] == ':';
}

static size_t known_schemes(const char **names) {
    size_t n = 0;
    for (const source_driver_t *const *driver = source_table; *driver; driver++) {
        for (const char *const *scheme = (*driver)->schemes; *scheme && n < NAMES_MAX; scheme++)
            names[n++] = *scheme;
    }
    return n;
}

static size_t known_types(const char **names) {
    size_t n = 0;
    for (const source_driver_t *const *driver = source_table; *driver; driver++) {
        for (const source_type_t *type = (*driver)->types; type->word && n < NAMES_MAX; type++)
            names[n++] = type->word;
    }
    return n;
}

static void unknown(err_t *err, const char *what, const char *name, const char *const *names, size_t n, const char *tail) {
    buf_t text = {0};
    buf_format(&text, "unknown %s ", what);
    text_put_quoted(&text, text_of(name), 64);
    const char *nearest = text_nearest(name, names, n);
    if (nearest)
        buf_format(&text, "; did you mean \"%s\"?", nearest);
    buf_put_text(&text, nearest ? " Known:" : "; known:");
    for (size_t i = 0; i < n; i++)
        buf_format(&text, " %s", names[i]);
    err_set(err, "%s%s", buf_text(&text), tail);
    buf_fini(&text);
}

const source_driver_t *source_find(const char *url, const char **rest, err_t *err) {
    text_t scheme;
    if (strcmp(url, "-") == 0) {
        *rest = url;
        return &source_stdin;
    }
    if (!scheme_of(url, &scheme) || access(url, F_OK) == 0) { /* a plain path, even one with a colon in it */
        *rest = url;
        return &source_file;
    }
    for (const source_driver_t *const *driver = source_table; *driver; driver++) {
        for (const char *const *name = (*driver)->schemes; *name; name++) {
            if (strlen(*name) == scheme.size && strncasecmp(*name, scheme.data, scheme.size) == 0) {
                *rest = scheme.data + scheme.size + 1;
                return *driver;
            }
        }
    }
    const char *names[NAMES_MAX];
    size_t n = known_schemes(names);
    char *given = mem_text_n(scheme.data, scheme.size);
    if (scheme.data[scheme.size + 1] >= '0' && scheme.data[scheme.size + 1] <= '9') /* host and port; what follows may hold a password */
        err_set(err, "%s:... says where, but not what is there: write http://%s:..., mqtt://%s:... or the like", given, given, given);
    else
        unknown(err, "URL scheme", given, names, n, "; a file's path, or - for stdin, is fine too");
    mem_free(given);
    return NULL;
}

const source_driver_t *source_find_type(const char *word, const source_type_t **type, err_t *err) {
    for (const source_driver_t *const *driver = source_table; *driver; driver++) {
        for (const source_type_t *t = (*driver)->types; t->word; t++) {
            if (strcasecmp(t->word, word) == 0) {
                *type = t;
                return *driver;
            }
        }
    }
    const char *names[NAMES_MAX];
    size_t n = known_types(names);
    unknown(err, "source type", word, names, n, "");
    return NULL;
}
