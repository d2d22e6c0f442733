#ifndef INGEST_LISTING_H
#define INGEST_LISTING_H

#include <stddef.h>
#include <sys/types.h>

/* The names in a directory, kept for as long as it does not change: many who look into the same directory read it once. */
typedef struct listing listing_t;

typedef struct listing_entry {
    char *name;
    ino_t inode;
} listing_entry_t;

listing_t *listing_new(const char *directory);        /* copied; need not be there */
void listing_free(listing_t *listing);                /* NULL is legal */
const char *listing_directory(const listing_t *listing);
/* Those whose names begin so, in the order of their bytes, and how many; as it is now. Borrowed until the next call. A directory that cannot be read
 * has none. */
const listing_entry_t *listing_find(listing_t *listing, const char *prefix, size_t prefix_size, size_t *count);

#endif
