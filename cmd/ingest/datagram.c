/* Datagrams: many with one call, and the kernel's own count of those that found no room. */
#include "datagram.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"

#define BATCH 32
#define DATAGRAM_MAX 65536
#define SLACK 64
#define ROUNDS 8                       /* batches, then others get their turn */

struct datagrams {
    datagram_setup_t setup;
    loop_watch_t *watch;
    bool paused;
    unsigned first, count;         /* received and not yet dealt with */
    uint32_t lost;                 /* the kernel's count as far as it is told */
    log_limit_t limit;
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    struct sockaddr_storage peers[BATCH];
    struct sockaddr_storage last;  /* peer, whose place is in `place` */
    socklen_t last_size;
    char place[ADDRESS_TEXT + 16];
    char *space;
};

static void count_lost(datagrams_t *datagrams) {
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof info;
    if (getsockopt(datagrams->setup.fd, SOL_SOCKET, SO_MEMINFO, info, &size))
        return;
    uint32_t more = info[SK_MEMINFO_DROPS] - datagrams->lost;
    datagrams->lost = info[SK_MEMINFO_DROPS];
    if (!more)
        return;
    source_dropped(datagrams->setup.host, more);
    if (log_limited(&datagrams->limit))
        log_warning("%s: %u datagrams found no room and are lost; --buffer gives the kernel more (at most what net.core.rmem_max allows)",
                    datagrams->setup.scheme, more);
}

/* Most often it is the one that it was before. */
static const char *place_of(datagrams_t *datagrams, unsigned i) {
    socklen_t size = datagrams->messages[i].msg_hdr.msg_namelen;
    if (size != datagrams->last_size || memcmp(&datagrams->peers[i], &datagrams->last, size) != 0) {
        char text[ADDRESS_TEXT];
        address_put(&datagrams->peers[i], text);
        snprintf(datagrams->place, sizeof datagrams->place, "%s %s", datagrams->setup.scheme, text);
        memcpy(&datagrams->last, &datagrams->peers[i], sizeof datagrams->last);
        datagrams->last_size = size;
    }
    return datagrams->place;
}

/* Deals with what has been received. False: no more room. */
static bool hand_over(datagrams_t *datagrams) {
    for (; datagrams->first < datagrams->count; datagrams->first++) {
        unsigned i = datagrams->first;
        if (datagrams->paused ||
            !datagrams->setup.data(datagrams->setup.argument, datagrams->pieces[i].iov_base, datagrams->messages[i].msg_len, place_of(datagrams, i)))
            return false;
    }
    return true;
}

static bool receive(datagrams_t *datagrams) {
    for (unsigned i = 0; i < BATCH; i++) {
        datagrams->pieces[i] = (struct iovec){datagrams->space + (size_t) i * (DATAGRAM_MAX + SLACK), DATAGRAM_MAX};
        datagrams->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &datagrams->peers[i], .msg_namelen = sizeof datagrams->peers[i], .msg_iov = &datagrams->pieces[i], .msg_iovlen = 1};
    }
    int got = recvmmsg(datagrams->setup.fd, datagrams->messages, BATCH, MSG_DONTWAIT, NULL);
    datagrams->first = 0;
    datagrams->count = got > 0 ? (unsigned) got : 0;
    return got > 0;
}

static void on_datagrams(void *argument, uint32_t events) {
    datagrams_t *datagrams = argument;
    bool more = hand_over(datagrams);
    for (int i = 0; i < ROUNDS && more; i++)
        more = receive(datagrams) && hand_over(datagrams);
    count_lost(datagrams);
}

datagrams_t *datagrams_new(const datagram_setup_t *setup) {
    datagrams_t *datagrams = mem_zero(sizeof *datagrams);
    int wanted = (int) setup->buffer, given = 0;
    socklen_t size = sizeof given;
    datagrams->setup = *setup;
    datagrams->space = mem_alloc((size_t) BATCH * (DATAGRAM_MAX + SLACK));
    if (setsockopt(setup->fd, SOL_SOCKET, SO_RCVBUFFORCE, &wanted, sizeof wanted))
        setsockopt(setup->fd, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof wanted);
    if (getsockopt(setup->fd, SOL_SOCKET, SO_RCVBUF, &given, &size) == 0 && given / 2 < wanted) /* the kernel doubles it, for its own needs */
        log_info("%s: the kernel keeps %d bytes, not %d: see net.core.rmem_max", setup->scheme, given / 2, wanted);
    datagrams->watch = loop_fd(setup->loop, setup->fd, 0, on_datagrams, datagrams);
    datagrams->paused = true;
    return datagrams;
}

void datagrams_pause(datagrams_t *datagrams) {
    datagrams->paused = true;
    loop_fd_events(datagrams->watch, 0);
}

static void on_turn(void *argument) {
    datagrams_t *datagrams = argument;
    if (!datagrams->paused)
        on_datagrams(datagrams, 0);
}

void datagrams_resume(datagrams_t *datagrams) {
    if (!datagrams->paused)
        return;
    datagrams->paused = false;
    loop_fd_events(datagrams->watch, EPOLLIN);
    loop_defer(datagrams->setup.loop, on_turn, datagrams);
}

void datagrams_free(datagrams_t *datagrams) {
    if (!datagrams)
        return;
    count_lost(datagrams);
    loop_undefer(datagrams->setup.loop, on_turn, datagrams);
    loop_remove(datagrams->watch);
    close(datagrams->setup.fd);
    mem_free(datagrams->space);
    mem_free(datagrams);
}
