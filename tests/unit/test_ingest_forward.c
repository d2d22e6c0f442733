/* The Forward protocol's messages, entries and handshake, whole, cut anywhere, and with any byte changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <zlib.h>
#include <cmocka.h>

#include "../../cmd/ingest/forward.h"
#include "../../cmd/ingest/forward_chunk.h"
#include "base/digest.h"
#include "data/pack.h"

#define TIME "\xd7\x00\x65\x53\xf1\x00\x00\x00\x00\x05"
#define ENTRY "\x92" TIME "\x81\xa1" "a\x01"
#define BYTES(text) text, sizeof text - 1

#define LIMIT 1000000
#define ENTRY_LIMIT 300000

static forward_message_t message;
static const char *text_of_message;
static err_t err;

static text_t part(forward_part_t where) {
    return forward_text(text_of_message, where);
}

/* 1, 0 or -1 for all of it at once, which is what it is when the bytes come one after the other. */
static int pass(const char *data, size_t size, size_t *whole) {
    forward_pass_t at_once = {0}, slowly = {0};
    int found = forward_pass(&at_once, data, size), later = 0;
    for (size_t i = 0; i <= size && !later; i++)
        later = forward_pass(&slowly, data, i);
    assert_int_equal(found, later);
    *whole = at_once.size;
    assert_true(found < 1 || at_once.size == slowly.size);
    return found;
}

static int read_message(const char *data, size_t size) {
    size_t whole;
    assert_int_equal(pass(data, size, &whole), 1);
    assert_int_equal(whole, size);
    assert_int_equal(pass(data, size - 1, &whole), 0);
    text_of_message = data;
    return forward_read(&message, data, size, &err);
}

static int good_in(text_t entries, bool bare) {
    size_t at = 0;
    int good = 0;
    while (at < entries.size) {
        forward_entry_t entry;
        const char *reason;
        int found = forward_next(entries, bare, &at, &entry, &reason);
        if (found < 0)
            break;
        good += found;
        if (found)
            assert_int_equal(entry.time, INT64_C(1700000000) * 1000000000 + 5);
    }
    return good;
}

/* How many good entries there are. */
static int count_entries(void) {
    return good_in(part(message.entries), message.bare);
}

static void all_modes(void **state) {
    assert_int_equal(read_message(BYTES("\x94\xa1t" TIME "\x81\xa1" "a\x01\x81\xa5" "chunk\xa1x")), 0);
    assert_true(text_is(part(message.tag), "t") && text_is(part(message.chunk), "x") && message.bare && count_entries() == 1);
    assert_int_equal(read_message(BYTES("\x92\xa1t\x92" ENTRY ENTRY)), 0);
    assert_true(!message.chunk.size && count_entries() == 2);
    assert_int_equal(read_message(BYTES("\x93\xa1t\xc4\x1e" ENTRY ENTRY "\xc0")), 0);
    assert_int_equal(count_entries(), 2);
    assert_int_equal(read_message(BYTES("\x92\xa1t\xbe" ENTRY ENTRY)), 0); /* as a string, from old senders */
    assert_int_equal(count_entries(), 2);
}

