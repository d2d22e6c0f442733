/* broadcast: delivers frames to sinks and publishes them on PUB. It knows nothing of sources or of the language. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "delivery.h"
#include "progress.h"
#include "sink.h"

#define PUBLISH_INTERVAL (100 * NS_PER_MS)     /* of sinks' metrics under load */
#define QUEUE_MOST (8u * 1024 * 1024)          /* of a sink, unless it is told otherwise; */
#define QUEUE_LEAST (64u * 1024)               /* together they get a quarter of --memory */
#define END_RETRY (200 * NS_PER_MS)

typedef struct broadcast {
    option_list_t pub;
    sink_list_t sinks;
    deliveries_t *deliveries;
    progress_t *progress;          /* NULL: without --state */
    link_sender_t **links;         /* one per --pub */
    size_t link_count, links_ended;
    int64_t published;
    bool paused, ending, unhealthy;
} broadcast_t;

static int take_argument(stage_t *stage, const char *argument, err_t *err) {
    broadcast_t *broadcast = stage->own;
    return sink_add_url(&broadcast->sinks, argument, err);
}

static int take_option(stage_t *stage, text_t name, const char *value, bool *used, err_t *err) {
    broadcast_t *broadcast = stage->own;
    const option_t *option = sink_find_option(name);
    if (!option)
        return 1;
    if (!value)
        return err_set(err, "--%s needs a value: %s", option->name, option->value ? option->value : "TEXT");
    *used = true;
    return sink_list_option(&broadcast->sinks, option->name, value, err);
}

static int take_setting(stage_t *stage, const char *key, const json_t *value, err_t *err) {
    broadcast_t *broadcast = stage->own;
    if (strcmp(key, "sinks") != 0)
        return 1;
    if (!json_is_array(value))
        return err_set(err, "sinks is an array of objects like {\"type\": \"file\", \"path\": \"out.ndjson\"}");
    size_t i;
    json_t *item;
    json_array_foreach((json_t *) value, i, item)
        if (sink_add_json(&broadcast->sinks, item, err))
            return -1;
    return 0;
}

/* "ipc://x" is short for "pub+ipc://x". */
static void complete_endpoints(option_list_t *pub) {
    for (size_t i = 0; i < pub->count; i++) {
        const char *endpoint = pub->items[i], *bare = endpoint + strspn(endpoint, "@>");
        if (text_starts(bare, "pub+"))
            continue;
        char *full = mem_format("%.*spub+%s", (int) (bare - endpoint), endpoint, bare);
        mem_free(pub->items[i]);
        pub->items[i] = full;
    }
}

/* NULL: nobody's alone. */
static sink_t *sink_of_side(const broadcast_t *broadcast, const char *link) {
    for (size_t i = 0; i < broadcast->sinks.count; i++) {
        sink_t *sink = broadcast->sinks.items[i];
        if (sink->settings->replay && strcmp(sink->settings->replay, link) == 0)
            return sink;
    }
    return NULL;
}

/* A side input belongs to one sink, or to none: then what comes is published, and goes to all sinks, as what comes --from others does. */
static int check_sides(stage_t *stage, err_t *err) {
    const broadcast_t *broadcast = stage->own;
    const option_list_t *side = &stage->settings.side;
    for (size_t i = 0; i < broadcast->sinks.count; i++) {
        const sink_t *sink = broadcast->sinks.items[i];
        const char *link = sink->settings->replay;
        bool found = !link;
        for (size_t k = 0; k < side->count && !found; k++)
            found = strcmp(side->items[k], link) == 0;
        if (!found)
            return err_set(err, "sink %s: replay %s is none of the --side inputs", sink->name, link);
        if (link && sink_of_side(broadcast, link) != sink)
            return err_set(err, "sink %s: replay %s is another sink's already", sink->name, link);
    }
    return 0;
}

/* Options of a format need a sink that writes it. */
static int holds(const void *argument, text_t name, text_t value) {
    const broadcast_t *broadcast = argument;
    bool found = false;
    if (!text_is(name, "format"))
        return -1;
    for (size_t i = 0; i < broadcast->sinks.count; i++)
        found |= broadcast->sinks.items[i]->format && text_is(value, broadcast->sinks.items[i]->format->name);
    return found;
}

