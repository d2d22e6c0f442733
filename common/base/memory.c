/* Allocation that ends the process when memory is out, and arenas. */
#include "base/memory.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log_output.h"

#define BLOCK_SIZE (64 * 1024 - 64)
#define KEEP_DEFAULT (1024 * 1024)

struct arena_block {
    arena_block_t *next;
    size_t size;
    _Alignas(16) unsigned char bytes[];
};

static _Noreturn void out_of_memory(size_t size) {
    char line[80];
    int length = snprintf(line, sizeof line, "fatal: out of memory (%zu bytes asked for)\n", size);
    log_output_last_words(line, (size_t) length);
    _exit(1);
}

void *mem_alloc(size_t size) {
    void *memory = malloc(size ? size : 1);
    if (!memory)
        out_of_memory(size);
    return memory;
}

void *mem_zero(size_t size) {
    void *memory = calloc(1, size ? size : 1);
    if (!memory)
        out_of_memory(size);
    return memory;
}

void *mem_aligned(size_t alignment, size_t size) {
    void *memory;
    if (posix_memalign(&memory, alignment, size ? size : 1) != 0)
        out_of_memory(size);
    return memory;
}

void *mem_resize(void *memory, size_t size) {
    void *moved = realloc(memory, size ? size : 1);
    if (!moved)
        out_of_memory(size);
    return moved;
}

void *mem_copy(const void *bytes, size_t size) {
    void *memory = mem_alloc(size);
    if (size)
        memcpy(memory, bytes, size);
    return memory;
}

char *mem_text(const char *text) {
    return text ? mem_copy(text, strlen(text) + 1) : NULL;
}

char *mem_text_n(const char *text, size_t size) {
    if (size == SIZE_MAX)
        out_of_memory(size);
    char *copy = mem_alloc(size + 1);
    if (size)
        memcpy(copy, text, size);
    copy[size] = 0;
    return copy;
}

char *mem_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = NULL;
    if (vasprintf(&text, format, arguments) < 0)
        out_of_memory(0);
    va_end(arguments);
    return text;
}

void mem_free(void *memory) {
    free(memory);
}

void mem_tune(void) {
    mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 4 * 1024 * 1024);
    mallopt(M_ARENA_MAX, 2);
}

static arena_block_t *block_new(size_t size) {
    arena_block_t *block = mem_alloc(sizeof *block + size);
    block->next = NULL;
    block->size = size;
    return block;
}

void *arena_alloc(arena_t *arena, size_t size) {
    if (size > SIZE_MAX / 2) /* rounding up must not wrap around to a small one */
        out_of_memory(size);
    size = (size + 15) & ~(size_t) 15;
    arena_block_t *block = arena->current;
    if (block && block->size - arena->used >= size) {
        void *memory = block->bytes + arena->used;
        arena->used += size;
        return memory;
    }
    while (block && block->next) { /* blocks kept from before the last reset */
        block = block->next;
        arena->current = block;
        arena->used = 0;
        if (block->size >= size) {
            arena->used = size;
            return block->bytes;
        }
    }
    arena_block_t *fresh = block_new(size > BLOCK_SIZE ? size : BLOCK_SIZE);
    if (block)
        block->next = fresh;
    else
        arena->first = fresh;
    arena->current = fresh;
    arena->used = size;
    return fresh->bytes;
}

void *arena_copy(arena_t *arena, const void *bytes, size_t size) {
    void *memory = arena_alloc(arena, size);
    if (size)
        memcpy(memory, bytes, size);
    return memory;
}

arena_mark_t arena_mark(const arena_t *arena) {
    return (arena_mark_t){arena->current, arena->used};
}

void arena_release(arena_t *arena, arena_mark_t mark) {
    arena->current = mark.block ? mark.block : arena->first;
    arena->used = mark.block ? mark.used : 0;
}

void arena_reset(arena_t *arena) {
    size_t keep = arena->keep ? arena->keep : KEEP_DEFAULT;
    size_t kept = 0;
    for (arena_block_t **link = &arena->first; *link;) {
        arena_block_t *block = *link;
        if (kept + block->size > keep && block != arena->first) {
            *link = block->next;
            mem_free(block);
            continue;
        }
        kept += block->size;
        link = &block->next;
    }
    if (arena->first && !arena->first->next && arena->first->size > keep) {
        mem_free(arena->first);
        arena->first = NULL;
    }
    arena->current = arena->first;
    arena->used = 0;
}

void arena_fini(arena_t *arena) {
    for (arena_block_t *block = arena->first; block;) {
        arena_block_t *next = block->next;
        mem_free(block);
        block = next;
    }
    *arena = (arena_t){.keep = arena->keep};
}
