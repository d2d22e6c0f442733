#ifndef INGEST_TAG_H
#define INGEST_TAG_H

#include "base/err.h"
#include "base/text.h"
#include "data/frame.h"

/* Fields that every event of some input gets besides its own: `count` pairs of key and value, packed. */
typedef struct tag {
    buf_t pairs;
    uint32_t count;
} tag_t;

void tag_clear(tag_t *tag);
void tag_put_text(tag_t *tag, text_t name, text_t value);
/* names: "a,-,b". Each gets a part of the text, which are between separators, from the first on; "-" or nothing leaves one out. */
void tag_put_parts(tag_t *tag, const char *names, text_t text, char separator);

/* Names that options give to fields: not empty, and none there twice. seen: what was checked before (zero-initialise; buf_fini). NULL is legal as a name
 * or names: the option was not given. */
int tag_check_name(const char *name, const char *option, buf_t *seen, err_t *err);
int tag_check_parts(const char *names, const char *option, buf_t *seen, err_t *err);

/* Adds them to the event that was committed last. A field of the same name that it has already is replaced. */
void tag_last(frame_builder_t *builder, const tag_t *tag, buf_t *scratch);

#endif