static int check(stage_t *stage, err_t *err) {
    broadcast_t *broadcast = stage->own;
    complete_endpoints(&broadcast->pub);
    for (size_t i = 0; i < broadcast->pub.count; i++)
        if (link_check(broadcast->pub.items[i], true, err))
            return err_wrap(err, "--pub %s", broadcast->pub.items[i]);
    if (!broadcast->sinks.count && !broadcast->pub.count && sink_add_url(&broadcast->sinks, "stdout:", err))
        return -1;
    const stage_scope_t scope = {.holds = holds, .argument = broadcast};
    return sink_list_check(&broadcast->sinks, stage, err) || check_sides(stage, err) || stage_check_needs(stage, &scope, err) ? -1 : 0;
}

static void link_failed(void *argument, const char *reason) {
    stage_fail(argument, "--pub: %s", reason);
}

static void link_moved(void *argument) {
}

static int open_links(stage_t *stage, err_t *err) {
    broadcast_t *broadcast = stage->own;
    link_sender_setup_t setup = {
        .name = stage->name,
        .origin = stage->origin,
        .epoch = stage->epoch,
        .full = LINK_DROP_NEWEST,
        .format = &stage->settings.format,
        .room = link_moved,
        .durable = link_moved,
        .failed = link_failed,
        .argument = stage,
    };
    broadcast->links = mem_zero(broadcast->pub.count * sizeof(link_sender_t *) + 1);
    for (size_t i = 0; i < broadcast->pub.count; i++) {
        if (link_sender_open(&broadcast->links[i], stage->loop, broadcast->pub.items[i], &setup, err))
            return err_wrap(err, "--pub %s", broadcast->pub.items[i]);
        broadcast->link_count++;
    }
    return 0;
}

static void publish_metrics(stage_t *stage) {
    broadcast_t *broadcast = stage->own;
    for (size_t i = 0; i < broadcast->sinks.count; i++)
        sink_publish(broadcast->sinks.items[i]);
    broadcast->published = loop_now(stage->loop);
}

/* Nothing more is at hand: what sinks have collected goes out. */
static void idle(void *argument) {
    stage_t *stage = argument;
    broadcast_t *broadcast = stage->own;
    for (size_t i = 0; i < broadcast->sinks.count; i++)
        sink_flush(broadcast->sinks.items[i]);
    publish_metrics(stage);
}

static void hang_up(void *argument, int signal) {
    stage_t *stage = argument;
    broadcast_t *broadcast = stage->own;
    for (size_t i = 0; i < broadcast->sinks.count; i++)
        sink_reopen(broadcast->sinks.items[i]);
}

static void link_ended(void *argument) {
    stage_t *stage = argument;
    broadcast_t *broadcast = stage->own;
    if (++broadcast->links_ended == broadcast->link_count)
        stage_finished(stage);
}

static void end(void *argument) {
    stage_t *stage = argument;
    broadcast_t *broadcast = stage->own;
    err_t err;
    if (broadcast->progress && progress_commit(broadcast->progress, true, &err)) {
        loop_timer(stage->loop, END_RETRY, 0, end, stage); /* it has said why; --drain-limit ends this */
        return;
    }
    if (!broadcast->link_count)
        stage_finished(stage);
    for (size_t i = 0; i < broadcast->link_count; i++)
        link_sender_finish(broadcast->links[i], stage->name, link_ended, stage);
}

/* Is everything done that was taken? With --state a stage that is told to leave does not wait for what could not be delivered now:
 * the senders have it still. */
static bool all_done(const broadcast_t *broadcast, bool idle_all) {
    if (!broadcast->progress)
        return idle_all;
    if (!deliveries_ended(broadcast->deliveries))
        return idle_all || progress_trouble(broadcast->progress);
    const deliveries_t *deliveries = broadcast->deliveries;
    for (unsigned i = 0; i < deliveries->count; i++)
        if (deliveries->origins[i]->first)
            return false;
    return true;
}

/* Sinks' queues have moved: the inputs are paused or resumed, and the end is seen to. */
static void changed(stage_t *stage) {
    broadcast_t *broadcast = stage->own;
    bool over = false, idle_all = true;
    const char *trouble = NULL;
    for (size_t i = 0; i < broadcast->sinks.count; i++) {
        over |= sink_over(broadcast->sinks.items[i]);
        const char *sinks_trouble = sink_trouble(broadcast->sinks.items[i]);
        idle_all &= sink_idle(broadcast->sinks.items[i]) || (broadcast->progress && sinks_trouble);
        if (!trouble)
            trouble = sinks_trouble;
    }
    if (broadcast->progress) {
        if (broadcast->deliveries->moved)
            progress_touch(broadcast->progress);
        broadcast->deliveries->moved = false;
        if (!trouble)
            trouble = progress_trouble(broadcast->progress);
    }
    if (trouble || broadcast->unhealthy)
        metrics_health(!trouble, trouble ? trouble : "");
    broadcast->unhealthy = trouble != NULL;
    over |= broadcast->progress && stage_dead_waiting(stage);
    if (over != broadcast->paused) {
        broadcast->paused = over;
        stage_pause_inputs(stage, over);
    }
    if (stage->finishing && !broadcast->ending && all_done(broadcast, idle_all)) {
        broadcast->ending = true;
        loop_defer(stage->loop, end, stage);
    }
}

