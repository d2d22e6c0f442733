#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli; RFC 3720, appendix B.4). Begin with 0; the result of one run is the beginning of the next, so that pieces
 * give the same as the whole. By the processor's instruction where there is one. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* The same by tables alone: what processors without the instruction get, and what tests compare with. */
uint32_t crc32c_plain(uint32_t crc, const void *bytes, size_t size);
uint32_t crc32c_narrow(uint32_t crc, const void *bytes, size_t size);  /* the same, without wide registers */

#endif
