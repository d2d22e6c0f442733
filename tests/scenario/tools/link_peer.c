/* Ends of links for the scenarios, made of the link layer alone:
 *     link_peer send ENDPOINT [OPTION]...           numbered events, then the end of stream; statistics as JSON on stdout
 *     link_peer receive ENDPOINT FILE [OPTION]...   one line "ORIGIN STREAM NUMBER KEY" per event; appended, before it counts as durable; FILE "none": nothing
 *                                                 is written; "latency": percentiles from ingest time to here are printed
 *     link_peer relay ENDPOINT ENDPOINT [OPTION]... passes frames on, acknowledges what is durable behind it
 * Options are KEY=VALUE; `settings` below lists them. spool=DIR: the sender keeps a durable log and goes on where it ended when it is started
 * again. state=1: FILE holds the receiver's position, too, and the next one goes on behind it; stable=1: only frames that are stable go into FILE. SIGUSR1 pauses a receiver, SIGUSR2 lets
 * it go on. stay=1: a sender does not come to its end before SIGUSR2, or SIGUSR1, after which it makes no more events. SIGHUP: statistics now. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "base/memory.h"
#include "data/pack.h"
#include "net/link.h"

static struct settings {
    int64_t count, batch, padding, keys, rate, window, full, epoch, durable_every, stay, streams, delay, state, stable, sync, sync_interval, limit, refuse,
        frame_max;
    const char *origin, *name, *spool;
} settings = {.count = 1000, .batch = 10, .keys = 17, .durable_every = 1, .origin = "peer", .name = "numbers", .streams = 1,
              .sync = SPOOL_INTERVAL, .sync_interval = 100, .limit = 1 << 30};

static const struct {
    const char *key;
    int64_t *number;
    const char **text;
} options[] = {
    {"count", &settings.count}, {"batch", &settings.batch}, {"padding", &settings.padding}, {"keys", &settings.keys},
    {"rate", &settings.rate}, {"window", &settings.window}, {"full", &settings.full}, {"epoch", &settings.epoch},
    {"durable_every", &settings.durable_every}, {"stay", &settings.stay}, {"streams", &settings.streams}, {"delay", &settings.delay},
    {"state", &settings.state}, {"stable", &settings.stable}, {"sync", &settings.sync}, {"sync_interval", &settings.sync_interval},
    {"limit", &settings.limit}, {"refuse", &settings.refuse}, {"frame_max", &settings.frame_max}, {"spool", NULL, &settings.spool},
    {"origin", NULL, &settings.origin}, {"name", NULL, &settings.name},
};

static int usage(void) {
    fprintf(stderr, "usage: link_peer send ENDPOINT | receive ENDPOINT FILE | relay ENDPOINT ENDPOINT, then KEY=VALUE...\n");
    return 64;
}

static int set_option(const char *argument) {
    const char *equals = strchr(argument, '=');
    for (size_t i = 0; equals && i < sizeof options / sizeof *options; i++)
        if (strlen(options[i].key) == (size_t) (equals - argument) && strncmp(options[i].key, argument, (size_t) (equals - argument)) == 0) {
            if (options[i].text)
                *options[i].text = equals + 1;
            else
                *options[i].number = atoll(equals + 1);
            return 0;
        }
    return -1;
}

typedef struct peer {
    loop_t *loop;
    link_sender_t *sender;
    link_receiver_t *receiver;
    int status;
    int64_t sent, acknowledged;
    frame_builder_t builder;
    loop_watch_t *timer;
    bool finishing, ended;                /* ended: the spool's last frame is the end */
    int file;
    int64_t unacknowledged;
    bool latency;
    buf_t text;
    /* relay: what is on its way */
    struct {
        frame_t *frame;
        uint64_t ticket;
    } *held;
    size_t held_count, held_capacity;
    int64_t *latencies;                   /* receive FILE "latency": of each frame since its ingest time */
    size_t latency_count, latency_capacity;
    char *padding;
    spool_t *spool;
    /* state=1 */
    const char *endpoint, *path;
    frame_t **waiting;                    /* stable=1: not stable yet */
    size_t waiting_count, waiting_capacity;
    map_t *stable;                        /* origin → number */
    int64_t offered;                      /* refuse=N: frames until the next is refused */
    loop_watch_t *want;
    int64_t hurries, back;
} peer_t;

