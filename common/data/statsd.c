/* statsd: lines such as "page.views:3|c|@0.5|#site:berlin", as statsd's own clients and DogStatsD's send them. A line is an event; one that packs several
 * values ("took:12:14|ms", DogStatsD 1.1) is one for each of them. Nothing is added up here: what a flush of statsd does is a program of the language.
 * DogStatsD's events ("_e{5,4}:title|text") and service checks ("_sc|name|0") are events of other fields. */
#include "base/clock.h"
#include "base/err.h"
#include "data/fields.h"
#include "data/format_record.h"
#include "data/json.h"
#include "data/pack.h"

#define TAGS_MAX 256
#define NUMBER_MAX 64                  /* characters of a number */
#define GROWTH_MAX (4u * 1024 * 1024)  /* bytes that one line may become, as each of its values gets all its tags */

typedef enum kind { KIND_COUNTER, KIND_GAUGE, KIND_TIMER, KIND_HISTOGRAM, KIND_DISTRIBUTION, KIND_SET, KIND_METER } kind_t;

static const struct { const char *letters, *name; } kinds[] = {
    [KIND_COUNTER] = {"c", "counter"},           [KIND_GAUGE] = {"g", "gauge"}, [KIND_TIMER] = {"ms", "timer"}, [KIND_HISTOGRAM] = {"h", "histogram"},
    [KIND_DISTRIBUTION] = {"d", "distribution"}, [KIND_SET] = {"s", "set"},     [KIND_METER] = {"m", "meter"},
};

typedef struct statsd {
    decoder_t decoder;
    line_state_t lines;
    fields_t tags;
    buf_t tag_values, packed_tags, plain;
} statsd_t;

/* A line taken apart; texts are the line's. */
typedef struct metric {
    text_t name, values, container;
    kind_t kind;
    value_t rate;
    bool tagged, timed;
    int64_t time;
} metric_t;

/* A decimal number as people and programs write it: also +5, .5 and 007, which JSON does not have. Whole ones stay whole. */
static bool read_number(text_t text, value_t *value) {
    char plain[NUMBER_MAX + 4];
    size_t size = 0;
    if (!text.size || text.size > NUMBER_MAX)
        return false;
    bool sign = *text.data == '-' || *text.data == '+';
    if (*text.data == '-')
        plain[size++] = '-';
    text = text_make(text.data + sign, text.size - sign);
    while (text.size > 1 && text.data[0] == '0' && text.data[1] >= '0' && text.data[1] <= '9')
        text = text_make(text.data + 1, text.size - 1);
    if (!text.size || text.data[0] == '-' || text.data[0] == '+')
        return false;
    if (text.size > 1 && text.data[0] == '.')
        plain[size++] = '0';
    memcpy(plain + size, text.data, text.size);
    size += text.size;
    int64_t whole;
    double number;
    err_t unused;
    bool digits = true;
    for (size_t i = 0; i < text.size; i++)
        digits &= text.data[i] >= '0' && text.data[i] <= '9';
    if (digits && text_to_int(text_make(plain, size), &whole, &unused) == 0)
        *value = value_int(whole);
    else if (json_parse_double(plain, size, &number))
        *value = value_double(number);
    else
        return false;
    return true;
}

static const char *read_tags(statsd_t *statsd, text_t rest) {
    text_t tag, name;
    fields_clear(&statsd->tags);
    buf_clear(&statsd->tag_values);
    buf_reserve(&statsd->tag_values, 2 * rest.size + 64); /* what is noted of it must not move */
    while (text_split(&rest, ',', &tag)) {
        text_t value = tag;
        size_t start = statsd->tag_values.size;
        if (!tag.size)
            continue;
        if (statsd->tags.count == TAGS_MAX)
            return "more than 256 tags";
        bool pair = memchr(tag.data, ':', tag.size) && text_split(&value, ':', &name);
        if (!pair)
            name = tag;
        if (!name.size)
            return "a tag without a name";
        if (pair)
            pack_string(&statsd->tag_values, value.size ? value.data : "", value.size);
        else
            pack_bool(&statsd->tag_values, true);
        fields_put(&statsd->tags, name, statsd->tag_values.data + start, (uint32_t) (statsd->tag_values.size - start));
    }
    return NULL;
}

static const char *read_rate(text_t text, value_t *rate) {
    if (!read_number(text, rate) || (rate->type == VALUE_INT ? rate->integer != 1 : !(rate->number > 0 && rate->number <= 1)))
        return "the sample rate behind @ is no number above 0 and up to 1";
    return NULL;
}

static bool read_time(text_t text, int64_t *time) {
    value_t seconds;
    if (!read_number(text, &seconds) || seconds.type != VALUE_INT || seconds.integer < 0 || seconds.integer > EVENT_TIME_MAX / NS_PER_S)
        return false;
    *time = seconds.integer * NS_PER_S;
    return true;
}

