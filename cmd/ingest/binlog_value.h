#ifndef INGEST_BINLOG_VALUE_H
#define INGEST_BINLOG_VALUE_H

#include "base/buffer.h"
#include "base/text.h"
#include "binlog_charset.h"
#include "binlog_reader.h"

/* A column, as the table's description in the log has it. */
typedef struct binlog_column {
    char *name;                        /* NULL: the log does not tell */
    uint8_t type;                      /* BINLOG_... or one of MYSQL_TYPE_... */
    uint16_t meta;
    bool is_unsigned;
    bool json;                         /* a text whose content is JSON; the caller's */
    unsigned collation;                /* of texts, also of the words; BINLOG_BINARY: bytes */
    unsigned word_count;
    text_t *words;                     /* of ENUM and SET, in the column's character set; owned */
} binlog_column_t;

#define BINLOG_BLOB_COMPRESSED 140
#define BINLOG_VARCHAR_COMPRESSED 141

/* What a column's type is called on disk: ENUM and SET hide behind STRING. *length: of ENUM and SET in bytes, of CHAR the greatest. */
uint8_t binlog_real_type(const binlog_column_t *column, unsigned *length);
/* Takes the value of the column from the row and appends it as ours. -1: it is not there whole, or of a type that is not known. */
int binlog_value_put(buf_t *out, const binlog_column_t *column, bytes_t *reader);
/* What the server had compressed: a byte with the length of the length, the length, and a zlib stream. False: it is damaged, or larger than `limit`. */
bool binlog_inflate(buf_t *out, const uint8_t *bytes, size_t size, size_t limit);

#endif
