/* Concluding: does every stage's ledger balance, and has everything that was sent arrived, or is it under way? */
#include "audit.h"

#include <stdio.h>
#include <string.h>

#include "audit_private.h"
#include "base/clock.h"
#include "base/memory.h"

#define PUBLISHED_WITHIN (250 * NS_PER_MS)     /* a stage under load publishes its numbers every 100 ms */
#define STANDS_STILL (700 * NS_PER_MS)

const char *const audit_verdict_names[4] = {"balanced", "moving", "unknown", "wrong"};

static void raise_to(audit_verdict_t *worst, audit_verdict_t verdict) {
    if (verdict > *worst)
        *worst = verdict;
}

/* ---- one stage ---- */

static int64_t difference_of(const audit_entry_t *entry) {
    const int64_t *ledger = entry->ledger;
    int64_t difference = ledger[LEDGER_IN] + ledger[LEDGER_CREATED];
    for (unsigned i = LEDGER_OUT; i < LEDGER_COUNT; i++)
        difference -= ledger[i];
    return difference;
}

static json_t *stage_report(const audit_t *audit, const audit_stage_t *stage, audit_verdict_t *worst) {
    const audit_entry_t *newest = &stage->entries[audit_slot(audit, 0)];
    int64_t difference = difference_of(newest);
    for (size_t age = 1; difference && age < audit_kept(audit); age++) /* the numbers of one moment: any will do */
        if (stage->entries[audit_slot(audit, age)].known && difference_of(&stage->entries[audit_slot(audit, age)]) == 0)
            difference = 0;
    audit_verdict_t verdict = stage->contradicted ? AUDIT_WRONG : !difference ? AUDIT_BALANCED : newest->killed ? AUDIT_UNKNOWN : AUDIT_WRONG;
    char text[400] = "";
    if (stage->contradicted)
        snprintf(text, sizeof text, "%s", stage->contradicted);
    else if (difference && newest->killed)
        snprintf(text, sizeof text, "it was killed while it wrote its numbers; they are known when it is started again");
    else if (difference)
        snprintf(text, sizeof text, "in + created is %lld %s than out + filtered + late + dead + dropped + held",
                 (long long) (difference < 0 ? -difference : difference), difference < 0 ? "less" : "more");
    json_t *report = json_pack("{s:s, s:s, s:s, s:b, s:I, s:s, s:s}", "name", stage->name, "tool", stage->tool, "role", stage->role, "known",
                               newest->known, "difference", (json_int_t) difference, "verdict", audit_verdict_names[verdict], "text", text);
    for (unsigned i = 0; i < LEDGER_COUNT; i++)
        json_object_set_new(report, audit_ledger_keys[i], json_integer(newest->ledger[i]));
    raise_to(worst, verdict);
    return report;
}

/* ---- into one stream's processes, from all that feed them ---- */

typedef struct flow {
    const audit_t *audit;
    const char *stream;               /* the receivers' */
    bool *receives, *sends;           /* by stage */
} flow_t;

typedef struct sums {
    int64_t sent, received;
    bool waits;                       /* something is outstanding, or in a log */
    bool replaying;                   /* a replay has not come to its end */
    bool catching_up;                 /* a sender is */
    bool known;
} sums_t;

static bool reads_from(const flow_t *flow, size_t slot, const char *path) {
    for (size_t i = 0; i < flow->audit->count; i++) {
        const audit_entry_t *entry = &flow->audit->stages[i].entries[slot];
        for (size_t n = 0; flow->receives[i] && n < entry->end_count; n++)
            if (!entry->ends[n].sends && strcmp(entry->ends[n].path, path) == 0)
                return true;
    }
    return false;
}

/* What `entry` has sent on its link into the flow. An event that one link dropped counts as dropped by the stage, though others carried it. */
static int64_t sent_by(const flow_t *flow, size_t slot, const audit_entry_t *entry, bool *waits) {
    int64_t sent = entry->ledger[LEDGER_OUT];
    for (size_t n = 0; n < entry->end_count; n++) {
        const audit_end_t *end = &entry->ends[n];
        if (!end->sends)
            continue;
        if (!reads_from(flow, slot, end->path))
            sent += (int64_t) end->dropped;
        else
            *waits |= end->outstanding > 0;
    }
    *waits |= entry->spooled > 0;
    return sent;
}

