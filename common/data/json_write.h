#ifndef DATA_JSON_WRITE_H
#define DATA_JSON_WRITE_H

#include "base/clock.h"
#include "data/json.h"

/* The keys of the event before, packed and as they were printed with the comma before and the colon behind them: most events have the same ones in the
 * same places. And the second of its time, which is mostly the same too. Zero-initialise. */
#define JSON_KEYS 64
typedef struct json_key {
    uint8_t packed[40];
    char text[48];
    uint16_t mask;            /* bits of the first 16 bytes of `packed` that count */
    uint8_t size, text_size;  /* size 0: none */
} json_key_t;
typedef struct json_keys {
    json_key_t keys[JSON_KEYS];
    uint32_t events;
    /* the second of the last event's time, and its text up to the seconds */
    int64_t second;
    char second_text[CLOCK_TEXT_MAX];
} json_keys_t;

/* Internal to the text formats: json_put_event when the event lies in a larger buffer: all up to `readable` may be read. keys may be NULL. */
bool json_put_event_in(buf_t *out, const event_t *event, const uint8_t *readable, json_keys_t *keys, bool data_time, const char *stream);

#endif
