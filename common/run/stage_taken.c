/* Which receivers have taken the end of the stream. They leave when they are told that this is known, maybe long before this stage can, so it stands in
 * the state directory first: a restart must not wait for them again. One line for each, in the file "taken": the output's place among --to, epoch and
 * number of the last frame, and the link without its directory. */
#include "run/stage_state.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

#define TAKEN_MAX 65536
#define PATIENCE (10 * NS_PER_S)       /* then it is said that nobody comes for the rest */

static spool_t *spool_of(const stage_t *stage) {
    return stage->private->state ? stage->private->state->spool : NULL;
}

int taken_write(const stage_t *stage, err_t *err) {
    const stage_private_t *private = stage->private;
    if (!spool_of(stage))
        return 0;
    buf_t text = {0};
    for (unsigned i = 0; i < private->output_count; i++)
        if (private->outputs[i].ended)
            buf_format(&text, "%u %llu %llu %s\n", i, (unsigned long long) spool_identity(spool_of(stage))->epoch,
                       (unsigned long long) spool_number(spool_of(stage)), stage_link_key(link_sender_endpoint(private->outputs[i].link)));
    char *path = stage_state_path(stage, "taken");
    int result = file_write_atomic(path, text.data, text.size, 0600, err);
    mem_free(path);
    buf_fini(&text);
    return result;
}

static void read_line(const stage_t *stage, text_t line) {
    const stage_private_t *private = stage->private;
    uint64_t numbers[3];
    for (int i = 0; i < 3; i++) {
        text_t word;
        if (!text_split(&line, ' ', &word) || text_to_uint(word, &numbers[i], NULL))
            return;
    }
    link_sender_t *link = numbers[0] < private->output_count ? private->outputs[numbers[0]].link : NULL;
    if (link && text_is(line, stage_link_key(link_sender_endpoint(link))))
        link_sender_taken(link, numbers[1], numbers[2]);
}

void taken_read(const stage_t *stage) {
    if (!spool_of(stage))
        return;
    char *path = stage_state_path(stage, "taken");
    buf_t bytes = {0};
    err_t err;
    if (access(path, F_OK) == 0 && file_read(path, TAKEN_MAX, &bytes, &err))
        log_warning("%s; receivers that have it all are waited for", err.text);
    text_t rest = text_make((const char *) bytes.data, bytes.size), line;
    while (rest.size && text_split(&rest, '\n', &line))
        read_line(stage, line);
    buf_fini(&bytes);
    mem_free(path);
}

/* ---- nobody comes for it ---- */

static void look(void *argument) {
    stage_t *stage = argument;
    stage_private_t *private = stage->private;
    const stage_output_t *alone = NULL;
    for (unsigned i = 0; i < private->output_count; i++) {
        const stage_output_t *output = &private->outputs[i];
        const link_stats_t *stats = link_sender_stats(output->link);
        if (!output->ended && stats->outstanding_frames && !stats->peers)
            alone = output;
    }
    if ((alone != NULL) == private->alone)
        return;
    private->alone = alone != NULL;
    if (!alone) {
        metrics_health(true, "");
        return;
    }
    char text[400];
    snprintf(text, sizeof text, "the stream has ended, and nobody is at %s to take the last %llu frames: start its receiver. One that has them already, and left "
             "before that could be known here, says so when it is started again with its --state", link_sender_endpoint(alone->link),
             (unsigned long long) link_sender_stats(alone->link)->outstanding_frames);
    log_warning("%s", text);
    metrics_health(false, text);
}

void taken_watch(stage_t *stage) {
    loop_timer(stage->loop, PATIENCE, PATIENCE, look, stage);
}
