/* The text format "xml": the elements at a path are events. Where they begin and end is found by their tags alone, so that a document of any length
 * needs no more memory than its longest event, and that one which is malformed costs only itself; each is then read as a document of its own.
 * What lies outside of them is passed over: comments, a DOCTYPE with all that it declares, other elements. */
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "data/format_record.h"
#include "data/pack.h"
#include "data/xml.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define STEPS_MAX 15
#define DEPTH_MAX 4095u
#define NESTED_MAX 4095u
#define DECLARATION_MAX 1024           /* bytes of <?xml ... ?> */
#define SAMPLE 1024                    /* bytes of a text outside of elements that are told */

/* Inside of what has to be passed over, to its end. */
typedef enum inside { INSIDE_NOTHING, INSIDE_COMMENT, INSIDE_CDATA, INSIDE_INSTRUCTION, INSIDE_DOCTYPE } inside_t;

typedef struct xml_records {
    decoder_t decoder;
    uint64_t limit;
    xml_t *xml;
    char *time_field;
    char *path;
    text_t steps[STEPS_MAX];
    unsigned step_count;
    bool anywhere;                 /* the path is a single name */
    buf_t event;
    size_t seen;                   /* bytes of the element in front that were searched for its end, in vain; and how often its name was open there */
    unsigned seen_nested;

    /* state: see `state` */
    unsigned inside;               /* inside_t */
    unsigned quote;                /* in a DOCTYPE: 0, or the quote's character */
    bool subset, comment;          /* in a DOCTYPE: between its brackets; in a comment there */
    bool hopeless;                 /* nothing more can be made of this document */
    bool garbage;                  /* what is in front was told already */
    bool latin1;
    bool skipping;                 /* an element that is too long */
    unsigned nested;               /* elements of its name that are open */
    uint32_t name;                 /* hash of its name */
    unsigned depth, matched;       /* elements that are open; how many of them, from the root, are on the path */
} xml_records_t;

static uint32_t hash_of(text_t name) {
    return (uint32_t) XXH3_64bits(name.data, name.size) & 0xFFFFFF;
}

/* ---- tokens ---- */

typedef struct tag {
    text_t name;
    size_t size;                   /* with < and > */
    bool closing, empty;           /* </a>, <a/> */
} tag_t;

static bool is_name_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':' || (unsigned char) c >= 0x80;
}

/* A tag at '<'. 0: its end is not here. */
static bool read_tag(const char *data, const char *end, tag_t *tag) {
    const char *p = data + 1;
    char quote = 0;
    tag->closing = *p == '/';
    p += tag->closing;
    const char *name = p;
    while (p < end && !strchr(" \t\r\n/>", *p))
        p++;
    tag->name = text_make(name, (size_t) (p - name));
    for (; p < end; p++) {
        if (quote)
            quote = *p == quote ? 0 : quote;
        else if (*p == '"' || *p == '\'')
            quote = *p;
        else if (*p == '>')
            break;
    }
    tag->empty = !tag->closing && p < end && p[-1] == '/';
    tag->size = (size_t) (p - data) + 1;
    return p < end;
}

/* What begins at '<', and how long its beginning is; -1: not enough of it is here to tell. */
static int begins(const char *p, const char *end, size_t *size) {
    static const struct { const char *text; inside_t inside; } beginnings[] = {
        {"<!--", INSIDE_COMMENT}, {"<![CDATA[", INSIDE_CDATA}, {"<?", INSIDE_INSTRUCTION}, {"<!DOCTYPE", INSIDE_DOCTYPE},
    };
    size_t have = (size_t) (end - p);
    if (have < 2)
        return -1;
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        *size = strlen(beginnings[i].text);
        if (strncmp(p, beginnings[i].text, have < *size ? have : *size) == 0)
            return have < *size ? -1 : (int) beginnings[i].inside;
    }
    return INSIDE_NOTHING;
}

/* Behind the end of a comment and the like that p is inside of; NULL: it is not here. */
static const char *find_end(inside_t inside, const char *p, const char *end) {
    static const char *const ends[] = {[INSIDE_COMMENT] = "-->", [INSIDE_CDATA] = "]]>", [INSIDE_INSTRUCTION] = "?>"};
    const char *mark = ends[inside], *found = memmem(p, (size_t) (end - p), mark, strlen(mark));
    return found ? found + strlen(mark) : NULL;
}

/* ---- events ---- */

