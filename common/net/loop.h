#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/* One reactor for file descriptors, ZeroMQ sockets, timers and signals, over epoll. Single-threaded; callbacks may add and
 * remove anything, themselves included. Nothing runs while nothing happens: no polling, no short timers. */
typedef struct loop loop_t;
typedef struct loop_watch loop_watch_t;               /* one registration; owned by the loop, ended by loop_remove */
typedef void loop_fn(void *argument);
typedef void loop_fd_fn(void *argument, uint32_t events);       /* EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP */
typedef void loop_signal_fn(void *argument, int signal);

loop_t *loop_new(void);
void loop_free(loop_t *loop);                         /* ends all registrations; NULL is legal */

/* events: EPOLLIN and/or EPOLLOUT, level-triggered. A regular file cannot be watched: NULL, errno EPERM. */
loop_watch_t *loop_fd(loop_t *loop, int fd, uint32_t events, loop_fd_fn *callback, void *argument);
void loop_fd_events(loop_watch_t *watch, uint32_t events);      /* 0: paused */

/* A ZeroMQ socket: the callback runs whenever zmq_getsockopt (ZMQ_EVENTS) & events, and again until that clears or the watch is
 * paused. It should take a bounded amount per call, so that others get their turn. Remove the watch before closing the socket. */
loop_watch_t *loop_socket(loop_t *loop, void *socket, short events, loop_fn *callback, void *argument);
void loop_socket_events(loop_watch_t *watch, short events);     /* ZMQ_POLLIN | ZMQ_POLLOUT; 0: paused */
/* To be called after the socket was used outside its callback: a send, a receive or a look at its options may take in news of which
 * its descriptor then says nothing more. */
void loop_socket_touch(loop_watch_t *watch);

/* Monotonic ns, finer than a millisecond too. One-shot (its watch ends itself: do not keep the pointer beyond the call) or, with
 * interval > 0, repeated without drift; turns missed while the process was busy or stopped are left out. */
loop_watch_t *loop_timer(loop_t *loop, int64_t delay, int64_t interval, loop_fn *callback, void *argument);

/* Blocks the signal and delivers it here (signalfd). */
loop_watch_t *loop_signal(loop_t *loop, int signal, loop_signal_fn *callback, void *argument);

/* Runs once, after the callbacks of the present round and before the loop sleeps. Asking again for the same callback and argument
 * before it ran changes nothing. One that asks again from inside runs again in the next round, and the loop does not sleep
 * meanwhile: so work goes on that no descriptor announces (reading a regular file), with everything else getting its turn. */
void loop_defer(loop_t *loop, loop_fn *callback, void *argument);
void loop_undefer(loop_t *loop, loop_fn *callback, void *argument);   /* takes it back; legal when it is not there */
/* Runs, while registered, whenever the loop is about to sleep because nothing is at hand: no descriptor ready, no timer due, nothing
 * deferred. It does not keep the loop awake; what it starts (a send, a defer) is seen to before the loop sleeps. */
loop_watch_t *loop_idle(loop_t *loop, loop_fn *callback, void *argument);

void loop_remove(loop_watch_t *watch);                /* NULL is legal */

void loop_run(loop_t *loop);                          /* until loop_stop */
void loop_stop(loop_t *loop);
int64_t loop_now(loop_t *loop);                       /* monotonic ns, read once per round */

#endif
