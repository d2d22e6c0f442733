/* NKeys: the server wants to know the public key, and users have the seed. */
#include "nats_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define SEED_SIZE 58                   /* characters */
#define SEED_BYTES 36                  /* two of prefix, the seed, two of checksum */
#define PUBLIC_BYTES 35                /* one of prefix */
#define PREFIX_SEED (18 << 3)          /* makes the first letter S */
#define PREFIX_USER (20 << 3)          /* U */
#define FILE_MAX_SIZE 65536

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";     /* RFC 4648, without padding */

/* CRC-16 with the polynomial 0x1021, from 0 (XMODEM). */
static uint16_t checksum(const uint8_t *bytes, size_t size) {
    uint16_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        crc ^= (uint16_t) (bytes[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t) (crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

static bool decode(const char *text, uint8_t bytes[SEED_BYTES]) {
    uint32_t bits = 0, count = 0;
    size_t size = 0;
    for (size_t i = 0; i < SEED_SIZE; i++) {
        const char *at = text[i] ? strchr(alphabet, text[i]) : NULL;
        if (!at)
            return false;
        bits = bits << 5 | (uint32_t) (at - alphabet);
        count += 5;
        if (count >= 8) {
            count -= 8;
            if (size < SEED_BYTES)
                bytes[size++] = (uint8_t) (bits >> count);
        }
    }
    return size == SEED_BYTES && checksum(bytes, SEED_BYTES - 2) == (bytes[SEED_BYTES - 2] | bytes[SEED_BYTES - 1] << 8);
}

static void encode(const uint8_t bytes[PUBLIC_BYTES], char text[NATS_PUBLIC_KEY_SIZE + 1]) {
    uint32_t bits = 0, count = 0;
    size_t size = 0;
    for (size_t i = 0; i < PUBLIC_BYTES; i++) {
        bits = bits << 8 | bytes[i];
        for (count += 8; count >= 5; count -= 5)
            text[size++] = alphabet[bits >> (count - 5) & 31];
    }
    text[size] = 0;
}

int nats_key_of_seed(const char *seed, char key[NATS_PUBLIC_KEY_SIZE + 1], err_t *err) {
    uint8_t bytes[SEED_BYTES], public[PUBLIC_BYTES] = {PREFIX_USER};
    size_t size = 32;
    if (strnlen(seed, SEED_SIZE) < SEED_SIZE || !decode(seed, bytes))
        return err_set(err, "the seed of the NKey is damaged");
    unsigned kind = (unsigned) (bytes[0] & 7) << 5 | bytes[1] >> 3;
    if ((bytes[0] & 0xF8) != PREFIX_SEED || kind != PREFIX_USER) {
        OPENSSL_cleanse(bytes, sizeof bytes);
        return err_set(err, "the NKey is none of a user: such a seed begins with SU");
    }
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, bytes + 2, 32);
    int result = pair && EVP_PKEY_get_raw_public_key(pair, public + 1, &size) == 1 && size == 32 ? 0 : err_set(err, "the seed of the NKey gives no key");
    EVP_PKEY_free(pair);
    OPENSSL_cleanse(bytes, sizeof bytes);
    if (result)
        return -1;
    uint16_t sum = checksum(public, PUBLIC_BYTES - 2);
    public[PUBLIC_BYTES - 2] = (uint8_t) sum;
    public[PUBLIC_BYTES - 1] = (uint8_t) (sum >> 8);
    encode(public, key);
    return 0;
}

/* A word of the seed's length that begins with S. */
static const char *find_seed(char *text) {
    char *rest = text, *word;
    while ((word = strsep(&rest, " \t\r\n"))) {
        if (*word == 'S' && strlen(word) == SEED_SIZE && strspn(word, alphabet) == SEED_SIZE)
            return word;
    }
    return NULL;
}

int nats_key_public(const char *path, char key[NATS_PUBLIC_KEY_SIZE + 1], err_t *err) {
    char text[FILE_MAX_SIZE];
    FILE *file = fopen(path, "re");
    if (!file)
        return err_errno(err, "--nkey: read %s", path);
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = 0;
    const char *seed = find_seed(text);
    int result = seed ? nats_key_of_seed(seed, key, err) : err_set(err, "there is no seed of an NKey in it (a word of 58 characters from SU on)");
    OPENSSL_cleanse(text, sizeof text);
    if (result)
        err_wrap(err, "--nkey: %s", path);
    return result;
}
