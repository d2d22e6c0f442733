/* null: counts and forgets. For measuring, and for streams that are watched live only. */
#include "sink.h"

static void null_write(sink_t *sink, frame_t *frame) {
    sink_answer(sink, SINK_OK, 1, NULL);
}

static const char *const words[] = {"null", NULL};

const sink_class_t sink_null = {
    .name = "null",
    .schemes = words,
    .types = words,
    .help = "takes everything and forgets it",
    .write = null_write,
};
