/* What the HTTP sink remembers of batches, so that one that is repeated holds the same events under the same key: also after a restart, when
 * frames come again in other company. */
#include "http_cut.h"

#include <string.h>
#include <xxhash.h>

#include "base/memory.h"
#include "base/text.h"
#include "data/pack.h"

#define CUTS_MAX 1024
#define FIELDS 7

void http_cut_fini(http_cut_t *cut) {
    for (uint32_t i = 0; i < cut->refused_count; i++)
        mem_free(cut->refused[i].reason);
    mem_free(cut->refused);
    mem_free(cut->input);
    mem_free(cut->origin);
    *cut = (http_cut_t){0};
}

bool http_cut_has(const http_cut_t *cut, const char *input, const frame_t *frame) {
    return frame->origin[0] && frame->sequence >= cut->first && frame->sequence <= cut->last && (cut->any_epoch || cut->epoch == frame->epoch) &&
           strcmp(cut->origin, frame->origin) == 0 && strcmp(cut->input, input) == 0;
}

void http_cut_put_key(const http_cut_t *cut, const char *sink, buf_t *out) {
    typedef unsigned long long number_t;
    for (const char *c = cut->origin; *c; c++) {
        if (frame_topic_valid(c, 1))
            buf_put_byte(out, (uint8_t) *c);
        else
            buf_format(out, "%%%02X", (unsigned char) *c);
    }
    if (!cut->any_epoch)
        buf_format(out, "-%llu", (number_t) cut->epoch);
    buf_t place = {0};
    buf_format(&place, "%s\n%s", sink, cut->input);
    buf_format(out, "-%llu-%llu-%016llx", (number_t) cut->first, (number_t) cut->last, (number_t) XXH3_64bits(place.data, place.size));
    buf_fini(&place);
}

http_cut_t http_cuts_remove(http_cuts_t *cuts, const http_cut_t *cut) {
    size_t index = (size_t) (cut - cuts->items);
    http_cut_t removed = *cut;
    memmove(cuts->items + index, cuts->items + index + 1, (--cuts->count - index) * sizeof *cuts->items);
    return removed;
}

void http_cuts_take(http_cuts_t *cuts, http_cut_t cut) {
    if (cuts->count == CUTS_MAX) {
        http_cut_t oldest = http_cuts_remove(cuts, cuts->items);
        http_cut_fini(&oldest);
    }
    cuts->items = mem_resize(cuts->items, (cuts->count + 1) * sizeof *cuts->items);
    cuts->items[cuts->count++] = cut;
}

http_cut_t *http_cuts_find(const http_cuts_t *cuts, const char *input, const frame_t *frame) {
    for (uint32_t i = 0; i < cuts->count; i++)
        if (http_cut_has(&cuts->items[i], input, frame))
            return &cuts->items[i];
    return NULL;
}

void http_cuts_fini(http_cuts_t *cuts) {
    for (uint32_t i = 0; i < cuts->count; i++)
        http_cut_fini(&cuts->items[i]);
    mem_free(cuts->items);
    *cuts = (http_cuts_t){0};
}

void http_cut_put(const http_cut_t *cut, buf_t *out) {
    pack_array(out, FIELDS);
    pack_text(out, cut->input);
    pack_text(out, cut->origin);
    pack_uint(out, cut->epoch);
    pack_bool(out, cut->any_epoch);
    pack_uint(out, cut->first);
    pack_uint(out, cut->last);
    pack_uint(out, cut->part);
}

static bool read_cut(pack_cursor_t *cursor, http_cut_t *cut) {
    uint32_t fields;
    uint64_t part;
    text_t input, origin;
    value_t any_epoch;
    bool sound = pack_read_array(cursor, &fields) && fields == FIELDS && pack_read_string(cursor, &input) && pack_read_string(cursor, &origin) &&
                 pack_read_uint(cursor, &cut->epoch) && pack_read_value(cursor, &any_epoch) && any_epoch.type == VALUE_BOOL &&
                 pack_read_uint(cursor, &cut->first) && pack_read_uint(cursor, &cut->last) && pack_read_uint(cursor, &part) && part > 0 &&
                 part <= UINT32_MAX;
    if (!sound)
        return false;
    cut->part = (uint32_t) part;
    cut->any_epoch = any_epoch.boolean;
    cut->safe = true;
    cut->input = mem_text_n(input.data, input.size);
    cut->origin = mem_text_n(origin.data, origin.size);
    return true;
}

int http_cuts_read(http_cuts_t *cuts, const buf_t *position, err_t *err) {
    pack_cursor_t cursor = pack_cursor(position->data, position->size);
    uint32_t count;
    if (!position->size)
        return 0;
    bool sound = pack_read_array(&cursor, &count);
    while (sound && count--) {
        http_cut_t cut = {0};
        if ((sound = read_cut(&cursor, &cut)))
            http_cuts_take(cuts, cut);
    }
    return sound ? 0 : err_set(err, "its stored position is not one of batches; --reset begins anew");
}
