#ifndef BASE_URL_H
#define BASE_URL_H

#include "base/text.h"

/* The URL for people: user and password, and the values of query parameters that are named like secrets (base/secret.h), are "***"; a fragment is left
 * out; what cannot be shown is escaped. Its scheme may be missing ("//user:password@host"). Any
 * other text passes as it is. */
void url_put_redacted(buf_t *out, text_t url);

/* The same with its fragment, which may be made of pairs like a query. */
void url_put_redacted_whole(buf_t *out, text_t url);

/* A query alone, or a form's fields: "a=1&token=***". */
void url_put_query_redacted(buf_t *out, text_t query);

/* Whether a user stands before its host ("ftp://me@host/"). */
bool url_has_login(const char *url);

#endif