static void fail(void *argument, const char *reason) {
    peer_t *peer = argument;
    fprintf(stderr, "failed: %s\n", reason);
    peer->status = 1;
    loop_stop(peer->loop);
}

static void report(const peer_t *peer) {
    const link_stats_t *s = peer->sender ? link_sender_stats(peer->sender) : link_receiver_stats(peer->receiver);
    printf("{\"frames\":%llu,\"events\":%llu,\"resent\":%llu,\"repeats\":%llu,\"gaps\":%llu,\"malformed\":%llu,\"dropped_frames\":%llu,"
           "\"dropped_events\":%llu,\"outstanding_frames\":%llu,\"outstanding_bytes\":%llu,\"peers\":%u,\"hurries\":%lld,\"back\":%lld}\n",
           (unsigned long long) s->frames, (unsigned long long) s->events, (unsigned long long) s->resent, (unsigned long long) s->repeats,
           (unsigned long long) s->gaps, (unsigned long long) s->malformed, (unsigned long long) s->dropped_frames,
           (unsigned long long) s->dropped_events, (unsigned long long) s->outstanding_frames, (unsigned long long) s->outstanding_bytes,
           s->peers, (long long) peer->hurries, (long long) peer->back);
    fflush(stdout);
}

static void leave_when_quiet(void *argument) {
    peer_t *peer = argument;
    settings.count = 0;                   /* no more */
    if (link_sender_quiet(peer->sender))
        loop_stop(peer->loop);
}

static void send_more(void *argument);

static void on_signal(void *argument, int signal) {
    peer_t *peer = argument;
    if (signal == SIGUSR1 && peer->receiver)
        link_receiver_pause(peer->receiver);
    else if (signal == SIGUSR2 && peer->receiver)
        link_receiver_resume(peer->receiver);
    else if (signal == SIGHUP)
        report(peer);
    else if (signal == SIGUSR1 || signal == SIGUSR2) {
        settings.stay = 0;
        if (signal == SIGUSR1)
            settings.count = peer->sent;
        send_more(peer);
    } else if (signal == SIGTERM && peer->spool)
        loop_timer(peer->loop, 0, 10 * NS_PER_MS, leave_when_quiet, peer);
    else if (signal == SIGTERM)
        loop_stop(peer->loop);
}

/* ---- send ---- */

static frame_t *make_frame(peer_t *peer) {
    char key[32], topic[32];
    snprintf(topic, sizeof topic, settings.streams > 1 ? "%s%lld" : "%s", settings.name, (long long) (peer->sent / settings.batch % settings.streams));
    int64_t now = clock_now();
    for (int64_t i = 0; i < settings.batch && peer->sent < settings.count; i++, peer->sent++) {
        builder_begin(&peer->builder);
        buf_t *out = &peer->builder.body;
        pack_map(out, settings.padding ? 3 : 2);
        pack_text(out, "n");
        pack_int(out, peer->sent);
        pack_text(out, "k");
        snprintf(key, sizeof key, "device%lld", (long long) (peer->sent * 7919 % settings.keys));
        pack_text(out, key);
        if (settings.padding) {
            pack_text(out, "p");
            pack_string(out, peer->padding, (size_t) settings.padding);
        }
        builder_commit(&peer->builder, now, now);
    }
    return builder_take(&peer->builder, topic);
}

/* That the receiver has all, and may leave: a sender that is killed now, and started again, must not wait for it. */
static char *taken_path(void) {
    return mem_format("%s.taken", settings.spool);
}

static void write_taken(const peer_t *peer) {
    char *path = taken_path(), line[64];
    err_t err;
    int size = snprintf(line, sizeof line, "%llu %llu\n", (unsigned long long) spool_identity(peer->spool)->epoch,
                        (unsigned long long) spool_number(peer->spool));
    if (file_write_atomic(path, line, (size_t) size, 0600, &err) != 0)
        fprintf(stderr, "error: %s\n", err.text);
    mem_free(path);
}

static void read_taken(const peer_t *peer) {
    char *path = taken_path();
    FILE *file = fopen(path, "r");
    unsigned long long epoch, number;
    if (file && fscanf(file, "%llu %llu", &epoch, &number) == 2)
        link_sender_taken(peer->sender, epoch, number);
    if (file)
        fclose(file);
    mem_free(path);
}

