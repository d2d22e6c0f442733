#ifndef INGEST_NATS_SILENT_H
#define INGEST_NATS_SILENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Connections of libnats to servers that fall silent before they have taken us: it reads on from such a one without end or pause, whatever its own
 * timeout is, and gives us no way to its socket. So it is looked for among the descriptors of the process, by the port of its peer, and shut down
 * when it has been there for too long; the library then gives up by itself. The caller's storage; zero-initialise. */
typedef struct nats_silent {
    uint64_t socket;                   /* the oldest one that was seen: its inode; 0: none */
    int64_t since;                     /* monotonic ns */
} nats_silent_t;

/* While the library connects: looks for a connection to one of the servers ("nats://host:port"), and shuts down one that has been seen for `patience`
 * ns. True: it did. */
bool nats_silent_cut(nats_silent_t *silent, const char *const *servers, size_t count, int64_t patience);

#endif
