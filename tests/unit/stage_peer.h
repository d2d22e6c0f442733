#ifndef TESTS_UNIT_STAGE_PEER_H
#define TESTS_UNIT_STAGE_PEER_H

/* For tests of the skeleton at work: a tool runs as a process (stage_tool.h), and its peers on ipc links are in this one. Include after
 * cmocka.h. */
#include "stage_tool.h"

#define FRAMES_MAX 4096

static tool_run_t run;
static char directory[64], metrics[128], in_path[128], out_path[128], out2_path[128];

/* ---- our end of the links ---- */

typedef struct peer {
    link_receiver_t *receiver;
    link_sender_t *sender;
    bool hold;                            /* received frames are not acknowledged as durable */
    size_t frames, ends;
    uint64_t events;
    frame_t *frame[FRAMES_MAX];
} peer_t;

static loop_t *loop;
static peer_t in, out, out2;

static inline void on_frame(void *argument, link_receiver_t *receiver, frame_t *frame) {
    peer_t *peer = argument;
    peer->ends += frame->end;
    peer->events += frame->events;
    if (peer->frames < FRAMES_MAX)
        peer->frame[peer->frames++] = frame_ref(frame);
    if (!peer->hold)
        link_receiver_durable(receiver, frame);
}

static inline void on_failed(void *argument, const char *reason) {
    fail_msg("the link failed: %s", reason);
}

static inline void open_receiver(peer_t *peer, const char *path) {
    char *endpoint = mem_format(">ipc://%s", path);
    link_receiver_setup_t setup = {.name = "test", .frame = on_frame, .failed = on_failed, .argument = peer};
    err_t err;
    if (link_receiver_open(&peer->receiver, loop, endpoint, &setup, &err))
        fail_msg("%s", err.text);
    mem_free(endpoint);
}

static inline void nothing(void *argument) {
}

static inline void open_sender(peer_t *peer, const char *path) {
    char *endpoint = mem_format("@ipc://%s", path);
    link_sender_setup_t setup = {.name = "test", .origin = "test.1", .epoch = 1, .room = nothing, .durable = nothing,
                                 .failed = on_failed, .argument = peer};
    err_t err;
    if (link_sender_open(&peer->sender, loop, endpoint, &setup, &err))
        fail_msg("%s", err.text);
    mem_free(endpoint);
}

static inline int set_up(void **state) {
    strcpy(directory, "/tmp/test_stage.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(metrics, sizeof metrics, "%s/metrics", directory);
    snprintf(in_path, sizeof in_path, "%s/in", directory);
    snprintf(out_path, sizeof out_path, "%s/out", directory);
    snprintf(out2_path, sizeof out2_path, "%s/out2", directory);
    run = (tool_run_t){.in = -1, .out = -1, .error = -1};
    memset(&in, 0, sizeof in);
    memset(&out, 0, sizeof out);
    memset(&out2, 0, sizeof out2);
    loop = loop_new();
    return 0;
}

static inline void peer_fini(peer_t *peer) {
    link_receiver_free(peer->receiver);
    link_sender_free(peer->sender);
    for (size_t i = 0; i < peer->frames; i++)
        frame_unref(peer->frame[i]);
}

static inline int tear_down(void **state) {
    tool_run_fini(&run);
    peer_fini(&in);
    peer_fini(&out);
    peer_fini(&out2);
    loop_free(loop);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

/* Runs our loop, and takes the tool's output, until the condition holds; a test fails when it does not. */
typedef struct wait {
    bool (*condition)(void);
    int64_t limit;
    bool met;
} wait_t;

static inline void look(void *argument) {
    wait_t *wait = argument;
    tool_read(&run, 0);
    wait->met = wait->condition && wait->condition();
    if (wait->met || now_ms() > wait->limit)
        loop_stop(loop);
}

static inline bool turn(bool (*condition)(void), int64_t ms) {
    wait_t wait = {condition, now_ms() + ms, false};
    loop_watch_t *timer = loop_timer(loop, NS_PER_MS, 2 * NS_PER_MS, look, &wait);
    loop_run(loop);
    loop_remove(timer);
    return wait.met;
}

static inline void until_(bool (*condition)(void), const char *what) {
    if (!turn(condition, PATIENCE_MS))
        fail_msg("never: %s (%s)", what, tool_errors(&run));
}
#define UNTIL(condition) until_(condition, #condition)

/* For what must not happen: long enough that it would. */
static inline void wait_a_while(void) {
    turn(NULL, 300);
}

static inline void send_events(peer_t *peer, unsigned first, unsigned count, int64_t watermark) {
    frame_builder_t builder = {0};
    for (unsigned i = 0; i < count; i++) {
        builder_begin(&builder);
        pack_map(&builder.body, 1);
        pack_text(&builder.body, "n");
        pack_int(&builder.body, first + i);
        builder_commit(&builder, (int64_t) (first + i) * NS_PER_S, clock_now());
    }
    frame_t *frame = builder_take(&builder, "test");
    frame->watermark = watermark;
    link_sender_send(peer->sender, frame);
    frame_unref(frame);
    builder_fini(&builder);
}

static inline bool read_metrics(metrics_snapshot_t *snapshot) {
    *snapshot = (metrics_snapshot_t){0};
    return metrics_read(metrics, snapshot, NULL) == 0;
}

static inline double metric(const char *name) {
    metrics_snapshot_t snapshot;
    if (!read_metrics(&snapshot))
        return -1;
    double value = metrics_sum(&snapshot, name);
    metrics_snapshot_fini(&snapshot);
    return value;
}

static inline int tool_state(void) {
    metrics_snapshot_t snapshot;
    if (!read_metrics(&snapshot))
        return -1;
    int state = snapshot.state;
    metrics_snapshot_fini(&snapshot);
    return state;
}

static inline bool is_ready(void) { return tool_state() == STAGE_READY; }
static inline bool is_draining(void) { return tool_state() == STAGE_DRAINING; }
static inline bool out_ended(void) { return out.ends > 0; }
static inline bool out2_ended(void) { return out2.ends > 0; }
static inline bool out_has_one(void) { return out.events >= 1; }
static inline bool in_is_durable(void) { return link_sender_durable(in.sender) == link_sender_sent(in.sender); }
static inline bool tool_gone(void) { return !tool_read(&run, 0); }

#define IPC(path) mem_format("@ipc://%s", path)
#define FROM(path) mem_format(">ipc://%s", path)

static inline void start(const char *tool, const char *from, const char *to, ...) {
    const char *arguments[60] = {tool, "--metrics", metrics};
    size_t n = 3;
    char *made[2] = {from ? FROM(from) : NULL, to ? IPC(to) : NULL};
    if (from)
        arguments[n++] = "--from", arguments[n++] = made[0];
    if (to)
        arguments[n++] = "--to", arguments[n++] = made[1];
    va_list more;
    va_start(more, to);
    while ((arguments[n] = va_arg(more, const char *)))
        n++;
    va_end(more);
    tool_start(&run, arguments);
    mem_free(made[0]);
    mem_free(made[1]);
}

/* Lets our loop go on, so that what it waits for is acknowledged. */
static inline int finish_tool(void) {
    UNTIL(tool_gone);
    tool_wait(&run);
    return run.status;
}

static inline void expect_status(int status) {
    int found = finish_tool();
    if (found != status)
        fail_msg("status %d, not %d: %s", found, status, tool_errors(&run));
}

static inline void release(peer_t *peer, size_t upto) {
    for (size_t i = 0; i < upto; i++)
        link_receiver_durable(peer->receiver, peer->frame[i]);
}

#define STAGE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