static void sender_done(void *argument) {
    peer_t *peer = argument;
    if (peer->spool)
        write_taken(peer);
    if (strncmp(link_sender_endpoint(peer->sender), "-", 1) != 0)
        report(peer);                     /* else standard output is the link */
    link_sender_part(peer->sender);
    loop_stop(peer->loop);
}

/* With a spool each record's note says how many events there are with it. */
static void write_record(peer_t *peer, frame_t *frame) {
    char note[32];
    uint64_t number;
    snprintf(note, sizeof note, "%lld", (long long) peer->sent);
    spool_begin(peer->spool);
    spool_add(peer->spool, text_of(note), frame, &number);
    spool_commit(peer->spool);
    if (number && number <= spool_written(peer->spool))
        link_sender_written(peer->sender, frame, number);
}

static bool has_room(const peer_t *peer) {
    return peer->spool ? spool_room(peer->spool) : settings.full || link_sender_room(peer->sender);
}

static void send_more(void *argument) {
    peer_t *peer = argument;
    for (int i = 0; i < 64 && peer->sent < settings.count && has_room(peer); i++) {
        frame_t *frame = make_frame(peer);
        if (peer->spool)
            write_record(peer, frame);
        else
            link_sender_send(peer->sender, frame);
        frame_unref(frame);
        if (settings.rate)
            break;
    }
    if (settings.count && peer->sent >= settings.count && !peer->finishing && !settings.stay) {
        peer->finishing = true;
        fprintf(stderr, "all is handed to the link\n");
        loop_remove(peer->timer);
        if (peer->spool && !peer->ended) {
            frame_t *end = frame_new_end(settings.name);
            write_record(peer, end);
            frame_unref(end);
        }
        link_sender_finish(peer->sender, settings.name, sender_done, peer);
    } else if (!settings.rate && peer->sent < settings.count && has_room(peer))
        loop_defer(peer->loop, send_more, peer);
}

static void sender_dropped(void *argument, uint64_t events, const char *reason) {
}

static int open_sender(peer_t *peer, const char *endpoint, void (*room)(void *), void (*durable)(void *)) {
    link_sender_setup_t setup = {.name = settings.name, .origin = settings.origin,
                                 .epoch = settings.epoch ? (uint64_t) settings.epoch : (uint64_t) clock_now(),
                                 .window = (uint64_t) settings.window, .full = (link_full_t) settings.full, .spool = peer->spool, .room = room,
                                 .durable = durable, .dropped = sender_dropped, .failed = fail, .argument = peer};
    err_t err;
    if (link_sender_open(&peer->sender, peer->loop, endpoint, &setup, &err) == 0)
        return 0;
    fprintf(stderr, "error: %s\n", err.text);
    return -1;
}

static void spool_is_written(void *argument) {
    link_sender_written(((peer_t *) argument)->sender, NULL, 0);
}

/* Every record has a frame: index and number are the same. */
static void spool_is_synced(void *argument) {
    peer_t *peer = argument;
    link_sender_stable(peer->sender, spool_synced(peer->spool));
}

static void release_durable(void *argument) {
    peer_t *peer = argument;
    uint64_t durable = link_sender_durable(peer->sender), last = spool_index(peer->spool);
    spool_release(peer->spool, durable < last ? durable : last - 1, durable);
}

static int open_spool(peer_t *peer) {
    spool_setup_t setup = {.loop = peer->loop, .directory = settings.spool, .name = settings.origin, .sync = (spool_sync_t) settings.sync,
                           .sync_interval = settings.sync_interval * NS_PER_MS, .limit = (uint64_t) settings.limit, .written = spool_is_written,
                           .synced = spool_is_synced, .room = send_more, .argument = peer};
    err_t err;
    if (spool_open(&peer->spool, &setup, &err) != 0) {
        fprintf(stderr, "error: %s\n", err.text);
        return -1;
    }
    spool_record_t record;
    if (spool_last(peer->spool, &record, &err) == 1) {
        char *note = mem_text_n(record.note.data, record.note.size);
        peer->sent = atoll(note);
        mem_free(note);
        peer->ended = record.frame && record.frame->end;
        frame_unref(record.frame);
    }
    return 0;
}