static bool refuse(xml_records_t *self, decode_target_t *target, text_t record, const char *reason) {
    if (target->builder->body.size > target->builder->start)
        builder_abort(target->builder);
    format_bad(&self->decoder, target, record, reason);
    return false;
}

/* The value at --time, a name or a.b. */
static bool find_time(const xml_records_t *self, value_t *value) {
    text_t rest = text_of(self->time_field), name;
    *value = (value_t){.type = VALUE_MAP, .size = (uint32_t) self->event.size, .packed = self->event.data};
    while (text_split(&rest, '.', &name)) {
        if (value->type != VALUE_MAP || !pack_map_get(value->packed, value->size, name, value))
            return false;
    }
    return value->type != VALUE_NULL;
}

/* A whole element. True: stop behind it. */
static bool take_element(xml_records_t *self, text_t text, decode_target_t *target) {
    err_t err;
    int64_t time = 0;
    value_t value;
    self->decoder.records++;
    if (text.size > self->limit) {
        format_bad_long(&self->decoder, target, text, self->limit);
        return false;
    }
    buf_clear(&self->event);
    if (xml_read(self->xml, text, self->latin1 ? "ISO-8859-1" : "UTF-8", true, &self->event, &err)) {
        format_bad(&self->decoder, target, text, err.text);
        return false;
    }
    if (self->time_field) {
        bool found = find_time(self, &value);
        if (!found || !value_to_time(value, &time) || time < 0 || time > EVENT_TIME_MAX) {
            err_set(&err, found ? FORMAT_BAD_TIME : FORMAT_NO_TIME, self->time_field);
            format_bad(&self->decoder, target, text, err.text);
            return false;
        }
    }
    builder_begin(target->builder);
    buf_put(&target->builder->body, self->event.data, self->event.size);
    if (!format_fits(target))
        return refuse(self, target, text, FORMAT_TOO_LARGE);
    target->topic = NULL;
    return format_commit(target, self->time_field != NULL, time);
}

/* ---- the path ---- */

/* A step without a prefix fits any. */
static bool fits(text_t step, text_t name) {
    const char *colon = step.size ? memchr(name.data, ':', name.size) : NULL;
    if (text_is(step, "*") || text_equal(step, name))
        return true;
    return colon && !memchr(step.data, ':', step.size) &&
           text_equal(step, text_make(colon + 1, name.size - (size_t) (colon - name.data) - 1));
}

static bool is_event(const xml_records_t *self, text_t name) {
    if (self->anywhere)
        return fits(self->steps[0], name);
    return self->depth == self->step_count - 1 && self->matched == self->depth && fits(self->steps[self->depth], name);
}

static void enter(xml_records_t *self, text_t name) {
    if (self->matched == self->depth && self->depth + 1 < self->step_count && fits(self->steps[self->depth], name))
        self->matched++;
    self->depth++;
}

static void leave(xml_records_t *self) {
    self->depth--;
    if (self->matched > self->depth)
        self->matched = self->depth;
    if (!self->depth)
        self->latin1 = false;
}

/* ---- from token to token ---- */

/* The end of the element that begins at data: behind the tag that closes it. NULL: it is not here. Only its own name counts, so that a tag which is
 * missing inside does no harm to the elements behind. */
static const char *element_end(xml_records_t *self, const char *data, const char *end, const tag_t *first) {
    if (first->empty)
        return data + first->size;
    if (!self->seen || self->seen > (size_t) (end - data)) {
        self->seen = first->size;
        self->seen_nested = 1;
    }
    const char *p = data + self->seen;
    while ((p = memchr(p, '<', (size_t) (end - p)))) {
        size_t size;
        tag_t tag;
        int inside = begins(p, end, &size);
        self->seen = (size_t) (p - data);
        if (inside < 0)
            return NULL;
        if (inside == INSIDE_DOCTYPE) {
            p += 2; /* it does not belong here, as the parser will tell */
            continue;
        }
        if (inside != INSIDE_NOTHING) {
            p = find_end((inside_t) inside, p + size, end);
            if (!p)
                return NULL;
            continue;
        }
        if (p[1] != '/' && !is_name_start(p[1])) {
            p++;
            continue;
        }
        if (!read_tag(p, end, &tag))
            return NULL;
        p += tag.size;
        if (tag.empty || !text_equal(tag.name, first->name))
            continue;
        self->seen_nested += tag.closing ? -1u : 1u;
        if (!self->seen_nested)
            return p;
    }
    self->seen = (size_t) (end - data);
    return NULL;
}

