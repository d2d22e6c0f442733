/* The limit of open files: as much of it as there is, and what to say where that is too little. libzmq ends the process when it cannot open one
 * more; so it is asked to only where there is room. */
#include "base/descriptors.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/memory.h"

#define ENOUGH 16384               /* what inherits the limit may go through all of them */

static unsigned long long limit_now(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) ? 0 : (unsigned long long) limit.rlim_cur;
}

void descriptors_raise(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= ENOUGH)
        return;
    limit.rlim_cur = limit.rlim_max < ENOUGH ? limit.rlim_max : ENOUGH;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int descriptors_room(unsigned count, err_t *err) {
    int *fds = mem_alloc((count + 1) * sizeof *fds);
    unsigned opened = 0;
    while (opened < count && (fds[opened] = open("/", O_PATH | O_CLOEXEC)) >= 0)
        opened++;
    for (unsigned i = 0; i < opened; i++)
        close(fds[i]);
    mem_free(fds);
    return opened == count ? 0 : err_set(err, "about %u more open files are needed, and of the %llu that are allowed %u are left: raise the limit (ulimit -n, "
                                              "or LimitNOFILE= of systemd)", count, limit_now(), opened);
}
