#ifndef STREAMCTL_FACADE_HEAD_H
#define STREAMCTL_FACADE_HEAD_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/text.h"

/* Bytes of a request's first line and headers at most; what libwebsockets keeps of them needs up to twice that. */
#define HEAD_LIMIT 16384

/* Looks at how a request begins, as far as it is here (at most HEAD_LIMIT + 1 bytes). True: this is a request that libwebsockets would answer by a
 * page of its own, or not at all; the whole answer is put into `answer`, and the connection is to end behind it. */
bool head_refused(text_t head, buf_t *answer);

#endif
