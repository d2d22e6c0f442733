#ifndef INGEST_PG_VALUE_H
#define INGEST_PG_VALUE_H

#include <libpq-fe.h>

#include "base/buffer.h"
#include "base/text.h"

/* PostgreSQL's types, from the text that the server gives for a value to a value of ours (ingest(1) has the table). */
typedef enum numeric_form { NUMERIC_EXACT, NUMERIC_NUMBER, NUMERIC_TEXT } numeric_form_t;

/* What is known of types beyond the built-in ones: domains, and arrays of them. Zero-initialise; pg_types_fini. */
typedef struct pg_type {
    Oid oid, base, element;        /* of a domain: what it is made of; of an array: its elements' type */
} pg_type_t;

typedef struct pg_types {
    pg_type_t *types;              /* by oid */
    size_t count;
    numeric_form_t numeric;
} pg_types_t;

extern const char pg_types_query[];                   /* its rows make pg_types_load */
void pg_types_load(pg_types_t *types, const PGresult *rows);
void pg_types_fini(pg_types_t *types);

/* Appends the value. What its type does not fit stays text. */
void pg_put_value(const pg_types_t *types, buf_t *out, Oid type, text_t text);

/* A decimal number in text: an integer of 64 bits or a double where that is exact, by `form`; else text. */
void pg_put_numeric(buf_t *out, text_t text, numeric_form_t form);
/* Text, or binary when it is no UTF-8. */
void pg_put_text(buf_t *out, text_t text);

#endif
