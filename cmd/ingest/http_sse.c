/* The format of Server-Sent Events, taken in as it comes, cut anywhere. */
#include "http_sse.h"

#include <string.h>

#include "base/text.h"

#define NAME_MAX_BYTES 1024
#define RETRY_MAX_MS 3600000

static void put_data(sse_t *sse, text_t value) {
    if (sse->data.size + value.size + 1 > sse->limit) {
        sse->too_large = true;
        return;
    }
    buf_put(&sse->data, value.data, value.size);
    buf_put_byte(&sse->data, '\n');
}

static void take_field(sse_t *sse, text_t line) {
    const char *colon = memchr(line.data, ':', line.size);
    text_t name = text_make(line.data, colon ? (size_t) (colon - line.data) : line.size);
    text_t value = colon ? text_make(colon + 1, line.size - name.size - 1) : (text_t){"", 0};
    int64_t number;
    err_t err;
    if (value.size && *value.data == ' ')
        value = text_make(value.data + 1, value.size - 1);
    if (text_is(name, "data")) {
        put_data(sse, value);
    } else if (text_is(name, "event") && value.size <= NAME_MAX_BYTES) {
        buf_clear(&sse->name);
        buf_put(&sse->name, value.data, value.size);
    } else if (text_is(name, "id") && value.size <= NAME_MAX_BYTES && !(value.size && memchr(value.data, 0, value.size))) {
        buf_clear(&sse->id);
        buf_put(&sse->id, value.data, value.size);
    } else if (text_is(name, "retry") && value.size && strspn(value.data, "0123456789") >= value.size && text_to_int(value, &number, &err) == 0) {
        sse->retry = number < RETRY_MAX_MS ? number : RETRY_MAX_MS;
    }
}

/* The line has its end. True: it ends an event. */
static bool take_line(sse_t *sse) {
    text_t line = text_make(buf_text(&sse->line), sse->line.size);
    if (!sse->begun && text_starts(line.data, "\xef\xbb\xbf"))
        line = text_make(line.data + 3, line.size - 3);
    sse->begun = true;
    if (sse->skipping)
        sse->too_large = true;
    else if (line.size && *line.data != ':')
        take_field(sse, line);
    bool blank = !line.size && !sse->skipping;
    sse->skipping = false;
    buf_clear(&sse->line);
    if (blank && sse->data.size)
        sse->data.size--; /* the last line's end */
    return blank;
}

size_t sse_feed(sse_t *sse, const char *bytes, size_t size, bool *event) {
    size_t used = 0;
    *event = false;
    if (sse->complete) {
        sse->complete = sse->too_large = false;
        buf_clear(&sse->data);
        buf_clear(&sse->name);
    }
    while (used < size) {
        if (sse->after_cr) {
            sse->after_cr = false;
            if (bytes[used] == '\n') {
                used++;
                continue;
            }
        }
        const char *at = bytes + used;
        size_t plain = 0;
        while (plain < size - used && at[plain] != '\n' && at[plain] != '\r')
            plain++;
        if (sse->line.size + plain > sse->limit)
            sse->skipping = true;
        if (!sse->skipping)
            buf_put(&sse->line, at, plain);
        used += plain;
        if (used == size)
            break;
        sse->after_cr = bytes[used++] == '\r';
        if (take_line(sse)) {
            *event = sse->complete = true;
            break;
        }
    }
    return used;
}

void sse_begin(sse_t *sse) {
    sse->complete = sse->after_cr = sse->begun = sse->skipping = sse->too_large = false;
    sse->retry = -1;
    buf_clear(&sse->data);
    buf_clear(&sse->name);
    buf_clear(&sse->line);
}

void sse_fini(sse_t *sse) {
    buf_fini(&sse->data);
    buf_fini(&sse->name);
    buf_fini(&sse->id);
    buf_fini(&sse->line);
}
