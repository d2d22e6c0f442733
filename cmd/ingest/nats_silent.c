/* Cuts connections that libnats waits for without end: see nats_silent.h. */
#include "nats_silent.h"

#include <dirent.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/text.h"

static bool is_server(uint16_t port, const char *const *servers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *colon = strrchr(servers[i], ':');
        int64_t number;
        if (colon && text_to_int(text_of(colon + 1), &number, NULL) == 0 && number == port)
            return true;
    }
    return false;
}

/* The port of the peer of a TCP connection that is made; 0: the descriptor is none. */
static uint16_t peer_port(int fd) {
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *) &peer, &size))
        return 0;
    if (peer.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *) &peer)->sin_port);
    return peer.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *) &peer)->sin6_port) : 0;
}

static int find(const char *const *servers, size_t count, uint64_t *socket) {
    DIR *directory = opendir("/proc/self/fd");
    int found = -1;
    struct dirent *entry;
    while (directory && found < 0 && (entry = readdir(directory))) {
        struct stat about;
        int fd = (int) strtol(entry->d_name, NULL, 10);
        if (fd > 2 && is_server(peer_port(fd), servers, count) && fstat(fd, &about) == 0) {
            found = fd;
            *socket = about.st_ino;
        }
    }
    if (directory)
        closedir(directory);
    return found;
}

bool nats_silent_cut(nats_silent_t *silent, const char *const *servers, size_t count, int64_t patience) {
    uint64_t socket = 0;
    int64_t now = clock_monotonic();
    int fd = find(servers, count, &socket);
    if (fd < 0 || socket != silent->socket) {
        *silent = (nats_silent_t){socket, now};
        return false;
    }
    if (now - silent->since < patience)
        return false;
    shutdown(fd, SHUT_RDWR);
    *silent = (nats_silent_t){0};
    return true;
}
