/* XML to values. Expat's events make a tree of elements and attributes, in which children of the same name are chained; the tree is then packed. */
#include "data/xml.h"

#define XXH_INLINE_ALL
#include <expat.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/memory.h"
#include "data/csv.h"
#include "data/pack.h"

#define NODES_MAX (1u << 20)
#define SLOTS_FIRST 256u
#define KEPT 1024u            /* nodes */

/* An element or an attribute. Numbers are places in xml->nodes; 0 is the document, and elsewhere means none. */
typedef struct node {
    uint32_t parent, hash;
    uint32_t name, name_size;      /* in xml->texts */
    uint32_t text, text_size;
    uint32_t first, last, names;   /* its children, one for each name */
    uint32_t next;                 /* the next such one of the parent's */
    uint32_t same, same_last;      /* the next of the same name; of the first one: the last */
    uint32_t count;                /* of the first one: how many have its name */
} node_t;

struct xml {
    XML_Parser parser;
    unsigned long salt;
    bool strings;
    node_t *nodes;
    uint32_t count, capacity;
    uint32_t *slots;               /* the first child of a name, by parent and name; 0: free */
    uint32_t slots_size;           /* a power of two */
    buf_t texts;
    uint32_t open;                 /* the present element */
    unsigned depth;
    buf_t pieces[XML_DEPTH + 1];   /* the texts of the elements that are open */
    bool failed;
    err_t err;
};

static void fail(xml_t *xml, const char *what, const char *name) {
    if (!xml->failed)
        err_set(&xml->err, what, name);
    xml->failed = true;
    XML_StopParser(xml->parser, XML_FALSE);
}

/* ---- the tree ---- */

static uint32_t slot_of(const xml_t *xml, uint32_t parent, uint32_t hash, const char *name, size_t size) {
    uint32_t mask = xml->slots_size - 1, at = (hash ^ parent * 0x9E3779B1u) & mask;
    for (; xml->slots[at]; at = (at + 1) & mask) {
        const node_t *node = &xml->nodes[xml->slots[at]];
        if (node->parent == parent && node->hash == hash && node->name_size == size && memcmp(xml->texts.data + node->name, name, size) == 0)
            break;
    }
    return at;
}

static void grow_slots(xml_t *xml) {
    uint32_t *old = xml->slots, old_size = xml->slots_size;
    xml->slots_size = old_size ? 2 * old_size : SLOTS_FIRST;
    xml->slots = mem_zero(xml->slots_size * sizeof *xml->slots);
    for (uint32_t i = 0; i < old_size; i++) {
        if (!old[i])
            continue;
        const node_t *node = &xml->nodes[old[i]];
        xml->slots[slot_of(xml, node->parent, node->hash, (const char *) xml->texts.data + node->name, node->name_size)] = old[i];
    }
    mem_free(old);
}

/* Room for one more. */
static void reserve_node(xml_t *xml) {
    if (xml->count == xml->capacity) {
        xml->capacity = xml->capacity ? 2 * xml->capacity : 64;
        xml->nodes = mem_resize(xml->nodes, xml->capacity * sizeof *xml->nodes);
    }
    if (xml->count >= xml->slots_size / 2)
        grow_slots(xml);
}

static uint32_t add_node(xml_t *xml, uint32_t parent, const char *name) {
    size_t size = strlen(name);
    if (xml->count == NODES_MAX) {
        fail(xml, "more than 2^20 elements and attributes%s", "");
        return 0;
    }
    reserve_node(xml);
    uint32_t number = xml->count++, hash = (uint32_t) XXH3_64bits(name, size), slot = slot_of(xml, parent, hash, name, size);
    node_t *node = &xml->nodes[number], *above = &xml->nodes[parent];
    *node = (node_t){.parent = parent, .hash = hash, .count = 1, .same_last = number};
    if (xml->slots[slot]) {
        node_t *first = &xml->nodes[xml->slots[slot]];
        node->name = first->name;
        node->name_size = first->name_size;
        xml->nodes[first->same_last].same = number;
        first->same_last = number;
        first->count++;
        return number;
    }
    xml->slots[slot] = number;
    node->name = (uint32_t) xml->texts.size;
    node->name_size = (uint32_t) size;
    buf_put(&xml->texts, name, size);
    if (above->last)
        xml->nodes[above->last].next = number;
    else
        above->first = number;
    above->last = number;
    above->names++;
    return number;
}

static void set_text(xml_t *xml, uint32_t node, text_t text) {
    text = text_trim(text);
    xml->nodes[node].text = (uint32_t) xml->texts.size;
    xml->nodes[node].text_size = (uint32_t) text.size;
    buf_put(&xml->texts, text.data, text.size);
}

/* ---- what expat says ---- */

static void XMLCALL on_start(void *argument, const XML_Char *name, const XML_Char **attributes) {
    xml_t *xml = argument;
    if (xml->failed)
        return;
    if (xml->depth == XML_DEPTH) {
        fail(xml, "elements are nested more than 30 deep, at <%.60s>", name);
        return;
    }
    xml->open = add_node(xml, xml->open, name);
    buf_clear(&xml->pieces[++xml->depth]);
    for (; *attributes && !xml->failed; attributes += 2) {
        if (strncmp(attributes[0], "xmlns", 5) != 0 || (attributes[0][5] && attributes[0][5] != ':'))
            set_text(xml, add_node(xml, xml->open, attributes[0]), text_of(attributes[1]));
    }
}

