/* Digests, each as its standard describes it: a block function over words, and the padding that all four share. */
#include "base/digest.h"

#include <stdbool.h>
#include <string.h>

/* Fractions of the cube roots of the first 80 primes; SHA-256 takes the upper halves of the first 64. */
static const uint64_t cube_roots[80] = {
    0x428A2F98D728AE22, 0x7137449123EF65CD, 0xB5C0FBCFEC4D3B2F, 0xE9B5DBA58189DBBC, 0x3956C25BF348B538,
    0x59F111F1B605D019, 0x923F82A4AF194F9B, 0xAB1C5ED5DA6D8118, 0xD807AA98A3030242, 0x12835B0145706FBE,
    0x243185BE4EE4B28C, 0x550C7DC3D5FFB4E2, 0x72BE5D74F27B896F, 0x80DEB1FE3B1696B1, 0x9BDC06A725C71235,
    0xC19BF174CF692694, 0xE49B69C19EF14AD2, 0xEFBE4786384F25E3, 0x0FC19DC68B8CD5B5, 0x240CA1CC77AC9C65,
    0x2DE92C6F592B0275, 0x4A7484AA6EA6E483, 0x5CB0A9DCBD41FBD4, 0x76F988DA831153B5, 0x983E5152EE66DFAB,
    0xA831C66D2DB43210, 0xB00327C898FB213F, 0xBF597FC7BEEF0EE4, 0xC6E00BF33DA88FC2, 0xD5A79147930AA725,
    0x06CA6351E003826F, 0x142929670A0E6E70, 0x27B70A8546D22FFC, 0x2E1B21385C26C926, 0x4D2C6DFC5AC42AED,
    0x53380D139D95B3DF, 0x650A73548BAF63DE, 0x766A0ABB3C77B2A8, 0x81C2C92E47EDAEE6, 0x92722C851482353B,
    0xA2BFE8A14CF10364, 0xA81A664BBC423001, 0xC24B8B70D0F89791, 0xC76C51A30654BE30, 0xD192E819D6EF5218,
    0xD69906245565A910, 0xF40E35855771202A, 0x106AA07032BBD1B8, 0x19A4C116B8D2D0C8, 0x1E376C085141AB53,
    0x2748774CDF8EEB99, 0x34B0BCB5E19B48A8, 0x391C0CB3C5C95A63, 0x4ED8AA4AE3418ACB, 0x5B9CCA4F7763E373,
    0x682E6FF3D6B2B8A3, 0x748F82EE5DEFB2FC, 0x78A5636F43172F60, 0x84C87814A1F0AB72, 0x8CC702081A6439EC,
    0x90BEFFFA23631E28, 0xA4506CEBDE82BDE9, 0xBEF9A3F7B2C67915, 0xC67178F2E372532B, 0xCA273ECEEA26619C,
    0xD186B8C721C0C207, 0xEADA7DD6CDE0EB1E, 0xF57D4F7FEE6ED178, 0x06F067AA72176FBA, 0x0A637DC5A2C898A6,
    0x113F9804BEF90DAE, 0x1B710B35131C471B, 0x28DB77F523047D84, 0x32CAAB7B40C72493, 0x3C9EBE0A15C9BEBC,
    0x431D67C49C100D4C, 0x4CC5D4BECB3E42B6, 0x597F299CFC657E2A, 0x5FCB6FAB3AD6FAEC, 0x6C44198C4A475817,
};
/* Fractions of the square roots of the first 8 primes. */
static const uint64_t square_roots[8] = {
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
};
/* |sin(1)|, |sin(2)|, ... times 2^32. */
static const uint32_t sines[64] = {
    0xD76AA478, 0xE8C7B756, 0x242070DB, 0xC1BDCEEE, 0xF57C0FAF, 0x4787C62A, 0xA8304613, 0xFD469501,
    0x698098D8, 0x8B44F7AF, 0xFFFF5BB1, 0x895CD7BE, 0x6B901122, 0xFD987193, 0xA679438E, 0x49B40821,
    0xF61E2562, 0xC040B340, 0x265E5A51, 0xE9B6C7AA, 0xD62F105D, 0x02441453, 0xD8A1E681, 0xE7D3FBC8,
    0x21E1CDE6, 0xC33707D6, 0xF4D50D87, 0x455A14ED, 0xA9E3E905, 0xFCEFA3F8, 0x676F02D9, 0x8D2A4C8A,
    0xFFFA3942, 0x8771F681, 0x6D9D6122, 0xFDE5380C, 0xA4BEEA44, 0x4BDECFA9, 0xF6BB4B60, 0xBEBFBC70,
    0x289B7EC6, 0xEAA127FA, 0xD4EF3085, 0x04881D05, 0xD9D4D039, 0xE6DB99E5, 0x1FA27CF8, 0xC4AC5665,
    0xF4292244, 0x432AFF97, 0xAB9423A7, 0xFC93A039, 0x655B59C3, 0x8F0CCC92, 0xFFEFF47D, 0x85845DD1,
    0x6FA87E4F, 0xFE2CE6E0, 0xA3014314, 0x4E0811A1, 0xF7537E82, 0xBD3AF235, 0x2AD7D2BB, 0xEB86D391,
};

