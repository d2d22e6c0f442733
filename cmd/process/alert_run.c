/* alert at work. A condition goes by the events of its key alone. Silence goes by event time: a key's turn comes when the watermark has passed its
 * last event by so long. Where everything is silent the watermark stands still; then the clock goes on in its place, by the ticks that are recorded with
 * the input. What is due comes before the event whose watermark has made it due, so how events are cut into frames makes no difference. */
#include "alert.h"

#include "base/clock.h"

static int64_t later(int64_t time, int64_t by) {
    int64_t sum;
    return __builtin_add_overflow(time, by, &sum) ? INT64_MAX - 1 : sum;
}

/* Events. */

typedef struct notice {
    bool firing, expired;
    int64_t time;
    const row_t *row;         /* NULL: no event causes it */
} notice_t;

static void put_text(alert_t *alert, const notice_t *notice) {
    buf_t *text = &alert->text;
    buf_clear(text);
    if (alert->message && (notice->row || alert->silence)) {
        template_put(alert->message, notice->row, text);
        return;
    }
    buf_put(text, alert->name.data, alert->name.size);
    buf_put_text(text, ": ");
    buf_put(text, alert->condition_text.data, alert->condition_text.size);
}

static void put_keys(alert_t *alert, const alarm_t *alarm, const row_t *row, buf_t *out) {
    text_t key = alarms_key(alert->alarms, alarm);
    const uint8_t *at = (const uint8_t *) key.data, *end = at + key.size;
    pack_text(out, "key");
    pack_map(out, alert->key_count);
    for (unsigned i = 0; i < alert->key_count; i++) {
        pack_string(out, alert->key_names[i].data, alert->key_names[i].size);
        if (row)
            row_put_value(row, evaluate(alert->keys[i], row), 2, out);
        else
            pack_value(out, key_read(&at, end));
    }
}

/* What the condition looks at; without an event, nothing. */
static void put_seen(const alert_t *alert, const row_t *row, buf_t *out) {
    unsigned count = row ? alert->seen_count : 0;
    pack_text(out, "values");
    pack_map(out, count);
    for (unsigned i = 0; i < count; i++) {
        pack_string(out, alert->seen_names[i].data, alert->seen_names[i].size);
        row_put_value(row, evaluate(alert->seen[i], row), 2, out);
    }
}

/* {"alert", "state", "severity", "message", "stream", "since", "duration"?, "repeat"?, "expired"?, "key"?, "values"} */
static void announce(alert_t *alert, const alarm_t *alarm, const notice_t *notice) {
    program_t *program = alert->op.program;
    const row_t *row = alert->silence ? NULL : notice->row;
    put_text(alert, notice);
    buf_t *out = &program_begin(program, alert->stream)->body;
    pack_map(out, 7u + !notice->firing + (notice->firing && alarm->repeats) + notice->expired + (alert->key_count > 0));
    pack_text(out, "alert");
    pack_string(out, alert->name.data, alert->name.size);
    pack_text(out, "state");
    pack_text(out, notice->firing ? "firing" : "cleared");
    pack_text(out, "severity");
    pack_string(out, alert->severity.data, alert->severity.size);
    pack_text(out, "message");
    pack_string(out, (const char *) alert->text.data, alert->text.size);
    pack_text(out, "stream");
    pack_text(out, program_output_name(program));
    pack_text(out, "since");
    pack_time(out, alarm->since);
    if (!notice->firing) {
        pack_text(out, "duration");
        pack_value(out, ns_to_seconds(notice->time - alarm->since));
    }
    if (notice->firing && alarm->repeats) {
        pack_text(out, "repeat");
        pack_uint(out, alarm->repeats);
    }
    if (notice->expired) {
        pack_text(out, "expired");
        pack_bool(out, true);
    }
    if (alert->key_count)
        put_keys(alert, alarm, row, out);
    put_seen(alert, row, out);
    program_commit(program, alert->stream, notice->time, alert->ingest_time);
    program_ledger(program)->created++;
}

/* Of a silence: the message sees the keys. */
static void announce_silence(alert_t *alert, const alarm_t *alarm, notice_t notice, context_t *context) {
    text_t key = alarms_key(alert->alarms, alarm);
    const uint8_t *at = (const uint8_t *) key.data, *end = at + key.size;
    for (unsigned i = 0; i < alert->key_count; i++)
        alert->key_values[i] = key_read(&at, end);
    row_t row = {.values = alert->key_values, .event.time = notice.time, .context = context, .watermark = alert->watermark,
                 .ingest_time = alert->ingest_time};
    notice.row = &row;
    announce(alert, alarm, &notice);
}

/* What is due. */

static int64_t due_of(const alert_t *alert, const alarm_t *alarm) {
    int64_t due = later(alarm->heard, alert->expire);
    if (!alert->silence)
        return due;
    if (alarm->phase == ALARM_QUIET)
        return later(alarm->heard, alert->silence);
    int64_t again = alert->repeat ? later(alarm->noticed, alert->repeat) : due;
    return again < due ? again : due;
}

