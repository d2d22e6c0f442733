/* Events without a time of their own: whoever reads a file with times and does not name their field gets the windows of this minute. That
 * is legal, and seldom what was meant. */
#include "arrival.h"

#include "data/pack.h"
#include "data/lang/expression.h"

#define SHORTEST 10                    /* "2026-01-02" */
#define EPOCH_LEAST 1e9                /* seconds: a number below is no time of our days */

static bool is_name_of_time(text_t name) {
    static const char *const names[] = {"time", "ts", "timestamp", "datetime", "date", "event_time", "created_at", "Timestamp", "Time"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (text_is(name, names[i]))
            return true;
    return false;
}

static bool reads_as_time(text_t name, value_t value) {
    int64_t ns;
    if (value.type == VALUE_STRING)
        return value.size >= SHORTEST && value_to_time(value, &ns);
    return value_is_number(value) && is_name_of_time(name) && value_to_double(value) >= EPOCH_LEAST && value_to_time(value, &ns);
}

text_t arrival_field(const frame_t *frame) {
    frame_walk_t walk = {0};
    event_t event;
    uint32_t count;
    if (frame->data_time || frame_next(frame, &walk, &event) != 1)
        return (text_t){0};
    pack_cursor_t cursor = pack_cursor(event.record, event.record_size);
    text_t name;
    value_t value;
    if (!pack_read_map(&cursor, &count))
        return (text_t){0};
    while (count-- > 0 && pack_read_string(&cursor, &name) && pack_read_value(&cursor, &value))
        if (reads_as_time(name, value))
            return name;
    return (text_t){0};
}
