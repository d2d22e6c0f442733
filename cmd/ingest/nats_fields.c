/* The parts of a NATS message besides its payload as fields: subject, headers, sequence number. */
#include "nats_fields.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/pack.h"

/* A server takes any bytes; each that is no part of valid UTF-8 becomes '?'. */
static void pack_valid(buf_t *out, const char *text) {
    size_t size = strlen(text);
    if (text_utf8_valid(text, size) == size) {
        pack_string(out, text, size);
        return;
    }
    char *copy = mem_text_n(text, size);
    text_make_valid(copy);
    pack_text(out, copy);
    mem_free(copy);
}

static void put_headers(tag_t *tag, const char *field, natsMsg *message) {
    const char **keys = NULL, **values = NULL;
    int count = 0, value_count = 0;
    buf_t pairs = {0};
    uint32_t pair_count = 0;
    if (natsMsgHeader_Keys(message, &keys, &count) != NATS_OK)
        count = 0;
    for (int i = 0; i < count; i++) {
        if (natsMsgHeader_Values(message, keys[i], &values, &value_count) != NATS_OK || !value_count)
            continue;
        pack_valid(&pairs, keys[i]);
        if (value_count > 1)
            pack_array(&pairs, (uint32_t) value_count);
        for (int j = 0; j < value_count; j++)
            pack_valid(&pairs, values[j]);
        pair_count++;
        free(values);
    }
    free(keys);
    pack_text(&tag->pairs, field);
    pack_map(&tag->pairs, pair_count);
    buf_put(&tag->pairs, pairs.data, pairs.size);
    tag->count++;
    buf_fini(&pairs);
}

void nats_fields_make(tag_t *tag, const nats_settings_t *settings, natsMsg *message, uint64_t sequence, buf_t *space) {
    buf_clear(space);
    buf_put_text(space, natsMsg_GetSubject(message));
    buf_put_byte(space, 0);
    text_make_valid((char *) space->data);
    text_t subject = text_of((const char *) space->data);
    tag_clear(tag);
    if (settings->subject_field)
        tag_put_text(tag, text_of(settings->subject_field), subject);
    if (settings->subject_fields)
        tag_put_parts(tag, settings->subject_fields, subject, '.');
    if (settings->header_field)
        put_headers(tag, settings->header_field, message);
    if (settings->sequence_field) {
        pack_text(&tag->pairs, settings->sequence_field);
        pack_uint(&tag->pairs, sequence);
        tag->count++;
    }
}
