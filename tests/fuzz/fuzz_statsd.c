/* statsd: however a text is cut, the same events and errors, and every event is a sound record. */
#include "fuzz_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    format_settings_t settings = {0};
    option_defaults(format_options, &settings);
    settings.record_limit = 16 + data[0] * 8u;
    fuzz_decode_pieces("statsd", &settings, data + 2, size - 2, 1 + data[1]);
    option_fini(format_options, &settings);
    return 0;
}
