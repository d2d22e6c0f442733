/* The formats of log files: however a text is cut, the same events and errors. The first byte chooses the format, and for regular expressions
 * the first line is one. */
#include "fuzz_decode.h"

static void check_regex(const uint8_t *data, size_t size, size_t piece) {
    const uint8_t *end = memchr(data, '\n', size);
    size_t length = end ? (size_t) (end - data) : size;
    if (length > 256 || memchr(data, 0, length))
        return;
    format_settings_t settings = {0};
    decoder_t *decoder;
    err_t err;
    option_defaults(format_options, &settings);
    settings.pattern = mem_text_n((const char *) data, length);
    if (format_find("regex")->decoder_open(&decoder, &settings, &err) == 0) {
        decoder_free(decoder);
        fuzz_decode_pieces("regex", &settings, data + length, size - length, piece);
    }
    option_fini(format_options, &settings);
}

static void check_multiline(uint8_t choice, const uint8_t *data, size_t size, size_t piece) {
    static const char *const names[] = {"java", "python", "go", "indent"};
    format_settings_t settings = {0};
    option_defaults(format_options, &settings);
    settings.multiline = mem_text(names[choice % 4]);
    settings.multiline_lines = 1 + choice / 4 % 8;
    settings.record_limit = 16 + choice;
    fuzz_decode_pieces("lines", &settings, data, size, piece);
    option_fini(format_options, &settings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const formats[] = {"common", "combined", "lines", "logfmt", "syslog"};
    if (size < 2)
        return 0;
    size_t piece = 1 + data[1] % 31;
    if (data[0] >= 128)
        check_multiline(data[0] - 128, data + 2, size - 2, piece);
    else if (data[0] % 8 < 5)
        fuzz_decode_pieces(formats[data[0] % 8], NULL, data + 2, size - 2, piece);
    else
        check_regex(data + 2, size - 2, piece);
    return 0;
}
