/* Files that zstd compressed, by libzstd. The window, which a frame's head asks for, is memory: it is bounded as zstd -d bounds it. */
#include <zstd.h>
#include <zstd_errors.h>

#include "base/err.h"
#include "unpack.h"

#define WINDOW_LOG 27                  /* 128 MiB; what level 19 makes asks for 8 */

static bool zstd_begins(const uint8_t magic[UNPACK_MAGIC]) {
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd}, skippable[] = {0x50, 0x2a, 0x4d, 0x18};
    return memcmp(magic, frame, sizeof frame) == 0 || ((magic[0] & 0xf0) == skippable[0] && memcmp(magic + 1, skippable + 1, sizeof skippable - 1) == 0);
}

static void *zstd_open(void) {
    ZSTD_DCtx *context = ZSTD_createDCtx();
    ASSERT(context);
    ASSERT(!ZSTD_isError(ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, WINDOW_LOG)));
    return context;
}

static void zstd_reset(void *state) {
    ASSERT(!ZSTD_isError(ZSTD_DCtx_reset(state, ZSTD_reset_session_only)));
}

static unpack_step_t zstd_step(void *state, unpack_input_t *in, unpack_output_t *out, const char **error) {
    ZSTD_inBuffer input = {in->data, in->size, 0};
    ZSTD_outBuffer output = {out->data, out->size, 0};
    size_t result = ZSTD_decompressStream(state, &output, &input);
    in->data += input.pos;
    in->size -= input.pos;
    out->data += output.pos;
    out->size -= output.pos;
    if (!ZSTD_isError(result))
        return result ? UNPACK_MORE : UNPACK_END;
    switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_frameParameter_windowTooLarge:
        *error = "it was compressed with a window of more than 128 MiB; compress it anew with --long=27 or less, or read what zstd -dc --long=31 writes";
        break;
    case ZSTD_error_dictionary_wrong:
        *error = "it was compressed with a dictionary; read what zstd -dc -D DICTIONARY writes";
        break;
    case ZSTD_error_memory_allocation:
        *error = "there is no memory for the window that it was compressed with";
        break;
    default:
        *error = "the compressed data is damaged";
    }
    return UNPACK_BAD;
}

static void zstd_close(void *state) {
    ZSTD_freeDCtx(state);
}

const unpack_codec_t unpack_zstd = {.begins = zstd_begins, .open = zstd_open, .reset = zstd_reset, .step = zstd_step, .close = zstd_close};
