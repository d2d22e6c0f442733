/* The reactor: epoll for descriptors, ZeroMQ sockets through their ZMQ_FD, a heap of timers, signalfd, and deferred calls. A round is:
 * deferred calls; a question to those ZeroMQ sockets that were used since they last said no (their descriptors announce changes only, so a
 * sleep without asking would miss what is already there); sleep or look; then callbacks. */
#include "net/loop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "base/err.h"
#include "base/log.h"
#include "base/memory.h"

#define ROUND_EVENTS 64

typedef enum watch_kind { WATCH_FD, WATCH_SOCKET, WATCH_TIMER, WATCH_SIGNAL, WATCH_IDLE } watch_kind_t;

struct loop_watch {
    loop_t *loop;
    loop_watch_t *next, **link;        /* the loop's list of its kind; link is what points here */
    watch_kind_t kind;
    bool unsure;                       /* SOCKET: its state must be asked before the loop sleeps */
    bool removed;                      /* freed at the end of the round: events of this round may still point here */
    uint32_t events;                   /* FD: EPOLL*; SOCKET: ZMQ_POLL* */
    int fd;                            /* FD, SOCKET (its ZMQ_FD), SIGNAL (its signalfd) */
    void *socket;
    int64_t due, interval;             /* TIMER */
    size_t heap_index;                 /* TIMER; SIZE_MAX: not in the heap */
    uint64_t round;                    /* SOCKET, IDLE: the last round that called it */
    union {
        loop_fn *plain;
        loop_fd_fn *fd;
        loop_signal_fn *signal;
    } callback;
    void *argument;
};

typedef struct deferred {
    loop_fn *callback;                 /* NULL: taken back */
    void *argument;
} deferred_t;

struct loop {
    int epoll;
    bool stop;
    int64_t now;
    uint64_t round;
    loop_watch_t *watches[WATCH_IDLE + 1];
    loop_watch_t *graveyard;
    loop_watch_t **heap;
    size_t timers, heap_capacity;
    deferred_t *deferred;
    size_t deferrals, deferred_capacity;
};

static int64_t monotonic(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t) time.tv_sec * 1000000000 + time.tv_nsec;
}

loop_t *loop_new(void) {
    loop_t *loop = mem_zero(sizeof *loop);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    ASSERT(loop->epoll >= 0);
    loop->now = monotonic();
    return loop;
}

static void bury(loop_t *loop) {
    while (loop->graveyard) {
        loop_watch_t *watch = loop->graveyard;
        loop->graveyard = watch->next;
        mem_free(watch);
    }
}

void loop_free(loop_t *loop) {
    if (!loop)
        return;
    for (int kind = 0; kind <= WATCH_IDLE; kind++)
        while (loop->watches[kind])
            loop_remove(loop->watches[kind]);
    bury(loop);
    close(loop->epoll);
    mem_free(loop->heap);
    mem_free(loop->deferred);
    mem_free(loop);
}

/* ---- registrations ---- */

static void list_add(loop_watch_t *watch) {
    loop_watch_t **head = &watch->loop->watches[watch->kind];
    watch->next = *head;
    watch->link = head;
    if (watch->next)
        watch->next->link = &watch->next;
    *head = watch;
}

static void list_remove(loop_watch_t *watch) {
    *watch->link = watch->next;
    if (watch->next)
        watch->next->link = watch->link;
}

static loop_watch_t *watch_new(loop_t *loop, watch_kind_t kind, void *argument) {
    loop_watch_t *watch = mem_zero(sizeof *watch);
    watch->loop = loop;
    watch->kind = kind;
    watch->fd = -1;
    watch->heap_index = SIZE_MAX;
    watch->argument = argument;
    list_add(watch);
    return watch;
}

static int poll_control(loop_watch_t *watch, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = watch};
    return epoll_ctl(watch->loop->epoll, operation, watch->fd, &event);
}

