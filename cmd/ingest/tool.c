/* The tool_t of ingest: options, and what happens at start and end. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/url.h"
#include "data/pack.h"
#include "ingest.h"

#define AT(field) offsetof(ingest_t, field)

static const option_t options[] = {
    {"format", OPTION_TEXT, AT(format), NULL, "FORMAT", "format of the input; default by the file's ending, else ndjson"},
    {"type", OPTION_TEXT, AT(type), NULL, "WORD", "kind of source as config.json names it (ingest --list shows the words)"},
    {"url", OPTION_TEXT, AT(url_option), NULL, "URL", "the source, as an option"},
    {"path", OPTION_TEXT, AT(path_option), NULL, "PATH", "the source, as an option"},
    {"sample", OPTION_INT, AT(sample), "0", "N", "print N events as NDJSON and exit", 0, INT64_C(1000000000)},
    {"sample-wait", OPTION_DURATION, AT(sample_wait), "30s", "DURATION",
     "how long --sample waits for its events before it fails", 1, 3600 * NS_PER_S, .needs = "sample"},
    {"expect", OPTION_DURATION, AT(expect), "0", "DURATION", "report the source as unhealthy when no event arrives for so long; 0: never", 0,
     INT64_C(86400) * 365 * NS_PER_S},
    {"device", OPTION_TEXT, AT(device.fields), NULL, "FIELD,...",
     "the fields whose values say which device an event comes from: changes of their presence go to the stream NAME.devices"},
    {"device-late", OPTION_NUMBER, AT(device.late), "3", "N", "a device is late after so many of its usual intervals without a message", 1, 1000, .needs = "device"},
    {"device-offline", OPTION_NUMBER, AT(device.offline), "10", "N", "and offline after so many", 1, 100000, .needs = "device"},
    {"device-floor", OPTION_DURATION, AT(device.floor), "10s", "DURATION", "shorter intervals count as this one; messages closer together are one beat", NS_PER_MS,
     86400 * NS_PER_S, .needs = "device"},
    {"device-patience", OPTION_DURATION, AT(device.patience), "1d", "DURATION", "a device whose interval is not known yet is offline after so long", NS_PER_MS,
     INT64_C(86400) * 3650 * NS_PER_S, .needs = "device"},
    {"device-limit", OPTION_INT, AT(device.limit), "10000", "N", "devices that are remembered at most; the one silent for the longest time makes room", 1, 1000000, .needs = "device"},
    {0},
};

static int on_argument(stage_t *stage, const char *argument, err_t *err) {
    ingest_t *ingest = stage->own;
    if (ingest->url) {
        buf_t shown = {0};
        url_put_redacted(&shown, text_of(ingest->url));
        err_set(err, "unexpected argument %s: the source is %s already", argument, buf_text(&shown));
        buf_fini(&shown);
        return -1;
    }
    ingest->url = mem_text(argument);
    return 0;
}

static int on_option(stage_t *stage, text_t name, const char *value, bool *used, err_t *err) {
    const option_t *option = ingest_find_option(name);
    bool no = !option && name.size > 3 && memcmp(name.data, "no-", 3) == 0;
    if (no) {
        name = text_make(name.data + 3, name.size - 3);
        option = ingest_find_option(name);
        no = option && option->type == OPTION_BOOL;
        if (!no)
            return 1;
    }
    if (!option)
        return 1;
    bool attached = name.data[name.size] == '='; /* --name=value, one argument */
    *used = option->type != OPTION_BOOL || attached;
    if (!value && *used)
        return err_set(err, "--%s needs a value: %s", option->name, option->value ? option->value : "TEXT");
    if (no && attached)
        return err_set(err, "--no-%s takes no value", option->name);
    ingest_give(stage->own, text_of(option->name), no ? "no" : *used ? value : NULL, NULL);
    return 0;
}

static int on_setting(stage_t *stage, const char *key, const json_t *value, err_t *err) {
    const option_t *option = ingest_find_option(text_of(key));
    if (!option)
        return 1;
    ingest_give(stage->own, text_of(option->name), NULL, value);
    return 0;
}

static void on_help(stage_t *stage, FILE *out) {
    ingest_help(out);
}

/* A sample is printed, wherever the events would have gone. */
static void print_sample(stage_t *stage) {
    option_list_t *to = &stage->settings.to;
    for (size_t i = 0; i < to->count; i++)
        mem_free(to->items[i]);
    to->items = mem_resize(to->items, sizeof *to->items);
    to->items[0] = mem_text("-");
    to->count = 1;
    stage->settings.on_full = LINK_BLOCK;
    char **places[] = {&stage->settings.state, &stage->settings.dead_letter, &stage->settings.metrics};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) { /* a trial leaves alone what may belong to a run */
        mem_free(*places[i]);
        *places[i] = NULL;
    }
    stage->settings.reset = false;
}

static int on_check(stage_t *stage, err_t *err) {
    ingest_t *ingest = stage->own;
    ingest->host.stage = stage;
    if (ingest_choose(stage, ingest, err) || host_devices_check(&ingest->device, err))
        return -1;
    stage->follows = ingest->device.fields && !ingest->sample;
    if (ingest->sample) {
        ingest->host.wanted = ingest->sample;
        ingest->host.trial = true;
        print_sample(stage);
    }
    return 0;
}

