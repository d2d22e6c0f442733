#ifndef INGEST_BINLOG_READER_H
#define INGEST_BINLOG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A cursor over the bytes of one event of the binary log; numbers are little-endian. What goes beyond the end makes it bad, and gives nothing from then on. */
typedef struct binlog_reader {
    const uint8_t *at, *end;
    bool bad;
} binlog_reader_t;

static inline size_t binlog_left(const binlog_reader_t *reader) {
    return reader->bad ? 0 : (size_t) (reader->end - reader->at);
}

static inline const uint8_t *binlog_take(binlog_reader_t *reader, size_t size) {
    if (reader->bad || binlog_left(reader) < size) {
        reader->bad = true;
        return NULL;
    }
    reader->at += size;
    return reader->at - size;
}

static inline uint64_t binlog_number(binlog_reader_t *reader, size_t size) {
    const uint8_t *bytes = binlog_take(reader, size);
    uint64_t number = 0;
    for (size_t i = size; bytes && i-- > 0;)
        number = number << 8 | bytes[i];
    return number;
}

/* The same with the first byte as the highest. */
static inline uint64_t binlog_big(binlog_reader_t *reader, size_t size) {
    const uint8_t *bytes = binlog_take(reader, size);
    uint64_t number = 0;
    for (size_t i = 0; bytes && i < size; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* A number whose first byte tells how long it is. */
static inline uint64_t binlog_packed(binlog_reader_t *reader) {
    uint64_t first = binlog_number(reader, 1);
    if (first < 251)
        return first;
    if (first == 252 || first == 253)
        return binlog_number(reader, first - 250);
    if (first == 254)
        return binlog_number(reader, 8);
    reader->bad = true;
    return 0;
}

#endif
