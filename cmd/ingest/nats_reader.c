/* Messages of NATS for the loop: see nats_reader.h. One thread of ours makes a session, asks and acknowledges; libnats calls back on its own threads with
 * each message, which goes to a queue. Here is the queue and the thread; the connection with its subscriptions is in nats_session.c. */
#include "nats_reader.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "nats_private.h"

#define LOOKS 8

/* The queue. */

static void push_message(nats_queue_t *queue, natsMsg *message, size_t size) {
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity ? queue->capacity * 2 : 256;
        queue->messages = mem_resize(queue->messages, queue->capacity * sizeof *queue->messages);
    }
    queue->messages[queue->count++] = message;
    queue->bytes += size;
}

static void clear_queue(nats_queue_t *queue) {
    for (size_t i = queue->at; i < queue->count; i++)
        natsMsg_Destroy(queue->messages[i]);
    queue->at = queue->count = queue->bytes = 0;
}

static void push_ack(nats_reader_t *self, const char *reply, uint64_t sequence) {
    nats_acks_t *acks = &self->acks;
    if (acks->count == acks->capacity) {
        size_t capacity = acks->capacity ? acks->capacity * 2 : 256;
        nats_ack_t *ring = mem_zero(capacity * sizeof *ring);
        for (size_t i = 0; i < acks->count; i++)
            ring[i] = acks->ring[(acks->first + i) % acks->capacity];
        mem_free(acks->ring);
        acks->ring = ring;
        acks->first = 0;
        acks->capacity = capacity;
    }
    acks->ring[(acks->first + acks->count++) % acks->capacity] =
        (nats_ack_t){.ordinal = self->ordinal, .sequence = sequence, .touched = clock_monotonic(), .reply = mem_text(reply)};
}

/* Forgets acknowledgements of messages behind this one. */
static void forget_acks(nats_acks_t *acks, uint64_t ordinal) {
    while (acks->count) {
        nats_ack_t *last = &acks->ring[(acks->first + acks->count - 1) % acks->capacity];
        if (last->ordinal <= ordinal)
            return;
        mem_free(last->reply);
        acks->count--;
    }
}

static void tell(nats_reader_t *self) {
    uint64_t one = 1;
    if (self->told)
        return;
    self->told = true;
    if (write(self->event, &one, sizeof one) < 0)
        return; /* the counter is full: it will be read */
}

bool reader_put(nats_reader_t *self, natsMsg *message, const char *reply, uint64_t sequence) {
    size_t size = (size_t) natsMsg_GetDataLength(message) + strlen(natsMsg_GetSubject(message)) + NATS_MESSAGE_OVERHEAD;
    if (!reply && self->in.bytes + self->hand.bytes + size > NATS_QUEUE_BYTES) {
        self->dropped++;
        tell(self);
        return false;
    }
    self->ordinal++;
    if (reply)
        push_ack(self, reply, sequence);
    push_message(&self->in, message, size);
    tell(self);
    return true;
}

bool reader_has_room(const nats_reader_t *self) {
    return !self->hold && self->in.bytes + self->hand.bytes < NATS_QUEUE_BYTES;
}

void reader_lost(nats_reader_t *self, const char *reason) {
    if (self->lost)
        return;
    self->lost = true;
    snprintf(self->lost_reason, sizeof self->lost_reason, "%s", reason);
    text_make_valid(self->lost_reason);
    pthread_cond_broadcast(&self->condition);
}

void reader_tell_up(nats_reader_t *self, const nats_stream_t *found) {
    self->found = *found;
    self->is_up = true;
    tell(self);
}

void reader_tell_dropped(nats_reader_t *self, uint64_t messages) {
    self->dropped += messages;
    tell(self);
}

bool reader_has_acks(const nats_reader_t *self) {
    return self->acks.count && self->acks.ring[self->acks.first].ordinal <= self->durable;
}

