#ifndef INGEST_DATAGRAM_H
#define INGEST_DATAGRAM_H

#include "address.h"
#include "source.h"

/* Datagrams of a socket, for the protocols that come in them. A sender cannot be held back: what comes while nothing is taken waits in the kernel's
 * buffer, and what no longer fits there is lost; it is counted as dropped. */
typedef struct datagrams datagrams_t;

typedef struct datagram_setup {
    source_host_t *host;
    loop_t *loop;
    int fd;                        /* the datagrams' from now on */
    const char *scheme;            /* for places and the log; static */
    uint64_t buffer;               /* bytes that the kernel shall keep */
    /* One datagram; what lies up to 64 bytes behind it may be read. True: taken whole. False: no more room in the middle of it; it comes again,
     * whole, after datagrams_resume. */
    bool (*data)(void *argument, const char *data, size_t size, const char *place);
    void *argument;
} datagram_setup_t;

#define DATAGRAM_BUFFER "bytes of datagrams that the kernel keeps while others are dealt with", 4096, 1 << 30

datagrams_t *datagrams_new(const datagram_setup_t *setup);           /* paused */
void datagrams_pause(datagrams_t *datagrams);         /* legal inside data */
void datagrams_resume(datagrams_t *datagrams);
void datagrams_free(datagrams_t *datagrams);          /* NULL is legal */

#endif
