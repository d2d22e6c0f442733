/* Cuts a byte stream into frames. What has arrived is measured, not decoded, until a frame is whole; every length is checked against
 * the limits before anything waits for it, so that a peer cannot make us collect more than one frame. */
#include "net/link_stream.h"

#include <string.h>

#include "base/memory.h"

#define HEADER_SLACK 4096                 /* of a header, besides four bytes for each event that could be in the body */

static uint64_t big_endian(const uint8_t *at, unsigned width) {
    uint64_t number = 0;
    for (unsigned i = 0; i < width; i++)
        number = number << 8 | at[i];
    return number;
}

/* What the first bytes of an element say about it. */
typedef struct element {
    size_t head;                          /* bytes of type and length */
    uint64_t payload;                     /* bytes that follow, of scalars */
    uint64_t children;                    /* elements that follow, of containers */
} element_t;

/* Element types 0xc0 to 0xdf: bytes of the length after the type, bytes of payload without it, elements for each counted one. */
static const struct {
    uint8_t width, payload, children;
} kinds[32] = {
    {0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0},   /* nil, (never used), false, true */
    {1, 0, 0}, {2, 0, 0}, {4, 0, 0},              /* bin */
    {1, 1, 0}, {2, 1, 0}, {4, 1, 0},              /* ext: and a type */
    {0, 4, 0}, {0, 8, 0},                         /* float */
    {0, 1, 0}, {0, 2, 0}, {0, 4, 0}, {0, 8, 0},   /* uint */
    {0, 1, 0}, {0, 2, 0}, {0, 4, 0}, {0, 8, 0},   /* int */
    {0, 2, 0}, {0, 3, 0}, {0, 5, 0}, {0, 9, 0}, {0, 17, 0},   /* fixext: and a type */
    {1, 0, 0}, {2, 0, 0}, {4, 0, 0},              /* str */
    {2, 0, 1}, {4, 0, 1}, {2, 0, 2}, {4, 0, 2},   /* array, map */
};

/* 1, 0 when more bytes are needed, -1 for the one type that is none. */
static int element_read(const uint8_t *at, size_t size, element_t *element) {
    *element = (element_t){.head = 1};
    if (size == 0)
        return 0;
    uint8_t type = at[0];
    if (type < 0x80 || type >= 0xe0)
        return 1;
    if (type < 0x90)
        element->children = 2 * (uint64_t) (type & 15);
    else if (type < 0xa0)
        element->children = type & 15;
    else if (type < 0xc0)
        element->payload = type & 31;
    else if (type == 0xc1)
        return -1;
    else {
        unsigned width = kinds[type - 0xc0].width, children = kinds[type - 0xc0].children;
        element->head = 1 + width;
        if (size < element->head)
            return 0;
        uint64_t count = big_endian(at + 1, width);
        element->payload = kinds[type - 0xc0].payload + (children ? 0 : count);
        element->children = children * count;
    }
    return 1;
}

/* The size of the element at the front, nested ones included; 0: more bytes are needed; -1: malformed or above `max`. */
static ssize_t measure(const uint8_t *data, size_t size, size_t max) {
    size_t at = 0;
    uint64_t left = 1;
    while (left) {
        element_t element;
        int whole = at <= size ? element_read(data + at, size - at, &element) : 0;
        if (whole < 0)
            return -1;
        if (whole == 0)
            return at > max ? -1 : 0;
        at += element.head;
        if (element.payload > max || at + element.payload + element.children > max)
            return -1;
        at += element.payload;
        left += element.children - 1;
        if (left && at >= size)
            return at + left > max ? -1 : 0;
    }
    return at <= size ? (ssize_t) at : 0;
}

/* Topic, header and body as the array has them. */
typedef struct parts {
    const uint8_t *topic, *header, *body;
    size_t topic_size, header_size, body_size, size;
} parts_t;

/* A string or binary element's head: as element_read, and of one of these types, with at most `max` bytes. */
static int read_bytes(const uint8_t *at, size_t size, bool binary, size_t max, element_t *element) {
    int whole = element_read(at, size, element);
    if (whole <= 0)
        return whole;
    bool is_binary = at[0] >= 0xc4 && at[0] <= 0xc6;
    bool is_string = (at[0] >= 0xa0 && at[0] < 0xc0) || (at[0] >= 0xd9 && at[0] <= 0xdb);
    return (binary ? is_binary : is_string) && element->payload <= max ? 1 : -1;
}

/* 1, 0 when more bytes are needed, -1. */
static int find_parts(const uint8_t *data, size_t size, size_t frame_max, parts_t *parts, err_t *err) {
    element_t element;
    size_t at = 1;
    if (data[0] != 0x93)
        return err_set(err, "byte 0x%02x where an array of three was expected; is it text? Then leave ?format=msgpack out", data[0]);
    int whole = read_bytes(data + at, size - at, false, FRAME_TOPIC_MAX, &element);
    if (whole < 0)
        return err_set(err, "the topic is not a string of at most %d bytes", FRAME_TOPIC_MAX);
    at += element.head;
    if (whole == 0 || size - at < element.payload)
        return 0;
    parts->topic = data + at;
    parts->topic_size = (size_t) element.payload;
    at += parts->topic_size;
    ssize_t header = measure(data + at, size - at, frame_max / 3 + HEADER_SLACK);
    if (header < 0)
        return err_set(err, "the header is malformed or too large");
    if (header == 0)
        return 0;
    parts->header = data + at;
    parts->header_size = (size_t) header;
    at += parts->header_size;
    whole = read_bytes(data + at, size - at, true, frame_max, &element);
    if (whole < 0)
        return err_set(err, "the body is not binary of at most %zu bytes", frame_max);
    at += element.head;
    if (whole == 0 || size - at < element.payload)
        return 0;
    parts->body = data + at;
    parts->body_size = (size_t) element.payload;
    parts->size = at + parts->body_size;
    return 1;
}

ssize_t link_stream_read(const uint8_t *data, size_t size, size_t frame_max, frame_t **frame, err_t *err) {
    parts_t parts = {0};
    *frame = NULL;
    int whole = size ? find_parts(data, size, frame_max, &parts, err) : 0;
    if (whole <= 0)
        return whole;
    uint8_t *memory = mem_alloc(parts.header_size + parts.body_size);
    memcpy(memory, parts.header, parts.header_size);
    memcpy(memory + parts.header_size, parts.body, parts.body_size);
    frame_t *made = mem_zero(sizeof *made);
    atomic_init(&made->references, 1);
    made->memory[0] = memory;
    made->release[0] = mem_free;
    if (frame_decode(made, parts.topic, parts.topic_size, memory, parts.header_size, memory + parts.header_size, parts.body_size,
                     frame_max, err) == 0)
        *frame = made;
    else
        frame_unref(made);
    return (ssize_t) parts.size;
}
