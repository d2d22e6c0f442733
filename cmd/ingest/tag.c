/* Fields added to events after they were decoded: behind the others, where no name is there twice and the map's head need not grow. */
#include "tag.h"

#include "base/memory.h"
#include "data/pack.h"

#define PARTS_MAX 64

void tag_clear(tag_t *tag) {
    buf_clear(&tag->pairs);
    tag->count = 0;
}

void tag_put_text(tag_t *tag, text_t name, text_t value) {
    pack_string(&tag->pairs, name.data, name.size);
    pack_string(&tag->pairs, value.data, value.size);
    tag->count++;
}

static bool names_a_field(text_t name) {
    return name.size && !text_is(name, "-");
}

void tag_put_parts(tag_t *tag, const char *names, text_t text, char separator) {
    text_t left = text_of(names), name, part;
    while (text_split(&left, ',', &name) && text_split(&text, separator, &part)) {
        if (names_a_field(name))
            tag_put_text(tag, name, part);
    }
}

static int check(text_t name, const char *option, buf_t *seen, err_t *err) {
    char *item = mem_format(",%.*s,", (int) name.size, name.data);
    int result = 0;
    if (!seen->size)
        buf_put_byte(seen, ',');
    if (!name.size)
        result = err_set(err, "--%s is empty", option);
    else if (strstr(buf_text(seen), item))
        result = err_set(err, "--%s: another field has the name %.*s already", option, (int) name.size, name.data);
    buf_put_text(seen, item + 1);
    mem_free(item);
    return result;
}

int tag_check_name(const char *name, const char *option, buf_t *seen, err_t *err) {
    return name ? check(text_of(name), option, seen, err) : 0;
}

int tag_check_parts(const char *names, const char *option, buf_t *seen, err_t *err) {
    text_t left = text_of(names ? names : ""), name;
    for (size_t count = 0; text_split(&left, ',', &name);) {
        if (++count > PARTS_MAX)
            return err_set(err, "--%s: at most %d names", option, PARTS_MAX);
        if (names_a_field(name) && check(name, option, seen, err))
            return -1;
    }
    return 0;
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