/* What may stand behind the type. Newer clients add sections ("e:...", "card:low") that say nothing of the value: those are passed over. */
static const char *read_section(statsd_t *statsd, metric_t *metric, text_t section) {
    text_t rest = text_make(section.data + 1, section.size - 1), word;
    switch (*section.data) {
    case '@':
        return read_rate(rest, &metric->rate);
    case '#':
        metric->tagged = true;
        return read_tags(statsd, rest);
    case 'T':
        metric->timed = read_time(rest, &metric->time);
        return metric->timed ? NULL : "the time behind T is no number of seconds since 1970";
    default:
        rest = section;
        if (!memchr(section.data, ':', section.size))
            return "a section that is none of @rate, #tags, Ttime or name:text";
        text_split(&rest, ':', &word);
        if (text_is(word, "c"))
            metric->container = rest;
        return NULL;
    }
}

static const char *read_kind(text_t word, kind_t *kind) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (text_is(word, kinds[i].letters)) {
            *kind = (kind_t) i;
            return NULL;
        }
    }
    return "the type is none of c, g, ms, h, d, s, m";
}

static const char *read_values(const metric_t *metric, size_t line_size) {
    text_t rest = metric->values, one;
    value_t value;
    uint64_t count = 0;
    if (metric->kind == KIND_SET)
        return metric->values.size ? NULL : "there is no value";
    if (!rest.size)
        return "there is no value";
    if (rest.data[rest.size - 1] == ':')
        return "the value is no number";
    while (text_split(&rest, ':', &one)) {
        if (!read_number(one, &value))
            return "the value is no number";
        if (++count * (line_size + EVENT_HEAD) > GROWTH_MAX)
            return "more values than a line of this length may have";
    }
    return NULL;
}

/* NULL, or what is wrong with it. */
static const char *read_metric(statsd_t *statsd, text_t line, metric_t *metric) {
    text_t rest = line, section;
    *metric = (metric_t){.rate = value_int(1)};
    if (!memchr(line.data, '|', line.size))
        return "expected NAME:VALUE|TYPE";
    text_split(&rest, '|', &section);
    metric->values = section;
    if (!memchr(section.data, ':', section.size))
        return "expected NAME:VALUE|TYPE";
    text_split(&metric->values, ':', &metric->name);
    if (!metric->name.size)
        return "the name is empty";
    text_split(&rest, '|', &section);
    const char *reason = read_kind(section, &metric->kind);
    if (!reason)
        reason = read_values(metric, line.size);
    while (!reason && text_split(&rest, '|', &section)) {
        if (section.size)
            reason = read_section(statsd, metric, section);
    }
    return reason;
}

static void put_pair(buf_t *out, const char *name, text_t value) {
    pack_text(out, name);
    pack_string(out, value.size ? value.data : "", value.size);
}

static bool put_event(const metric_t *metric, text_t value, const buf_t *tags, decode_target_t *target) {
    frame_builder_t *builder = target->builder;
    builder_begin(builder);
    buf_t *out = &builder->body;
    bool gauge = metric->kind == KIND_GAUGE;
    value_t number;
    pack_map(out, (uint32_t) (5 + gauge + (metric->container.size > 0)));
    put_pair(out, "metric", metric->name);
    pack_text(out, "type");
    pack_text(out, kinds[metric->kind].name);
    if (metric->kind == KIND_SET) {
        put_pair(out, "value", value);
    } else {
        ASSERT(read_number(value, &number));
        pack_text(out, "value");
        pack_value(out, number);
    }
    if (gauge) {
        pack_text(out, "delta");
        pack_bool(out, *value.data == '+' || *value.data == '-');
    }
    pack_text(out, "rate");
    pack_value(out, metric->rate);
    pack_text(out, "tags");
    if (metric->tagged)
        buf_put(out, tags->data, tags->size);
    else
        pack_map(out, 0);
    if (metric->container.size)
        put_pair(out, "container", metric->container);
    target->topic = NULL;
    return format_commit(target, metric->timed, metric->time);
}

/* ---- DogStatsD's events and service checks ---- */

typedef enum notice_field { FIELD_ALERT, FIELD_PRIORITY, FIELD_KEY, FIELD_SOURCE, FIELD_HOST, FIELD_MESSAGE, FIELD_CONTAINER, FIELDS } notice_field_t;

