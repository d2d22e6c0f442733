#ifndef INGEST_BINLOG_READER_H
#define INGEST_BINLOG_READER_H

#include "base/bytes.h"

/* A number whose first byte tells how long it is. */
static inline uint64_t binlog_packed(bytes_t *reader) {
    uint64_t first = bytes_little(reader, 1);
    if (first < 251)
        return first;
    if (first == 252 || first == 253)
        return bytes_little(reader, first - 250);
    if (first == 254)
        return bytes_little(reader, 8);
    reader->bad = true;
    return 0;
}

#endif
