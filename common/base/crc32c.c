/* CRC-32C. The processor's instruction takes 8 bytes and has its result three cycles later, so three parts of a block run side by side; the
 * parts' results are then put together by moving the earlier ones over as many zero bytes as follow them, which is linear and so a look-up
 * in four tables. Without the instruction: eight bytes at a time by tables. All tables are made once, before main. */
#include "base/crc32c.h"

#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u           /* bits reversed */
#define PART 1024                        /* bytes of one of the three parts: a multiple of 8 */

/* Written before main and constant from then on. */
static uint32_t bytes_table[8][256];     /* [k][b]: byte b followed by k zero bytes */
static uint32_t move_table[4][256];      /* [k][b]: a crc whose byte k is b, moved over PART zero bytes */
static bool has_instruction;

static uint32_t move_slowly(uint32_t crc, size_t zeros) {
    while (zeros--)
        crc = crc >> 8 ^ bytes_table[0][crc & 255];
    return crc;
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

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size) {
    return has_instruction ? crc_by_instruction(crc, bytes, size) : crc32c_plain(crc, bytes, size);
}

#else

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size) {
    return crc32c_plain(crc, bytes, size);
}

#endif
