/* Hashes and digests of values. Those of numbers, booleans and times are of their packed bytes, which are the same everywhere. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/digest.h"
#include "data/lang/function_make.h"

static uint64_t hash64(const row_t *row, value_t x) {
    if (x.type == VALUE_STRING || x.type == VALUE_BINARY)
        return XXH3_64bits(x.text, x.size);
    buf_t *packed = function_buffer(row);
    pack_value(packed, x);
    return XXH3_64bits(packed->data, packed->size);
}

FUNCTION(fn_hash) {
    uint64_t hash = __builtin_bswap64(hash64(row, arguments[0]));
    uint8_t bytes[8];
    memcpy(bytes, &hash, sizeof bytes);
    return function_hex(row, bytes, sizeof bytes);
}

/* From 0 to below n, every number for the same share of hashes. */
FUNCTION(fn_bucket) {
    int64_t buckets = arguments[1].integer;
    if (buckets < 1)
        return evaluation_failed(node, row, "bucket: at least one, not %lld", (long long) buckets);
    return value_int((int64_t) ((unsigned __int128) hash64(row, arguments[0]) * (uint64_t) buckets >> 64));
}

static value_t digest_text(const row_t *row, digest_kind_t kind, value_t x) {
    uint8_t out[DIGEST_MAX];
    digest_t digest;
    digest_begin(&digest, kind);
    digest_put(&digest, x.text, x.size);
    return function_hex(row, out, digest_end(&digest, out));
}

FUNCTION(fn_md5) {
    return digest_text(row, DIGEST_MD5, arguments[0]);
}

FUNCTION(fn_sha1) {
    return digest_text(row, DIGEST_SHA1, arguments[0]);
}

FUNCTION(fn_sha256) {
    return digest_text(row, DIGEST_SHA256, arguments[0]);
}

FUNCTION(fn_sha512) {
    return digest_text(row, DIGEST_SHA512, arguments[0]);
}

FUNCTION(fn_hmac_sha256) {
    uint8_t out[DIGEST_MAX];
    size_t size = digest_hmac(DIGEST_SHA256, arguments[1].text, arguments[1].size, arguments[0].text, arguments[0].size, out);
    return function_hex(row, out, size);
}

FUNCTION(fn_crc32) {
    uint32_t crc = __builtin_bswap32(crc32_of(arguments[0].text, arguments[0].size));
    uint8_t bytes[4];
    memcpy(bytes, &crc, sizeof bytes);
    return function_hex(row, bytes, sizeof bytes);
}

/* 8-4-4-4-12 hexadecimal digits. */
static bool read_uuid(text_t text, uint8_t bytes[16]) {
    size_t digits = 0;
    for (size_t i = 0; i < text.size; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        int digit = hex_digit(text.data[i]);
        if (dash ? text.data[i] != '-' : digit < 0 || digits == 32)
            return false;
        if (dash)
            continue;
        bytes[digits / 2] = (uint8_t) (digits % 2 ? bytes[digits / 2] | digit : digit << 4);
        digits++;
    }
    return text.size == 36;
}

FUNCTION(fn_is_uuid) {
    uint8_t bytes[16];
    return value_bool(arguments[0].type == VALUE_STRING && read_uuid(text_make(arguments[0].text, arguments[0].size), bytes));
}

/* Version 5 (RFC 9562): SHA-1 of the name space and the text. */
FUNCTION(fn_uuid) {
    uint8_t space[16] = {0x6B, 0xA7, 0xB8, 0x11, 0x9D, 0xAD, 0x11, 0xD1, 0x80, 0xB4, 0x00, 0xC0, 0x4F, 0xD4, 0x30, 0xC8}; /* of URLs */
    if (count > 1 && !read_uuid(text_make(arguments[1].text, arguments[1].size), space))
        return evaluation_failed(node, row, "uuid: the name space \"%.*s\" is no UUID", SHOWN(arguments[1]));
    uint8_t bytes[DIGEST_MAX];
    digest_t digest;
    digest_begin(&digest, DIGEST_SHA1);
    digest_put(&digest, space, sizeof space);
    digest_put(&digest, arguments[0].text, arguments[0].size);
    digest_end(&digest, bytes);
    bytes[6] = (uint8_t) (0x50 | (bytes[6] & 0x0F));
    bytes[8] = (uint8_t) (0x80 | (bytes[8] & 0x3F));
    value_t hex = function_hex(row, bytes, 16);
    char *out = arena_alloc(&row->context->arena, 36);
    for (size_t i = 0, from = 0; i < 36; i++)
        out[i] = i == 8 || i == 13 || i == 18 || i == 23 ? '-' : hex.text[from++];
    return value_text(out, 36);
}

const function_t functions_hashes[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"bucket", "Hashes", "bucket(x, n)", "A number from 0 to below n by the hash of x: always the same for the same x, and equally often each.", "bucket(\"device-7\", 1) = 0", 2, 2, {ANY, INT, ANY}, INT, false, fn_bucket},
    {"crc32", "Hashes", "crc32(x)", "The CRC-32 (that of zip and Ethernet) of a text or binary, as 8 hexadecimal digits.", "crc32(\"123456789\") = \"cbf43926\"", 1, 1, ALL(BYTES), TEXT, false, fn_crc32},
    {"hash", "Hashes", "hash(x)", "A 64-bit hash (XXH3) of any value, as 16 hexadecimal digits; the same everywhere.", "hash(\"a\") = \"e6c632b61e964e1f\"", 1, 1, ALL(ANY), TEXT, false, fn_hash},
    {"hmac_sha256", "Hashes", "hmac_sha256(x, key)", "The HMAC with SHA-256 of a text or binary, in hexadecimal digits.", "hmac_sha256(\"what do ya want for nothing?\", \"Jefe\") = \"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843\"", 2, 2, ALL(BYTES), TEXT, false, fn_hmac_sha256},
    {"is_uuid", "Hashes", "is_uuid(x)", "Whether x is a text that is written as a UUID.", "is_uuid(\"0a300ee9-f9e4-5697-a51a-efc7fafaba67\") = true", 1, 1, ALL(ANY), BOOL, true, fn_is_uuid},
    {"md5", "Hashes", "md5(x)", "The MD5 digest of a text or binary, in hexadecimal digits.", "md5(\"abc\") = \"900150983cd24fb0d6963f7d28e17f72\"", 1, 1, ALL(BYTES), TEXT, false, fn_md5},
    {"sha1", "Hashes", "sha1(x)", "The SHA-1 digest of a text or binary, in hexadecimal digits.", "sha1(\"abc\") = \"a9993e364706816aba3e25717850c26c9cd0d89d\"", 1, 1, ALL(BYTES), TEXT, false, fn_sha1},
    {"sha256", "Hashes", "sha256(x)", "The SHA-256 digest of a text or binary, in hexadecimal digits.", "sha256(\"abc\") = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"", 1, 1, ALL(BYTES), TEXT, false, fn_sha256},
    {"sha512", "Hashes", "sha512(x)", "The SHA-512 digest of a text or binary, in hexadecimal digits.", "substring(sha512(\"abc\"), 0, 16) = \"ddaf35a193617aba\"", 1, 1, ALL(BYTES), TEXT, false, fn_sha512},
    {"uuid", "Hashes", "uuid(text, space?)", "The UUID (version 5) of the text in a name space, which is a UUID too; without one, in that of URLs. The same text always gives the same UUID.", "uuid(\"http://example.com/\") = \"0a300ee9-f9e4-5697-a51a-efc7fafaba67\"", 1, 2, ALL(TEXT), TEXT, false, fn_uuid},
    {NULL},
};