/* Sections of a name and a text; a word is one of those known, the first of which holds where there is none. */
static const struct { const char *letter, *name, *words[5], *wrong; bool event, check; } notice_fields[FIELDS] = {
    [FIELD_ALERT] = {"t", "alert_type", {"info", "success", "warning", "error"}, "the alert type is none of info, success, warning, error", .event = true},
    [FIELD_PRIORITY] = {"p", "priority", {"normal", "low"}, "the priority is neither normal nor low", .event = true},
    [FIELD_KEY] = {"k", "aggregation_key", .event = true},
    [FIELD_SOURCE] = {"s", "source_type_name", .event = true},
    [FIELD_HOST] = {"h", "hostname", .event = true, .check = true},
    [FIELD_MESSAGE] = {"m", "message", .check = true},
    [FIELD_CONTAINER] = {"c", "container", .event = true, .check = true},
};

static const char *const check_states[] = {"ok", "warning", "critical", "unknown"};

typedef struct notice {
    bool event;                    /* else a service check */
    text_t title, text;            /* of a check the title is its name */
    unsigned status;
    text_t fields[FIELDS];         /* without data: there is none */
    bool tagged, timed;
    int64_t time;
} notice_t;

static const char *read_word(size_t field, text_t text) {
    for (const char *const *word = notice_fields[field].words; *word; word++)
        if (text_is(text, *word))
            return NULL;
    return notice_fields[field].wrong;
}

static const char *read_notice_section(statsd_t *statsd, notice_t *notice, text_t section) {
    text_t rest = section, letter;
    if (*section.data == '#') {
        notice->tagged = true;
        return read_tags(statsd, text_make(section.data + 1, section.size - 1));
    }
    if (!memchr(section.data, ':', section.size))
        return "a section that is neither #tags nor name:text";
    text_split(&rest, ':', &letter);
    if (text_is(letter, "d"))
        return (notice->timed = read_time(rest, &notice->time)) ? NULL : "the time behind d: is no number of seconds since 1970";
    for (size_t i = 0; i < FIELDS; i++) {
        if (!text_is(letter, notice_fields[i].letter) || !(notice->event ? notice_fields[i].event : notice_fields[i].check))
            continue;
        notice->fields[i] = text_make(section.data + 2, rest.size); /* also an empty one is there */
        return read_word(i, rest);
    }
    return NULL;                   /* newer clients' sections, as with metrics */
}

/* "_e{5,4}:title|text": the lengths are bytes, so that "|" may be in both. */
static const char *read_event_head(text_t line, notice_t *notice, text_t *rest) {
    static const char *const form = "expected _e{TITLE_LENGTH,TEXT_LENGTH}:TITLE|TEXT", *const lengths = "the lengths in _e{...} do not fit title and text";
    text_t first, second;
    int64_t title, text;
    err_t unused;
    *rest = text_make(line.data + 3, line.size - 3);
    if (!memchr(rest->data, '}', rest->size))
        return form;
    text_split(rest, '}', &second);
    if (!memchr(second.data, ',', second.size))
        return form;
    text_split(&second, ',', &first);
    if (text_to_int(first, &title, &unused) || text_to_int(second, &text, &unused) || !rest->size || *rest->data != ':')
        return form;
    int64_t left = (int64_t) rest->size - 2; /* but for ":" and "|" */
    if (title < 0 || text < 0 || title > left || text > left - title || rest->data[1 + title] != '|')
        return lengths;
    if (!title)
        return "the title is empty";
    notice->title = text_make(rest->data + 1, (size_t) title);
    notice->text = text_make(rest->data + 2 + title, (size_t) text);
    *rest = text_make(notice->text.data + text, (size_t) (left - title - text));
    text_t end = text_trim(*rest);
    if (end.size && *rest->data != '|')
        return lengths;
    *rest = end.size ? text_make(rest->data + 1, rest->size - 1) : text_make(rest->data, 0);
    return NULL;
}

/* "_sc|name|0" */
static const char *read_check_head(text_t line, notice_t *notice, text_t *rest) {
    text_t status = {0};
    *rest = text_make(line.data + 4, line.size - 4);
    text_split(rest, '|', &notice->title);
    if (!notice->title.size)
        return "the service check has no name";
    text_split(rest, '|', &status);
    if (status.size != 1 || *status.data < '0' || *status.data > '3')
        return "the status of a service check is none of 0 (ok), 1 (warning), 2 (critical), 3 (unknown)";
    notice->status = (unsigned) (*status.data - '0');
    return NULL;
}

static const char *read_notice(statsd_t *statsd, text_t line, notice_t *notice) {
    text_t rest, section;
    const char *reason = notice->event ? read_event_head(line, notice, &rest) : read_check_head(line, notice, &rest);
    while (!reason && text_split(&rest, '|', &section)) {
        section = rest.size ? section : text_trim(section);
        if (section.size)
            reason = read_notice_section(statsd, notice, section);
    }
    return reason;
}

