#ifndef PROCESS_SCHEMA_H
#define PROCESS_SCHEMA_H

#include "violation.h"

/* A JSON Schema, the common part of drafts 6 to 2020-12: type, enum, const, properties, required, additionalProperties, minProperties, maxProperties, items (one
 * schema for all), minItems, maxItems, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minLength, maxLength, pattern, format (date-time, date, email, ipv4,
 * ipv6, uri, uuid), allOf, anyOf, oneOf, not, and true and false as schemas. Titles, descriptions, examples and the like are passed over; any other keyword is
 * refused by its name, since a rule that is not looked at would be a false promise.
 *
 * Values are equal as in the stream language; arrays and maps when they have the same bytes. Times count as strings, a double without a fraction is an integer. */
typedef struct schema schema_t;

schema_t *schema_new(text_t json, err_t *err);        /* NULL on failure: where, and what */
void schema_free(void *schema);                       /* NULL is legal */
/* Adds what is wrong with the value, which is called `name` (empty: the whole event). Texts are in the row's arena or the schema. */
void schema_check(const schema_t *schema, value_t value, text_t name, const row_t *row, violations_t *violations);

#endif
