/* The skeleton's metrics: the ledger, latency and the links' counts. They are copied into the registry when the loop is
 * about to sleep, and at least every 100 ms under load. */
#include <stdio.h>

#include "base/clock.h"
#include "base/memory.h"
#include "run/stage_state.h"

#define PUBLISH_INTERVAL (100 * NS_PER_MS)

static link_metrics_t link_metrics(const char *endpoint, bool sender) {
    buf_t name = {0}, label = {0};
    text_put_json(&name, text_of(endpoint)); /* quotes and backslashes as Prometheus wants them, too */
    buf_format(&label, "link=%.*s,side=\"%s\"", (int) name.size, buf_text(&name), sender ? "to" : "from");
    const char *pair = buf_text(&label);
    link_metrics_t m = {
        .frames = metrics_add(METRIC_COUNTER, "stream_link_frames_total", pair, "Frames sent once or received in order"),
        .events = metrics_add(METRIC_COUNTER, "stream_link_events_total", pair, "Events in those frames"),
        .bytes = metrics_add(METRIC_COUNTER, "stream_link_bytes_total", pair, "Bytes of those frames"),
        .peers = metrics_add(METRIC_GAUGE, "stream_link_peers", pair, "Peers connected now"),
        .malformed = metrics_add(METRIC_COUNTER, "stream_link_malformed_total", pair, "Malformed frames dropped"),
        .gaps = metrics_add(METRIC_COUNTER, "stream_link_gaps_total", pair, "Gaps seen in the sequence of frames"),
    };
    if (sender) {
        m.outstanding = metrics_add(METRIC_GAUGE, "stream_link_outstanding_bytes", pair, "Bytes sent and not yet acknowledged");
        m.resent = metrics_add(METRIC_COUNTER, "stream_link_resent_total", pair, "Frames sent again");
        m.dropped = metrics_add(METRIC_COUNTER, "stream_link_dropped_events_total", pair, "Events dropped because the link was full");
    } else {
        m.repeats = metrics_add(METRIC_COUNTER, "stream_link_repeats_total", pair, "Repeated frames recognised and dropped");
    }
    buf_fini(&name);
    buf_fini(&label);
    return m;
}

void stage_metrics_open(stage_t *stage) {
    stage_private_t *private = stage->private;
    static const struct {
        metric_type_t type;
        const char *name, *help;
    } ledger[8] = {
        {METRIC_COUNTER, "stream_events_in_total", "Events taken in"},
        {METRIC_COUNTER, "stream_events_out_total", "Events passed on"},
        {METRIC_COUNTER, "stream_events_filtered_total", "Events the program dropped, or took into a window"},
        {METRIC_COUNTER, "stream_events_late_total", "Events too late for their window"},
        {METRIC_COUNTER, "stream_events_dead_total", "Events that could not be used: dead letters"},
        {METRIC_COUNTER, "stream_events_dropped_total", "Events dropped because an output was full"},
        {METRIC_GAUGE, "stream_events_held", "Events held now"},
        {METRIC_COUNTER, "stream_events_created_total", "Events of this stage's own making: windows' results, alerts"},
    };
    for (unsigned i = 0; i < 8; i++)
        private->ledger[i] = metrics_add(ledger[i].type, ledger[i].name, "", ledger[i].help);
    private->errors = metrics_add(METRIC_COUNTER, "stream_errors_total", "", "Errors while processing; the events went on");
    private->latency =
        metrics_add(METRIC_HISTOGRAM, "stream_latency_seconds", "", "Time from an event's ingestion to this stage");
    private->input_metrics = mem_zero((private->input_count + 1) * sizeof(link_metrics_t));
    private->output_metrics = mem_zero((private->output_count + 1) * sizeof(link_metrics_t));
    for (unsigned i = 0; i < private->input_count; i++)
        private->input_metrics[i] = link_metrics(link_receiver_endpoint(private->inputs[i]), false);
    for (unsigned i = 0; i < private->output_count; i++)
        private->output_metrics[i] = link_metrics(link_sender_endpoint(private->outputs[i].link), true);
}

static void publish_link(const link_metrics_t *metrics, const link_stats_t *stats) {
    metric_set_counter(metrics->frames, stats->frames);
    metric_set_counter(metrics->events, stats->events);
    metric_set_counter(metrics->bytes, stats->bytes);
    metric_set(metrics->peers, stats->peers);
    metric_set_counter(metrics->malformed, stats->malformed);
    metric_set_counter(metrics->gaps, stats->gaps);
    if (metrics->outstanding) {
        metric_set(metrics->outstanding, (double) stats->outstanding_bytes);
        metric_set_counter(metrics->resent, stats->resent);
        metric_set_counter(metrics->dropped, stats->dropped_events);
    }
    if (metrics->repeats)
        metric_set_counter(metrics->repeats, stats->repeats);
}

void stage_publish(stage_t *stage) {
    stage_private_t *private = stage->private;
    if (!private->errors)
        return;
    const struct stage_ledger *ledger = &stage->ledger;
    const uint64_t counts[6] = {ledger->in, ledger->out, ledger->filtered, ledger->late, ledger->dead, ledger->dropped};
    for (unsigned i = 0; i < 6; i++)
        metric_set_counter(private->ledger[i], counts[i]);
    metric_set(private->ledger[6], (double) ledger->held);
    metric_set_counter(private->ledger[7], ledger->created);
    metric_set_counter(private->errors, stage->errors);
    for (unsigned i = 0; i < private->input_count; i++)
        publish_link(&private->input_metrics[i], link_receiver_stats(private->inputs[i]));
    for (unsigned i = 0; i < private->output_count; i++)
        publish_link(&private->output_metrics[i], link_sender_stats(private->outputs[i].link));
    state_publish(stage);
    private->published = loop_now(stage->loop);
}

void stage_publish_sometimes(stage_t *stage) {
    if (loop_now(stage->loop) - stage->private->published >= PUBLISH_INTERVAL)
        stage_publish(stage);
}

void stage_latency(stage_t *stage, const frame_t *frame) {
    if (frame->ingest_time > 0 && stage->private->latency)
        metric_observe(stage->private->latency, clock_now() - frame->ingest_time, frame->events);
}
