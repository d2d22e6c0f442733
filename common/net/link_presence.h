#ifndef NET_LINK_PRESENCE_H
#define NET_LINK_PRESENCE_H

#include "net/link_zmq.h"

/* Whether somebody is at the other end of a socket, as far as it is worth telling: that nobody is there for some seconds is logged once,
 * and then that somebody has come. A timer runs only while nobody is there. The caller's storage; must not move. */
typedef struct link_presence {
    loop_t *loop;
    char *place;                          /* what the log calls the link */
    const char *other;                    /* who is waited for: "sender" */
    char *ports;                          /* tcp: what must get through; NULL on ipc */
    bool bind;
    bool there, ever, told;
    loop_watch_t *timer;
    bool (*wanted)(const void *argument); /* false: nobody is missed now */
    const void *argument;
} link_presence_t;

/* acks: the port above is needed as well. A host name that is not known is told at once. */
void link_presence_init(link_presence_t *presence, loop_t *loop, const char *place, const char *other, const zlink_address_t *address, bool acks,
                        bool (*wanted)(const void *argument), const void *argument);
void link_presence_set(link_presence_t *presence, bool there);        /* of a zeroed one: nothing */
void link_presence_fini(link_presence_t *presence);                   /* likewise */

#endif
