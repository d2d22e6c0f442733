#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* Digests of bytes: MD5 (RFC 1321), SHA-1, SHA-256 and SHA-512 (FIPS 180-4), HMAC (RFC 2104), CRC-32 (ISO 3309, as zip and Ethernet have it).
 * For keys, fingerprints and signatures of events; nothing in the project rests its security on them, but for
 * the handshake of the Forward protocol, which asks for SHA-512. */
typedef enum digest_kind { DIGEST_MD5, DIGEST_SHA1, DIGEST_SHA256, DIGEST_SHA512 } digest_kind_t;
#define DIGEST_MAX 64         /* bytes of a result, at most */

typedef struct digest {
    digest_kind_t kind;
    uint64_t words[8];        /* of MD5, SHA-1 and SHA-256: 32 bits in each */
    uint8_t block[128];
    size_t held;              /* bytes in block */
    uint64_t total;
} digest_t;

void digest_begin(digest_t *digest, digest_kind_t kind);
void digest_put(digest_t *digest, const void *bytes, size_t size);
size_t digest_end(digest_t *digest, uint8_t out[DIGEST_MAX]);         /* returns the size of the result */

/* HMAC with the key; returns the size. */
size_t digest_hmac(digest_kind_t kind, const void *key, size_t key_size, const void *bytes, size_t size, uint8_t out[DIGEST_MAX]);

uint32_t crc32_of(const void *bytes, size_t size);

#endif
