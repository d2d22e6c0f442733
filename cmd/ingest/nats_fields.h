#ifndef INGEST_NATS_FIELDS_H
#define INGEST_NATS_FIELDS_H

#include "nats_settings.h"
#include "tag.h"

/* Fills the tag with the fields that the settings ask for. space holds the subject while the tag is made. */
void nats_fields_make(tag_t *tag, const nats_settings_t *settings, natsMsg *message, uint64_t sequence, buf_t *space);

#endif
