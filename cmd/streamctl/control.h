#ifndef STREAMCTL_CONTROL_H
#define STREAMCTL_CONTROL_H

#include "net/loop.h"
#include "supervisor.h"

/* The supervisor's ear: a unix socket on which each line is a JSON request and each answer a line. Only we ourselves (and root) may
 * connect. See streamctl(1), CONTROL SOCKET. */
typedef struct control_server control_server_t;

typedef struct control_setup {
    loop_t *loop;
    supervisor_t *supervisor;
    const char *path;
    void (*shutdown)(void *argument); /* somebody sent "shutdown" */
    void *argument;
} control_setup_t;

int control_server_new(control_server_t **server, const control_setup_t *setup, err_t *err);
void control_server_free(control_server_t *server);   /* NULL is legal; connected clients see the end */

#endif