static void forget(alert_t *alert, alarm_t *alarm) {
    if (alert->silence)
        announce_silence(alert, alarm, (notice_t){.expired = true, .time = later(alarm->heard, alert->expire)}, program_context(alert->op.program));
    else if (alarm->phase >= ALARM_FIRING)
        announce(alert, alarm, &(notice_t){.expired = true, .time = later(alarm->heard, alert->expire)});
    alarms_forget(alert->alarms, alarm);
}

/* A key falls silent. */
static void fire_silence(alert_t *alert, alarm_t *alarm) {
    alarm->phase = ALARM_FIRING;
    alarm->since = alarm->heard;
    alarm->noticed = later(alarm->heard, alert->silence);
    alarm->repeats = 0;
    announce_silence(alert, alarm, (notice_t){.firing = true, .time = alarm->noticed}, program_context(alert->op.program));
}

/* Its turn to be told of once more has come: put off, until told_again. */
static void put_off(alert_t *alert, alarm_t *alarm) {
    if (alert->again_count == alert->again_room) {
        alert->again_room = alert->again_room ? 2 * alert->again_room : 64;
        alert->again = mem_resize(alert->again, alert->again_room * sizeof(alarm_t *));
    }
    alert->again[alert->again_count++] = alarm;
    alarms_set_due(alert->alarms, alarm, later(alarm->heard, alert->expire));
}

/* Event time has come to `now`. An alarm stands in the heap at the time that was due when it was put there; that may have moved since, and then its turn
 * comes later. */
static void advance(alert_t *alert, int64_t now) {
    for (alarm_t *alarm; (alarm = alarms_first(alert->alarms)) && alarm->due <= now;) {
        int64_t due = due_of(alert, alarm), last = later(alarm->heard, alert->expire);
        if (alarm->due == last) { /* also where its turn to be told of was put off */
            forget(alert, alarm);
        } else if (due != alarm->due) {
            alarms_set_due(alert->alarms, alarm, due);
        } else if (alarm->phase == ALARM_QUIET) {
            fire_silence(alert, alarm);
            alarms_set_due(alert->alarms, alarm, due_of(alert, alarm));
        } else {
            put_off(alert, alarm);
        }
    }
}

static int by_turn(const void *a, const void *b) {
    const alarm_t *one = *(alarm_t *const *) a, *other = *(alarm_t *const *) b;
    if (one->noticed != other->noticed)
        return one->noticed < other->noticed ? -1 : 1;
    return one->born < other->born ? -1 : one->born > other->born;
}

/* Tells again of keys that are silent still. A leap of time counts once; so that is done where an event comes or the clock ticks, and not at watermarks
 * in between, which come as frames are cut. */
static void tell_again(alert_t *alert, int64_t now) {
    if (alert->again_count > 1)
        qsort(alert->again, alert->again_count, sizeof(alarm_t *), by_turn);
    for (uint32_t i = 0; i < alert->again_count; i++) {
        alarm_t *alarm = alert->again[i];
        if (alarm->phase != ALARM_FIRING) /* forgotten meanwhile */
            continue;
        alarm->noticed += (now - alarm->noticed) / alert->repeat * alert->repeat;
        alarm->repeats++;
        announce_silence(alert, alarm, (notice_t){.firing = true, .time = alarm->noticed}, program_context(alert->op.program));
        alarms_set_due(alert->alarms, alarm, due_of(alert, alarm));
    }
    alert->again_count = 0;
}

/* Rows. */

static void put_key(alert_t *alert, const row_t *row) {
    buf_clear(&alert->key);
    for (unsigned i = 0; i < alert->key_count; i++)
        key_put(&alert->key, evaluate(alert->keys[i], row));
    key_end(&alert->key);
}

static void heard(alarm_t *alarm, int64_t time) {
    if (time > alarm->heard)
        alarm->heard = time;
}

/* An event that is itself older than the time of silence does not end it. */
static void silence_row(alert_t *alert, const row_t *row) {
    put_key(alert, row);
    alarm_t *alarm = alarms_get(alert->alarms, &alert->key);
    int64_t time = row->event.time;
    heard(alarm, time);
    if (alarm->phase == ALARM_FIRING && later(time, alert->silence) > row->watermark) {
        announce_silence(alert, alarm, (notice_t){.time = time}, row->context);
        alarm->phase = ALARM_QUIET;
        alarms_set_due(alert->alarms, alarm, due_of(alert, alarm));
    }
    if (!alarm->place)
        alarms_set_due(alert->alarms, alarm, due_of(alert, alarm));
}

static void clear(alert_t *alert, alarm_t *alarm, const row_t *row) {
    announce(alert, alarm, &(notice_t){.time = row->event.time, .row = row});
    alarms_forget(alert->alarms, alarm);
}

static void fire(alert_t *alert, alarm_t *alarm, const row_t *row) {
    alarm->phase = ALARM_FIRING;
    alarm->noticed = row->event.time;
    announce(alert, alarm, &(notice_t){.firing = true, .time = row->event.time, .row = row});
}

