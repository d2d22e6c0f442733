/* Where held events came from. See held.h. */
#include "held.h"

static bool is_same(const frame_t *a, const frame_t *b) {
    return a->data_time == b->data_time && strcmp(a->topic, b->topic) == 0;
}

static uint32_t add(held_sources_t *sources, const char *topic, size_t size, bool data_time) {
    frame_t *frame = mem_zero(sizeof *frame);
    memcpy(frame->topic, topic, size);
    frame->data_time = data_time;
    sources->frames = mem_resize(sources->frames, (sources->count + 1) * sizeof *sources->frames);
    sources->frames[sources->count] = frame;
    return sources->count++;
}

uint32_t held_source(held_sources_t *sources, const frame_t *frame) {
    if (!frame)
        return UINT32_MAX;
    if (sources->recent < sources->count && is_same(sources->frames[sources->recent], frame))
        return sources->recent;
    for (uint32_t i = 0; i < sources->count; i++)
        if (is_same(sources->frames[i], frame))
            return sources->recent = i;
    return sources->recent = add(sources, frame->topic, strlen(frame->topic), frame->data_time);
}

const frame_t *held_frame(const held_sources_t *sources, uint32_t source) {
    return source < sources->count ? sources->frames[source] : NULL;
}

void held_sources_save(const held_sources_t *sources, buf_t *out) {
    pack_array(out, 2 * sources->count);
    for (uint32_t i = 0; i < sources->count; i++) {
        pack_text(out, sources->frames[i]->topic);
        pack_bool(out, sources->frames[i]->data_time);
    }
}

bool held_sources_load(held_sources_t *sources, pack_cursor_t *cursor) {
    uint32_t elements;
    if (!pack_read_array(cursor, &elements) || elements % 2)
        return false;
    for (uint32_t i = 0; i < elements / 2; i++) {
        text_t topic;
        value_t data_time;
        if (!pack_read_string(cursor, &topic) || topic.size > FRAME_TOPIC_MAX || !pack_read_value(cursor, &data_time) || data_time.type != VALUE_BOOL)
            return false;
        add(sources, topic.data, topic.size, data_time.boolean);
    }
    return true;
}

void held_sources_fini(held_sources_t *sources) {
    for (uint32_t i = 0; i < sources->count; i++)
        mem_free(sources->frames[i]);
    mem_free(sources->frames);
    *sources = (held_sources_t){0};
}
