/* Tells of links at whose other end nobody is. Ends may be started in any order, so that is no failure; but whoever waits in vain, for a
 * wrong address or behind a firewall, is to learn what for. */
#include "net/link_presence.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#define PATIENCE (5 * NS_PER_S)

/* On one machine it is a matter of who is started first, between machines it may be one of many things. */
static log_level_t level(const link_presence_t *presence) {
    return presence->ports ? LOG_WARNING : LOG_INFO;
}

static void put_gone(const link_presence_t *presence, buf_t *text) {
    if (presence->ports)
        buf_format(text, "%s: no sign of the %s any more; it is waited for", presence->place, presence->other);
    else
        buf_format(text, "%s: the %s has gone; it is waited for", presence->place, presence->other);
}

static void put_never(const link_presence_t *presence, buf_t *text) {
    if (!presence->ports)
        buf_format(text, "%s: no %s is there yet; it is waited for", presence->place, presence->other);
    else if (presence->bind)
        buf_format(text, "%s: no %s has come yet; it is waited for. %s must get through to this machine", presence->place, presence->other, presence->ports);
    else
        buf_format(text, "%s: no %s answers there yet; it is tried on. Does it run, is that its address, and does %s get through?", presence->place,
                   presence->other, presence->ports);
}

static void tell(void *argument) {
    link_presence_t *presence = argument;
    presence->timer = NULL;
    if (presence->wanted && !presence->wanted(presence->argument))
        return;
    buf_t text = {0};
    if (presence->ever)
        put_gone(presence, &text);
    else
        put_never(presence, &text);
    log_at(level(presence), "%s", buf_text(&text));
    buf_fini(&text);
    presence->told = true;
}

void link_presence_set(link_presence_t *presence, bool there) {
    if (!presence->place || there == presence->there)
        return;
    presence->there = there;
    if (!there) {
        presence->timer = loop_timer(presence->loop, PATIENCE, 0, tell, presence);
        return;
    }
    loop_remove(presence->timer);
    presence->timer = NULL;
    if (presence->told)
        log_info("%s: the %s is there%s", presence->place, presence->other, presence->ever ? " again" : " now");
    presence->told = false;
    presence->ever = true;
}

/* ZeroMQ asks for the address again each time that it connects, and says nothing of a failure. */
static void check_host(const char *place, const char *where) {
    const char *host = where + strlen("tcp://"), *colon = strrchr(host, ':');
    if (*host == '[' || *host == '*')
        return;
    char *name = mem_text_n(host, (size_t) (colon - host));
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *found = NULL;
    int failure = getaddrinfo(name, NULL, &hints, &found);
    if (failure)
        log_warning("%s: the host %s is not known (%s); it is tried on", place, name, gai_strerror(failure));
    else
        freeaddrinfo(found);
    mem_free(name);
}

void link_presence_init(link_presence_t *presence, loop_t *loop, const char *place, const char *other, const zlink_address_t *address, bool acks,
                        bool (*wanted)(const void *argument), const void *argument) {
    *presence = (link_presence_t){.loop = loop, .place = mem_text(place), .other = other, .bind = address->bind, .wanted = wanted, .argument = argument};
    if (!address->path) {
        const char *port = strrchr(address->data, ':') + 1;
        presence->ports = acks ? mem_format("tcp to ports %s and %s", port, strrchr(address->ack, ':') + 1) : mem_format("tcp to port %s", port);
        if (!address->bind)
            check_host(place, address->data);
    }
    presence->there = true;
    link_presence_set(presence, false);
}

void link_presence_fini(link_presence_t *presence) {
    loop_remove(presence->timer);
    mem_free(presence->place);
    mem_free(presence->ports);
    *presence = (link_presence_t){0};
}
