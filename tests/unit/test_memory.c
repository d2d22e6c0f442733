/* Allocation and arenas: alignment, sizes at the edges, what a reset keeps and what it gives back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "child.h"

/* Our own message must come when memory is out, also under AddressSanitizer. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

static void empty_requests_give_memory(void **state) {
    void *a = mem_alloc(0), *b = mem_zero(0), *c = mem_copy(NULL, 0);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    a = mem_resize(a, 0);
    assert_non_null(a);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(NULL);
}

static void copies(void **state) {
    char *text = mem_text("abc");
    assert_string_equal(text, "abc");
    mem_free(text);
    assert_null(mem_text(NULL));
    text = mem_text_n("a\0b", 3);
    assert_memory_equal(text, "a\0b\0", 4);
    mem_free(text);
    text = mem_text_n(NULL, 0);
    assert_string_equal(text, "");
    mem_free(text);
    text = mem_format("%s-%d", "x", 42);
    assert_string_equal(text, "x-42");
    mem_free(text);
    uint8_t *zero = mem_zero(1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(zero[i], 0);
    mem_free(zero);
}

static void ask_too_much(void *argument) {
    volatile size_t size = *(size_t *) argument;
    mem_free(mem_alloc(size));
}

static void ask_arena_too_much(void *argument) {
    arena_t arena = {0};
    arena_alloc(&arena, 16);
    volatile size_t size = *(size_t *) argument;
    arena_alloc(&arena, size);
}

static void ask_text_too_much(void *argument) {
    volatile size_t size = *(size_t *) argument;
    mem_free(mem_text_n("", size));
}

static void out_of_memory_ends_with_a_message(void **state) {
    static const size_t sizes[] = {SIZE_MAX / 2, SIZE_MAX - 64, SIZE_MAX - 15, SIZE_MAX - 14, SIZE_MAX - 1, SIZE_MAX};
    child_t child;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        child_run(&child, ask_too_much, &size);
        assert_true(child_exited(&child, 1));
        assert_non_null(strstr(child.text, "out of memory"));
        child_run(&child, ask_arena_too_much, &size);
        assert_true(child_exited(&child, 1));
        assert_non_null(strstr(child.text, "out of memory"));
    }
    size_t size = SIZE_MAX;
    child_run(&child, ask_text_too_much, &size);
    assert_true(child_exited(&child, 1));
}

static void arena_memory_is_aligned_and_apart(void **state) {
    enum { N = 3000 };
    arena_t arena = {0};
    for (int round = 0; round < 3; round++) {
        static uint8_t *at[N];
        static size_t sizes[N];
        uint32_t random = 12345 + (uint32_t) round;
        for (int i = 0; i < N; i++) {
            random = random * 1664525 + 1013904223;
            sizes[i] = i % 500 == 499 ? 100000 + random % 100000 : random >> 8 & 1 ? random % 700 : random % 20;
            at[i] = arena_alloc(&arena, sizes[i]);
            assert_int_equal((uintptr_t) at[i] % 16, 0);
            memset(at[i], i & 255, sizes[i]);
        }
        for (int i = 0; i < N; i++)
            for (size_t j = 0; j < sizes[i]; j++)
                if (at[i][j] != (i & 255))
                    fail_msg("allocation %d was written over", i);
        arena_reset(&arena);
    }
    arena_fini(&arena);
}

static void arena_copies(void **state) {
    arena_t arena = {0};
    char *copy = arena_copy(&arena, "a\0b", 3);
    assert_memory_equal(copy, "a\0b", 3);
    assert_non_null(arena_copy(&arena, NULL, 0));
    arena_fini(&arena);
    arena_fini(&arena); /* again: nothing */
    arena_reset(&arena);
}

/* The same requests after a reset get the same memory: nothing is allocated. */
static void the_steady_state_reuses_blocks(void **state) {
    static const size_t sizes[] = {60000, 10000, 300000, 5, 64000, 200, 0, 70000};
    enum { N = sizeof sizes / sizeof *sizes };
    arena_t arena = {0};
    void *first[N];
    for (int i = 0; i < N; i++)
        first[i] = arena_alloc(&arena, sizes[i]);
    for (int round = 0; round < 5; round++) {
        arena_reset(&arena);
        for (int i = 0; i < N; i++)
            assert_ptr_equal(arena_alloc(&arena, sizes[i]), first[i]);
    }
    arena_fini(&arena);
}

/* Bytes that the allocator has handed out; AddressSanitizer's own does not tell. */
static size_t in_use(void) {
#ifdef __SANITIZE_ADDRESS__
    return 0;
#else
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#endif
}

static void reset_keeps_no_more_than_asked(void **state) {
    arena_t arena = {.keep = 200000};
    size_t before = in_use();
    arena_alloc(&arena, 50000);
    arena_alloc(&arena, 5000000); /* larger than keep */
    for (int i = 0; i < 100; i++)
        arena_alloc(&arena, 60000);
    arena_reset(&arena);
    assert_true(in_use() <= before + 200000 + 10000);
    arena_alloc(&arena, 100);
    arena_fini(&arena);
    assert_true(in_use() <= before + 1000);
    assert_int_equal(arena.keep, 200000);
    arena_alloc(&arena, 5000000); /* the first block itself is larger than keep */
    arena_reset(&arena);
    assert_null(arena.first);
    assert_non_null(arena_alloc(&arena, 100));
    arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_requests_give_memory),
        cmocka_unit_test(copies),
        cmocka_unit_test(out_of_memory_ends_with_a_message),
        cmocka_unit_test(arena_memory_is_aligned_and_apart),
        cmocka_unit_test(arena_copies),
        cmocka_unit_test(the_steady_state_reuses_blocks),
        cmocka_unit_test(reset_keeps_no_more_than_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
