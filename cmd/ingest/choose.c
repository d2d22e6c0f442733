/* From command line and settings to one source: which driver, and its options. They come from four places; a later one
 * overrides an earlier: what the configuration's type word implies, the URL's query, --settings and the command line. */
#include <stdio.h>

#include "base/memory.h"
#include "base/url.h"
#include "ingest.h"

const option_t *ingest_find_option(text_t name) {
    for (const source_driver_t *const *driver = source_table; *driver; driver++) {
        const option_t *option = (*driver)->options ? option_find((*driver)->options, name) : NULL;
        if (option)
            return option;
    }
    return NULL;
}

void ingest_give(ingest_t *ingest, text_t name, const char *text, const json_t *json) {
    ingest->given = mem_resize(ingest->given, (ingest->given_count + 1) * sizeof *ingest->given);
    ingest->given[ingest->given_count++] = (given_option_t){
        .name = mem_text_n(name.data, name.size),
        .text = mem_text(text),
        .json = json ? json_deep_copy(json) : NULL,
    };
}

/* "--interval belongs to the sources http, system" */
static int foreign_option(const source_driver_t *driver, const char *name, err_t *err) {
    buf_t owners = {0};
    const char *separator = "";
    for (const source_driver_t *const *other = source_table; *other; other++) {
        if ((*other)->options && option_find((*other)->options, text_of(name))) {
            buf_format(&owners, "%s%s", separator, (*other)->name);
            separator = ", ";
        }
    }
    err_set(err, "--%s is no option of the source %s; it belongs to: %s", name, driver->name, buf_text(&owners));
    buf_fini(&owners);
    return -1;
}

static int apply(const source_driver_t *driver, void *settings, const given_option_t *given, option_given_t *known, err_t *err) {
    const option_t *option = driver->options ? option_find(driver->options, text_of(given->name)) : NULL;
    if (!option)
        return foreign_option(driver, given->name, err);
    option_note(known, option);
    if (given->json)
        return option_set_json(option, settings, given->json, err);
    return option_set(option, settings, text_of(given->text ? given->text : "yes"), err);
}

/* "format=csv&follow=yes" from a type word. */
static int apply_preset(ingest_t *ingest, const source_driver_t *driver, const char *preset, err_t *err) {
    text_t rest = text_of(preset), pair;
    while (text_split(&rest, '&', &pair)) {
        text_t value = pair, name;
        text_split(&value, '=', &name);
        if (text_is(name, "format")) {
            if (!ingest->format)
                ingest->format = mem_text_n(value.data, value.size);
            continue;
        }
        const option_t *option = option_find(driver->options, name);
        ASSERT(option);
        if (option_set(option, ingest->settings, value, err))
            return -1;
    }
    return 0;
}

static int pick_url(ingest_t *ingest, const source_type_t *type, const char **url, err_t *err) {
    const char *given[] = {ingest->url, ingest->url_option, ingest->path_option};
    *url = NULL;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        if (!given[i])
            continue;
        if (*url) {
            buf_t shown = {0};
            url_put_redacted(&shown, text_of(*url));
            buf_put_text(&shown, " and ");
            url_put_redacted(&shown, text_of(given[i]));
            err_set(err, "one source at a time: %s were given", buf_text(&shown));
            buf_fini(&shown);
            return -1;
        }
        *url = given[i];
    }
    if (!*url && type)
        *url = type->url;
    if (*url && !**url)
        return err_set(err, "the URL is empty");
    if (!*url && type)
        return err_set(err, "a source of type \"%s\" needs a url", type->word);
    if (!*url)
        return err_set(err, "no source given: a file's path, - for standard input, or a URL (ingest --list shows the kinds)");
    return 0;
}

static const source_driver_t *pick_driver(const source_type_t *type, const source_driver_t *by_type, const char *url,
                                          const char **rest, err_t *err) {
    const source_driver_t *driver = source_find(url, rest, err);
    if (!driver || !type || driver == by_type)
        return driver;
    buf_t shown = {0};
    url_put_redacted(&shown, text_of(url));
    err_set(err, "a source of type \"%s\" takes %s, not %s", type->word, by_type->usage, buf_text(&shown));
    buf_fini(&shown);
    return NULL;
}

static void name_stage(stage_t *stage, ingest_t *ingest, const source_driver_t *driver) {
    const char *name = driver->stream ? driver->stream(&ingest->setup, &ingest->stream) : driver->name;
    mem_free(stage->name);
    stage->name = mem_text_n(name, strnlen(name, FRAME_TOPIC_MAX));
    for (char *c = stage->name; *c; c++) {
        if (!frame_topic_valid(c, 1))
            *c = '_';
    }
    if (!*stage->name) {
        mem_free(stage->name);
        stage->name = mem_text(driver->name);
    }
}

/* Names the URL that the error is about. */
static int wrap_url(const char *url, err_t *err) {
    buf_t shown = {0};
    url_put_redacted(&shown, text_of(url));
    err_wrap(err, "%s", buf_text(&shown));
    buf_fini(&shown);
    return -1;
}

/* What is wrong with the options of the text formats is said before anything starts. Where the format is known only when the data are there,
 * those that have options of their own are tried. */
