/* CRC-32C. The processor's instruction takes 8 bytes and has its result three cycles later, so three parts of a block run side by side; the
 * parts' results are then put together by moving the earlier ones over as many zero bytes as follow them, which is linear and so a look-up
 * in four tables. Without the instruction: eight bytes at a time by tables. All tables are made once, before main.
 *
 * Where it can multiply without carries in wide registers, much is folded first: what is left of 16 bytes modulo the polynomial does not change when their
 * halves, times x to the power of the distance, are added to the 16 bytes that stand so far behind them (V. Gopal et al., Fast CRC Computation for
 * Generic Polynomials Using PCLMULQDQ Instruction, Intel 2009). Sixteen of them go side by side, which is twice as fast. */
#include "base/crc32c.h"

#include <stdbool.h>
#include <string.h>
#if defined __x86_64__
#include <immintrin.h>
#endif

#define POLYNOMIAL 0x82f63b78u           /* bits reversed */
#define PART 1024                        /* bytes of one of the three parts: a multiple of 8 */

/* Written before main and constant from then on. */
static uint32_t bytes_table[8][256];     /* [k][b]: byte b followed by k zero bytes */
static uint32_t move_table[4][256];      /* [k][b]: a crc whose byte k is b, moved over PART zero bytes */
static bool has_instruction, has_wide;

#define FOLD 256                         /* bytes: eight registers */
static uint64_t fold_first, fold_second; /* factors for the earlier and the later half of 16 bytes */

static uint32_t move_slowly(uint32_t crc, size_t zeros) {
    while (zeros--)
        crc = crc >> 8 ^ bytes_table[0][crc & 255];
    return crc;
}

/* x to the power n modulo the polynomial, bits reversed as in the checksum, and shifted as a product of two such is. */
static uint64_t power(unsigned n) {
    uint32_t remainder = 0x80000000u;
    while (n--)
        remainder = remainder >> 1 ^ (remainder & 1 ? POLYNOMIAL : 0);
    return (uint64_t) remainder << 1;
}

__attribute__((constructor)) static void make_tables(void) {
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        bytes_table[0][b] = crc;
    }
    for (uint32_t b = 0; b < 256; b++)
        for (int k = 1; k < 8; k++)
            bytes_table[k][b] = move_slowly(bytes_table[k - 1][b], 1);
    for (int k = 0; k < 4; k++)
        for (uint32_t bit = 1; bit < 256; bit *= 2) {
            move_table[k][bit] = move_slowly(bit << 8 * k, PART);
            for (uint32_t below = 1; below < bit; below++)
                move_table[k][bit + below] = move_table[k][bit] ^ move_table[k][below];
        }
#if defined __x86_64__
    __builtin_cpu_init();
    has_instruction = __builtin_cpu_supports("sse4.2");
    has_wide = has_instruction && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq");
    fold_first = power(FOLD * 8 + 32);
    fold_second = power(FOLD * 8 - 32);
#endif
}

static uint64_t get_u64(const uint8_t *p) {
    uint64_t number;
    memcpy(&number, p, sizeof number);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    number = __builtin_bswap64(number);
#endif
    return number;
}

uint32_t crc32c_plain(uint32_t crc, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    crc = ~crc;
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t eight = get_u64(at) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= bytes_table[7 - k][eight >> 8 * k & 255];
    }
    while (size--)
        crc = crc >> 8 ^ bytes_table[0][(crc ^ *at++) & 255];
    return ~crc;
}

#if defined __x86_64__

static uint32_t move_part(uint32_t crc) {
    return move_table[0][crc & 255] ^ move_table[1][crc >> 8 & 255] ^ move_table[2][crc >> 16 & 255] ^ move_table[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *at, size_t size) {
    uint64_t a = (uint32_t) ~crc;
    for (; size >= 3 * PART; at += 3 * PART, size -= 3 * PART) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < PART; i += 8) {
            a = __builtin_ia32_crc32di(a, get_u64(at + i));
            b = __builtin_ia32_crc32di(b, get_u64(at + PART + i));
            c = __builtin_ia32_crc32di(c, get_u64(at + 2 * PART + i));
        }
        a = move_part(move_part((uint32_t) a) ^ (uint32_t) b) ^ (uint32_t) c;
    }
    for (; size >= 8; at += 8, size -= 8)
        a = __builtin_ia32_crc32di(a, get_u64(at));
    uint32_t rest = (uint32_t) a;
    while (size--)
        rest = __builtin_ia32_crc32qi(rest, *at++);
    return ~rest;
}

#define WIDE_TARGET __attribute__((target("avx2,vpclmulqdq,pclmul,sse4.2")))

WIDE_TARGET static inline __m256i load(const uint8_t *at) {
    return _mm256_loadu_si256((const __m256i *) (const void *) at);
}

WIDE_TARGET static inline __m256i fold(__m256i before, __m256i factors, const uint8_t *at) {
    __m256i first = _mm256_clmulepi64_epi128(before, factors, 0x00), second = _mm256_clmulepi64_epi128(before, factors, 0x11);
    return _mm256_xor_si256(_mm256_xor_si256(first, second), load(at));
}

/* At least FOLD bytes. */
WIDE_TARGET static uint32_t crc_by_folding(uint32_t crc, const uint8_t *at, size_t size) {
    const __m256i factors = _mm256_set_epi64x((int64_t) fold_second, (int64_t) fold_first, (int64_t) fold_second, (int64_t) fold_first);
    __m256i a = load(at), b = load(at + 32), c = load(at + 64), d = load(at + 96);     /* an array would stand in memory */
    __m256i e = load(at + 128), f = load(at + 160), g = load(at + 192), h = load(at + 224);
    a = _mm256_xor_si256(a, _mm256_set_epi64x(0, 0, 0, (uint32_t) ~crc));
    for (at += FOLD, size -= FOLD; size >= FOLD; at += FOLD, size -= FOLD) {
        a = fold(a, factors, at);
        b = fold(b, factors, at + 32);
        c = fold(c, factors, at + 64);
        d = fold(d, factors, at + 96);
        e = fold(e, factors, at + 128);
        f = fold(f, factors, at + 160);
        g = fold(g, factors, at + 192);
        h = fold(h, factors, at + 224);
    }
    __m256i left[] = {a, b, c, d, e, f, g, h};
    return crc_by_instruction(crc_by_instruction(~0u, (const uint8_t *) left, FOLD), at, size);
}

uint32_t crc32c_narrow(uint32_t crc, const void *bytes, size_t size) {
    return has_instruction ? crc_by_instruction(crc, bytes, size) : crc32c_plain(crc, bytes, size);
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size) {
    return has_wide && size >= 4 * FOLD ? crc_by_folding(crc, bytes, size) : crc32c_narrow(crc, bytes, size);
}

#else

uint32_t crc32c_narrow(uint32_t crc, const void *bytes, size_t size) {
    return crc32c_plain(crc, bytes, size);
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size) {
    return crc32c_plain(crc, bytes, size);
}

#endif