static void begin_doctype(xml_records_t *self) {
    self->quote = 0;
    self->subset = self->comment = false;
}

/* Passes over a DOCTYPE; returns where it ends, or how far it could be told. */
static const char *skip_doctype(xml_records_t *self, const char *p, const char *end, bool at_end) {
    while (p < end) {
        size_t have = (size_t) (end - p);
        if (self->comment) {
            if (*p == '-' && have < 3 && !at_end)
                return p;
            if (have >= 3 && memcmp(p, "-->", 3) == 0) {
                self->comment = false;
                p += 2;
            }
        } else if (self->quote) {
            self->quote = (unsigned char) *p == self->quote ? 0 : self->quote;
        } else if (*p == '"' || *p == '\'') {
            self->quote = (unsigned char) *p;
        } else if (*p == '<' && have < 4 && !at_end) {
            return p;
        } else if (have >= 4 && memcmp(p, "<!--", 4) == 0) {
            self->comment = true;
            p += 3;
        } else if (*p == '[' || *p == ']') {
            self->subset = *p == '[';
        } else if (*p == '>' && !self->subset) {
            self->inside = INSIDE_NOTHING;
            return p + 1;
        }
        p++;
    }
    return p;
}

/* Passes over what p is inside of; returns where it ends, or how far it could be told. */
static const char *skip_inside(xml_records_t *self, const char *p, const char *end, bool at_end) {
    if (self->inside == INSIDE_DOCTYPE)
        return skip_doctype(self, p, end, at_end);
    const char *behind = find_end((inside_t) self->inside, p, end);
    if (behind) {
        self->inside = INSIDE_NOTHING;
        return behind;
    }
    return at_end ? end : end - p > 2 ? end - 2 : p; /* its mark may be cut */
}

static void tell(xml_records_t *self, decode_target_t *target, text_t where, const char *reason) {
    if (!self->garbage) {
        self->decoder.records++;
        format_bad(&self->decoder, target, text_make(where.data, where.size < 1024 ? where.size : 1024), reason);
    }
    self->garbage = true;
}

static const char *give_up(xml_records_t *self, decode_target_t *target, const char *p, const char *end, const char *reason) {
    self->garbage = false;
    tell(self, target, text_make(p, end - p < 2 ? (size_t) (end - p) : 2), reason); /* no more of it is surely here */
    self->hopeless = true;
    return end;
}

/* <?xml version="1.0" encoding="..."?>. Returns where it ends; NULL: nothing can be made of what follows. */
static const char *read_declaration(xml_records_t *self, const char *p, const char *end) {
    const char *word = memmem(p, (size_t) (end - p), "encoding", 8);
    text_t name = {0};
    for (const char *at = word ? word + 8 : end; at < end && !name.data; at++) {
        if (*at != '"' && *at != '\'')
            continue;
        const char *close = memchr(at + 1, *at, (size_t) (end - at - 1));
        name = close ? text_make(at + 1, (size_t) (close - at - 1)) : (text_t){"", 0};
    }
    static const struct { const char *name; bool latin1; } known[] = {
        {"UTF-8", false}, {"UTF8", false}, {"US-ASCII", false}, {"ASCII", false}, {"ISO-8859-1", true}, {"latin1", true},
    };
    if (!name.data)
        return end;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (name.size == strlen(known[i].name) && strncasecmp(name.data, known[i].name, name.size) == 0) {
            self->latin1 = known[i].latin1;
            return end;
        }
    }
    return NULL;
}

#define WAIT NULL                      /* for more bytes */

static const char *take_instruction(xml_records_t *self, const char *p, const char *end, bool at_end, decode_target_t *target) {
    if (end - p < 6 && !at_end)
        return WAIT;
    if (self->depth || end - p < 6 || memcmp(p, "<?xml", 5) != 0 || !strchr(" \t\r\n", p[5])) {
        self->inside = INSIDE_INSTRUCTION;
        return p + 2;
    }
    const char *behind = find_end(INSIDE_INSTRUCTION, p, end - p > DECLARATION_MAX ? p + DECLARATION_MAX : end);
    if (!behind && end - p < DECLARATION_MAX && !at_end)
        return WAIT;
    if (!behind)
        return give_up(self, target, p, end, "the XML declaration has no end");
    if (read_declaration(self, p, behind))
        return behind;
    return give_up(self, target, p, end, "an encoding that cannot be read here: UTF-8, US-ASCII and ISO-8859-1 can; iconv(1) makes UTF-8 of others");
}