static void put_compressed(buf_t *out, const void *plain, size_t size) {
    z_stream stream = {.next_in = (Bytef *) (uintptr_t) plain, .avail_in = (uInt) size};
    assert_int_equal(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.avail_out = (uInt) deflateBound(&stream, size);
    stream.next_out = buf_reserve(out, stream.avail_out);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out->size += stream.total_out;
    deflateEnd(&stream);
}

/* What was found, each in its number. The compressed bytes lie elsewhere at each call. */
typedef struct tally {
    int good, too_long, lost, refused;
} tally_t;

static tally_t unpack(const buf_t *packed) {
    static forward_chunk_t *chunk;     /* one after the other, as they come */
    forward_found_t found = FORWARD_MORE;
    tally_t tally = {0};
    text_t entry;
    if (!chunk)
        chunk = forward_chunk_new(LIMIT, ENTRY_LIMIT);
    forward_chunk_begin(chunk);
    while (found != FORWARD_END && found != FORWARD_REFUSED) {
        uint8_t *moved = mem_copy(packed->data, packed->size);
        found = forward_chunk_next(chunk, text_make((const char *) moved, packed->size), &entry, &err);
        mem_free(moved);
        if (found == FORWARD_ENTRY)
            tally.good += good_in(entry, false);
        tally.too_long += found == FORWARD_LONG;
        tally.lost += found == FORWARD_LOST;
        tally.refused += found == FORWARD_REFUSED;
    }
    return tally;
}

static void assert_tally(const buf_t *packed, tally_t expected) {
    tally_t got = unpack(packed);
    assert_memory_equal(&got, &expected, sizeof got);
}

static void compressed_entries(void **state) {
    static const uint8_t zeros[LIMIT + 1];
    buf_t packed = {0};
    put_compressed(&packed, BYTES(ENTRY ENTRY));
    put_compressed(&packed, BYTES(ENTRY));
    assert_tally(&packed, (tally_t){.good = 3});
    packed.size -= 5; /* cut */
    assert_tally(&packed, (tally_t){.refused = 1});
    buf_clear(&packed);
    put_compressed(&packed, zeros, sizeof zeros);
    assert_tally(&packed, (tally_t){.refused = 1});
    assert_non_null(strstr(err.text, "1000000 bytes"));
    assert_non_null(strstr(err.text, "--chunk-limit"));
    buf_clear(&packed);
    assert_tally(&packed, (tally_t){.refused = 1});
    put_compressed(&packed, BYTES(""));
    assert_tally(&packed, (tally_t){0});
    buf_put(&packed, BYTES("more"));
    assert_tally(&packed, (tally_t){.refused = 1});
    buf_fini(&packed);
}

/* More than is there at a time; each gzip member ends at another place in an entry. */
static void large_compressed_chunks(void **state) {
    buf_t plain = {0}, packed = {0};
    static const char filler[150000];
    int good = 0;
    for (int i = 0; i < 5; i++) {
        buf_put(&plain, BYTES("\x92" TIME "\x81\xa1" "a"));
        pack_string(&plain, filler, sizeof filler);
        buf_put(&plain, BYTES(ENTRY));
        good += 2;
    }
    for (size_t at = 0; at < plain.size; at += 70001)
        put_compressed(&packed, plain.data + at, plain.size - at < 70001 ? plain.size - at : 70001);
    assert_tally(&packed, (tally_t){.good = good});
    packed.data[packed.size - 3] ^= 1; /* of the last member's length: nothing is taken */
    assert_tally(&packed, (tally_t){.refused = 1});
    buf_clear(&packed);
    put_compressed(&packed, plain.data, plain.size - 1);
    assert_tally(&packed, (tally_t){.good = good - 1, .lost = 1});
    buf_clear(&packed);
    for (int i = 0; i < 2000; i++) /* members that hold nothing */
        put_compressed(&packed, BYTES(""));
    put_compressed(&packed, plain.data, plain.size);
    assert_tally(&packed, (tally_t){.good = good});
    buf_clear(&packed);
    buf_clear(&plain);
    buf_put(&plain, BYTES(ENTRY "\x92" TIME "\x81\xa1" "a\xdb\x00\x0a\xae\x60")); /* 700,000 bytes */
    memset(buf_reserve(&plain, 700000), 'x', 700000);
    plain.size += 700000;
    buf_put(&plain, BYTES(ENTRY ENTRY "\xc1" ENTRY));
    put_compressed(&packed, plain.data, plain.size);
    assert_tally(&packed, (tally_t){.good = 3, .too_long = 1, .lost = 1});
    buf_clear(&packed);
    put_compressed(&packed, plain.data, 650000); /* cut in the one that is too long */
    assert_tally(&packed, (tally_t){.good = 1, .too_long = 1});
    buf_fini(&plain);
    buf_fini(&packed);
}

static void what_is_no_message(void **state) {
    size_t whole;
    assert_int_equal(pass(BYTES("GET / HTTP/1.1"), &whole), -1);
    assert_int_equal(pass(BYTES("\x91\xa1t"), &whole), -1);
    assert_int_equal(pass("", 0, &whole), 0);
    assert_int_equal(pass(BYTES("\x92\xa1t\xdd\xff\xff\xff\xff"), &whole), -1);
    assert_int_equal(pass(BYTES("\x92\xa1t\xdd\x0f\xff\xff\xff"), &whole), 0);
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
            size_t whole, at = 0;
            forward_entry_t entry;
            const char *reason;
            text_of_message = exact;
            if (pass(exact, sizeof text - 1, &whole) > 0 && forward_read(&message, exact, whole, &err) == 0)
                while (at < message.entries.size && forward_next(part(message.entries), message.bare, &at, &entry, &reason) >= 0)
                    continue;
            mem_free(exact);
        }
        char *cut = mem_copy(text, i);
        size_t whole;
        assert_true(pass(cut, i, &whole) <= 0);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_modes),
        cmocka_unit_test(compressed_entries),
        cmocka_unit_test(large_compressed_chunks),
        cmocka_unit_test(what_is_no_message),
        cmocka_unit_test(entries_that_are_none_are_passed_over),
        cmocka_unit_test(any_cut_and_any_changed_byte),
        cmocka_unit_test(the_handshake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