static int run_send(peer_t *peer, const char *endpoint) {
    peer->padding = mem_zero((size_t) settings.padding + 1);
    memset(peer->padding, 'x', (size_t) settings.padding);
    if (settings.spool && open_spool(peer) != 0)
        return 1;
    if (open_sender(peer, endpoint, send_more, settings.spool ? release_durable : NULL) != 0)
        return 1;
    if (peer->spool) {
        spool_is_synced(peer);
        read_taken(peer);
    }
    if (settings.rate)
        peer->timer = loop_timer(peer->loop, settings.delay * NS_PER_MS, NS_PER_S * settings.batch / settings.rate, send_more, peer);
    else
        loop_timer(peer->loop, settings.delay * NS_PER_MS, 0, send_more, peer);
    loop_run(peer->loop);
    return peer->status;
}

/* ---- receive ---- */

static void write_events(peer_t *peer, const frame_t *frame) {
    frame_walk_t walk = {0};
    event_t event;
    while (frame_next(frame, &walk, &event) == 1) {
        value_t number = {0}, key = {0};
        pack_map_get(event.record, event.record_size, text_of("n"), &number);
        pack_map_get(event.record, event.record_size, text_of("k"), &key);
        buf_format(&peer->text, "%s %s %lld %.*s\n", frame->origin, frame->topic, (long long) number.integer, (int) key.size, key.text);
    }
    if (frame->end)
        buf_format(&peer->text, "%s %s end -\n", frame->origin, frame->topic);
    if (settings.state)
        buf_format(&peer->text, "# %s %llu %llu %d\n", frame->origin, (unsigned long long) frame->epoch, (unsigned long long) frame->sequence,
                   frame->end);
    if (settings.durable_every < 0 && peer->text.size < 1024 * 1024 && !frame->end)
        return;                           /* for measuring: fewer writes */
    err_t err;
    if (file_write_all(peer->file, peer->text.data, peer->text.size, &err) != 0)
        fail(peer, err.text);
    buf_clear(&peer->text);
}

static void note_latency(peer_t *peer, const frame_t *frame) {
    if (peer->latency_count == peer->latency_capacity) {
        peer->latency_capacity = peer->latency_capacity ? 2 * peer->latency_capacity : 1024;
        peer->latencies = mem_resize(peer->latencies, peer->latency_capacity * sizeof *peer->latencies);
    }
    peer->latencies[peer->latency_count++] = clock_now() - frame->ingest_time;
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;
    return (x > y) - (x < y);
}

static void report_latency(peer_t *peer) {
    size_t n = peer->latency_count;
    if (!n)
        return;
    qsort(peer->latencies, n, sizeof *peer->latencies, compare);
    printf("{\"frames\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f}\n", n, peer->latencies[n / 2] / 1e3,
           peer->latencies[n * 99 / 100] / 1e3, peer->latencies[n * 999 / 1000] / 1e3);
    mem_free(peer->latencies);
}

static void parted(void *argument) {
    peer_t *peer = argument;
    loop_stop(peer->loop);
}

static void part(void *argument) {
    peer_t *peer = argument;
    link_receiver_part(peer->receiver, parted, peer);
}

/* The end may have come while what is before it waits to become stable. */
static void check_ended(void *argument) {
    peer_t *peer = argument;
    if (link_receiver_ended(peer->receiver) && !peer->waiting_count && !settings.stay)
        part(peer);
}

static void take_in(peer_t *peer, link_receiver_t *receiver, frame_t *frame) {
    if (peer->file >= 0)
        write_events(peer, frame);
    if (peer->latency && frame->events)
        note_latency(peer, frame);
    if (++peer->unacknowledged >= settings.durable_every || frame->end) {
        link_receiver_durable(receiver, frame);
        peer->unacknowledged = 0;
    }
    loop_defer(peer->loop, check_ended, peer);
    if (settings.delay)
        usleep((useconds_t) settings.delay * 1000);
}

static uint64_t stable_of(const peer_t *peer, const char *origin) {
    uint64_t *number = map_get(peer->stable, text_of(origin));
    return number ? *number : 0;
}

static void received(void *argument, link_receiver_t *receiver, frame_t *frame) {
    peer_t *peer = argument;
    if (!settings.stable || !frame->has_stable || frame->sequence <= stable_of(peer, frame->origin)) {
        take_in(peer, receiver, frame);
        return;
    }
    if (peer->waiting_count == peer->waiting_capacity) {
        peer->waiting_capacity = peer->waiting_capacity ? 2 * peer->waiting_capacity : 64;
        peer->waiting = mem_resize(peer->waiting, peer->waiting_capacity * sizeof *peer->waiting);
    }
    peer->waiting[peer->waiting_count++] = frame_ref(frame);
}