/* An alarm that has fired, and an event of its key. */
static void go_on(alert_t *alert, alarm_t *alarm, const row_t *row, bool over) {
    int64_t time = row->event.time;
    if (over && alarm->phase == ALARM_FIRING) {
        alarm->phase = ALARM_CLEARING;
        alarm->over = time;
    }
    if (!over)
        alarm->phase = ALARM_FIRING;
    if (over && time - alarm->over >= alert->rest) {
        clear(alert, alarm, row);
    } else if (!over && alert->repeat && time - alarm->noticed >= alert->repeat) {
        alarm->repeats++;
        fire(alert, alarm, row);
    }
}

static void condition_row(alert_t *alert, const row_t *row) {
    bool holds = evaluate_test(alert->condition, row);
    if (!holds && alarms_count(alert->alarms) == 0)
        return;
    put_key(alert, row);
    alarm_t *alarm = holds ? alarms_get(alert->alarms, &alert->key) : alarms_find(alert->alarms, &alert->key);
    if (!alarm)
        return;
    int64_t time = row->event.time;
    heard(alarm, time);
    if (alarm->phase >= ALARM_FIRING) {
        go_on(alert, alarm, row, alert->clear ? evaluate_test(alert->clear, row) : !holds);
        return;
    }
    if (!holds) {
        alarms_forget(alert->alarms, alarm);
        return;
    }
    if (alarm->phase == ALARM_QUIET) {
        alarm->phase = ALARM_PENDING;
        alarm->since = time;
        alarms_set_due(alert->alarms, alarm, due_of(alert, alarm));
    }
    if (time - alarm->since >= alert->hold)
        fire(alert, alarm, row);
}

void alert_event(op_t *op, row_t **rows, unsigned count) {
    alert_t *alert = (alert_t *) op;
    for (unsigned i = 0; i < count; i++) {
        const row_t *row = rows[i];
        alert->ingest_time = row->ingest_time;
        if (row->watermark > alert->watermark)
            alert->watermark = row->watermark;
        advance(alert, alert->watermark); /* where a snapshot was loaded what was put off is due again */
        tell_again(alert, alert->watermark);
        if (alert->silence)
            silence_row(alert, row);
        else
            condition_row(alert, row);
    }
    op_pass(op, rows, count);
}

/* The end of the stream is no silence. */
void alert_watermark(op_t *op, int64_t watermark) {
    alert_t *alert = (alert_t *) op;
    if (watermark > alert->watermark && watermark != INT64_MAX) {
        alert->watermark = watermark;
        advance(alert, watermark);
    }
    op_pass_watermark(op, watermark);
}

/* While the watermark stands still the clock counts in its place, no two ticks for more than twice their distance: whoever was stopped meanwhile has
 * not seen silence. */
void alert_tick(op_t *op, int64_t now) {
    alert_t *alert = (alert_t *) op;
    if (alert->silence) {
        int64_t most = 2 * program_tick_interval(op->program), step = now - alert->ticked;
        bool counts = alert->ticked && step > 0 && alert->watermark == alert->tick_watermark;
        if (alert->watermark != alert->tick_watermark)
            alert->quiet = 0;
        else if (counts)
            alert->quiet = later(alert->quiet, step < most ? step : most);
        alert->ticked = now;
        alert->tick_watermark = alert->watermark;
        if (alert->watermark != FRAME_NO_WATERMARK)
            advance(alert, later(alert->watermark, alert->quiet));
        tell_again(alert, later(alert->watermark, alert->quiet));
    }
    op_pass_tick(op, now);
}

/* State. */

static void saved(void *argument, buf_t *out) {
    program_saved(argument, out);
}

static void loaded(void *argument, alarm_t *alarm) {
    alert_t *alert = argument;
    alarms_set_due(alert->alarms, alarm, due_of(alert, alarm));
}

void alert_save(const op_t *op, buf_t *out) {
    const alert_t *alert = (const alert_t *) op;
    pack_array(out, 6);
    pack_int(out, alert->watermark);
    pack_int(out, alert->ingest_time);
    pack_int(out, alert->ticked);
    pack_int(out, alert->tick_watermark);
    pack_int(out, alert->quiet);
    alarms_save(alert->alarms, out, saved, op->program);
}

int alert_load(op_t *op, pack_cursor_t *cursor, err_t *err) {
    alert_t *alert = (alert_t *) op;
    uint32_t elements;
    if (!pack_read_array(cursor, &elements) || elements != 6 || !pack_read_int(cursor, &alert->watermark) ||
        !pack_read_int(cursor, &alert->ingest_time) || !pack_read_int(cursor, &alert->ticked) || !pack_read_int(cursor, &alert->tick_watermark) ||
        !pack_read_int(cursor, &alert->quiet) || alert->quiet < 0)
        return err_set(err, "the alert's state is damaged");
    return alarms_load(alert->alarms, cursor, loaded, alert, err);
}
