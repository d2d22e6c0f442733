#ifndef INGEST_ADDRESS_H
#define INGEST_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

/* Where a source listens. Names are not looked up, as that may take long: HOST is an IP address, [an IPv6 address], localhost, or * for all of
 * this machine's addresses. */
typedef struct address {
    struct sockaddr_storage socket;
    socklen_t size;
    const char *path;              /* what stands behind host and port: "/hook", or ""; borrowed from the URL */
} address_t;

/* The same for a driver's check: of the URL, which is named in the error without its secrets. path: something may stand behind the port. */
int address_check(address_t *address, const char *url, const char *rest, uint16_t port, bool path, err_t *err);

#define ADDRESS_TEXT 128

/* From "//HOST:PORT/path". port: what counts when the URL names none; 0: it must. PORT 0 takes any that is free. */
int address_read(address_t *address, const char *rest, uint16_t port, err_t *err);

/* As people write it: 127.0.0.1:5140, [::1]:5140. Of unix sockets: "". */
void address_put(const struct sockaddr_storage *socket, char text[ADDRESS_TEXT]);
/* Of what the descriptor is bound to: with the port that was taken for 0. */
void address_of(int fd, char text[ADDRESS_TEXT]);

/* A socket that is bound (SOCK_DGRAM) or listens (SOCK_STREAM), non-blocking; -1: cannot be. */
int address_listen(const address_t *address, int type, err_t *err);

/* A socket in the file system. Only one process has it at a time: PATH.lock is locked by whoever does, and a socket that a dead one left behind is
 * taken away. Zero-initialise. */
typedef struct unix_place {
    char *path;
    int lock;
} unix_place_t;

int unix_listen(unix_place_t *place, const char *path, unsigned mode, err_t *err);   /* the socket; -1 */
void unix_leave(unix_place_t *place);                 /* removes the socket; legal when there is none */

#endif