static void stable_advanced(void *argument, link_receiver_t *receiver, const char *origin, uint64_t epoch, uint64_t stable) {
    peer_t *peer = argument;
    uint64_t *known = map_get(peer->stable, text_of(origin));
    if (!known) {
        known = mem_zero(sizeof *known);
        map_put(peer->stable, text_of(origin), known);
    }
    *known = stable;
    size_t kept = 0;
    for (size_t i = 0; i < peer->waiting_count; i++) {
        frame_t *frame = peer->waiting[i];
        if (frame->sequence <= stable && strcmp(frame->origin, origin) == 0) {
            take_in(peer, receiver, frame);
            frame_unref(frame);
        } else
            peer->waiting[kept++] = frame;
    }
    peer->waiting_count = kept;
}

static void forget_waiting(peer_t *peer) {
    while (peer->waiting_count)
        frame_unref(peer->waiting[--peer->waiting_count]);
    size_t position = 0;
    void *number;
    while (map_next(peer->stable, &position, NULL, &number))
        mem_free(number);
    map_free(peer->stable);
    peer->stable = map_new();
}

static void start_over(void *argument);

static void taken_back(void *argument, link_receiver_t *receiver, const char *origin) {
    peer_t *peer = argument;
    fprintf(stderr, "taken back: %s\n", origin);
    peer->back++;
    loop_defer(peer->loop, start_over, peer);
}

static void hurry(void *argument, link_receiver_t *receiver) {
    ((peer_t *) argument)->hurries++;
}

static void want_again(void *argument) {
    peer_t *peer = argument;
    peer->want = NULL;
    peer->offered = 1;
    link_receiver_want(peer->receiver);
}

/* refuse=N: every Nth frame is refused at first, and wanted a little later. */
static bool take(void *argument, link_receiver_t *receiver, const frame_t *frame) {
    peer_t *peer = argument;
    if (!settings.refuse || peer->offered++ % settings.refuse != 0)
        return true;
    peer->offered--;
    if (!peer->want)
        peer->want = loop_timer(peer->loop, 2 * NS_PER_MS, 0, want_again, peer);
    return false;
}

static void bad(void *argument, text_t record, uint64_t number, const char *reason) {
    fprintf(stderr, "bad record %llu (%zu bytes): %s\n", (unsigned long long) number, record.size, reason);
}

static int open_receiver(peer_t *peer, const char *endpoint, void (*frame)(void *, link_receiver_t *, frame_t *)) {
    link_receiver_setup_t setup = {.name = settings.name, .frame_max = (size_t) settings.frame_max, .frame = frame, .take = take,
                                   .stable = stable_advanced, .taken_back = settings.state ? taken_back : NULL, .hurry = hurry, .bad = bad,
                                   .failed = fail, .argument = peer};
    err_t err;
    if (link_receiver_open(&peer->receiver, peer->loop, endpoint, &setup, &err) == 0)
        return 0;
    fprintf(stderr, "error: %s\n", err.text);
    return -1;
}

/* What stands in the file behind the last complete position is cut off; each origin's last position is restored. */
static int restore(peer_t *peer) {
    buf_t text = {0};
    err_t err;
    if (file_read(peer->path, INT32_MAX, &text, &err) != 0)
        return -1;
    const char *at = buf_text(&text), *newline, *kept = at;
    for (; (newline = strchr(at, '\n')); at = newline + 1) {
        char origin[FRAME_ORIGIN_MAX + 1];
        unsigned long long epoch, sequence;
        int ended;
        if (*at != '#' || sscanf(at, "# %192s %llu %llu %d", origin, &epoch, &sequence, &ended) != 4)
            continue;
        link_receiver_restore(peer->receiver, origin, epoch, sequence, ended);
        kept = newline + 1;
    }
    int result = ftruncate(peer->file, kept - buf_text(&text));
    buf_fini(&text);
    return result;
}

static int begin_receive(peer_t *peer) {
    if (open_receiver(peer, peer->endpoint, received) != 0 || (settings.state && restore(peer) != 0))
        return -1;
    loop_defer(peer->loop, check_ended, peer);
    return 0;
}

