#ifndef STREAMCTL_FACADE_H
#define STREAMCTL_FACADE_H

/* `streamctl facade --settings fd:N|FILE`: REST, WebSocket and the dashboard, as a process of its own below the supervisor, so
 * that a fault in it stops nothing else. argv[0] is "facade". Returns the exit status: 0 after TERM, 64 when it cannot
 * start as it is configured (restarting would not help), else 1. */
int facade_main(int argc, char **argv);

#endif
