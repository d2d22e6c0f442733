/* Fields added to events after they were decoded: behind the others, where no name is there twice and the map's head need not grow. */
#include "tag.h"

#include "data/pack.h"

void tag_clear(tag_t *tag) {
    buf_clear(&tag->pairs);
    tag->count = 0;
}

void tag_put_text(tag_t *tag, text_t name, text_t value) {
    pack_string(&tag->pairs, name.data, name.size);
    pack_string(&tag->pairs, value.data, value.size);
    tag->count++;
}

static bool has_name(const tag_t *tag, text_t name) {
    pack_cursor_t cursor = pack_cursor(tag->pairs.data, tag->pairs.size);
    text_t key;
    for (uint32_t i = 0; i < tag->count; i++) {
        ASSERT(pack_read_string(&cursor, &key) && pack_skip(&cursor));
        if (text_equal(key, name))
            return true;
    }
    return false;
}

/* How many of the record's names are the tag's as well. */
static uint32_t clashes(const tag_t *tag, const uint8_t *record, size_t size) {
    pack_cursor_t cursor = pack_cursor(record, size);
    uint32_t count = 0, found = 0;
    text_t key;
    ASSERT(pack_read_map(&cursor, &count));
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(pack_read_string(&cursor, &key));
        found += has_name(tag, key);
        ASSERT(pack_skip(&cursor));
    }
    return found;
}

static void remake(const tag_t *tag, const uint8_t *record, size_t size, uint32_t clashing, buf_t *out) {
    pack_cursor_t cursor = pack_cursor(record, size);
    uint32_t count = 0;
    text_t key;
    ASSERT(pack_read_map(&cursor, &count));
    buf_clear(out);
    pack_map(out, count - clashing + tag->count);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *from = cursor.at;
        ASSERT(pack_read_string(&cursor, &key) && pack_skip(&cursor));
        if (!clashing || !has_name(tag, key))
            buf_put(out, from, (size_t) (cursor.at - from));
    }
    buf_put(out, tag->pairs.data, tag->pairs.size);
}

static void put_length(frame_builder_t *builder) {
    size_t size = builder->body.size - builder->start;
    uint8_t *length = builder->lengths.data + builder->lengths.size - 4;
    for (int i = 0; i < 4; i++)
        length[i] = (uint8_t) (size >> 8 * i);
}

void tag_last(frame_builder_t *builder, const tag_t *tag, buf_t *scratch) {
    size_t at = builder->start + EVENT_HEAD;
    uint8_t head = builder->body.data[at];
    uint32_t clashing = clashes(tag, builder->body.data + at, builder->body.size - at);
    if (!clashing && (head & 0xF0) == 0x80 && (head & 15) + tag->count <= 15) {
        builder->body.data[at] = (uint8_t) (head + tag->count);
        buf_put(&builder->body, tag->pairs.data, tag->pairs.size);
    } else {
        remake(tag, builder->body.data + at, builder->body.size - at, clashing, scratch);
        builder->body.size = at;
        buf_put(&builder->body, scratch->data, scratch->size);
    }
    put_length(builder);
}
