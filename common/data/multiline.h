#ifndef DATA_MULTILINE_H
#define DATA_MULTILINE_H

#include "data/format_record.h"

/* Records of several lines, as stack traces in logs are: which lines belong together is told by a pattern that begins a record or one that goes on with
 * it, or by what is known of a language's traces. */
typedef struct multiline multiline_t;

bool multiline_wanted(const format_settings_t *settings);
/* As the settings say; *multiline is NULL when lines are records. */
int multiline_new(multiline_t **multiline, const format_settings_t *settings, err_t *err);
void multiline_free(multiline_t *multiline);          /* NULL is legal */

/* As format_feed_lines. A record ends where the next one begins, at `at_end`, and where it would be larger than --multiline-lines or --max-record. */
size_t multiline_feed(line_state_t *state, decoder_t *decoder, const char *data, size_t size, bool at_end, decode_target_t *target, line_fn *handle);

/* The members of a decoder's class, for those that feed lines. */
void line_state_reset(line_state_t *state);
uint64_t line_state_save(const line_state_t *state);
void line_state_restore(line_state_t *state, uint64_t saved);

#endif