static void start_over(void *argument) {
    peer_t *peer = argument;
    loop_undefer(peer->loop, check_ended, peer);
    link_receiver_free(peer->receiver);
    peer->receiver = NULL;
    forget_waiting(peer);
    if (begin_receive(peer) != 0) {
        peer->status = 1;
        loop_stop(peer->loop);
    }
}

static int run_receive(peer_t *peer, const char *endpoint, const char *path) {
    peer->latency = strcmp(path, "latency") == 0;
    peer->file = peer->latency || strcmp(path, "none") == 0 ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    peer->endpoint = endpoint;
    peer->path = path;
    if (begin_receive(peer) != 0)
        return 1;
    loop_run(peer->loop);
    report_latency(peer);
    report(peer);
    return peer->status;
}

/* ---- relay ---- */

static void relay_durable(void *argument) {
    peer_t *peer = argument;
    uint64_t durable = link_sender_durable(peer->sender);
    size_t done = 0;
    for (; done < peer->held_count && peer->held[done].ticket <= durable; done++) {
        link_receiver_durable(peer->receiver, peer->held[done].frame);
        frame_unref(peer->held[done].frame);
    }
    peer->held_count -= done;
    memmove(peer->held, peer->held + done, peer->held_count * sizeof *peer->held);
}

static void relay_room(void *argument) {
    link_receiver_resume(((peer_t *) argument)->receiver);
}

static void relay_done(void *argument) {
    peer_t *peer = argument;
    relay_durable(peer);
    loop_defer(peer->loop, part, peer);
}

static void relay_frame(void *argument, link_receiver_t *receiver, frame_t *frame) {
    peer_t *peer = argument;
    if (peer->held_count == peer->held_capacity) {
        peer->held_capacity = peer->held_capacity ? 2 * peer->held_capacity : 64;
        peer->held = mem_resize(peer->held, peer->held_capacity * sizeof *peer->held);
    }
    peer->held[peer->held_count].frame = frame_ref(frame);
    if (frame->end) {
        peer->held[peer->held_count++].ticket = UINT64_MAX;
        link_sender_finish(peer->sender, frame->topic, relay_done, peer);
        for (size_t i = 0; i < peer->held_count; i++)
            if (peer->held[i].ticket == UINT64_MAX)
                peer->held[i].ticket = i ? peer->held[i - 1].ticket + 1 : 1;
        return;
    }
    uint64_t ticket = link_sender_send(peer->sender, frame);
    peer->held[peer->held_count++].ticket = ticket;
    if (!link_sender_room(peer->sender))
        link_receiver_pause(receiver);
}

static int run_relay(peer_t *peer, const char *from, const char *to) {
    if (open_sender(peer, to, relay_room, relay_durable) != 0 || open_receiver(peer, from, relay_frame) != 0)
        return 1;
    loop_run(peer->loop);
    while (peer->held_count)
        frame_unref(peer->held[--peer->held_count].frame);
    mem_free(peer->held);
    return peer->status;
}

int main(int argc, char **argv) {
    mem_tune();
    if (argc < 3)
        return usage();
    bool send = strcmp(argv[1], "send") == 0, receive = strcmp(argv[1], "receive") == 0, relay = strcmp(argv[1], "relay") == 0;
    int first = send ? 3 : 4;
    if (argc < first || !(send || receive || relay))
        return usage();
    for (int i = first; i < argc; i++)
        if (set_option(argv[i]) != 0)
            return usage();
    log_open("link_peer", argv[1], LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    peer_t peer = {.loop = loop_new(), .file = -1, .stable = map_new()};
    loop_signal(peer.loop, SIGUSR1, on_signal, &peer);
    loop_signal(peer.loop, SIGUSR2, on_signal, &peer);
    loop_signal(peer.loop, SIGHUP, on_signal, &peer);
    loop_signal(peer.loop, SIGTERM, on_signal, &peer);
    int status = send ? run_send(&peer, argv[2]) : receive ? run_receive(&peer, argv[2], argv[3]) : run_relay(&peer, argv[2], argv[3]);
    link_receiver_free(peer.receiver);
    link_sender_free(peer.sender);
    spool_close(peer.spool);
    forget_waiting(&peer);
    map_free(peer.stable);
    mem_free(peer.waiting);
    link_shutdown();
    loop_free(peer.loop);
    builder_fini(&peer.builder);
    buf_fini(&peer.text);
    mem_free(peer.padding);
    return status;
}