static sums_t sums_at(const flow_t *flow, size_t age) {
    const audit_t *audit = flow->audit;
    size_t slot = audit_slot(audit, age);
    sums_t sums = {.known = true};
    for (size_t i = 0; i < audit->count; i++) {
        const audit_entry_t *entry = &audit->stages[i].entries[slot];
        if (flow->receives[i]) {
            sums.received += entry->ledger[LEDGER_IN];
            sums.sent += (int64_t) entry->replayed;
            sums.replaying |= entry->replaying;
        }
        sums.catching_up |= flow->sends[i] && entry->catching_up;
        if (flow->sends[i])
            sums.sent += sent_by(flow, slot, entry, &sums.waits);
        if ((flow->receives[i] || flow->sends[i]) && !entry->known && entry->runs)
            sums.known = false;
    }
    return sums;
}

/* Its numbers began at 0 again, and others' did not. */
static const audit_stage_t *began_anew(const flow_t *flow) {
    for (size_t i = 0; i < flow->audit->count; i++) {
        const audit_stage_t *stage = &flow->audit->stages[i];
        if ((flow->receives[i] || flow->sends[i]) && !stage->stateful && stage->starts > 1)
            return stage;
    }
    return NULL;
}

/* What it counted in its last moments nobody knows; it comes to light when it is started again, or is counted anew. */
static const audit_stage_t *was_killed(const flow_t *flow) {
    for (size_t i = 0; i < flow->audit->count; i++)
        if ((flow->receives[i] || flow->sends[i]) && flow->audit->stages[i].entries[audit_slot(flow->audit, 0)].killed)
            return &flow->audit->stages[i];
    return NULL;
}

static bool any_runs(const flow_t *flow) {
    bool runs = false;
    for (size_t i = 0; i < flow->audit->count; i++)
        runs |= (flow->receives[i] || flow->sends[i]) && flow->audit->stages[i].entries[audit_slot(flow->audit, 0)].runs;
    return runs;
}

/* How much more was received than had been sent, by numbers of the senders that are certainly newer than the receivers'. */
static int64_t invented(const flow_t *flow) {
    const audit_t *audit = flow->audit;
    sums_t senders = sums_at(flow, 0);
    int64_t now = audit->times[audit_slot(audit, 0)];
    for (size_t age = 0; age < audit_kept(audit); age++) {
        if (any_runs(flow) && now - audit->times[audit_slot(audit, age)] < PUBLISHED_WITHIN)
            continue;
        sums_t receivers = sums_at(flow, age);
        int64_t more = receivers.received - senders.sent;
        return senders.known && !senders.catching_up && receivers.known && more > 0 ? more : 0;
    }
    return 0;
}

/* Whether the numbers have stood still for so long that nothing can be on its way. */
static bool stands_still(const flow_t *flow) {
    const audit_t *audit = flow->audit;
    sums_t newest = sums_at(flow, 0);
    if (!any_runs(flow))
        return true;
    for (size_t age = 1; age < audit_kept(audit); age++) {
        sums_t before = sums_at(flow, age);
        if (before.sent != newest.sent || before.received != newest.received)
            return false;
        if (audit->times[audit_slot(audit, 0)] - audit->times[audit_slot(audit, age)] >= STANDS_STILL)
            return true;
    }
    return false;
}

/* Why what was sent and what was received differ, when nothing is wrong. */
static const char *on_its_way(const flow_t *flow, const sums_t *sums) {
    if (sums->sent <= sums->received)
        return sums->catching_up ? "a sender processes again what it had sent before it was killed" : "numbers move";
    if (sums->replaying)
        return "a replay is under way, or was interrupted and goes on";
    return any_runs(flow) ? "in flight" : "waits in the sender's log";
}

