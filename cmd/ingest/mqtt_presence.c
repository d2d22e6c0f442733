/* Presence topics of MQTT: which device, and what the payload says. */
#include "mqtt_presence.h"

#include <string.h>

#include "base/memory.h"
#include "data/json.h"
#include "data/pack.h"
#include "mqtt_packet.h"

#define DEVICE "{device}"

char *presence_filter(const char *pattern) {
    buf_t filter = {0};
    text_t rest = text_of(pattern), level;
    for (bool more = text_split(&rest, '/', &level); more;) {
        if (text_is(level, DEVICE))
            buf_put_byte(&filter, '+');
        else
            buf_put(&filter, level.data, level.size);
        more = text_split(&rest, '/', &level);
        if (more)
            buf_put_byte(&filter, '/');
    }
    char *made = mem_text(buf_text(&filter));
    buf_fini(&filter);
    return made;
}

int presence_check(const char *pattern, err_t *err) {
    char *filter = presence_filter(pattern);
    int result = mqtt_check_filter(filter, err);
    mem_free(filter);
    if (result)
        return err_wrap(err, "--presence");
    text_t rest = text_of(pattern), level;
    bool found = false;
    while (text_split(&rest, '/', &level))
        found |= text_is(level, DEVICE);
    if (!found || strchr(pattern, '#'))
        return err_set(err, "--presence %s: a topic in which {device} stands for the level that is the device's name, as in tele/{device}/LWT", pattern);
    return 0;
}

bool presence_match(const char *pattern, text_t topic, buf_t *name) {
    text_t wanted = text_of(pattern), level, part;
    buf_clear(name);
    if (strncmp(pattern, "$share/", 7) == 0) {
        text_split(&wanted, '/', &level);
        text_split(&wanted, '/', &level);
    }
    while (text_split(&wanted, '/', &level)) {
        if (!text_split(&topic, '/', &part))
            return false;
        if (text_is(level, DEVICE)) {
            if (!part.size)
                return false;
            if (name->size)
                buf_put_byte(name, '/');
            buf_put(name, part.data, part.size);
        } else if (!text_is(level, "+") && !text_equal(level, part)) {
            return false;
        }
    }
    return !text_split(&topic, '/', &part);
}

static bool is_word(text_t text, const char *words) {
    text_t rest = text_of(words), word;
    while (text_split(&rest, ',', &word))
        if (word.size && word.size == text.size && strncasecmp(word.data, text.data, text.size) == 0)
            return true;
    return false;
}

bool presence_says(text_t payload, const char *words) {
    payload = text_trim(payload);
    if (!payload.size || payload.data[0] != '{')
        return is_word(payload, words);
    buf_t packed = {0};
    value_t state;
    err_t err;
    bool says = json_read_value(payload, &packed, &err) > 0 && pack_map_get(packed.data, packed.size, text_of("state"), &state) &&
                state.type == VALUE_STRING && is_word(text_make(state.text, state.size), words);
    buf_fini(&packed);
    return says;
}
