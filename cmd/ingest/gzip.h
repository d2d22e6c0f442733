#ifndef INGEST_GZIP_H
#define INGEST_GZIP_H

#include <sys/types.h>

#include "filemark.h"

/* Files that were compressed by gzip: one member or several, one behind the other (RFC 1952). */
typedef struct gunzip gunzip_t;

bool gzip_named(const char *path);                    /* it ends in .gz */
/* NULL: the regular file does not begin as such a file does. The descriptor stays the caller's; its offset is not used. */
gunzip_t *gunzip_new(int fd);
/* The next bytes of what it holds; 0: the end; -1: *error says what is wrong (borrowed, static). */
ssize_t gunzip_read(gunzip_t *gunzip, void *out, size_t size, const char **error);
void gunzip_free(gunzip_t *gunzip);                   /* NULL is legal */

/* As filemark_fits, about what it holds. All up to the mark is read for that. whole: nothing is behind it. */
bool gzip_fits(const filemark_t *mark, int fd, bool whole);
bool gzip_begins(const filemark_t *mark, int fd);     /* only the first bytes are compared */
/* What it holds, as a file without a name in $TMPDIR (/var/tmp), last written to at the same time. -1: it is cut off or damaged, or there is no room (told). */
int gzip_expand(int fd, const char *path);

#endif
