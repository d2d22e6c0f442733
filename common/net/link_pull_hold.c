/* Frames that came while the receiver was paused, or that its owner refused for now. They are not received yet: the sender keeps them. But
 * the socket is read on, so that news from the sender's log and frames of others get through. What is above the bounds is left in the
 * socket while paused; of a refused stream it is dropped and asked for again later. */
#include <string.h>

#include "base/memory.h"
#include "net/link_pull.h"
#include "net/link_queue.h"

#define HOLD_BYTES (4 * 1024 * 1024)
#define HOLD_FRAMES 256

bool pull_hold_full(const pull_link_t *pull) {
    return pull->hold.bytes >= HOLD_BYTES || pull->hold.count >= HOLD_FRAMES;
}

void pull_hold(pull_link_t *pull, pull_stream_t *stream, frame_t *frame, bool good) {
    if (pull_hold_full(pull)) {
        stream->spilled = pull->hold.spilled = true;
        return;
    }
    if (!pull->hold.frames)
        pull->hold.frames = mem_alloc(HOLD_FRAMES * sizeof *pull->hold.frames);
    pull->hold.frames[pull->hold.count++] = (pull_held_t){frame_ref(frame), stream, good};
    pull->hold.bytes += link_frame_bytes(frame);
    stream->held_last = frame->sequence;
    stream->held++;
}

static void drop(pull_link_t *pull, pull_held_t *held) {
    held->stream->held--;
    pull->hold.bytes -= link_frame_bytes(held->frame);
    frame_unref(held->frame);
}

/* Streams of which more had come than could be held are asked for it, once nothing of them waits any more. */
static void ask_spilled(pull_link_t *pull) {
    size_t position = 0;
    text_t key;
    void *value;
    pull->hold.spilled = false;
    while (map_next(pull->streams, &position, &key, &value)) {
        pull_stream_t *stream = value;
        if (stream->spilled && !stream->held && !stream->refused) {
            stream->spilled = false;
            pull_complain(pull, stream, stream->attempt);
        }
        pull->hold.spilled = pull->hold.spilled || stream->spilled;
    }
}

static void release(void *argument) {
    pull_link_t *pull = argument;
    size_t kept = 0;
    int left = PULL_FRAMES_PER_TURN;
    for (size_t i = 0; i < pull->hold.count; i++) {
        pull_held_t *held = &pull->hold.frames[i];
        bool may = !pull->base.paused && !pull->base.failed && left > 0 && !held->stream->refused;
        if (may && pull_deliver(pull, held->stream, held->frame, held->good)) {
            drop(pull, held);
            left--;
        } else
            pull->hold.frames[kept++] = *held;
    }
    pull->hold.count = kept;
    if (pull->hold.spilled && !pull->base.paused)
        ask_spilled(pull);
    if (left == 0)
        loop_defer(pull->base.loop, release, pull);
    pull_read_on(pull);
}

void pull_hold_release(pull_link_t *pull) {
    if (pull->hold.count || pull->hold.spilled)
        loop_defer(pull->base.loop, release, pull);
}

void pull_hold_want(pull_link_t *pull) {
    size_t position = 0;
    text_t key;
    void *stream;
    if (!pull->hold.count && !pull->hold.spilled)
        return;                           /* then nothing is refused */
    while (map_next(pull->streams, &position, &key, &stream))
        ((pull_stream_t *) stream)->refused = false;
    pull->hold.refused = false;
    pull_hold_release(pull);
}

void pull_hold_forget(pull_link_t *pull, pull_stream_t *stream) {
    size_t kept = 0;
    stream->refused = stream->spilled = false;
    for (size_t i = 0; i < pull->hold.count; i++)
        if (pull->hold.frames[i].stream == stream)
            drop(pull, &pull->hold.frames[i]);
        else
            pull->hold.frames[kept++] = pull->hold.frames[i];
    pull->hold.count = kept;
}

void pull_hold_free(pull_link_t *pull) {
    loop_undefer(pull->base.loop, release, pull);
    while (pull->hold.count)
        drop(pull, &pull->hold.frames[--pull->hold.count]);
    mem_free(pull->hold.frames);
}