static int check_format(const source_setup_t *setup, err_t *err) {
    const format_t *const tried[] = {setup->format ? setup->format : format_find("csv"), setup->format ? NULL : format_find("lines")};
    format_settings_t settings = *setup->format_settings;
    if (!setup->format)
        settings.time_field = NULL;    /* lines have none, and need not be what comes */
    for (size_t i = 0; i < sizeof tried / sizeof *tried && tried[i]; i++) {
        decoder_t *decoder;
        if (tried[i]->decoder_open(&decoder, &settings, err))
            return -1;
        decoder_free(decoder);
    }
    return 0;
}

/* What is true of the source beside its options: the format of its text, as far as that is known before it is read, and the driver's own facts. */
static int holds(const void *argument, text_t name, text_t value) {
    const ingest_t *ingest = argument;
    const source_driver_t *driver = ingest->host.driver;
    const char *formats = driver->formats ? driver->formats : "ndjson";
    if (text_is(name, "format") && ingest->setup.format)
        return text_is(value, ingest->setup.format->name);
    int known = driver->holds ? driver->holds(&ingest->setup, name, value) : -1;
    if (known >= 0)
        return known;
    if (text_is(name, "login"))
        return url_has_login(ingest->setup.url);
    if (text_is(name, "text") || text_is(name, "time"))
        return ingest->setup.format || *formats;
    if (!text_is(name, "format"))
        return -1;
    text_t rest = text_of(formats), format;
    while (text_split(&rest, '|', &format))
        if (text_equal(format, value))
            return 1;
    return 0;
}

static int check_needs(stage_t *stage, const ingest_t *ingest, err_t *err) {
    const stage_scope_t scope = {ingest->host.driver->options, ingest->settings, &ingest->known, holds, ingest};
    return stage_check_needs(stage, &scope, err);
}

static int check_files(const ingest_t *ingest, err_t *err) {
    const option_scope_t scope = {.tables = {ingest->host.driver->options}, .settings = {ingest->settings}};
    return option_check_files(&ingest->known, &scope, err);
}

void ingest_tables(const stage_t *stage, const option_t **tables, size_t most) {
    const ingest_t *ingest = stage->own;
    const char *rest;
    err_t err;
    const source_driver_t *only = ingest->url ? source_find(ingest->url, &rest, &err) : NULL;
    size_t n = 0;
    for (const source_driver_t *const *driver = source_table; *driver && n < most; driver++)
        if ((*driver)->options && (!only || *driver == only))
            tables[n++] = (*driver)->options;
}

int ingest_choose(stage_t *stage, ingest_t *ingest, err_t *err) {
    const source_type_t *type = NULL;
    const source_driver_t *by_type = NULL;
    const char *url, *rest;
    if (ingest->type && !(by_type = source_find_type(ingest->type, &type, err)))
        return -1;
    if (pick_url(ingest, type, &url, err))
        return -1;
    const source_driver_t *driver = pick_driver(type, by_type, url, &rest, err);
    if (!driver)
        return -1;
    ingest->host.driver = driver;
    ingest->settings = mem_zero(driver->settings_size + 1);
    if (driver->options)
        option_defaults(driver->options, ingest->settings);
    if (type && type->preset && apply_preset(ingest, driver, type->preset, err))
        return -1;
    bool has_scheme = rest != url;
    if (driver->query && has_scheme && driver->options) {
        if (option_from_query(driver->options, ingest->settings, rest, &ingest->rest, &ingest->known, err))
            return wrap_url(url, err);
    } else {
        ingest->rest = mem_text(rest);
    }
    for (size_t i = 0; i < ingest->given_count; i++) {
        if (apply(driver, ingest->settings, &ingest->given[i], &ingest->known, err))
            return -1;
    }
    const format_t *format = NULL;
    if (ingest->format) {
        format = format_find(ingest->format);
        if (!format)
            return format_unknown(ingest->format, err);
        if (!format->decoder_open)
            return err_set(err, "--format %s: this format can be written only", ingest->format);
    }
    ingest->setup = (source_setup_t){
        .host = &ingest->host,
        .url = url,
        .rest = ingest->rest,
        .settings = ingest->settings,
        .format = format,
        .format_settings = &stage->settings.format,
    };
    name_stage(stage, ingest, driver);
    if (check_needs(stage, ingest, err))
        return -1;
    if (driver->check && driver->check(&ingest->setup, err))
        return -1;
    return check_format(&ingest->setup, err) || check_files(ingest, err) ? -1 : 0;
}

void ingest_choose_fini(ingest_t *ingest) {
    for (size_t i = 0; i < ingest->given_count; i++) {
        mem_free(ingest->given[i].name);
        mem_free(ingest->given[i].text);
        json_decref(ingest->given[i].json);
    }
    mem_free(ingest->given);
    option_given_fini(&ingest->known);
    if (ingest->settings && ingest->host.driver->options)
        option_fini(ingest->host.driver->options, ingest->settings);
    mem_free(ingest->settings);
    mem_free(ingest->rest);
    mem_free(ingest->url);
    buf_fini(&ingest->stream);
}