void reader_tell_floor(nats_reader_t *self, uint64_t floor) {
    self->acknowledged = floor;
    tell(self);
}

/* The thread. */

/* Until the condition is signalled or the time has come (monotonic ns); 0: for ever. */
void reader_wait(nats_reader_t *self, int64_t until) {
    if (!until) {
        pthread_cond_wait(&self->condition, &self->mutex);
        return;
    }
    struct timespec time = {.tv_sec = until / NS_PER_S, .tv_nsec = until % NS_PER_S};
    pthread_cond_timedwait(&self->condition, &self->mutex, &time);
}

static void wait_for_go(nats_reader_t *self, int64_t pause) {
    while (!self->go && !self->stop)
        reader_wait(self, 0);
    int64_t until = clock_monotonic() + pause;
    while (pause && !self->stop && clock_monotonic() < until)
        reader_wait(self, until);
    self->go = false;
}

static void *run(void *argument) {
    nats_reader_t *self = argument;
    err_t err;
    int64_t pause = 0;
    pthread_mutex_lock(&self->mutex);
    for (;;) {
        wait_for_go(self, pause);
        if (self->stop)
            break;
        self->lost = false;
        self->is_trying = true;
        self->cut = false;
        tell(self);
        nats_place_t place = self->place;
        pthread_mutex_unlock(&self->mutex);
        err = (err_t){0};
        int64_t since = clock_monotonic();
        int result = session_run(self, &place, &err);
        nats_ReleaseThreadMemory();
        if (result == 0 && clock_monotonic() - since > NATS_BRIEF)
            backoff_reset(&self->backoff);
        pause = backoff_next(&self->backoff);
        pthread_mutex_lock(&self->mutex);
        snprintf(self->reason, sizeof self->reason, "%s", err.text);
        self->is_down = true;
        tell(self);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

/* The loop's side. */

/* With several looks within the timeout, a server has the time from the first on. */
static void look_for_silence(void *argument) {
    nats_reader_t *self = argument;
    const nats_reader_setup_t *setup = &self->setup;
    pthread_mutex_lock(&self->mutex);
    if (self->connecting && nats_silent_cut(&self->silent, setup->servers, setup->server_count, setup->timeout))
        self->cut = true;
    pthread_mutex_unlock(&self->mutex);
}

static void watch_silence(nats_reader_t *self, bool trying) {
    loop_remove(self->looks);
    self->silent = (nats_silent_t){0};
    self->looks = trying ? loop_timer(self->setup.loop, self->setup.timeout / LOOKS, self->setup.timeout / LOOKS, look_for_silence, self) : NULL;
}

static void on_told(void *argument, uint32_t events) {
    nats_reader_t *self = argument;
    const nats_reader_setup_t *setup = &self->setup;
    uint64_t count;
    char reason[sizeof self->reason];
    if (read(self->event, &count, sizeof count) < 0)
        return;
    pthread_mutex_lock(&self->mutex);
    bool trying = self->is_trying, up = self->is_up, down = self->is_down;
    uint64_t dropped = self->dropped, acknowledged = self->acknowledged;
    nats_stream_t found = self->found;
    memcpy(reason, self->reason, sizeof reason);
    self->told = self->is_trying = self->is_up = self->is_down = false;
    self->dropped = self->acknowledged = 0;
    pthread_mutex_unlock(&self->mutex);
    if (trying || up || down)
        watch_silence(self, !up && !down);
    if (up)
        setup->up(setup->argument, &found);
    if (dropped)
        setup->dropped(setup->argument, dropped);
    if (acknowledged)
        setup->floor(setup->argument, acknowledged);
    if (down)
        setup->down(setup->argument, reason);
    setup->ready(setup->argument);
}

natsMsg *nats_reader_next(nats_reader_t *self, uint64_t *ordinal) {
    nats_queue_t *hand = &self->hand;
    if (hand->at == hand->count) {
        pthread_mutex_lock(&self->mutex);
        hand->at = hand->count = hand->bytes = 0;
        nats_queue_t empty = *hand;
        *hand = self->in;
        self->in = empty;
        self->hand_ordinal = self->ordinal - hand->count;
        pthread_cond_broadcast(&self->condition);
        pthread_mutex_unlock(&self->mutex);
    }
    if (hand->at == hand->count)
        return NULL;
    *ordinal = ++self->hand_ordinal;
    return hand->messages[hand->at++];
}

void nats_reader_hold(nats_reader_t *self, bool hold) {
    pthread_mutex_lock(&self->mutex);
    self->hold = hold;
    pthread_cond_broadcast(&self->condition);
    pthread_mutex_unlock(&self->mutex);
}

void nats_reader_go(nats_reader_t *self, nats_place_t place) {
    pthread_mutex_lock(&self->mutex);
    clear_queue(&self->hand);
    clear_queue(&self->in);
    forget_acks(&self->acks, place.ordinal);
    self->ordinal = self->hand_ordinal = place.ordinal;
    self->place = place;
    self->go = true;
    pthread_cond_broadcast(&self->condition);
    pthread_mutex_unlock(&self->mutex);
}

void nats_reader_lose(nats_reader_t *self, const char *reason) {
    pthread_mutex_lock(&self->mutex);
    reader_lost(self, reason);
    pthread_mutex_unlock(&self->mutex);
}

void nats_reader_durable(nats_reader_t *self, uint64_t ordinal, uint64_t floor) {
    pthread_mutex_lock(&self->mutex);
    if (ordinal > self->durable)
        self->durable = ordinal;
    if (floor > self->durable_floor)
        self->durable_floor = floor;
    pthread_cond_broadcast(&self->condition);
    pthread_mutex_unlock(&self->mutex);
}

void nats_reader_want_floor(nats_reader_t *self, bool want) {
    pthread_mutex_lock(&self->mutex);
    self->want_floor = want;
    pthread_cond_broadcast(&self->condition);
    pthread_mutex_unlock(&self->mutex);
}

nats_reader_t *nats_reader_new(const nats_reader_setup_t *setup) {
    nats_reader_t *self = mem_zero(sizeof *self);
    pthread_condattr_t attributes;
    self->setup = *setup;
    self->event = -1;
    self->backoff = (backoff_t){.minimum = setup->retry_min, .maximum = setup->retry_max, .state = (uint64_t) clock_now()};
    pthread_mutex_init(&self->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self->condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return self;
}

/* Signals are the loop's: the threads of libnats, too, take over our mask. */
int nats_reader_start(nats_reader_t *self, err_t *err) {
    sigset_t all, before;
    self->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->event < 0)
        return err_errno(err, "make an eventfd");
    self->watch = loop_fd(self->setup.loop, self->event, EPOLLIN, on_told, self);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    natsStatus status = nats_Open(-1);
    int failure = pthread_create(&self->thread, NULL, run, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != NATS_OK)
        return nats_failure(err, status, "begin with NATS");
    if (failure)
        return err_set(err, "start a thread: %s", strerror(failure));
    self->started = true;
    return 0;
}

static bool end_thread(nats_reader_t *self) {
    struct timespec limit;
    pthread_mutex_lock(&self->mutex);
    self->stop = true;
    pthread_cond_broadcast(&self->condition);
    pthread_mutex_unlock(&self->mutex);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 3;
    return pthread_timedjoin_np(self->thread, NULL, &limit) == 0;
}

bool nats_reader_free(nats_reader_t *self) {
    loop_remove(self->watch);
    loop_remove(self->looks);
    if (self->started && !end_thread(self))
        return false;
    if (self->event >= 0)
        close(self->event);
    clear_queue(&self->hand);
    clear_queue(&self->in);
    forget_acks(&self->acks, 0);
    mem_free(self->hand.messages);
    mem_free(self->in.messages);
    mem_free(self->acks.ring);
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->condition);
    mem_free(self);
    return true;
}
