/* The audit's readings: from the stages' metrics files, and from what a stopped pipeline left. */
#include <stdlib.h>
#include <string.h>

#include "audit_private.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "replay.h"
#include "run/metrics.h"
#include "state.h"

const char *const audit_ledger_keys[LEDGER_COUNT] = {"in", "created", "out", "filtered", "late", "dead", "dropped", "held"};
static const char *const metric_names[LEDGER_COUNT] = {
    "stream_events_in_total",   "stream_events_created_total", "stream_events_out_total",     "stream_events_filtered_total",
    "stream_events_late_total", "stream_events_dead_total",    "stream_events_dropped_total", "stream_events_held"};

audit_t *audit_new(void) {
    return mem_zero(sizeof(audit_t));
}

static void entry_clear(audit_entry_t *entry) {
    for (size_t i = 0; i < entry->end_count; i++)
        mem_free(entry->ends[i].path);
    mem_free(entry->ends);
    *entry = (audit_entry_t){0};
}

static void stages_clear(audit_t *audit) {
    for (size_t i = 0; i < audit->count; i++) {
        audit_stage_t *stage = &audit->stages[i];
        for (size_t n = 0; n < AUDIT_READINGS; n++)
            entry_clear(&stage->entries[n]);
        mem_free(stage->name);
        mem_free(stage->stream);
        mem_free(stage->tool);
        mem_free(stage->role);
        mem_free(stage->contradicted);
        mem_free(stage->inputs);
    }
    mem_free(audit->stages);
    *audit = (audit_t){0};
}

void audit_free(audit_t *audit) {
    if (!audit)
        return;
    stages_clear(audit);
    mem_free(audit);
}

