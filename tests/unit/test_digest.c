/* Digests: the examples of their standards, and that pieces give the same as the whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/memory.h"

static void put_hex(char *out, const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static const char *digest_of(digest_kind_t kind, const void *bytes, size_t size, size_t piece) {
    static char text[2 * DIGEST_MAX + 1];
    uint8_t out[DIGEST_MAX];
    digest_t digest;
    digest_begin(&digest, kind);
    for (size_t at = 0; at < size; at += piece)
        digest_put(&digest, (const char *) bytes + at, size - at < piece ? size - at : piece);
    put_hex(text, out, digest_end(&digest, out));
    return text;
}

static void the_standards_examples(void **state) {
    static const struct {
        digest_kind_t kind;
        const char *text, *result;
    } examples[] = {
        {DIGEST_MD5, "", "d41d8cd98f00b204e9800998ecf8427e"},
        {DIGEST_MD5, "abc", "900150983cd24fb0d6963f7d28e17f72"},
        {DIGEST_MD5, "12345678901234567890123456789012345678901234567890123456789012345678901234567890", "57edf4a22be3c955ac49da2e2107b67a"},
        {DIGEST_SHA1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {DIGEST_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {DIGEST_SHA1, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
        {DIGEST_SHA256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {DIGEST_SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {DIGEST_SHA256, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {DIGEST_SHA512, "abc",
         "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
        {DIGEST_SHA512, "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
         "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909"},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++)
        assert_string_equal(digest_of(examples[i].kind, examples[i].text, strlen(examples[i].text), 1000), examples[i].result);
}

static void pieces_give_the_same_as_the_whole(void **state) {
    char bytes[400];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char) (i * 7);
    for (int kind = DIGEST_MD5; kind <= DIGEST_SHA512; kind++) {
        for (size_t size = 0; size <= sizeof bytes; size++) {
            char *whole = mem_text(digest_of((digest_kind_t) kind, bytes, size, 1000));
            assert_string_equal(digest_of((digest_kind_t) kind, bytes, size, 1), whole);
            assert_string_equal(digest_of((digest_kind_t) kind, bytes, size, 61), whole);
            mem_free(whole);
        }
    }
}

/* RFC 4231, test cases 1, 2 and 6. */
static void hmac_of_short_and_long_keys(void **state) {
    static const struct {
        const char *key, *text, *result;
        size_t key_size;
    } examples[] = {
        {NULL, "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", 20},
        {"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", 4},
        {NULL, "Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", 131},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        uint8_t key[131], out[DIGEST_MAX];
        char text[2 * DIGEST_MAX + 1];
        memset(key, i == 0 ? 0x0B : 0xAA, sizeof key);
        put_hex(text, out,
                digest_hmac(DIGEST_SHA256, examples[i].key ? (const void *) examples[i].key : key, examples[i].key_size, examples[i].text,
                            strlen(examples[i].text), out));
        assert_string_equal(text, examples[i].result);
    }
}

static void crc32_of_its_check_value(void **state) {
    assert_int_equal(crc32_of("123456789", 9), 0xCBF43926);
    assert_int_equal(crc32_of("", 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standards_examples),
        cmocka_unit_test(pieces_give_the_same_as_the_whole),
        cmocka_unit_test(hmac_of_short_and_long_keys),
        cmocka_unit_test(crc32_of_its_check_value),
    };
    return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