/* Line feeds are written \n there, and m: in a message m\:. */
static void put_plain(statsd_t *statsd, buf_t *out, const char *name, text_t text) {
    buf_clear(&statsd->plain);
    for (size_t i = 0; i < text.size; i++) {
        bool escape = text.data[i] == '\\' && i + 1 < text.size;
        if (escape && text.data[i + 1] == 'n') {
            buf_put(&statsd->plain, "\n", 1);
            i++;
        } else if (!(escape && text.data[i + 1] == ':' && i && text.data[i - 1] == 'm')) {
            buf_put(&statsd->plain, text.data + i, 1);
        }
    }
    put_pair(out, name, text_make((const char *) statsd->plain.data, statsd->plain.size));
}

static bool put_notice(statsd_t *statsd, const notice_t *notice, decode_target_t *target) {
    frame_builder_t *builder = target->builder;
    builder_begin(builder);
    buf_t *out = &builder->body;
    uint32_t count = notice->event ? 4 : 5;
    for (size_t i = 0; i < FIELDS; i++)
        count += notice->fields[i].data || (notice->event && notice_fields[i].words[0]);
    pack_map(out, count);
    pack_text(out, "type");
    pack_text(out, notice->event ? "event" : "service_check");
    if (notice->event) {
        put_plain(statsd, out, "title", notice->title);
        put_plain(statsd, out, "text", notice->text);
    } else {
        put_pair(out, "check", notice->title);
        pack_text(out, "status");
        pack_uint(out, notice->status);
        pack_text(out, "state");
        pack_text(out, check_states[notice->status]);
    }
    for (size_t i = 0; i < FIELDS; i++) {
        const char *word = notice_fields[i].words[0];
        if (notice->fields[i].data)
            put_plain(statsd, out, notice_fields[i].name, notice->fields[i]);
        else if (word && notice->event)
            put_pair(out, notice_fields[i].name, text_of(word));
    }
    pack_text(out, "tags");
    if (notice->tagged)
        buf_put(out, statsd->packed_tags.data, statsd->packed_tags.size);
    else
        pack_map(out, 0);
    target->topic = NULL;
    return format_commit(target, notice->timed, notice->time);
}

static bool begins(text_t line, const char *with) {
    size_t size = strlen(with);
    return line.size >= size && memcmp(line.data, with, size) == 0;
}

static bool read_line(decoder_t *decoder, text_t whole, const char *readable, decode_target_t *target) {
    statsd_t *statsd = (statsd_t *) decoder;
    metric_t metric;
    text_t line = text_trim(whole);
    if (!line.size)
        return false;
    notice_t notice = {.event = begins(line, "_e{")};
    bool is_notice = notice.event || begins(line, "_sc|");
    if (notice.event)              /* white space may be the end of its text */
        line.size = (size_t) (whole.data + whole.size - line.data);
    const char *reason = NULL;
    if (text_utf8_valid(line.data, line.size) < line.size || memchr(line.data, 0, line.size))
        reason = "invalid UTF-8 or a NUL byte";
    if (!reason)
        reason = is_notice ? read_notice(statsd, line, &notice) : read_metric(statsd, line, &metric);
    if (reason) {
        format_bad(decoder, target, line, reason);
        return false;
    }
    buf_clear(&statsd->packed_tags);
    if (is_notice ? notice.tagged : metric.tagged)
        fields_pack(&statsd->tags, &statsd->packed_tags);
    if (is_notice)
        return put_notice(statsd, &notice, target);
    if (metric.kind == KIND_SET)
        return put_event(&metric, metric.values, &statsd->packed_tags, target);
    text_t rest = metric.values, value;
    bool stop = false;
    while (text_split(&rest, ':', &value))
        stop |= put_event(&metric, value, &statsd->packed_tags, target);
    return stop;
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    return format_feed_lines(&((statsd_t *) decoder)->lines, decoder, data, size, at_end, target, read_line);
}

static void reset(decoder_t *decoder) {
    ((statsd_t *) decoder)->lines.skipping = false;
}

static uint64_t state(const decoder_t *decoder) {
    return ((const statsd_t *) decoder)->lines.skipping;
}

static void restore(decoder_t *decoder, uint64_t state) {
    ((statsd_t *) decoder)->lines.skipping = state & 1;
}

static void free_decoder(decoder_t *decoder) {
    statsd_t *statsd = (statsd_t *) decoder;
    fields_fini(&statsd->tags);
    buf_fini(&statsd->tag_values);
    buf_fini(&statsd->packed_tags);
    buf_fini(&statsd->plain);
    mem_free(statsd);
}

int format_statsd_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore};
    if (settings->time_field)
        return err_set(err, "--time %s: the format \"statsd\" has a place of its own for the time: |T and seconds since 1970", settings->time_field);
    statsd_t *statsd = mem_zero(sizeof *statsd);
    statsd->decoder.class = &class;
    statsd->lines.limit = format_record_limit(settings);
    *decoder = &statsd->decoder;
    return 0;
}