loop_watch_t *loop_fd(loop_t *loop, int fd, uint32_t events, loop_fd_fn *callback, void *argument) {
    loop_watch_t *watch = watch_new(loop, WATCH_FD, argument);
    watch->fd = fd;
    watch->callback.fd = callback;
    watch->events = events;
    /* Added even when paused at first, so that a descriptor that cannot be watched is found now. */
    if (poll_control(watch, EPOLL_CTL_ADD, events) != 0) {
        int why = errno;
        list_remove(watch);
        mem_free(watch);
        errno = why;
        return NULL;
    }
    if (!events)
        poll_control(watch, EPOLL_CTL_DEL, 0);
    return watch;
}

void loop_fd_events(loop_watch_t *watch, uint32_t events) {
    ASSERT(watch->kind == WATCH_FD && !watch->removed);
    if (events == watch->events)
        return;
    /* A paused descriptor leaves epoll: errors and hang-ups are reported without being asked for, over and over. */
    int operation = !events ? EPOLL_CTL_DEL : watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    ASSERT(poll_control(watch, operation, events) == 0);
    watch->events = events;
}

loop_watch_t *loop_socket(loop_t *loop, void *socket, short events, loop_fn *callback, void *argument) {
    loop_watch_t *watch = watch_new(loop, WATCH_SOCKET, argument);
    size_t size = sizeof watch->fd;
    ASSERT(zmq_getsockopt(socket, ZMQ_FD, &watch->fd, &size) == 0);
    watch->socket = socket;
    watch->callback.plain = callback;
    watch->events = (uint32_t) events;
    watch->unsure = true;
    /* Always watched: a paused socket's commands (peers that come and go) are worked off as they arrive, which asking for its state does. */
    ASSERT(poll_control(watch, EPOLL_CTL_ADD, EPOLLIN) == 0);
    return watch;
}

void loop_socket_events(loop_watch_t *watch, short events) {
    ASSERT(watch->kind == WATCH_SOCKET && !watch->removed);
    watch->events = (uint32_t) events;
    watch->unsure = true;
}

void loop_socket_touch(loop_watch_t *watch) {
    watch->unsure = true;
}

loop_watch_t *loop_signal(loop_t *loop, int signal, loop_signal_fn *callback, void *argument) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    ASSERT(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    loop_watch_t *watch = watch_new(loop, WATCH_SIGNAL, argument);
    watch->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    watch->callback.signal = callback;
    ASSERT(watch->fd >= 0 && poll_control(watch, EPOLL_CTL_ADD, EPOLLIN) == 0);
    return watch;
}

loop_watch_t *loop_idle(loop_t *loop, loop_fn *callback, void *argument) {
    loop_watch_t *watch = watch_new(loop, WATCH_IDLE, argument);
    watch->callback.plain = callback;
    return watch;
}

static void heap_remove(loop_t *loop, loop_watch_t *watch);

void loop_remove(loop_watch_t *watch) {
    if (!watch || watch->removed)
        return;
    loop_t *loop = watch->loop;
    watch->removed = true;
    if (watch->kind == WATCH_SOCKET || watch->kind == WATCH_SIGNAL || (watch->kind == WATCH_FD && watch->events))
        poll_control(watch, EPOLL_CTL_DEL, 0);
    if (watch->kind == WATCH_SIGNAL)
        close(watch->fd);
    if (watch->heap_index != SIZE_MAX)
        heap_remove(loop, watch);
    list_remove(watch);
    watch->next = loop->graveyard;
    loop->graveyard = watch;
}

/* ---- timers: a binary heap by due time ---- */

static void heap_set(loop_t *loop, size_t index, loop_watch_t *watch) {
    loop->heap[index] = watch;
    watch->heap_index = index;
}

