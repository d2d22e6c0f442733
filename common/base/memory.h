#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Allocation that never fails: out of memory ends the process with a message (a bound in bytes belongs
 * to the queue that asks, not to the allocator). Memory is the caller's, to be given to mem_free. */
void *mem_alloc(size_t size);
void *mem_zero(size_t size);
void *mem_resize(void *memory, size_t size);
void *mem_aligned(size_t alignment, size_t size);     /* alignment: a power of two */
void *mem_copy(const void *bytes, size_t size);
char *mem_text(const char *text);                     /* copy of a C string; NULL gives NULL */
char *mem_text_n(const char *text, size_t size);      /* copy of size bytes, NUL added */
char *mem_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
void mem_free(void *memory);                          /* NULL is legal */

/* Tunes the allocator for a process that lives on frames of about 100 KiB: they are reused rather than
 * mapped and unmapped. Call once, first thing in main. */
void mem_tune(void);

/* An arena hands out memory that lives until arena_reset: temporaries of one frame. Zero-initialise.
 * Blocks are kept across resets up to `keep` bytes (default 1 MiB), so the steady state allocates nothing. */
typedef struct arena_block arena_block_t;
typedef struct arena {
    arena_block_t *current, *first;
    size_t used;      /* in current */
    size_t keep;
} arena_t;

void *arena_alloc(arena_t *arena, size_t size);       /* 16-byte aligned; valid until reset */
void *arena_copy(arena_t *arena, const void *bytes, size_t size);
/* What is handed out after arena_mark is taken back by arena_release; what was before stays. */
typedef struct arena_mark {
    arena_block_t *block;
    size_t used;
} arena_mark_t;
arena_mark_t arena_mark(const arena_t *arena);
void arena_release(arena_t *arena, arena_mark_t mark);
void arena_reset(arena_t *arena);
void arena_fini(arena_t *arena);

#endif