static audit_verdict_t judge(const flow_t *flow, sums_t *shown, char *text, size_t size) {
    *shown = sums_at(flow, 0);
    for (size_t age = 0; age < audit_kept(flow->audit); age++) {
        sums_t sums = sums_at(flow, age);
        if (!sums.known || sums.sent != sums.received)
            continue;
        *shown = sums;
        return AUDIT_BALANCED;
    }
    const audit_stage_t *anew = began_anew(flow);
    if (anew) {
        snprintf(text, size, "%s was started anew without its state, and its numbers began at 0", anew->name);
        return AUDIT_UNKNOWN;
    }
    int64_t more = invented(flow), way = shown->sent - shown->received;
    bool lost = way > 0 && !shown->waits && !shown->replaying && shown->known && stands_still(flow);
    const audit_stage_t *killed = more > 0 || lost ? was_killed(flow) : NULL;
    if (killed)
        snprintf(text, size, "%s was killed, and what it had counted last is known when it is started again", killed->name);
    else if (more > 0)
        snprintf(text, size, "%lld more were received than were sent", (long long) more);
    else if (lost)
        snprintf(text, size, "%lld that were sent did not arrive, and nothing is under way", (long long) way);
    else
        snprintf(text, size, "%s", on_its_way(flow, shown));
    return killed ? AUDIT_UNKNOWN : more > 0 || lost ? AUDIT_WRONG : AUDIT_MOVING;
}

static json_t *flow_report(const flow_t *flow, audit_verdict_t *worst) {
    char text[200] = "";
    sums_t sums;
    audit_verdict_t verdict = judge(flow, &sums, text, sizeof text);
    json_t *from = json_array();
    for (size_t i = 0; i < flow->audit->count; i++)
        if (flow->sends[i])
            json_array_append_new(from, json_string(flow->audit->stages[i].name));
    raise_to(worst, verdict);
    return json_pack("{s:o, s:s, s:I, s:I, s:I, s:s, s:s}", "from", from, "to", flow->stream, "sent", (json_int_t) sums.sent, "received",
                     (json_int_t) sums.received, "under_way", (json_int_t) (sums.sent - sums.received), "verdict",
                     audit_verdict_names[verdict], "text", text);
}

static json_t *flows_report(const audit_t *audit, audit_verdict_t *worst) {
    json_t *links = json_array();
    flow_t flow = {audit, NULL, mem_zero(audit->count + 1), mem_zero(audit->count + 1)};
    for (size_t i = 0; i < audit->count; i++) {
        bool first = audit->stages[i].input_count > 0;
        for (size_t before = 0; before < i; before++)
            first = first && strcmp(audit->stages[before].stream, audit->stages[i].stream) != 0;
        if (!first)
            continue;
        flow.stream = audit->stages[i].stream;
        memset(flow.receives, 0, audit->count);
        memset(flow.sends, 0, audit->count);
        for (size_t k = 0; k < audit->count; k++) {
            flow.receives[k] = strcmp(audit->stages[k].stream, flow.stream) == 0;
            for (size_t n = 0; flow.receives[k] && n < audit->stages[k].input_count; n++)
                flow.sends[audit->stages[k].inputs[n]] = true;
        }
        json_array_append_new(links, flow_report(&flow, worst));
    }
    mem_free(flow.receives);
    mem_free(flow.sends);
    return links;
}

audit_verdict_t audit_conclude(const audit_t *audit, json_t **report) {
    audit_verdict_t worst = AUDIT_BALANCED;
    json_t *stages = json_array(), *links = json_array();
    for (size_t i = 0; i < audit->count && audit->readings; i++)
        json_array_append_new(stages, stage_report(audit, &audit->stages[i], &worst));
    if (audit->readings) {
        json_decref(links);
        links = flows_report(audit, &worst);
    }
    json_t *whole = json_pack("{s:s, s:i, s:o, s:o}", "verdict", audit_verdict_names[worst], "readings", (int) audit_kept(audit), "stages",
                              stages, "links", links);
    if (report)
        *report = whole;
    else
        json_decref(whole);
    return worst;
}
