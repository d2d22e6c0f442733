#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include "base/text.h"

#define SECRET_MASK "***"
#define SECRET_SHORTEST 4              /* bytes; what is shorter stands in any text by chance */

/* Whether what bears this name (a member, an option, a query parameter) looks like a secret: of letters and digits, in any case, the name
 * has one of the words in secret.c. Names that end in "file" or "name" say where a secret is, and not what. */
bool secret_name(text_t name);

/* Whether a header's value may be shown: only of a few that are known to hold no secret. */
bool secret_header_shown(text_t name);

/* The values that a stage must not show, whoever says them to it. The caller's storage: zero-initialise; secrets_fini frees. */
typedef struct secrets {
    text_t *items;                     /* owned bytes */
    size_t count;
} secrets_t;

void secrets_fini(secrets_t *secrets);
void secrets_add(secrets_t *secrets, text_t value);                                       /* passes over what is too short */
void secrets_add_login(secrets_t *secrets, text_t user, text_t password);                 /* as such, and as Basic authentication has it */
void secrets_add_header(secrets_t *secrets, const char *header);                          /* "Name: value", unless it may be shown */
void secrets_add_url(secrets_t *secrets, text_t url);                                     /* its login and the values in its query */

/* The text with "***" wherever one of the values stands, until `limit` bytes or more are written: then the rest is left out. */
void secrets_put_masked(const secrets_t *secrets, buf_t *out, text_t text, size_t limit);

#endif
