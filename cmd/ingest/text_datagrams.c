/* What udp: and statsd: have in common: text of a format in datagrams, each of which begins anew. */
#include "text_datagrams.h"

#include "base/memory.h"
#include "text_server.h"

struct text_datagrams {
    source_setup_t setup;
    decoder_t *decoder;
    datagrams_t *datagrams;
    size_t used;                   /* of the datagram that is being taken */
};

static bool on_datagram(void *argument, const char *data, size_t size, const char *place) {
    text_datagrams_t *texts = argument;
    source_healthy(texts->setup.host);
    if (!texts->used) {
        decoder_reset(texts->decoder);
        texts->decoder->records = 0;
    }
    /* until all is used, or nothing of it: with at_end that is the end */
    while (source_room(texts->setup.host)) {
        size_t used = source_decode(texts->setup.host, texts->decoder, data + texts->used, size - texts->used, true, place);
        texts->used += used;
        if (used == 0 || texts->used == size) {
            texts->used = 0;
            return true;
        }
    }
    return false;
}

text_datagrams_t *text_datagrams_new(const source_setup_t *setup, int fd, uint64_t buffer) {
    text_datagrams_t *texts = mem_zero(sizeof *texts);
    texts->setup = *setup;
    ASSERT(text_server_decoder(&texts->decoder, setup, NULL) == 0); /* it was tried before */
    texts->datagrams = datagrams_new(&(datagram_setup_t){
        .host = setup->host, .loop = setup->loop, .fd = fd, .scheme = "udp", .buffer = buffer, .data = on_datagram, .argument = texts});
    datagrams_resume(texts->datagrams);
    return texts;
}

void text_datagrams_pause(text_datagrams_t *texts) {
    datagrams_pause(texts->datagrams);
}

void text_datagrams_resume(text_datagrams_t *texts) {
    datagrams_resume(texts->datagrams);
}

void text_datagrams_free(text_datagrams_t *texts) {
    if (!texts)
        return;
    datagrams_free(texts->datagrams);
    decoder_free(texts->decoder);
    mem_free(texts);
}
