/* JSON: validity is held against jansson's; what is printed must read back as the same bytes; a reader full of predictions must say the same of
 * each line as one that has seen nothing; decoders must make the same of a text however it is cut. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/format.h"
#include "data/json.h"
#include "fuzz_decode.h"

static bool only_space(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\n\r", data[i]) || !data[i])
            return false;
    return true;
}

static void check_value(const uint8_t *data, size_t size) {
    buf_t packed = {0}, text = {0}, again = {0};
    err_t err = {""};
    ssize_t used = json_read_value(text_make((const char *) data, size), &packed, &err);
    bool valid = used >= 0 && only_space(data + used, size - (size_t) used);
    json_error_t error;
    json_t *other = json_loadb((const char *) data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    /* jansson takes a NUL behind the value for the end of the text */
    bool beyond = memchr(data, 0, size) || strstr(err.text, "nested too deeply") || (!other && json_error_code(&error) == json_error_null_byte_in_key);
    CHECK(beyond || valid == (other != NULL), "jansson: %s; we: %s", other ? "valid" : error.text, valid ? "valid" : err.text);
    json_decref(other);
    if (used >= 0) {
        CHECK(json_put_packed(&text, packed.data, packed.size), "what was read cannot be printed");
        used = json_read_value(text_make((const char *) text.data, text.size), &again, &err);
        CHECK(used == (ssize_t) text.size, "%s", err.text);
        CHECK(again.size == packed.size && memcmp(again.data, packed.data, packed.size) == 0, "printed and read back: something else");
    }
    buf_fini(&packed);
    buf_fini(&text);
    buf_fini(&again);
}

static void check_prediction(const uint8_t *data, size_t size, const char *time_field) {
    json_reader_t *reader = json_reader_new(time_field, true, true);
    text_t rest = text_make((const char *) data, size), line;
    while (text_split(&rest, '\n', &line)) {
        json_reader_t *fresh = json_reader_new(time_field, true, true);
        json_found_t found[2];
        buf_t out[2] = {{0}};
        err_t err[2];
        int result = json_read_event(reader, line, &out[0], &found[0], &err[0]);
        CHECK(json_read_event(fresh, line, &out[1], &found[1], &err[1]) == result, "prediction changes validity");
        if (result) {
            CHECK(strcmp(err[0].text, err[1].text) == 0, "%s / %s", err[0].text, err[1].text);
        } else {
            CHECK(out[0].size == out[1].size && memcmp(out[0].data, out[1].data, out[0].size) == 0, "prediction changes the event");
            CHECK(found[0].has_time == found[1].has_time && found[0].bad_time == found[1].bad_time &&
                  (!found[0].has_time || found[0].time == found[1].time) && text_equal(found[0].stream, found[1].stream), "prediction changes what is found");
        }
        buf_fini(&out[0]);
        buf_fini(&out[1]);
        json_reader_free(fresh);
    }
    json_reader_free(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    uint8_t mode = data[0] % 5, piece = data[1];
    data += 2;
    size -= 2;
    if (mode == 0)
        check_value(data, size);
    else if (mode == 1)
        check_prediction(data, size, piece & 1 ? "@timestamp" : "a.b");
    else
        fuzz_decode_pieces(mode == 2 ? "json" : mode == 3 ? "ndjson" : "lines", NULL, data, size, 1 + piece);
    return 0;
}