static inline uint32_t left(uint32_t x, unsigned n) {
    return x << n | x >> (32 - n);
}

static inline uint32_t right(uint32_t x, unsigned n) {
    return x >> n | x << (32 - n);
}

static inline uint64_t right64(uint64_t x, unsigned n) {
    return x >> n | x << (64 - n);
}

static inline uint32_t big32(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, 4);
    return __builtin_bswap32(word);
}

static inline uint64_t big64(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return __builtin_bswap64(word);
}

static void md5_block(uint64_t *words, const uint8_t *block) {
    static const uint8_t turns[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t x[16], a = (uint32_t) words[0], b = (uint32_t) words[1], c = (uint32_t) words[2], d = (uint32_t) words[3];
    memcpy(x, block, sizeof x); /* little endian */
    for (unsigned i = 0; i < 64; i++) {
        uint32_t mix = i < 16 ? (b & c) | (~b & d) : i < 32 ? (d & b) | (~d & c) : i < 48 ? b ^ c ^ d : c ^ (b | ~d);
        unsigned at = i < 16 ? i : i < 32 ? (5 * i + 1) % 16 : i < 48 ? (3 * i + 5) % 16 : 7 * i % 16;
        uint32_t sum = a + mix + sines[i] + x[at];
        a = d;
        d = c;
        c = b;
        b += left(sum, turns[i / 16][i % 4]);
    }
    words[0] += a;
    words[1] += b;
    words[2] += c;
    words[3] += d;
}

static void sha1_block(uint64_t *words, const uint8_t *block) {
    static const uint32_t constants[4] = {0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6};
    uint32_t w[80], a = (uint32_t) words[0], b = (uint32_t) words[1], c = (uint32_t) words[2], d = (uint32_t) words[3], e = (uint32_t) words[4];
    for (unsigned i = 0; i < 80; i++)
        w[i] = i < 16 ? big32(block + 4 * i) : left(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (unsigned i = 0; i < 80; i++) {
        uint32_t mix = i < 20 ? (b & c) | (~b & d) : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t sum = left(a, 5) + mix + e + constants[i / 20] + w[i];
        e = d;
        d = c;
        c = left(b, 30);
        b = a;
        a = sum;
    }
    words[0] += a;
    words[1] += b;
    words[2] += c;
    words[3] += d;
    words[4] += e;
}

static void sha256_block(uint64_t *words, const uint8_t *block) {
    uint32_t w[64], s[8];
    for (unsigned i = 0; i < 16; i++)
        w[i] = big32(block + 4 * i);
    for (unsigned i = 16; i < 64; i++) {
        uint32_t a = right(w[i - 15], 7) ^ right(w[i - 15], 18) ^ w[i - 15] >> 3, b = right(w[i - 2], 17) ^ right(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    for (unsigned i = 0; i < 8; i++)
        s[i] = (uint32_t) words[i];
    for (unsigned i = 0; i < 64; i++) {
        uint32_t sum = right(s[4], 6) ^ right(s[4], 11) ^ right(s[4], 25), choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
        uint32_t first = s[7] + sum + choice + (uint32_t) (cube_roots[i] >> 32) + w[i];
        uint32_t other = right(s[0], 2) ^ right(s[0], 13) ^ right(s[0], 22), most = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += first;
        s[0] = first + other + most;
    }
    for (unsigned i = 0; i < 8; i++)
        words[i] += s[i];
}

static void sha512_block(uint64_t *words, const uint8_t *block) {
    uint64_t w[80], s[8];
    for (unsigned i = 0; i < 16; i++)
        w[i] = big64(block + 8 * i);
    for (unsigned i = 16; i < 80; i++) {
        uint64_t a = right64(w[i - 15], 1) ^ right64(w[i - 15], 8) ^ w[i - 15] >> 7, b = right64(w[i - 2], 19) ^ right64(w[i - 2], 61) ^ w[i - 2] >> 6;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, words, sizeof s);
    for (unsigned i = 0; i < 80; i++) {
        uint64_t sum = right64(s[4], 14) ^ right64(s[4], 18) ^ right64(s[4], 41), choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
        uint64_t first = s[7] + sum + choice + cube_roots[i] + w[i];
        uint64_t other = right64(s[0], 28) ^ right64(s[0], 34) ^ right64(s[0], 39), most = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += first;
        s[0] = first + other + most;
    }
    for (unsigned i = 0; i < 8; i++)
        words[i] += s[i];
}

static const struct {
    void (*block)(uint64_t *words, const uint8_t *block);
    uint8_t block_size, size, word;
    bool little;
} kinds[] = {
    [DIGEST_MD5] = {md5_block, 64, 16, 4, true},
    [DIGEST_SHA1] = {sha1_block, 64, 20, 4, false},
    [DIGEST_SHA256] = {sha256_block, 64, 32, 4, false},
    [DIGEST_SHA512] = {sha512_block, 128, 64, 8, false},
};

void digest_begin(digest_t *digest, digest_kind_t kind) {
    static const uint32_t start[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}; /* of MD5 and SHA-1 */
    digest->kind = kind;
    digest->held = 0;
    digest->total = 0;
    for (unsigned i = 0; i < 8; i++)
        digest->words[i] = kind == DIGEST_SHA512 ? square_roots[i] : kind == DIGEST_SHA256 ? square_roots[i] >> 32 : i < 5 ? start[i] : 0;
}

void digest_put(digest_t *digest, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    size_t block = kinds[digest->kind].block_size;
    digest->total += size;
    while (size) {
        if (!digest->held && size >= block) {
            kinds[digest->kind].block(digest->words, at);
            at += block;
            size -= block;
            continue;
        }
        size_t room = block - digest->held, taken = size < room ? size : room;
        memcpy(digest->block + digest->held, at, taken);
        digest->held += taken;
        at += taken;
        size -= taken;
        if (digest->held == block) {
            kinds[digest->kind].block(digest->words, digest->block);
            digest->held = 0;
        }
    }
}

size_t digest_end(digest_t *digest, uint8_t out[DIGEST_MAX]) {
    size_t block = kinds[digest->kind].block_size, size = kinds[digest->kind].size, word = kinds[digest->kind].word;
    bool little = kinds[digest->kind].little;
    uint64_t bits = digest->total * 8;
    uint8_t length[8];
    for (unsigned i = 0; i < 8; i++)
        length[i] = (uint8_t) (bits >> 8 * (little ? i : 7 - i));
    static const uint8_t padding[256] = {0x80};
    size_t room = block - digest->held, reserved = block / 8; /* SHA-512 has a length of 16 bytes: the upper 8 are zeros here */
    digest_put(digest, padding, (room > reserved ? room : room + block) - 8);
    digest_put(digest, length, 8);
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t) (digest->words[i / word] >> 8 * (little ? i % word : word - 1 - i % word));
    return size;
}

size_t digest_hmac(digest_kind_t kind, const void *key, size_t key_size, const void *bytes, size_t size, uint8_t out[DIGEST_MAX]) {
    uint8_t pad[128] = {0};
    size_t block = kinds[kind].block_size;
    digest_t digest;
    if (key_size > block) {
        digest_begin(&digest, kind);
        digest_put(&digest, key, key_size);
        digest_end(&digest, pad);
    } else if (key_size) {
        memcpy(pad, key, key_size);
    }
    for (size_t i = 0; i < block; i++)
        pad[i] ^= 0x36;
    digest_begin(&digest, kind);
    digest_put(&digest, pad, block);
    digest_put(&digest, bytes, size);
    uint8_t inner[DIGEST_MAX];
    size_t length = digest_end(&digest, inner);
    for (size_t i = 0; i < block; i++)
        pad[i] ^= 0x36 ^ 0x5C;
    digest_begin(&digest, kind);
    digest_put(&digest, pad, block);
    digest_put(&digest, inner, length);
    return digest_end(&digest, out);
}

uint32_t crc32_of(const void *bytes, size_t size) {
    static const uint32_t nibbles[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
    }; /* by half a byte */
    uint32_t crc = UINT32_MAX;
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++) {
        crc ^= at[i];
        crc = crc >> 4 ^ nibbles[crc & 15];
        crc = crc >> 4 ^ nibbles[crc & 15];
    }
    return ~crc;
}
