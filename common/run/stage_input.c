/* Input: frames from the --from links go to the tool, pausing while an output is full, and are acknowledged as durable
 * once everything they caused is durable downstream. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "run/stage_state.h"

static const char *intern(stage_private_t *private, const char *origin) {
    if (!private->origins)
        private->origins = map_new();
    char *known = map_get(private->origins, text_of(origin));
    if (!known) {
        known = mem_text(origin);
        map_put(private->origins, text_of(origin), known);
    }
    return known;
}

void stage_durable(stage_t *stage, unsigned input, const frame_t *frame) {
    ASSERT(input < stage->private->input_count);
    link_receiver_durable(stage->private->inputs[input], frame);
}

void stage_manual_durable(stage_t *stage) {
    stage->private->manual_durable = true;
}

static void acknowledge(stage_private_t *private, const stage_pending_t *pending) {
    frame_t frame;
    frame.epoch = pending->epoch;
    frame.sequence = pending->sequence;
    size_t size = strlen(pending->origin);
    memcpy(frame.origin, pending->origin, size + 1);
    link_receiver_durable(private->inputs[pending->input], &frame);
}

/* From the oldest pending frame on: those whose tickets are durable everywhere. */
static void settle(stage_t *stage) {
    stage_private_t *private = stage->private;
    while (private->pending_count) {
        uint64_t *tickets = private->tickets + private->pending_first * private->output_count;
        for (unsigned i = 0; i < private->output_count; i++)
            if (link_sender_durable(private->outputs[i].link) < tickets[i])
                return;
        acknowledge(private, &private->pending[private->pending_first]);
        private->pending_first = (private->pending_first + 1) % private->pending_room;
        private->pending_count--;
    }
}

static void grow_pending(stage_private_t *private) {
    size_t room = private->pending_room ? private->pending_room * 2 : 64;
    unsigned width = private->output_count;
    stage_pending_t *pending = mem_alloc(room * sizeof *pending);
    uint64_t *tickets = mem_alloc(room * (width ? width : 1) * sizeof *tickets);
    for (size_t i = 0; i < private->pending_count; i++) {
        size_t from = (private->pending_first + i) % private->pending_room;
        pending[i] = private->pending[from];
        if (width)
            memcpy(tickets + i * width, private->tickets + from * width, width * sizeof *tickets);
    }
    mem_free(private->pending);
    mem_free(private->tickets);
    private->pending = pending;
    private->tickets = tickets;
    private->pending_room = room;
    private->pending_first = 0;
}

static void remember(stage_t *stage, unsigned input, const frame_t *frame) {
    stage_private_t *private = stage->private;
    if (!frame->origin[0]) /* text: nobody waits for an acknowledgement */
        return;
    if (private->pending_count == private->pending_room)
        grow_pending(private);
    size_t at = (private->pending_first + private->pending_count++) % private->pending_room;
    private->pending[at] = (stage_pending_t){input, intern(private, frame->origin), frame->epoch, frame->sequence};
    for (unsigned i = 0; i < private->output_count; i++)
        private->tickets[at * private->output_count + i] = link_sender_sent(private->outputs[i].link);
}

static unsigned input_index(const stage_private_t *private, const link_receiver_t *receiver) {
    for (unsigned i = 0; i < private->input_count; i++)
        if (private->inputs[i] == receiver)
            return i;
    ASSERT(!"a frame from a link that is not ours");
    return 0;
}

static bool all_ended(const stage_private_t *private) {
    for (unsigned i = 0; i < private->main_count; i++)
        if (!link_receiver_ended(private->inputs[i]))
            return false;
    return private->main_count > 0;
}

static void check_end(void *argument) {
    stage_t *stage = argument;
    if (!stage->settings.stay && !stage->finishing && !stage_replaying(stage) && all_ended(stage->private))
        stage_begin_finish(stage);
}

void stage_check_end(stage_t *stage) {
    loop_defer(stage->loop, check_end, stage);
}

