/* Frames from outside: the header's and the body's bytes, a byte stream of frames, and acknowledgements. What is decoded is verified,
 * walked and printed as JSON; a frame that is encoded again must decode again. */
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "data/frame.h"
#include "data/json.h"
#include "net/link_ack.h"
#include "net/link_stream.h"

#define FRAME_LIMIT (64 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode_again(const frame_t *frame) {
    buf_t header = {0};
    frame_number_t number = {frame->origin, frame->epoch, frame->sequence, frame->lowest, frame->receiver, frame->attempt, frame->refused,
                             frame->bye, frame->has_stable, frame->stable, frame->hurry, frame->past, frame->past_count};
    frame_put_header(&header, frame, &number);
    frame_t again = {0};
    err_t err;
    ASSERT(frame_decode(&again, frame->topic, strlen(frame->topic), header.data, header.size, frame->body, frame->body_size, FRAME_LIMIT, &err) == 0);
    ASSERT(again.events == frame->events && again.sequence == frame->sequence && again.watermark == frame->watermark);
    ASSERT(again.has_stable == frame->has_stable && again.stable == frame->stable && again.hurry == frame->hurry);
    ASSERT(again.past_count == frame->past_count && memcmp(again.past, frame->past, frame->past_count * sizeof *frame->past) == 0);
    buf_fini(&header);
}

static void use(const frame_t *frame) {
    err_t err;
    bool valid = frame_verify(frame, &err) == 0;
    buf_t text = {0};
    frame_walk_t walk = {0};
    event_t event;
    uint32_t printed = 0;
    int more;
    while ((more = frame_next(frame, &walk, &event)) == 1) {
        ASSERT(event.record + event.record_size <= frame->body + frame->body_size);
        printed += json_put_event(&text, &event, frame->data_time, printed % 2 ? "other" : NULL);
    }
    ASSERT(!valid || (more == 0 && printed == frame->events));
    buf_fini(&text);
    encode_again(frame);
}

static void parts(const uint8_t *data, size_t size) {
    if (size < 2)
        return;
    size_t header = (size_t) data[0] << 8 | data[1];
    data += 2;
    size -= 2;
    if (header > size)
        header = size;
    frame_t frame = {0};
    err_t err;
    if (frame_decode(&frame, "topic", 5, data, header, data + header, size - header, FRAME_LIMIT, &err) == 0)
        use(&frame);
}

static void stream(const uint8_t *data, size_t size) {
    for (;;) {
        frame_t *frame;
        err_t err;
        ssize_t taken = link_stream_read(data, size, FRAME_LIMIT, &frame, &err);
        ASSERT(taken <= (ssize_t) size);
        if (frame)
            use(frame);
        frame_unref(frame);
        if (taken <= 0)
            return;
        data += taken;
        size -= (size_t) taken;
    }
}

static void acknowledgement(const uint8_t *data, size_t size) {
    link_ack_t ack, again;
    err_t err;
    if (link_ack_read(&ack, text_make((const char *) data, size), &err) != 0)
        return;
    buf_t out = {0};
    link_ack_put(&out, &ack);
    ASSERT(link_ack_read(&again, text_make((const char *) out.data, out.size), &err) == 0 && again.receiver == ack.receiver);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    switch (data[0] % 3) {
    case 0: parts(data + 1, size - 1); break;
    case 1: stream(data + 1, size - 1); break;
    default: acknowledgement(data + 1, size - 1); break;
    }
    return 0;
}
