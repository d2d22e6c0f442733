/* The Forward protocol's messages, entries and handshake, whole, cut anywhere, and with any byte changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <zlib.h>
#include <cmocka.h>

#include "../../cmd/ingest/forward.h"
#include "base/digest.h"
#include "data/pack.h"

#define TIME "\xd7\x00\x65\x53\xf1\x00\x00\x00\x00\x05"
#define ENTRY "\x92" TIME "\x81\xa1" "a\x01"
#define BYTES(text) text, sizeof text - 1

static forward_message_t message;
static buf_t entries;
static err_t err;

static int read_message(const char *data, size_t size) {
    buf_clear(&entries);
    assert_int_equal(forward_size(data, size), size);
    assert_int_equal(forward_size(data, size - 1), 0);
    return forward_read(&message, data, size, 100000, &entries, &err);
}

/* How many good entries there are. */
static int count_entries(void) {
    size_t at = 0;
    int good = 0;
    while (at < entries.size) {
        forward_entry_t entry;
        const char *reason;
        int found = forward_next(text_make((const char *) entries.data, entries.size), &at, &entry, &reason);
        if (found < 0)
            break;
        good += found;
        if (found)
            assert_int_equal(entry.time, INT64_C(1700000000) * 1000000000 + 5);
    }
    return good;
}

static void all_modes(void **state) {
    assert_int_equal(read_message(BYTES("\x94\xa1t" TIME "\x81\xa1" "a\x01\x81\xa5" "chunk\xa1x")), 0);
    assert_true(text_is(message.tag, "t") && text_is(message.chunk, "x") && count_entries() == 1);
    assert_int_equal(read_message(BYTES("\x92\xa1t\x92" ENTRY ENTRY)), 0);
    assert_true(!message.chunk.size && count_entries() == 2);
    assert_int_equal(read_message(BYTES("\x93\xa1t\xc4\x1e" ENTRY ENTRY "\xc0")), 0);
    assert_int_equal(count_entries(), 2);
    assert_int_equal(read_message(BYTES("\x92\xa1t\xbe" ENTRY ENTRY)), 0); /* as a string, from old senders */
    assert_int_equal(count_entries(), 2);
    assert_int_equal(forward_read(&message, BYTES("\x92\xa1t\x92" ENTRY ENTRY), 100000, NULL, &err), 0);
}

static void put_compressed(buf_t *out, const void *bytes, size_t size) {
    uint8_t packed[4096];
    z_stream stream = {.next_in = (Bytef *) (uintptr_t) bytes, .avail_in = (uInt) size, .next_out = packed, .avail_out = sizeof packed};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    buf_put(out, packed, stream.total_out);
    deflateEnd(&stream);
}

static void read_compressed(const buf_t *packed, int expected) {
    buf_t out = {0};
    pack_array(&out, 3);
    pack_text(&out, "t");
    pack_binary(&out, packed->data, packed->size);
    pack_map(&out, 1);
    pack_text(&out, "compressed");
    pack_text(&out, "gzip");
    assert_int_equal(read_message((const char *) out.data, out.size), expected);
    buf_fini(&out);
}

static void compressed_entries(void **state) {
    static const uint8_t zeros[200000];
    buf_t packed = {0};
    put_compressed(&packed, BYTES(ENTRY ENTRY));
    put_compressed(&packed, BYTES(ENTRY));
    read_compressed(&packed, 0);
    assert_int_equal(count_entries(), 3);
    packed.size -= 5; /* cut */
    read_compressed(&packed, -1);
    buf_clear(&packed);
    put_compressed(&packed, zeros, sizeof zeros);
    read_compressed(&packed, -1);
    assert_non_null(strstr(err.text, "--chunk-limit"));
    buf_clear(&packed);
    read_compressed(&packed, -1);
    buf_fini(&packed);
}

