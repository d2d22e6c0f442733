#ifndef BROADCAST_PROGRESS_TEXT_H
#define BROADCAST_PROGRESS_TEXT_H

#include "sink.h"

/* What stands in the file of progress: one msgpack map
 *
 *   v 1; boot text; over bool, the run left in good order when all streams had ended; dead u64, offset of the dead letters; ledger array of u64: in, out, filtered, late, dead, dropped, created, errors
 *   sinks    array of [name, position bin]
 *   origins  array of [input's key, origin, done epoch, done number, ended, published epoch, published number,
 *                      array of [epoch, number] per sink in the order of `sinks`, array of odd [first, last, outcome, dead]]
 */
typedef struct progress_text {
    stage_t *stage;
    deliveries_t *deliveries;
    sink_t **sinks;
    size_t sink_count;
    char boot[80];
    bool over;                /* as read, of the run before; to be written, of this one */
} progress_text_t;

void progress_text_put(const progress_text_t *text, buf_t *out);
/* Ledger, dead letters and deliveries are as they were; sinks get their positions (sink->restored). */
int progress_text_read(progress_text_t *text, text_t packed, err_t *err);
bool progress_text_is_of_boot(text_t packed, const char *boot);

#endif
