/* Case of characters beyond ASCII, by a table of runs. */
#include "base/unicode.h"

#include <stdbool.h>
#include <string.h>

/* Upper case `from` to `to`, every `step`-th character; the lower case is `distance` away. In ascending order. */
typedef struct run {
    uint16_t from, to;
    int16_t distance;
    uint8_t step;
} run_t;

static const run_t runs[] = {
    {0x41, 0x5A, 32, 1},     {0xC0, 0xD6, 32, 1},     {0xD8, 0xDE, 32, 1},     {0x100, 0x12E, 1, 2},    {0x132, 0x136, 1, 2},
    {0x139, 0x147, 1, 2},    {0x14A, 0x176, 1, 2},    {0x178, 0x178, -121, 1}, {0x179, 0x17D, 1, 2},    {0x181, 0x181, 210, 1},
    {0x186, 0x186, 206, 1},  {0x189, 0x18A, 205, 1},  {0x18E, 0x18E, 79, 1},   {0x18F, 0x18F, 202, 1},  {0x190, 0x190, 203, 1},
    {0x1A0, 0x1A4, 1, 2},    {0x1AF, 0x1AF, 1, 1},    {0x1CD, 0x1DB, 1, 2},    {0x1DE, 0x1EE, 1, 2},    {0x1F4, 0x1F4, 1, 1},
    {0x1F8, 0x21E, 1, 2},    {0x222, 0x232, 1, 2},    {0x386, 0x386, 38, 1},   {0x388, 0x38A, 37, 1},   {0x38C, 0x38C, 64, 1},
    {0x38E, 0x38F, 63, 1},   {0x391, 0x3A1, 32, 1},   {0x3A3, 0x3AB, 32, 1},   {0x400, 0x40F, 80, 1},   {0x410, 0x42F, 32, 1},
    {0x460, 0x480, 1, 2},    {0x48A, 0x4BE, 1, 2},    {0x4C0, 0x4C0, 15, 1},   {0x4C1, 0x4CD, 1, 2},    {0x4D0, 0x52E, 1, 2},
    {0x531, 0x556, 48, 1},   {0x1E00, 0x1E94, 1, 2},  {0x1EA0, 0x1EFE, 1, 2},  {0xFF21, 0xFF3A, 32, 1},
};
#define RUNS (sizeof runs / sizeof *runs)

static bool within(const run_t *run, uint32_t upper) {
    return upper >= run->from && upper <= run->to && (upper - run->from) % run->step == 0;
}

uint32_t unicode_lower(uint32_t code) {
    if (code < 0x80)
        return code >= 'A' && code <= 'Z' ? code + 32 : code;
    if (code == 0x130) /* I with a dot */
        return 'i';
    if (code == 0x1E9E) /* sharp S */
        return 0xDF;
    for (size_t i = 0; i < RUNS && code >= runs[i].from; i++)
        if (within(&runs[i], code))
            return (uint32_t) ((int32_t) code + runs[i].distance);
    return code;
}

uint32_t unicode_upper(uint32_t code) {
    if (code < 0x80)
        return code >= 'a' && code <= 'z' ? code - 32 : code;
    switch (code) {
    case 0xB5: return 0x39C;   /* micro sign: Mu */
    case 0x131: return 'I';    /* i without a dot */
    case 0x17F: return 'S';    /* long s */
    case 0x3C2: return 0x3A3;  /* final sigma */
    default: break;
    }
    for (size_t i = 0; i < RUNS; i++)
        if (within(&runs[i], (uint32_t) ((int32_t) code - runs[i].distance)))
            return (uint32_t) ((int32_t) code - runs[i].distance);
    return code;
}

uint32_t unicode_get(const char *text, size_t size, unsigned *taken) {
    const unsigned char *bytes = (const unsigned char *) text;
    unsigned first = bytes[0], length = first < 0xC2 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 1;
    *taken = 1;
    if (length == 1 || length > size)
        return first;
    uint32_t code = first & (0x7Fu >> length);
    for (unsigned i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80)
            return first;
        code = code << 6 | (bytes[i] & 0x3Fu);
    }
    *taken = length;
    return code;
}

unsigned unicode_put(char *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (char) code;
        return 1;
    }
    unsigned length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (unsigned i = length; i-- > 1; code >>= 6)
        out[i] = (char) (0x80 | (code & 0x3F));
    out[0] = (char) ((0xF00u >> length & 0xFF) | code);
    return length;
}

size_t unicode_mark(const char *text, size_t size) {
    return size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}