static int start(stage_t *stage, err_t *err) {
    broadcast_t *broadcast = stage->own;
    stage_manual_durable(stage);
    sink_list_t *sinks = &broadcast->sinks;
    broadcast->deliveries = deliveries_new(stage, (unsigned) sinks->count);
    if (stage_stateful(stage) &&
        progress_open(&broadcast->progress, stage, broadcast->deliveries, sinks->items, sinks->count, err))
        return -1;
    uint64_t share = stage->settings.memory / 4 / (sinks->count ? sinks->count : 1);
    share = share > QUEUE_MOST ? QUEUE_MOST : share < QUEUE_LEAST ? QUEUE_LEAST : share;
    for (size_t i = 0; i < sinks->count; i++) {
        sinks->items[i]->progress = broadcast->progress;
        if (sink_open(sinks->items[i], stage, broadcast->deliveries, share, changed, err))
            return -1;
    }
    if (broadcast->progress && progress_begin(broadcast->progress, err))
        return -1;
    if (open_links(stage, err))
        return -1;
    loop_idle(stage->loop, idle, stage);
    loop_signal(stage->loop, SIGHUP, hang_up, stage);
    signal(SIGXFSZ, SIG_IGN); /* a file at the limit of its size is like a full disk: write fails with EFBIG */
    return 0;
}

/* A stream's end is not the end of what we publish: its last events go out without the mark. */
static frame_t *without_end(const frame_t *frame) {
    frame_builder_t builder = {0};
    frame_walk_t walk = {0};
    event_t event;
    while (frame_next(frame, &walk, &event) == 1)
        builder_add(&builder, &event, frame->ingest_time);
    builder.data_time = frame->data_time;
    frame_t *copy = builder_take(&builder, frame->topic);
    copy->watermark = frame->watermark;
    builder_fini(&builder);
    return copy;
}

static void publish(broadcast_t *broadcast, frame_t *frame) {
    frame_t *published = frame->end ? without_end(frame) : frame_ref(frame);
    for (size_t i = 0; i < broadcast->link_count; i++)
        link_sender_send(broadcast->links[i], published);
    frame_unref(published);
}

/* A frame comes again after a restart: subscribers have seen it. */
static bool was_published(const broadcast_t *broadcast, const delivery_t *delivery) {
    return broadcast->progress && delivery->origin->name[0] && reached_covers(delivery->origin->published, delivery->frame);
}

/* exact: to the sinks that take only what nobody can take back; else to the others. */
static void offer(broadcast_t *broadcast, delivery_t *delivery, sink_t *only, bool exact) {
    for (size_t i = 0; i < broadcast->sinks.count; i++) {
        sink_t *sink = broadcast->sinks.items[i];
        bool is_exact = sink->class->exact && broadcast->progress;
        if (is_exact == exact && (only ? sink == only : sink_wants(sink, delivery->frame->topic)))
            sink_offer(sink, delivery);
    }
}

static sink_t *side_sink(stage_t *stage, unsigned input) {
    const option_list_t *side = &stage->settings.side;
    if (!side->count || !stage_input_is_side(stage, input))
        return NULL;
    size_t from = stage->settings.from.count ? stage->settings.from.count : 1;
    ASSERT(input >= from && input - from < side->count);
    return sink_of_side(stage->own, side->items[input - from]);
}

static uint64_t unstable_limit(const stage_t *stage) {
    return stage->settings.memory / 4;
}

static void release_stable(stage_t *stage, origin_t *origin) {
    broadcast_t *broadcast = stage->own;
    sink_t *only = side_sink(stage, origin->input);
    for (delivery_t *delivery; (delivery = origin_next_stable(broadcast->deliveries, origin));) {
        if (delivery->frame->events)
            offer(broadcast, delivery, only, true);
        delivery_done(broadcast->deliveries, delivery, OUTCOME_FILTERED);
    }
    if (deliveries_wanted(broadcast->deliveries, origin, unstable_limit(stage)))
        stage_want(stage, origin->input);
}