void stage_take(stage_t *stage, unsigned input, frame_t *frame) {
    stage->ledger.in += frame->events;
    if (frame->events && !stage_replaying(stage))
        stage_latency(stage, frame);
    stage->tool->frame(stage, input, frame);
    stage_flush(stage); /* what stayed open has no ticket: the input would count as durable before its output is */
}

static void on_frame(void *argument, link_receiver_t *receiver, frame_t *frame) {
    stage_t *stage = argument;
    stage_private_t *private = stage->private;
    unsigned input = input_index(private, receiver);
    if (has_order(stage)) {
        order_frame(stage, input, frame);
    } else {
        stage_take(stage, input, frame);
        if (!private->manual_durable) {
            remember(stage, input, frame);
            settle(stage);
        }
    }
    stage_inputs_update(stage);
    stage_publish_sometimes(stage);
    if (frame->end)
        loop_defer(stage->loop, check_end, stage);
}

static bool on_take(void *argument, link_receiver_t *receiver, const frame_t *frame) {
    stage_t *stage = argument;
    unsigned input = input_index(stage->private, receiver);
    return has_order(stage) ? order_take(stage, input, frame) : stage->tool->accepts(stage, input, frame);
}

void stage_want(stage_t *stage, unsigned input) {
    link_receiver_want(stage->private->inputs[input]);
}

static void on_stable(void *argument, link_receiver_t *receiver, const char *origin, uint64_t epoch, uint64_t number) {
    stage_t *stage = argument;
    unsigned input = input_index(stage->private, receiver);
    if (has_order(stage))
        order_stable(stage, input, origin, epoch, number);
    if (stage->tool->stable)
        stage->tool->stable(stage, input, origin, epoch, number);
}

static void on_taken_back(void *argument, link_receiver_t *receiver, const char *origin) {
    stage_t *stage = argument;
    log_warning("%s: %s was started anew and has lost what it had sent last", link_receiver_endpoint(receiver), origin);
    stage_again(stage, "what was made of it is taken back");
}

/* Ends that were taken in an earlier run: their senders have come back, and only say so. */
static void on_over(void *argument, link_receiver_t *receiver) {
    stage_t *stage = argument;
    for (unsigned i = 0; i < stage->private->main_count; i++)
        if (!link_receiver_over(stage->private->inputs[i]))
            return;
    stage_check_end(stage);
}

static void on_hurry(void *argument, link_receiver_t *receiver) {
    if (has_order(argument))
        snapshot_hurry(argument);
}

static void on_bad(void *argument, text_t record, uint64_t number, const char *reason) {
    stage_t *stage = argument;
    char place[64];
    snprintf(place, sizeof place, "standard input:%llu", (unsigned long long) number);
    stage->ledger.in++;
    stage_dead_text(stage, record, place, reason);
}

static void on_failed(void *argument, const char *reason) {
    stage_fail(argument, "%s", reason);
}

void stage_output_changed(stage_t *stage) {
    stage_private_t *private = stage->private;
    if (!private->manual_durable && !has_order(stage))
        settle(stage);
    stage_inputs_update(stage);
    if (private->resume && stage_room(stage) && !private->finished_called)
        private->resume(stage);
}

void stage_pause_inputs(stage_t *stage, bool paused) {
    stage->private->paused_by_tool = paused;
    stage_inputs_update(stage);
}

void stage_inputs_update(stage_t *stage) {
    stage_private_t *private = stage->private;
    private->paused_by_output = !stage_room(stage);
    bool paused = private->paused_by_tool || private->paused_by_output || private->paused_by_end;
    if (paused == private->inputs_paused)
        return;
    private->inputs_paused = paused;
    for (unsigned i = 0; i < private->input_count; i++) {
        if (paused)
            link_receiver_pause(private->inputs[i]);
        else
            link_receiver_resume(private->inputs[i]);
    }
}

