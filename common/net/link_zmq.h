#ifndef NET_LINK_ZMQ_H
#define NET_LINK_ZMQ_H

#include <stdbool.h>
#include <stdint.h>

#include "net/link_engine.h"

/* What the ZeroMQ engines share: addresses, sockets, locks, peers, and frames as messages of three parts. */

#define ZLINK_PORT_MAX 65535
#define ZLINK_HELLO "\n"                  /* topic of an acknowledgement that is for every sender */
#define ZLINK_ASK '?'                     /* begins a subscription that a publisher answers with a message of that topic: all
                                           * subscriptions made before it are in force */
#define ZLINK_CONTROL_MAX 4096            /* bytes of an acknowledgement or a subscription at most */

/* Where one partition's sockets are. The caller's storage. */
typedef struct zlink_address {
    char *data, *ack;                     /* as ZeroMQ takes them */
    char *path;                           /* ipc: the data socket's path; else NULL */
    bool bind;
} zlink_address_t;

/* partition -1: not split. bind: what to do when the endpoint says neither. */
int zlink_address(zlink_address_t *address, const link_endpoint_t *endpoint, int64_t partition, bool bind, err_t *err);
void zlink_address_fini(zlink_address_t *address);
/* For link_engine_t: form of the address, port range, path length for the highest partition. */
int zlink_check(const link_endpoint_t *endpoint, bool sender, err_t *err);

/* A new socket with this project's settings. limit: bytes of a message part at most. */
void *zlink_socket(int type, size_t limit, int high_water);
int zlink_attach(void *socket, const char *where, bool bind, const char *endpoint, err_t *err);
void zlink_close(void *socket, int linger_ms);        /* NULL is legal */

/* Holds a path against other processes. message: a format for path and holder's pid. optional: a place that does not allow a lock
 * is no failure. */
typedef struct zlink_lock {
    int fd;
    char *path;
    char *sockets;                        /* the bound path, whose sockets go with the lock; else NULL */
} zlink_lock_t;
#define ZLINK_BIND_LOCK ".lock"
#define ZLINK_RECEIVER_LOCK ".receiver"
int zlink_lock(zlink_lock_t *lock, const char *path, const char *suffix, bool optional, const char *message, err_t *err);
void zlink_unlock(zlink_lock_t *lock);                /* of a zeroed one: nothing */

/* Counts a socket's connections; changed() is called after each change, NULL: nobody wants to know. The caller's storage; must not move. */
typedef struct zlink_monitor {
    loop_t *loop;
    void *socket, *events;
    loop_watch_t *watch, *revival;
    char *where;                          /* what it connects to, if it is to be kept connected; else NULL */
    const char *endpoint;                 /* borrowed */
    bool given_up, told;                  /* by libzmq; that it was */
    uint32_t connections;
    bool understood;                      /* those count only at whose other end somebody has proved to be of a kind that fits */
    void (*changed)(void *argument, bool came);
    void *argument;
} zlink_monitor_t;
void zlink_monitor_init(zlink_monitor_t *monitor, loop_t *loop, void *socket, void (*changed)(void *argument, bool came), void *argument);
void zlink_monitor_understood(zlink_monitor_t *monitor);   /* right after that: see there */
/* For one that connects. libzmq does not try again when the other end was of another kind, or broke the protocol: it is done here then, once a
 * second. where: as given to zlink_attach; endpoint: for messages, borrowed. */
void zlink_monitor_keep(zlink_monitor_t *monitor, const char *where, const char *endpoint);
void zlink_monitor_drain(zlink_monitor_t *monitor);   /* takes in what has happened by now */
void zlink_monitor_fini(zlink_monitor_t *monitor);    /* before the socket is closed */

/* Sends a frame without waiting: 0, or -1 (would block; nothing was sent). The body is not copied: the message holds a reference. */
int zlink_send(void *socket, frame_t *frame, const frame_number_t *number, buf_t *scratch);

/* Takes one message. ZLINK_BAD: *frame is NULL, or, when its header was sound, a frame without body whose number counts; *err says why.
 * ZLINK_ANSWER: a publisher's answer to somebody's question (ZLINK_ASK), no frame; *err says so, for those to whom none can come. */
typedef enum zlink_result { ZLINK_NONE, ZLINK_FRAME, ZLINK_ANSWER, ZLINK_BAD } zlink_result_t;
zlink_result_t zlink_receive(void *socket, size_t frame_max, frame_t **frame, err_t *err);

/* One message of two parts into the caller's buffers of ZLINK_CONTROL_MAX; 1, 0 for none, -1 for malformed. */
int zlink_receive_pair(void *socket, text_t *topic, text_t *payload, char *memory);

uint64_t zlink_random_id(void);                       /* never 0 */

#endif