static const char *member(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* ---- which stages there are ---- */

static bool counts(const json_t *told) {
    return strcmp(member(told, "role"), "server") != 0;
}

static bool same_stages(const audit_t *audit, const json_t *list) {
    size_t n = 0, i;
    const json_t *told;
    json_array_foreach(list, i, told) {
        if (!counts(told))
            continue;
        if (n == audit->count || strcmp(audit->stages[n].name, member(told, "name")) != 0)
            return false;
        n++;
    }
    return n == audit->count;
}

static size_t index_of(const audit_t *audit, const char *name) {
    size_t i = 0;
    while (i < audit->count && strcmp(audit->stages[i].name, name) != 0)
        i++;
    return i;
}

static void begin(audit_t *audit, const json_t *list) {
    const json_t *told, *input;
    size_t i, n;
    stages_clear(audit);
    audit->stages = mem_zero((json_array_size(list) + 1) * sizeof *audit->stages);
    json_array_foreach(list, i, told) {
        if (!counts(told))
            continue;
        audit_stage_t *stage = &audit->stages[audit->count++];
        stage->name = mem_text(member(told, "name"));
        stage->stream = mem_text(*member(told, "stream") ? member(told, "stream") : stage->name);
        stage->tool = mem_text(member(told, "tool"));
        stage->role = mem_text(member(told, "role"));
    }
    json_array_foreach(list, i, told) {
        size_t at = index_of(audit, member(told, "name"));
        if (at == audit->count)
            continue;
        audit_stage_t *stage = &audit->stages[at];
        const json_t *inputs = json_object_get(told, "inputs");
        stage->inputs = mem_zero((json_array_size(inputs) + 1) * sizeof *stage->inputs);
        json_array_foreach(inputs, n, input) {
            size_t from = json_is_string(input) ? index_of(audit, json_string_value(input)) : audit->count;
            if (from < audit->count)
                stage->inputs[stage->input_count++] = from;
        }
    }
}

/* ---- numbers ---- */

/* `link="@ipc://PATH?partitions=2",side="to"`: PATH, which both ends share. NULL for other labels. */
static char *end_path(const char *label, bool *sends) {
    const char *start = strstr(label, "link=\"");
    if (!start)
        return NULL;
    *sends = strstr(label, "side=\"to\"") != NULL;
    start += 6;
    start += strspn(start, "@>");
    return mem_text_n(start, strcspn(start, "?\""));
}

static audit_end_t *end_of(audit_entry_t *entry, const char *label) {
    bool sends;
    char *path = end_path(label, &sends);
    if (!path)
        return NULL;
    for (size_t i = 0; i < entry->end_count; i++)
        if (entry->ends[i].sends == sends && strcmp(entry->ends[i].path, path) == 0) {
            mem_free(path);
            return &entry->ends[i];
        }
    entry->ends = mem_resize(entry->ends, (entry->end_count + 1) * sizeof *entry->ends);
    entry->ends[entry->end_count] = (audit_end_t){.path = path, .sends = sends};
    return &entry->ends[entry->end_count++];
}

static void read_end(audit_entry_t *entry, const metrics_sample_t *sample) {
    static const char *const names[] = {"stream_link_events_total", "stream_link_dropped_events_total", "stream_link_outstanding_bytes"};
    size_t which = 0;
    while (which < 3 && strcmp(sample->name, names[which]) != 0)
        which++;
    audit_end_t *end = which < 3 ? end_of(entry, sample->label) : NULL;
    if (!end)
        return;
    if (which == 0)
        end->events = (uint64_t) sample->value;
    else if (which == 1)
        end->dropped = (uint64_t) sample->value;
    else
        end->outstanding = sample->value;
}

/* Of one that was not started since, or could not be: what it had counted in the end. */
static void read_last(audit_entry_t *entry, const char *directory) {
    audit_last_t last;
    if (!*directory || !audit_last_read(&last, directory))
        return;
    entry->known = true;
    memcpy(entry->ledger, last.ledger, sizeof entry->ledger);
    entry->spooled = (double) last.spooled;
}

static void read_numbers(audit_entry_t *entry, const metrics_snapshot_t *snapshot, int pid) {
    bool ended = snapshot->state == STAGE_FINISHED || snapshot->state == STAGE_FAILED;
    entry->known = true;
    entry->killed = !ended && snapshot->pid != pid;
    entry->catching_up = metrics_sum(snapshot, "stream_replaying") > 0;
    for (unsigned i = 0; i < LEDGER_COUNT; i++)
        entry->ledger[i] = (int64_t) metrics_sum(snapshot, metric_names[i]);
    entry->spooled = metrics_sum(snapshot, "stream_spool_frames");
    for (size_t i = 0; i < snapshot->count; i++)
        read_end(entry, &snapshot->samples[i]);
}

static void read_entry(audit_entry_t *entry, const json_t *told) {
    metrics_snapshot_t snapshot;
    int pid = (int) json_integer_value(json_object_get(told, "pid"));
    bool there = metrics_read(member(told, "metrics"), &snapshot, NULL) == 0;
    bool starting = there && snapshot.state == STAGE_STARTING && snapshot.pid == pid;      /* its counts are still 0 */
    entry->runs = pid > 0;
    if (there && !starting && metrics_find(&snapshot, metric_names[LEDGER_IN]))
        read_numbers(entry, &snapshot, pid);
    else if (!entry->runs)
        read_last(entry, member(told, "state_dir"));
    if (there)
        metrics_snapshot_fini(&snapshot);
}

/* What replays have sent, or are sending, to each group; its first stage stands for it. */
static void read_replayed(audit_t *audit, size_t slot, const char *state_dir) {
    json_t *totals = replay_totals(state_dir);
    for (size_t i = 0; i < audit->count; i++) {
        bool first = true;
        for (size_t before = 0; before < i; before++)
            first = first && strcmp(audit->stages[before].stream, audit->stages[i].stream) != 0;
        audit->stages[i].entries[slot].replayed = first ? replay_total(totals, audit->stages[i].stream) : 0;
        audit->stages[i].entries[slot].replaying = first && replay_is_open(totals, audit->stages[i].stream);
    }
    json_decref(totals);
}

void audit_read(audit_t *audit, const json_t *status) {
    const json_t *list = json_object_get(status, "stages"), *told;
    size_t i;
    if (!json_is_array(list))
        return;
    if (!audit->stages || !same_stages(audit, list))
        begin(audit, list);
    size_t slot = (size_t) audit->readings++ % AUDIT_READINGS;
    audit->times[slot] = clock_monotonic();
    for (i = json_array_size(list); i-- > 0;) { /* receivers before senders: what is under way then is not negative */
        told = json_array_get(list, i);
        size_t at = index_of(audit, member(told, "name"));
        if (at == audit->count)
            continue;
        audit_stage_t *stage = &audit->stages[at];
        audit_entry_t *entry = &stage->entries[slot];
        entry_clear(entry);
        stage->starts = (uint64_t) json_integer_value(json_object_get(told, "starts"));
        stage->stateful = json_is_string(json_object_get(told, "state_dir")) && !state_was_reset(member(told, "state_dir"));
        stage->starts += !stage->stateful && json_is_string(json_object_get(told, "state_dir"));    /* of its former life */
        read_entry(entry, told);
    }
    /* After the receivers: what a replay has begun to send since then is under way. */
    const char *state = json_array_size(list) ? member(json_array_get(list, 0), "state_dir") : "", *slash = strrchr(state, '/');
    if (slash) {
        char *state_dir = mem_text_n(state, (size_t) (slash - state));
        read_replayed(audit, slot, state_dir);
        mem_free(state_dir);
    }
}

/* ---- saved ---- */

static json_t *entry_json(const audit_stage_t *stage, const audit_entry_t *entry) {
    json_t *ends = json_array(), *ledger = json_object();
    for (unsigned i = 0; i < LEDGER_COUNT; i++)
        json_object_set_new(ledger, audit_ledger_keys[i], json_integer(entry->ledger[i]));
    for (size_t i = 0; i < entry->end_count; i++) {
        const audit_end_t *end = &entry->ends[i];
        json_array_append_new(ends, json_pack("{s:s, s:b, s:I, s:I, s:f}", "path", end->path, "sends", end->sends, "events",
                                              (json_int_t) end->events, "dropped", (json_int_t) end->dropped, "outstanding",
                                              end->outstanding));
    }
    return json_pack("{s:b, s:b, s:I, s:b, s:o, s:I, s:b, s:f, s:o}", "known", entry->known, "killed", entry->killed, "starts",
                     (json_int_t) stage->starts, "stateful", stage->stateful, "ledger", ledger, "replayed", (json_int_t) entry->replayed,
                     "replaying", entry->replaying, "spooled", entry->spooled, "ends", ends);
}

json_t *audit_save(const audit_t *audit) {
    json_t *stages = json_array();
    for (size_t i = 0; i < audit->count && audit->readings; i++) {
        const audit_stage_t *stage = &audit->stages[i];
        json_t *item = entry_json(stage, &stage->entries[audit_slot(audit, 0)]), *inputs = json_array();
        for (size_t n = 0; n < stage->input_count; n++)
            json_array_append_new(inputs, json_string(audit->stages[stage->inputs[n]].name));
        json_object_set_new(item, "name", json_string(stage->name));
        json_object_set_new(item, "stream", json_string(stage->stream));
        json_object_set_new(item, "tool", json_string(stage->tool));
        json_object_set_new(item, "role", json_string(stage->role));
        json_object_set_new(item, "inputs", inputs);
        json_array_append_new(stages, item);
    }
    return json_pack("{s:i, s:o}", "version", 1, "stages", stages);
}

bool audit_load(audit_t *audit, const json_t *saved) {
    const json_t *list = json_object_get(saved, "stages"), *told, *end;
    size_t i, n;
    if (!json_is_array(list) || json_integer_value(json_object_get(saved, "version")) != 1)
        return false;
    begin(audit, list);
    audit->readings = 1;
    json_array_foreach(list, i, told) {
        size_t at = index_of(audit, member(told, "name"));
        if (at == audit->count)
            continue;
        audit_stage_t *stage = &audit->stages[at];
        audit_entry_t *entry = &stage->entries[0];
        stage->starts = (uint64_t) json_integer_value(json_object_get(told, "starts"));
        stage->stateful = json_is_true(json_object_get(told, "stateful"));
        entry->known = json_is_true(json_object_get(told, "known"));
        entry->killed = json_is_true(json_object_get(told, "killed"));
        entry->replayed = (uint64_t) json_integer_value(json_object_get(told, "replayed"));
        entry->replaying = json_is_true(json_object_get(told, "replaying"));
        entry->spooled = json_number_value(json_object_get(told, "spooled"));
        for (unsigned k = 0; k < LEDGER_COUNT; k++)
            entry->ledger[k] = json_integer_value(json_object_get(json_object_get(told, "ledger"), audit_ledger_keys[k]));
        const json_t *ends = json_object_get(told, "ends");
        entry->ends = mem_zero((json_array_size(ends) + 1) * sizeof *entry->ends);
        json_array_foreach(ends, n, end)
            entry->ends[entry->end_count++] =
                (audit_end_t){.path = mem_text(member(end, "path")), .sends = json_is_true(json_object_get(end, "sends")),
                              .events = (uint64_t) json_integer_value(json_object_get(end, "events")),
                              .dropped = (uint64_t) json_integer_value(json_object_get(end, "dropped")),
                              .outstanding = json_number_value(json_object_get(end, "outstanding"))};
    }
    return true;
}