/* The tag of an element outside of events. */
static const char *take_tag(xml_records_t *self, const char *p, const char *end, decode_target_t *target) {
    tag_t tag;
    if (!read_tag(p, end, &tag) || tag.size > self->limit) {
        if ((size_t) (end - p) <= self->limit)
            return WAIT;
        return give_up(self, target, p, end, "a tag longer than --max-record: what follows cannot be told apart");
    }
    self->garbage = false;
    if (!tag.closing && !tag.empty) {
        if (self->depth == DEPTH_MAX)
            return give_up(self, target, p, end, "elements are nested more than 4095 deep");
        enter(self, tag.name);
    } else if (tag.closing && self->depth) {
        leave(self);
    } else if (tag.closing) {
        tell(self, target, text_make(p, tag.size), "a closing tag of nothing");
    }
    return p + tag.size;
}

/* A tag inside of an element that is too long. */
static const char *skip_tag(xml_records_t *self, const char *p, const char *end, decode_target_t *target) {
    tag_t tag;
    if (!read_tag(p, end, &tag) || tag.size > self->limit) {
        if ((size_t) (end - p) <= self->limit)
            return WAIT;
        return give_up(self, target, p, end, "a tag longer than --max-record: what follows cannot be told apart");
    }
    if (!tag.empty && hash_of(tag.name) == self->name) {
        if (tag.closing)
            self->nested--;
        else if (self->nested == NESTED_MAX)
            return give_up(self, target, p, end, "elements are nested more than 4095 deep");
        else
            self->nested++;
        self->skipping = self->nested > 0;
    }
    return p + tag.size;
}

/* An event's element; *stop: nothing more is wanted. */
static const char *take_event(xml_records_t *self, const char *p, const char *end, const tag_t *tag, decode_target_t *target, bool *stop) {
    const char *behind = element_end(self, p, end, tag);
    size_t size = (size_t) ((behind ? behind : end) - p);
    self->garbage = false;
    if (!behind && size <= self->limit)
        return WAIT;
    self->seen = 0;
    if (behind && size <= self->limit) {
        *stop = take_element(self, text_make(p, size), target);
        if (!self->depth)
            self->latin1 = false;
        return behind;
    }
    self->decoder.records++;
    format_bad_long(&self->decoder, target, text_make(p, size), self->limit);
    self->skipping = true;
    self->nested = 1;
    self->name = hash_of(tag->name);
    return p + tag->size;
}

/* One token at '<', or an event; WAIT: it is not whole. */
static const char *take_token(xml_records_t *self, const char *p, const char *end, bool at_end, decode_target_t *target, bool *stop) {
    size_t size;
    tag_t tag;
    int inside = begins(p, end, &size);
    if (inside < 0)
        return WAIT;
    if (inside == INSIDE_INSTRUCTION)
        return take_instruction(self, p, end, at_end, target);
    if (inside != INSIDE_NOTHING) {
        self->inside = (unsigned) inside;
        begin_doctype(self);
        return p + size;
    }
    if (!p[1] && !self->depth)
        return give_up(self, target, p, end, "UTF-16 cannot be read here; iconv(1) makes UTF-8 of it");
    if (!is_name_start(p[1]) && (p[1] != '/' || self->skipping)) {
        if (!self->skipping)
            tell(self, target, text_make(p, 2), "a < that begins no tag");
        if (p[1] != '/')
            return p + 1;
    }
    if (self->skipping)
        return skip_tag(self, p, end, target);
    if (p[1] != '/' && read_tag(p, end, &tag) && tag.size <= self->limit && is_event(self, tag.name))
        return take_event(self, p, end, &tag, target, stop);
    return take_tag(self, p, end, target);
}

/* Text outside of all elements. */
static const char *take_text(xml_records_t *self, const char *p, const char *behind, decode_target_t *target) {
    text_t text = text_trim(text_make(p, behind - p < SAMPLE ? (size_t) (behind - p) : SAMPLE));
    bool mark = text.size == 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0;
    if (text.size && !mark && !self->depth && !self->skipping)
        tell(self, target, text, "text outside of an element");
    return behind;
}

