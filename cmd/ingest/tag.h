#ifndef INGEST_TAG_H
#define INGEST_TAG_H

#include "base/text.h"
#include "data/frame.h"

/* Fields that every event of some input gets besides its own: `count` pairs of key and value, packed. */
typedef struct tag {
    buf_t pairs;
    uint32_t count;
} tag_t;

void tag_clear(tag_t *tag);
void tag_put_text(tag_t *tag, text_t name, text_t value);

/* Adds them to the event that was committed last. A field of the same name that it has already is replaced. */
void tag_last(frame_builder_t *builder, const tag_t *tag, buf_t *scratch);

#endif
