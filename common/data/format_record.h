#ifndef DATA_FORMAT_RECORD_H
#define DATA_FORMAT_RECORD_H

#include "data/format.h"

/* Internal to the text formats: what all decoders do with records. */

/* Splits data into lines. A handler gets each line without its end, whose bytes lie before `readable`; true: stop behind this line. Lines
 * above the limit are reported and passed over, over as many calls as that takes. */
typedef bool line_fn(decoder_t *decoder, text_t line, const char *readable, decode_target_t *target);
typedef struct line_state {
    uint64_t limit;
    bool skipping;            /* inside a line that is too long */
    /* multiline.c */
    struct multiline *join;   /* NULL: each line is a record */
    uint64_t lines, scanned;  /* of the record that is not complete: seen of it so far; their bytes */
    uint64_t forced;          /* it ends after so many lines, whatever follows; 0: not so */
    unsigned trace;
} line_state_t;
size_t format_feed_lines(line_state_t *state, decoder_t *decoder, const char *data, size_t size, bool at_end,
                         decode_target_t *target, line_fn *handle);

/* How much is shown of a bad record of this size: all of it up to the limit, else its first KiB at most. Formats tell of a bad record when they have
 * either all of it or more than the limit, so that dead letters are the same however the bytes came in. */
size_t format_shown(size_t size, uint64_t limit);

/* Reports a bad record; of one above the limit what format_shown says. */
void format_bad(const decoder_t *decoder, decode_target_t *target, text_t record, const char *reason);
void format_bad_long(const decoder_t *decoder, decode_target_t *target, text_t record, uint64_t limit);

/* Remarks on a record that looks like something else than text, when it is the first one; and, with the reason why it is bad, on text in another
 * encoding. */
void format_look(const decoder_t *decoder, decode_target_t *target, text_t record, const char *reason);

/* --max-record, and its default when the settings were never filled. */
uint64_t format_record_limit(const format_settings_t *settings);

#define FORMAT_EVENT_MAX (FRAME_MAX_DEFAULT - 1024 * 1024)
/* False when the event that was begun is too large for a frame that holds some others already, as short numbers in great number can be: [-0,-0,...] grows threefold. */
static inline bool format_fits(const decode_target_t *target) {
    return target->builder->body.size - target->builder->start <= FORMAT_EVENT_MAX;
}
#define FORMAT_TOO_LARGE "larger than 15 MiB as an event"

/* Commits the event that was begun, at its own time or at that of its ingestion. True: stop. */
static inline bool format_commit(decode_target_t *target, bool has_time, int64_t time) {
    frame_builder_t *builder = target->builder;
    if (has_time)
        builder->data_time = true;
    builder_commit(builder, has_time ? time : target->ingest_time, target->ingest_time);
    return target->committed(target->argument);
}

/* "no field ts, ..." and "field ts holds no time, ..." */
#define FORMAT_NO_TIME "no field \"%s\" to take the event's time from (--time)"
#define FORMAT_BAD_TIME "field \"%s\" holds no time (ISO 8601, or epoch seconds, ms, us or ns, from 1970 to 2106)"

int format_ndjson_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_ndjson_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err);
int format_json_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_csv_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_csv_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err);
int format_tsv_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_tsv_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err);
int format_lines_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_lines_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err);
int format_logfmt_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_logfmt_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err);
int format_common_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_combined_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_syslog_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_regex_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_statsd_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_xml_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_msgpack_decoder(decoder_t **decoder, const format_settings_t *settings, err_t *err);
int format_msgpack_encoder(encoder_t **encoder, const format_settings_t *settings, err_t *err);

#endif