static void what_is_no_message(void **state) {
    assert_int_equal(forward_size(BYTES("GET / HTTP/1.1")), -1);
    assert_int_equal(forward_size(BYTES("\x91\xa1t")), -1);
    assert_int_equal(forward_size("", 0), 0);
    assert_int_equal(forward_size(BYTES("\x92\xa1t\xdd\xff\xff\xff\xff")), 0);
    assert_int_equal(read_message(BYTES("\x92\x01\x90")), -1);
    assert_int_equal(read_message(BYTES("\x92\xa1t\x01")), -1);
    assert_int_equal(read_message(BYTES("\x92\xa1\xff\x90")), -1);
    assert_int_equal(read_message(BYTES("\x93\xa1t\x90\x07")), -1);
    assert_int_equal(read_message(BYTES("\x94\xa1t\x90\xc0\xc0")), -1);
    assert_int_equal(read_message(BYTES("\x93\xa1t\x90\x81\xaa" "compressed\xa4zstd")), -1);
}

static void entries_that_are_none_are_passed_over(void **state) {
    assert_int_equal(read_message(BYTES("\x92\xa1t\x95\x07\x91\x01\x92\xa1x\x80\x92" TIME "\x81\x01\x02" ENTRY)), 0);
    assert_int_equal(count_entries(), 1);
}

static void any_cut_and_any_changed_byte(void **state) {
    static const char text[] = "\x94\xa1t" TIME "\x81\xa1" "a\x01\x81\xa5" "chunk\xa1x";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (int value = 0; value < 256; value++) {
            char *exact = mem_copy(text, sizeof text - 1);
            exact[i] = (char) value;
            int64_t whole = forward_size(exact, sizeof text - 1);
            if (whole > 0) {
                buf_clear(&entries);
                if (forward_read(&message, exact, (size_t) whole, 100000, &entries, &err) == 0) {
                    size_t at = 0;
                    forward_entry_t entry;
                    const char *reason;
                    while (at < entries.size && forward_next(text_make((const char *) entries.data, entries.size), &at, &entry, &reason) >= 0)
                        continue;
                }
            }
            mem_free(exact);
        }
        char *cut = mem_copy(text, i);
        assert_true(forward_size(cut, i) <= 0);
        mem_free(cut);
    }
}

static void put_hex(char *hex, const char *salt, const char *host, const uint8_t *nonce, const char *key) {
    digest_t digest;
    uint8_t bytes[DIGEST_MAX];
    digest_begin(&digest, DIGEST_SHA512);
    digest_put(&digest, salt, strlen(salt));
    digest_put(&digest, host, strlen(host));
    digest_put(&digest, nonce, FORWARD_NONCE);
    digest_put(&digest, key, strlen(key));
    size_t size = digest_end(&digest, bytes);
    for (size_t i = 0; i < size; i++)
        sprintf(hex + 2 * i, "%02x", bytes[i]);
}

static void the_handshake(void **state) {
    static const uint8_t nonce[FORWARD_NONCE] = "0123456789abcde";
    static const char *const keys[] = {"right", "wrong", "righ"};
    for (size_t i = 0; i < 3; i++) {
        char proof[129] = "", answer[129] = "";
        buf_t ping = {0}, pong = {0};
        put_hex(proof, "salt", "client", nonce, keys[i]);
        const char *const texts[] = {"PING", "client", "salt", proof, "", ""};
        pack_array(&ping, 6);
        for (size_t k = 0; k < 6; k++)
            pack_text(&ping, texts[k]);
        assert_int_equal(forward_read_ping((const char *) ping.data, ping.size, nonce, "right", "server", &pong, &err), i == 0 ? 0 : -1);
        put_hex(answer, "salt", "server", nonce, "right");
        bool told = memmem(pong.data, pong.size, answer, 128) != NULL;
        assert_int_equal(told, i == 0); /* who does not know the key gets no proof to guess from */
        ping.size -= 140;
        assert_int_equal(forward_read_ping((const char *) ping.data, ping.size, nonce, "right", "server", &pong, &err), -1);
        buf_fini(&ping);
        buf_fini(&pong);
    }
}

static int free_entries(void **state) {
    buf_fini(&entries);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_modes),
        cmocka_unit_test(compressed_entries),
        cmocka_unit_test(what_is_no_message),
        cmocka_unit_test(entries_that_are_none_are_passed_over),
        cmocka_unit_test(any_cut_and_any_changed_byte),
        cmocka_unit_test(the_handshake),
    };
    return cmocka_run_group_tests(tests, NULL, free_entries);
}