static void heap_up(loop_t *loop, size_t index) {
    loop_watch_t *watch = loop->heap[index];
    while (index > 0 && loop->heap[(index - 1) / 2]->due > watch->due) {
        heap_set(loop, index, loop->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    heap_set(loop, index, watch);
}

static void heap_down(loop_t *loop, size_t index) {
    loop_watch_t *watch = loop->heap[index];
    for (;;) {
        size_t child = 2 * index + 1;
        if (child + 1 < loop->timers && loop->heap[child + 1]->due < loop->heap[child]->due)
            child++;
        if (child >= loop->timers || loop->heap[child]->due >= watch->due)
            break;
        heap_set(loop, index, loop->heap[child]);
        index = child;
    }
    heap_set(loop, index, watch);
}

static void heap_add(loop_t *loop, loop_watch_t *watch) {
    if (loop->timers == loop->heap_capacity) {
        loop->heap_capacity = loop->heap_capacity ? 2 * loop->heap_capacity : 16;
        loop->heap = mem_resize(loop->heap, loop->heap_capacity * sizeof *loop->heap);
    }
    heap_set(loop, loop->timers, watch);
    loop->timers++;
    heap_up(loop, loop->timers - 1);
}

static void heap_remove(loop_t *loop, loop_watch_t *watch) {
    size_t index = watch->heap_index;
    loop_watch_t *last = loop->heap[--loop->timers];
    watch->heap_index = SIZE_MAX;
    if (last == watch)
        return;
    heap_set(loop, index, last);
    heap_up(loop, index);
    heap_down(loop, last->heap_index);
}

loop_watch_t *loop_timer(loop_t *loop, int64_t delay, int64_t interval, loop_fn *callback, void *argument) {
    ASSERT(interval >= 0);
    loop_watch_t *watch = watch_new(loop, WATCH_TIMER, argument);
    watch->callback.plain = callback;
    watch->due = monotonic() + (delay > 0 ? delay : 0);
    watch->interval = interval;
    heap_add(loop, watch);
    return watch;
}

static void run_timers(loop_t *loop) {
    int64_t now = loop->now;   /* one made by a callback is due in a later round */
    while (loop->timers && loop->heap[0]->due <= now) {
        loop_watch_t *watch = loop->heap[0];
        if (watch->interval) {
            watch->due += watch->interval;
            if (watch->due <= now)
                watch->due += (now - watch->due) / watch->interval * watch->interval + watch->interval;
            heap_down(loop, 0);
            watch->callback.plain(watch->argument);
            continue;
        }
        heap_remove(loop, watch);
        watch->callback.plain(watch->argument);
        loop_remove(watch);
    }
}

/* ---- deferred calls ---- */

static deferred_t *deferred_find(loop_t *loop, loop_fn *callback, void *argument) {
    for (size_t i = 0; i < loop->deferrals; i++)
        if (loop->deferred[i].callback == callback && loop->deferred[i].argument == argument)
            return &loop->deferred[i];
    return NULL;
}

void loop_defer(loop_t *loop, loop_fn *callback, void *argument) {
    if (deferred_find(loop, callback, argument))
        return;
    if (loop->deferrals == loop->deferred_capacity) {
        loop->deferred_capacity = loop->deferred_capacity ? 2 * loop->deferred_capacity : 16;
        loop->deferred = mem_resize(loop->deferred, loop->deferred_capacity * sizeof *loop->deferred);
    }
    loop->deferred[loop->deferrals++] = (deferred_t){callback, argument};
}

void loop_undefer(loop_t *loop, loop_fn *callback, void *argument) {
    deferred_t *deferred = deferred_find(loop, callback, argument);
    if (deferred)
        deferred->callback = NULL;
}

static void run_deferred(loop_t *loop) {
    size_t count = loop->deferrals;   /* what they defer themselves waits for the next round */
    if (!count)
        return;
    for (size_t i = 0; i < count; i++) {
        deferred_t deferred = loop->deferred[i];
        loop->deferred[i].callback = NULL;
        if (deferred.callback)
            deferred.callback(deferred.argument);
    }
    loop->deferrals -= count;
    memmove(loop->deferred, loop->deferred + count, loop->deferrals * sizeof *loop->deferred);
}

/* ---- rounds ---- */

static bool socket_ready(loop_watch_t *watch) {
    int events = 0;
    size_t size = sizeof events;
    if (!watch->unsure)
        return false;
    if (zmq_getsockopt(watch->socket, ZMQ_EVENTS, &events, &size) != 0)
        return false;   /* interrupted: asked again; or the context has ended */
    watch->unsure = (uint32_t) events & watch->events;
    return watch->unsure;
}

static bool any_socket_ready(const loop_t *loop) {
    for (loop_watch_t *watch = loop->watches[WATCH_SOCKET]; watch; watch = watch->next)
        if (watch->events && socket_ready(watch))
            return true;
    return false;
}

/* Calls every watch of a kind once. A callback may remove any watch, its own included (whose next then leads into the graveyard):
 * the walk begins again then, and those that had their turn are passed over. */
static void run_each(loop_t *loop, watch_kind_t kind) {
    loop_watch_t *next;
    loop->round++;
    for (loop_watch_t *watch = loop->watches[kind]; watch && !loop->stop; watch = next) {
        if (watch->round != loop->round && (kind == WATCH_IDLE || (watch->events && socket_ready(watch)))) {
            watch->round = loop->round;
            watch->callback.plain(watch->argument);
        }
        next = watch->removed ? loop->watches[kind] : watch->next;
    }
}

static void run_signal(loop_watch_t *watch) {
    struct signalfd_siginfo info;
    while (!watch->removed && read(watch->fd, &info, sizeof info) == sizeof info)
        watch->callback.signal(watch->argument, (int) info.ssi_signo);
}

static int wait_events(loop_t *loop, struct epoll_event *events, int64_t timeout) {
    static bool coarse;   /* a kernel older than 5.11: no epoll_pwait2 */
    if (timeout == 0)
        return epoll_wait(loop->epoll, events, ROUND_EVENTS, 0);
    if (!coarse) {
        struct timespec time = {timeout / 1000000000, timeout % 1000000000};
        int count = epoll_pwait2(loop->epoll, events, ROUND_EVENTS, timeout < 0 ? NULL : &time, NULL);
        if (count >= 0 || errno != ENOSYS)
            return count;
        coarse = true;
    }
    int64_t ms = (timeout + 999999) / 1000000;
    return epoll_wait(loop->epoll, events, ROUND_EVENTS, timeout < 0 ? -1 : ms > 3600000 ? 3600000 : (int) ms);
}

/* How long the loop may sleep: ns, 0 when something is at hand, -1 for ever. */
static int64_t sleep_time(loop_t *loop) {
    if (loop->stop || loop->deferrals || any_socket_ready(loop))
        return 0;
    int64_t longest = log_behind() ? LOG_BEHIND_NS : -1;
    if (!loop->timers)
        return longest;
    int64_t left = loop->heap[0]->due - monotonic();
    if (longest >= 0 && left > longest)
        return longest;
    return left > 0 ? left : 0;
}

static void run_round(loop_t *loop) {
    struct epoll_event events[ROUND_EVENTS];
    run_deferred(loop);
    int64_t timeout = sleep_time(loop);
    int count;
    if (timeout != 0 && loop->watches[WATCH_IDLE]) {
        count = wait_events(loop, events, 0);
        if (count == 0) {
            run_each(loop, WATCH_IDLE);
            count = wait_events(loop, events, sleep_time(loop));
        }
    } else
        count = wait_events(loop, events, timeout);
    ASSERT(count >= 0 || errno == EINTR);
    loop->now = monotonic();
    if (log_behind())
        log_catch_up();
    for (int i = 0; i < count && !loop->stop; i++) {
        loop_watch_t *watch = events[i].data.ptr;
        if (watch->removed)
            continue;
        if (watch->kind == WATCH_FD) {
            if (watch->events)
                watch->callback.fd(watch->argument, events[i].events);
        } else if (watch->kind == WATCH_SIGNAL)
            run_signal(watch);
        else {
            watch->unsure = true;
            if (!watch->events)
                socket_ready(watch);   /* paused: takes the readiness off its descriptor */
        }
    }
    run_each(loop, WATCH_SOCKET);
    run_timers(loop);
    bury(loop);
}

void loop_run(loop_t *loop) {
    loop->stop = false;
    while (!loop->stop)
        run_round(loop);
}

void loop_stop(loop_t *loop) {
    loop->stop = true;
}

int64_t loop_now(loop_t *loop) {
    return loop->now;
}