static void XMLCALL on_end(void *argument, const XML_Char *name) {
    xml_t *xml = argument;
    if (xml->failed)
        return;
    const buf_t *pieces = &xml->pieces[xml->depth--];
    text_t text = text_trim(text_make((const char *) pieces->data, pieces->size));
    uint32_t node = xml->open;
    xml->open = xml->nodes[node].parent;
    if (text.size)
        set_text(xml, xml->nodes[node].names ? add_node(xml, node, "text") : node, text);
}

static void XMLCALL on_text(void *argument, const XML_Char *text, int size) {
    xml_t *xml = argument;
    if (!xml->failed && xml->depth)
        buf_put(&xml->pieces[xml->depth], text, (size_t) size);
}

static void XMLCALL on_entity(void *argument, const XML_Char *name, int is_parameter, const XML_Char *value, int size, const XML_Char *base,
                              const XML_Char *system, const XML_Char *public, const XML_Char *notation) {
    fail(argument, "it declares entities (%.60s), which are refused", name);
}

static void XMLCALL on_skipped(void *argument, const XML_Char *name, int is_parameter) {
    if (!is_parameter)
        fail(argument, "the entity &%.60s; is none of XML's own", name);
}

/* ---- packing ---- */

static void put_node(const xml_t *xml, const node_t *node, buf_t *out) {
    text_t text = text_make((const char *) xml->texts.data + node->text, node->text_size);
    value_t value;
    if (node->names) {
        pack_map(out, node->names);
    } else if (xml->strings || !csv_infer(text, &value)) {
        pack_string(out, text.data, text.size);
    } else {
        pack_value(out, value);
    }
    for (uint32_t number = node->first; number; number = xml->nodes[number].next) {
        const node_t *child = &xml->nodes[number];
        pack_string(out, (const char *) xml->texts.data + child->name, child->name_size);
        if (child->count > 1)
            pack_array(out, child->count);
        for (uint32_t same = number; same; same = xml->nodes[same].same)
            put_node(xml, &xml->nodes[same], out);
    }
}

/* ---- documents ---- */

static void clear(xml_t *xml) {
    if (xml->capacity > KEPT) { /* after a big document */
        mem_free(xml->nodes);
        mem_free(xml->slots);
        xml->nodes = NULL;
        xml->slots = NULL;
        xml->capacity = xml->slots_size = 0;
        buf_fini(&xml->texts);
    }
    xml->count = xml->open = xml->depth = 0;
    xml->failed = false;
    reserve_node(xml);
    memset(xml->slots, 0, xml->slots_size * sizeof *xml->slots);
    buf_clear(&xml->texts);
    xml->nodes[xml->count++] = (node_t){0};
}

int xml_read(xml_t *xml, text_t document, const char *encoding, bool inner, buf_t *out, err_t *err) {
    XML_ParserReset(xml->parser, encoding);
    XML_SetHashSalt(xml->parser, xml->salt);
    XML_SetUserData(xml->parser, xml);
    XML_SetElementHandler(xml->parser, on_start, on_end);
    XML_SetCharacterDataHandler(xml->parser, on_text);
    XML_SetEntityDeclHandler(xml->parser, on_entity);
    XML_SetSkippedEntityHandler(xml->parser, on_skipped);
    clear(xml);
    int rc = -1;
    if (document.size > INT32_MAX / 2) {
        err_set(err, "larger than 1 GiB");
    } else if (XML_Parse(xml->parser, document.data, (int) document.size, XML_TRUE) != XML_STATUS_OK) {
        unsigned long line = XML_GetCurrentLineNumber(xml->parser), column = XML_GetCurrentColumnNumber(xml->parser) + 1;
        const char *what = xml->failed ? xml->err.text : XML_ErrorString(XML_GetErrorCode(xml->parser));
        err_set(err, "XML, line %lu, column %lu: %s", line, column, what);
    } else {
        const node_t *root = &xml->nodes[xml->nodes[0].first];
        put_node(xml, inner && root->names ? root : &xml->nodes[0], out);
        rc = 0;
    }
    return rc;
}

xml_t *xml_new(bool strings) {
    xml_t *xml = mem_zero(sizeof *xml);
    xml->strings = strings;
    xml->parser = XML_ParserCreate(NULL);
    ASSERT(xml->parser);
    ASSERT(getrandom(&xml->salt, sizeof xml->salt, 0) == sizeof xml->salt);
    xml->salt |= 1; /* 0 would mean none */
    return xml;
}

void xml_free(xml_t *xml) {
    if (!xml)
        return;
    XML_ParserFree(xml->parser);
    mem_free(xml->nodes);
    mem_free(xml->slots);
    buf_fini(&xml->texts);
    for (size_t i = 0; i < sizeof xml->pieces / sizeof *xml->pieces; i++)
        buf_fini(&xml->pieces[i]);
    mem_free(xml);
}
