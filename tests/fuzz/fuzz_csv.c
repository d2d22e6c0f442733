/* CSV: however a text is cut, the same events and errors; what is written from them reads back as the same events. */
#include "data/csv.h"
#include "data/pack.h"
#include "fuzz_decode.h"

static const char *const separators[] = {",", ";", "tab", "|"};

/* All events of a text in one frame, bad rows passed over. */
static bool collect_committed(void *argument) {
    return false;
}

static void collect_bad(void *argument, text_t record, uint64_t number, const char *reason) {
}

static frame_t *collect(const format_settings_t *settings, const uint8_t *data, size_t size) {
    frame_builder_t builder = {0};
    decode_target_t target = {.builder = &builder, .committed = collect_committed, .bad = collect_bad};
    decoder_t *decoder;
    CHECK(format_find("csv")->decoder_open(&decoder, settings, NULL) == 0, "cannot open");
    decoder_feed(decoder, (const char *) data, size, true, &target);
    decoder_free(decoder);
    frame_t *frame = builder_take(&builder, "fuzz");
    builder_fini(&builder);
    return frame;
}

/* Written as CSV and read again each event must be as it was. */
static void check_round_trip(const format_settings_t *settings, const uint8_t *data, size_t size) {
    if (memmem(data, size, "@stream", 7)) /* a field in some of the events only */
        return;
    frame_t *frame = collect(settings, data, size);
    if (frame->events) {
        encoder_t *encoder;
        buf_t text = {0}, first = {0}, second = {0};
        CHECK(format_find("csv")->encoder_open(&encoder, settings, NULL) == 0, "cannot open");
        encoder->class->header(encoder, &text);
        uint32_t failed = encoder->class->frame(encoder, frame, NULL, &text);
        frame_t *again = collect(settings, text.data, text.size);
        encoder_t *printer;
        CHECK(format_find("ndjson")->encoder_open(&printer, settings, NULL) == 0, "cannot open");
        printer->class->frame(printer, frame, NULL, &first);
        printer->class->frame(printer, again, NULL, &second);
        /* of a single column null must be written as "": a blank line would be no row */
        bool single = (frame->body[EVENT_HEAD] & 0x8f) <= 0x81;
        if (!failed && !single)
            CHECK(first.size == second.size && memcmp(first.data, second.data, first.size) == 0, "%.*s became\n%s\nby\n%.*s", (int) first.size,
                  (char *) first.data, buf_text(&second), (int) text.size, (char *) text.data);
        encoder_free(encoder);
        encoder_free(printer);
        frame_unref(again);
        buf_fini(&text);
        buf_fini(&first);
        buf_fini(&second);
    }
    frame_unref(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3)
        return 0;
    format_settings_t settings = {0};
    option_defaults(format_options, &settings);
    uint8_t flags = data[0];
    option_set(option_find(format_options, text_of("csv-separator")), &settings, text_of(separators[flags & 3]), NULL);
    settings.no_header = flags & 4;
    settings.no_inference = flags & 8;
    if (flags & 16)
        settings.time_field = mem_text("t");
    if (flags & 32)
        option_set(option_find(format_options, text_of("csv-type")), &settings, text_of("a=int,b=double,c=bool,d=time"), NULL);
    if (flags & 64) {
        settings.record_limit = 16 + data[1] * 8u;
        fuzz_decode_pieces("csv", &settings, data + 3, size - 3, 1 + data[2]);
    } else if (!settings.no_header && !settings.time_field && !(flags & 32)) {
        check_round_trip(&settings, data + 3, size - 3);
    }
    option_fini(format_options, &settings);
    return 0;
}