static void sample_over(void *argument) {
    stage_t *stage = argument;
    ingest_t *ingest = stage->own;
    if (ingest->host.ended || ingest->host.enough || stage->finishing)
        return;
    buf_t wait = {0};
    text_put_duration(&wait, ingest->sample_wait);
    stage_flush(stage);
    stage_fail(stage, "only %llu of %lld events came within %s (--sample-wait)%s%s", (unsigned long long) stage->ledger.out,
               (long long) ingest->sample, buf_text(&wait), ingest->host.reason[0] ? ": " : "", ingest->host.reason);
    buf_fini(&wait);
}

/* The stored position is a map of the driver's name and the source's own position, which is nil when it has none, or what has changed in it. */
static bool on_position(stage_t *stage, bool whole, buf_t *out) {
    source_host_t *host = &((ingest_t *) stage->own)->host;
    const source_class_t *class = host->source->class;
    whole |= !class->changes;
    pack_map(out, 2);
    pack_text(out, "source");
    pack_text(out, host->driver->name);
    pack_text(out, whole ? "at" : "changes");
    if (!whole)
        class->changes(host->source, out);
    else if (class->position)
        class->position(host->source, out);
    else
        pack_nil(out);
    host_stored(host);
    return whole;
}

static bool read_position(text_t position, const char *key, value_t *source, value_t *at) {
    const uint8_t *bytes = (const uint8_t *) position.data;
    pack_cursor_t cursor = pack_cursor(bytes, position.size);
    return pack_skip(&cursor) && pack_map_get(bytes, position.size, text_of("source"), source) && source->type == VALUE_STRING &&
           pack_map_get(bytes, position.size, text_of(key), at);
}

static int restore_one(source_host_t *host, text_t position, bool whole, err_t *err) {
    const source_class_t *class = host->source->class;
    value_t source, at;
    if (!read_position(position, whole ? "at" : "changes", &source, &at))
        return err_set(err, "the stored position cannot be read");
    if (!text_is(text_make(source.text, source.size), host->driver->name))
        return err_set(err, "it was made by a source of the kind %.*s, not %s", (int) source.size, source.text, host->driver->name);
    int (*restore)(source_t *, const uint8_t *, size_t, err_t *) = whole ? class->restore : class->restore_changes;
    return !restore || at.type != VALUE_MAP ? 0 : restore(host->source, at.packed, at.size, err);
}

static int restore(stage_t *stage, err_t *err) {
    source_host_t *host = &((ingest_t *) stage->own)->host;
    text_t position;
    size_t next = 0;
    err_t why;
    int result = 0;
    for (bool whole = true; result == 0 && stage_position(stage, &next, &position); whole = false)
        result = restore_one(host, position, whole, &why);
    if (!next)
        host->moved = true; /* to be stored before anything else: it tells dead letters of this run from earlier ones */
    return result == 0 ? 0 : err_set(err, "--state %s is not for this source: %s; --reset forgets it and begins anew, or give another directory",
                                     stage->settings.state, why.text);
}

static void on_acknowledge(stage_t *stage, text_t position) {
    source_host_t *host = &((ingest_t *) stage->own)->host;
    value_t source, at;
    if (host->source->class->acknowledge && read_position(position, "at", &source, &at) && at.type == VALUE_MAP)
        host->source->class->acknowledge(host->source, at.packed, at.size);
}

/* A source that was read to its end may be gone since: then there is nothing to compare. */
static int on_ended(stage_t *stage, err_t *err) {
    ingest_t *ingest = stage->own;
    err_t gone;
    ingest->setup.loop = stage->loop;
    stage->follows = false;
    if (ingest->host.driver->open(&ingest->host.source, &ingest->setup, &gone)) {
        log_info("%s", gone.text);
        return 0;
    }
    return restore(stage, err);
}

static int on_start(stage_t *stage, err_t *err) {
    ingest_t *ingest = stage->own;
    source_host_t *host = &ingest->host;
    ingest->setup.loop = stage->loop;
    if (host_devices_open(host, &ingest->device, err) || host->driver->open(&host->source, &ingest->setup, err) || restore(stage, err) ||
        stage_recall_kept(stage, err))
        return -1;
    host_begin(host);
    if (host->source->class->start(host->source, err))
        return -1;
    host->started = true;
    if (host->moved && stage_stateful(stage))
        stage_note(stage);
    host_devices_begin(host);
    if (host->paused)
        host->source->class->pause(host->source);
    host_watch(host, ingest->expect);
    if (ingest->sample)
        loop_timer(stage->loop, ingest->sample_wait, 0, sample_over, stage);
    return 0;
}

static void on_finish(stage_t *stage) {
    host_finish(&((ingest_t *) stage->own)->host);
    stage_finished(stage);
}

static void on_stop(stage_t *stage) {
    ingest_t *ingest = stage->own;
    if (ingest->host.source)
        ingest->host.source->class->free(ingest->host.source);
    host_fini(&ingest->host);
    ingest_choose_fini(ingest);
}

const tool_t ingest_tool = {
    .name = "ingest",
    .summary = "Turns a source of data into a stream of events.",
    .usage = "URL|PATH|- [OPTION]...",
    .has_outputs = true,
    .default_output = "-",
    .options = options,
    .formats = format_options,
    .driver_tables = ingest_tables,
    .state_size = sizeof(ingest_t),
    .argument = on_argument,
    .option = on_option,
    .setting = on_setting,
    .help = on_help,
    .check = on_check,
    .start = on_start,
    .ended = on_ended,
    .finish = on_finish,
    .stop = on_stop,
    .position = on_position,
    .acknowledge = on_acknowledge,
    .emitted = host_devices_emitted,
    .follow = host_devices_follow,
    .keep = host_devices_keep,
    .kept = host_devices_kept,
};
