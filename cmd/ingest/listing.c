/* The names in a directory. Whether they are still the same its time of last change tells; as that is no finer than the kernel's ticks, a change right
 * before it was read could be followed by one of the same time: what was read so soon is read again. */
#include "listing.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/memory.h"

#define SETTLED (100 * NS_PER_MS)      /* many ticks */

struct listing {
    char *directory;
    listing_entry_t *entries;          /* by name */
    size_t count, room;
    struct stat status;                /* of the directory, before it was read */
    bool settled;
};

listing_t *listing_new(const char *directory) {
    listing_t *listing = mem_zero(sizeof *listing);
    listing->directory = mem_text(directory);
    return listing;
}

static void clear(listing_t *listing) {
    while (listing->count)
        mem_free(listing->entries[--listing->count].name);
}

void listing_free(listing_t *listing) {
    if (!listing)
        return;
    clear(listing);
    mem_free(listing->entries);
    mem_free(listing->directory);
    mem_free(listing);
}

const char *listing_directory(const listing_t *listing) {
    return listing->directory;
}

static int64_t ns_of(const struct timespec *time) {
    return time->tv_sec * NS_PER_S + time->tv_nsec;
}

static bool is_same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && ns_of(&a->st_mtim) == ns_of(&b->st_mtim) && ns_of(&a->st_ctim) == ns_of(&b->st_ctim);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const listing_entry_t *) a)->name, ((const listing_entry_t *) b)->name);
}

static void refresh(listing_t *listing) {
    struct stat status;
    bool there = stat(listing->directory, &status) == 0;
    if (there && listing->settled && is_same(&status, &listing->status))
        return;
    clear(listing);
    if (there)
        listing->status = status;
    listing->settled = there && clock_now() - ns_of(&status.st_mtim) >= SETTLED && clock_now() - ns_of(&status.st_ctim) >= SETTLED;
    DIR *directory = there ? opendir(listing->directory) : NULL;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (listing->count == listing->room)
            listing->entries = mem_resize(listing->entries, (listing->room = listing->room * 2 + 64) * sizeof *listing->entries);
        listing->entries[listing->count++] = (listing_entry_t){mem_text(entry->d_name), entry->d_ino};
    }
    listing->settled &= directory != NULL;
    if (directory)
        closedir(directory);
    if (listing->count)
        qsort(listing->entries, listing->count, sizeof *listing->entries, by_name);
}

/* The first whose name does not come before all that begin so. */
static size_t lower_bound(const listing_t *listing, const char *prefix, size_t size) {
    size_t low = 0, high = listing->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strncmp(listing->entries[middle].name, prefix, size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const listing_entry_t *listing_find(listing_t *listing, const char *prefix, size_t prefix_size, size_t *count) {
    refresh(listing);
    size_t first = lower_bound(listing, prefix, prefix_size), end = first;
    while (end < listing->count && strncmp(listing->entries[end].name, prefix, prefix_size) == 0)
        end++;
    *count = end - first;
    return listing->entries + first;
}
