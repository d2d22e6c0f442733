#ifndef INGEST_NATS_KEY_H
#define INGEST_NATS_KEY_H

#include "base/err.h"

/* NKeys: Ed25519 keys in base 32 with a prefix for their kind and a checksum (https://github.com/nats-io/nkeys). */
#define NATS_PUBLIC_KEY_SIZE 56

/* The public key that belongs to the seed in a file, which may have other lines, too. The error repeats nothing of the file. */
int nats_key_public(const char *path, char key[NATS_PUBLIC_KEY_SIZE + 1], err_t *err);
/* The same for a seed's text. */
int nats_key_of_seed(const char *seed, char key[NATS_PUBLIC_KEY_SIZE + 1], err_t *err);

#endif
