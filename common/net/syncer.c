/* The thread that waits for fdatasync. Orders go to it through a queue under a lock, come back through another, and an eventfd wakes the loop. */
#include "net/syncer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/memory.h"

typedef struct order {
    struct order *next;
    syncer_fn *callback;
    void *argument;
    int error;
    unsigned count;
    int fds[];
} order_t;

typedef struct orders {
    order_t *first, **end;
} orders_t;

struct syncer {
    int event;
    loop_watch_t *watch;
    bool started;
    pthread_t thread;
    pthread_mutex_t lock;              /* of what follows */
    pthread_cond_t ordered, finished;
    orders_t waiting, done;
    unsigned under_way;                /* ordered, and not yet in done */
    bool stop;
};

static void put(orders_t *orders, order_t *order) {
    order->next = NULL;
    *orders->end = order;
    orders->end = &order->next;
}

static order_t *take(orders_t *orders) {
    order_t *order = orders->first;
    if (order) {
        orders->first = order->next;
        if (!orders->first)
            orders->end = &orders->first;
    }
    return order;
}

static void carry_out(order_t *order) {
    for (unsigned i = 0; i < order->count && !order->error; i++)
        while (fdatasync(order->fds[i]) != 0) {
            if (errno == EINTR)
                continue;
            order->error = errno;
            break;
        }
}

static void *run(void *argument) {
    syncer_t *syncer = argument;
    pthread_mutex_lock(&syncer->lock);
    for (;;) {
        order_t *order;
        while (!syncer->stop && !syncer->waiting.first)
            pthread_cond_wait(&syncer->ordered, &syncer->lock);
        if (syncer->stop)
            break;
        order = take(&syncer->waiting);
        pthread_mutex_unlock(&syncer->lock);
        carry_out(order);
        pthread_mutex_lock(&syncer->lock);
        put(&syncer->done, order);
        syncer->under_way--;
        eventfd_write(syncer->event, 1);
        pthread_cond_signal(&syncer->finished);
    }
    pthread_mutex_unlock(&syncer->lock);
    return NULL;
}

static void call_back(syncer_t *syncer) {
    for (;;) {
        pthread_mutex_lock(&syncer->lock);
        order_t *order = take(&syncer->done);
        pthread_mutex_unlock(&syncer->lock);
        if (!order)
            return;
        syncer_fn *callback = order->callback;
        void *of = order->argument;
        int error = order->error;
        mem_free(order);
        callback(of, error);
    }
}

static void on_event(void *argument, uint32_t events) {
    syncer_t *syncer = argument;
    eventfd_t count;
    eventfd_read(syncer->event, &count);
    call_back(syncer);
}

syncer_t *syncer_new(loop_t *loop) {
    syncer_t *syncer = mem_zero(sizeof *syncer);
    syncer->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT(syncer->event >= 0);
    syncer->watch = loop_fd(loop, syncer->event, EPOLLIN, on_event, syncer);
    pthread_mutex_init(&syncer->lock, NULL);
    pthread_cond_init(&syncer->ordered, NULL);
    pthread_cond_init(&syncer->finished, NULL);
    syncer->waiting.end = &syncer->waiting.first;
    syncer->done.end = &syncer->done.first;
    return syncer;
}

/* Signals are the loop's: the thread takes none. */
static void start(syncer_t *syncer) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    syncer->started = pthread_create(&syncer->thread, NULL, run, syncer) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void syncer_sync(syncer_t *syncer, const int *fds, unsigned count, syncer_fn *callback, void *argument) {
    order_t *order = mem_zero(sizeof *order + count * sizeof *fds);
    order->callback = callback;
    order->argument = argument;
    order->count = count;
    memcpy(order->fds, fds, count * sizeof *fds);
    if (!syncer->started)
        start(syncer);
    if (!syncer->started)              /* no thread to be had: the loop waits itself */
        carry_out(order);
    pthread_mutex_lock(&syncer->lock);
    if (syncer->started) {
        put(&syncer->waiting, order);
        syncer->under_way++;
        pthread_cond_signal(&syncer->ordered);
    } else {
        put(&syncer->done, order);
        eventfd_write(syncer->event, 1);
    }
    pthread_mutex_unlock(&syncer->lock);
}

void syncer_wait(syncer_t *syncer) {
    for (;;) {
        pthread_mutex_lock(&syncer->lock);
        while (syncer->under_way && !syncer->done.first)
            pthread_cond_wait(&syncer->finished, &syncer->lock);
        bool idle = !syncer->done.first;
        pthread_mutex_unlock(&syncer->lock);
        if (idle)
            return;
        call_back(syncer);
    }
}

void syncer_free(syncer_t *syncer) {
    if (!syncer)
        return;
    if (syncer->started) {
        pthread_mutex_lock(&syncer->lock);
        syncer->stop = true;
        pthread_cond_signal(&syncer->ordered);
        pthread_mutex_unlock(&syncer->lock);
        pthread_join(syncer->thread, NULL);
    }
    for (order_t *order; (order = take(&syncer->waiting)) || (order = take(&syncer->done));)
        mem_free(order);
    loop_remove(syncer->watch);
    close(syncer->event);
    pthread_cond_destroy(&syncer->ordered);
    pthread_cond_destroy(&syncer->finished);
    pthread_mutex_destroy(&syncer->lock);
    mem_free(syncer);
}
