#ifndef INGEST_BINLOG_CHARSET_H
#define INGEST_BINLOG_CHARSET_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/text.h"

#define BINLOG_BINARY 63               /* the collation of bytes */

/* Texts as MariaDB keeps them, in the character set of a collation (information_schema.collation_character_set_applicability has their numbers). */
bool binlog_utf8(buf_t *out, unsigned collation, text_t text);        /* appends it in UTF-8; false: it cannot be converted */
unsigned binlog_unit(unsigned collation);             /* bytes of the smallest character */

#endif
