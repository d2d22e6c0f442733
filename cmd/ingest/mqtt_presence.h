#ifndef INGEST_MQTT_PRESENCE_H
#define INGEST_MQTT_PRESENCE_H

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"

/* Topics that tell whether a device is there: its last will, what a gateway says about it. A pattern is a topic in which {device} stands for each
 * level that is the device's name ("tele/{device}/LWT"), and + for any other one. */

int presence_check(const char *pattern, err_t *err);
char *presence_filter(const char *pattern);           /* what to subscribe to; mem_free */
/* The device's name, its levels joined with "/", if the topic is one of the pattern. */
bool presence_match(const char *pattern, text_t topic, buf_t *name);

/* Whether the payload is one of the words (comma-separated, in any case of letters): as it is, or the "state" of a JSON object, as Zigbee2MQTT has it. */
bool presence_says(text_t payload, const char *words);

#endif