/* A sender that is slow to sync, or dead before it has, waits for itself; others go on. */
static bool accepts(stage_t *stage, unsigned input, const frame_t *frame) {
    broadcast_t *broadcast = stage->own;
    return !broadcast->progress || deliveries_room(broadcast->deliveries, input, frame, unstable_limit(stage));
}

static void take_frame(stage_t *stage, unsigned input, frame_t *frame) {
    broadcast_t *broadcast = stage->own;
    sink_t *only = side_sink(stage, input);
    delivery_t *delivery = delivery_begin(broadcast->deliveries, input, frame);
    origin_t *origin = delivery->origin;
    bool published = broadcast->link_count && !only;
    if (frame->events) {
        if (published && !was_published(broadcast, delivery))
            publish(broadcast, frame);
        offer(broadcast, delivery, only, false);
        if (delivery->stable)
            offer(broadcast, delivery, only, true);
    }
    origin->published = (reached_t){frame->epoch, frame->sequence};
    delivery_done(broadcast->deliveries, delivery, published ? OUTCOME_OUT : OUTCOME_FILTERED);
    if (origin->unstable)
        release_stable(stage, origin);
    changed(stage);
    if (loop_now(stage->loop) - broadcast->published >= PUBLISH_INTERVAL)
        publish_metrics(stage);
}

static void now_stable(stage_t *stage, unsigned input, const char *name, uint64_t epoch, uint64_t number) {
    broadcast_t *broadcast = stage->own;
    if (!broadcast->progress)
        return;
    origin_t *origin = deliveries_origin(broadcast->deliveries, input, stage_input_key(stage, input), name);
    origin_stable(origin, epoch, number);
    if (origin->unstable) {
        release_stable(stage, origin);
        changed(stage);
    }
}

static void finish(stage_t *stage) {
    idle(stage);
    changed(stage);
}

static void stop(stage_t *stage) {
    broadcast_t *broadcast = stage->own;
    err_t err;
    if (broadcast->progress && broadcast->ending)
        progress_over(broadcast->progress);
    if (broadcast->progress && progress_commit(broadcast->progress, false, &err))
        log_error("%s", err.text);
    for (size_t i = 0; i < broadcast->sinks.count; i++)
        sink_close(broadcast->sinks.items[i]);
    progress_close(broadcast->progress);
    for (size_t i = 0; i < broadcast->link_count; i++)
        link_sender_free(broadcast->links[i]);
    mem_free(broadcast->links);
    deliveries_free(broadcast->deliveries);
    sink_list_free(&broadcast->sinks);
}

static void help(stage_t *stage, FILE *out) {
    fputs("sinks (default: stdout: when there is no --pub either):\n", out);
    sink_list_help(out);
}

static const option_t options[] = {
    {"pub", OPTION_LIST, offsetof(broadcast_t, pub), NULL, "ENDPOINT",
     "publish every stream there for ZeroMQ subscribers: pub+tcp://HOST:PORT, pub+ipc://PATH"},
    {0},
};

static const tool_t tool = {
    .name = "broadcast",
    .summary = "Delivers frames to sinks, and publishes them.",
    .usage = "[SINK [SINK_OPTION]...]... [OPTION]...",
    .has_inputs = true,
    .options = options,
    .formats = format_written_options,
    .driver_tables = sink_tables,
    .state_size = sizeof(broadcast_t),
    .argument = take_argument,
    .option = take_option,
    .setting = take_setting,
    .help = help,
    .check = check,
    .start = start,
    .frame = take_frame,
    .finish = finish,
    .stop = stop,
    .keeps_state = true,
    .dead_written = changed,
    .stable = now_stable,
    .accepts = accepts,
};

static void list_json(void) {
    json_t *all = json_pack("{s:o, s:o}", "drivers", sink_list_describe(), "options", stage_describe_options(&tool));
    json_dumpf(all, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(all);
}

static int run(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--list=json") == 0) {
            list_json();
            return 0;
        }
        if (strcmp(argv[i], "--list") == 0) {
            sink_list_help(stdout);
            return 0;
        }
    }
    return stage_main(&tool, argc, argv);
}

int main(int argc, char **argv) {
    return file_end_output("broadcast", run(argc, argv));
}
