/* XML: however a text is cut, the same events and errors; and whole documents, as bodies of web addresses are. */
#include "data/pack.h"
#include "data/xml.h"
#include "fuzz_decode.h"

static const char *const paths[] = {"*.*", "b", "a.b", "*", "a.*.b", "p:b", "*.b.*", "a"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3)
        return 0;
    format_settings_t settings = {0};
    option_defaults(format_options, &settings);
    uint8_t flags = data[0];
    settings.xml_records = mem_text(paths[flags & 7]);
    settings.no_inference = flags & 8;
    if (flags & 16)
        settings.time_field = mem_text("t.u");
    if (flags & 32)
        settings.record_limit = 16 + data[1] * 8u;
    fuzz_decode_pieces("xml", &settings, data + 3, size - 3, 1 + data[2]);
    if (flags & 64) {
        xml_t *xml = xml_new(settings.no_inference);
        buf_t out = {0};
        err_t err;
        if (xml_read(xml, text_make((const char *) data + 3, size - 3), NULL, flags & 128, &out, &err) == 0) {
            pack_cursor_t cursor = pack_cursor(out.data, out.size);
            CHECK(pack_skip(&cursor) && cursor.at == cursor.end, "the value is not whole");
        } else {
            CHECK(!out.size, "something is there after a failure");
        }
        xml_free(xml);
        buf_fini(&out);
    }
    option_fini(format_options, &settings);
    return 0;
}