static size_t feed(decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target) {
    xml_records_t *self = (xml_records_t *) decoder;
    const char *p = data, *end = data + size;
    bool stop = false;
    while (p < end && !stop) {
        if (self->hopeless) {
            p = end;
        } else if (self->inside) {
            const char *behind = skip_inside(self, p, end, at_end);
            if (behind == p)
                break;
            p = behind;
        } else if (*p == ' ' || (*p >= '\t' && *p <= '\r')) {
            p++;
        } else if (*p != '<') {
            const char *next = memchr(p, '<', (size_t) (end - p));
            if (!next && !at_end && !self->depth && !self->skipping && end - p < SAMPLE) /* told as it is, however it is cut */
                break;
            p = take_text(self, p, next ? next : end, target);
        } else {
            const char *behind = take_token(self, p, end, at_end, target, &stop);
            if (behind == WAIT)
                break;
            p = behind;
        }
    }
    if (at_end && !stop && (p < end || self->depth || self->inside || self->skipping) && !self->hopeless) {
        self->garbage = false;
        tell(self, target, text_make(end, 0), "the text ends inside of an element");
        p = end;
        decoder->class->reset(decoder);
    }
    return (size_t) (p - data);
}

static void reset(decoder_t *decoder) {
    xml_records_t *self = (xml_records_t *) decoder;
    self->seen = 0;
    self->inside = self->quote = self->nested = self->depth = self->matched = 0;
    self->name = 0;
    self->subset = self->comment = self->hopeless = self->garbage = self->latin1 = self->skipping = false;
}

/* inside 3 bits, quote 2, subset, comment, hopeless, garbage, latin1, skipping, nested 12, depth 12, matched 4, name 24 */
static uint64_t state(const decoder_t *decoder) {
    const xml_records_t *self = (const xml_records_t *) decoder;
    uint64_t quote = self->quote == '"' ? 1 : self->quote == '\'' ? 2 : 0;
    return (uint64_t) self->inside | quote << 3 | (uint64_t) self->subset << 5 | (uint64_t) self->comment << 6 | (uint64_t) self->hopeless << 7 |
           (uint64_t) self->garbage << 8 | (uint64_t) self->latin1 << 9 | (uint64_t) self->skipping << 10 | (uint64_t) self->nested << 11 |
           (uint64_t) self->depth << 23 | (uint64_t) self->matched << 35 | (uint64_t) self->name << 39;
}

static void restore(decoder_t *decoder, uint64_t state) {
    xml_records_t *self = (xml_records_t *) decoder;
    static const unsigned quotes[4] = {0, '"', '\'', 0};
    reset(decoder);
    self->inside = (state & 7) <= INSIDE_DOCTYPE ? state & 7 : 0;
    self->quote = quotes[state >> 3 & 3];
    self->subset = state >> 5 & 1;
    self->comment = state >> 6 & 1;
    self->hopeless = state >> 7 & 1;
    self->garbage = state >> 8 & 1;
    self->latin1 = state >> 9 & 1;
    self->nested = state >> 11 & 0xFFF;
    self->skipping = (state >> 10 & 1) && self->nested;
    self->depth = state >> 23 & 0xFFF;
    self->matched = state >> 35 & 15;
    if (self->matched > self->depth || self->matched >= self->step_count)
        self->matched = 0;
    self->name = state >> 39 & 0xFFFFFF;
}

static void free_decoder(decoder_t *decoder) {
    xml_records_t *self = (xml_records_t *) decoder;
    xml_free(self->xml);
    buf_fini(&self->event);
    mem_free(self->time_field);
    mem_free(self->path);
    mem_free(self);
}

static int read_path(xml_records_t *self, err_t *err) {
    text_t rest = text_of(self->path), step;
    while (text_split(&rest, '.', &step)) {
        if (!step.size || self->step_count == STEPS_MAX)
            return err_set(err, "--xml-records %s: takes a name, or names from the root on with dots between, 15 at most: rss.channel.item", self->path);
        self->steps[self->step_count++] = step;
    }
    self->anywhere = self->step_count == 1;
    return 0;
}

int format_xml_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err) {
    static const decoder_class_t class = {feed, reset, free_decoder, state, restore};
    xml_records_t *self = mem_zero(sizeof *self);
    self->decoder.class = &class;
    self->limit = format_record_limit(settings);
    self->time_field = mem_text(settings->time_field);
    self->path = mem_text(settings->xml_records ? settings->xml_records : "*.*");
    self->xml = xml_new(settings->no_inference);
    if (read_path(self, err)) {
        free_decoder(&self->decoder);
        return -1;
    }
    *decoder = &self->decoder;
    return 0;
}