unsigned stage_input_total(const stage_t *stage) {
    const option_list_t *from = &stage->settings.from, *side = &stage->settings.side;
    return (unsigned) ((from->count ? from->count : 1) + side->count);
}

static const char *input_link(const stage_t *stage, unsigned input) {
    const option_list_t *from = &stage->settings.from, *side = &stage->settings.side;
    unsigned main_count = from->count ? (unsigned) from->count : 1;
    if (input >= main_count)
        return side->items[input - main_count];
    return from->count ? from->items[input] : "-";
}

/* An ipc path may move with the directory that a run's sockets are in; its last part stays. */
const char *stage_link_key(const char *link) {
    const char *slash = strrchr(link, '/');
    return strstr(link, "ipc://") && slash ? slash + 1 : link;
}

const char *stage_input_key(const stage_t *stage, unsigned input) {
    return stage_link_key(input_link(stage, input));
}

bool stage_input_is_side(const stage_t *stage, unsigned input) {
    return input >= stage->private->main_count;
}

bool stage_input_replaced(const stage_t *stage, unsigned input, const char *origin) {
    return input < stage->private->input_count && link_receiver_replaced(stage->private->inputs[input], origin);
}

void stage_restore_input(stage_t *stage, const char *key, const char *origin, uint64_t epoch, uint64_t sequence, bool ended) {
    for (unsigned i = 0; i < stage->private->input_count; i++)
        if (strcmp(stage_input_key(stage, i), key) == 0)
            link_receiver_restore(stage->private->inputs[i], origin, epoch, sequence, ended);
}

int stage_inputs_open(stage_t *stage, err_t *err) {
    stage_private_t *private = stage->private;
    if (!stage->tool->has_inputs)
        return 0;
    bool ordered = has_order(stage);
    link_receiver_setup_t setup = {
        .name = stage->name,
        .format = &stage->settings.format,
        .frame = on_frame,
        .take = ordered || (stage->tool->accepts && private->state) ? on_take : NULL,
        .stable = private->state ? on_stable : NULL,
        .taken_back = private->state ? on_taken_back : NULL,
        .over = private->state ? on_over : NULL,
        .hurry = private->state ? on_hurry : NULL,
        .bad = on_bad,
        .failed = on_failed,
        .argument = stage,
    };
    unsigned total = stage_input_total(stage);
    private->main_count = total - (unsigned) stage->settings.side.count;
    private->inputs = mem_zero(total * sizeof *private->inputs);
    for (unsigned i = 0; i < total; i++) {
        const char *link = input_link(stage, i);
        setup.rare = i >= private->main_count;
        if (link_receiver_open(&private->inputs[i], stage->loop, link, &setup, err))
            return err_wrap(err, "%s %s", i < private->main_count ? "--from" : "--side", link);
        private->input_count++;
    }
    return 0;
}

static void on_parted(void *argument) {
    stage_t *stage = argument;
    if (--stage->private->parting == 0)
        stage_all_parted(stage);
}

void stage_inputs_part(stage_t *stage) {
    stage_private_t *private = stage->private;
    private->parting = private->input_count + 1; /* one for ourselves, so that the last one is counted last */
    for (unsigned i = 0; i < private->input_count; i++)
        link_receiver_part(private->inputs[i], on_parted, stage);
    on_parted(stage);
}

void stage_inputs_part_soon(stage_t *stage) {
    for (unsigned i = 0; i < stage->private->input_count; i++)
        link_receiver_part_soon(stage->private->inputs[i]);
}

void stage_inputs_free(stage_t *stage) {
    stage_private_t *private = stage->private;
    for (unsigned i = 0; i < private->input_count; i++)
        link_receiver_free(private->inputs[i]);
    mem_free(private->inputs);
    mem_free(private->pending);
    mem_free(private->tickets);
    if (private->origins) {
        size_t position = 0;
        void *origin;
        while (map_next(private->origins, &position, NULL, &origin))
            mem_free(origin);
        map_free(private->origins);
    }
}
