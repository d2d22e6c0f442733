#ifndef STREAMCTL_COMMAND_H
#define STREAMCTL_COMMAND_H

#include <stdbool.h>

/* The commands. Each gets the words behind its name and returns the exit status: 0 done, 1 failure, 64 usage. */
int command_run(int argc, char **argv);
int command_reset(int argc, char **argv);
int command_start(int argc, char **argv);
int command_stop(int argc, char **argv);
int command_restart(int argc, char **argv);
int command_status(int argc, char **argv);
int command_check(int argc, char **argv);
int command_logs(int argc, char **argv);
int command_spool(int argc, char **argv);
int command_audit(int argc, char **argv);
int command_dead(int argc, char **argv);
int command_test(int argc, char **argv);
int command_replay(int argc, char **argv);

/* Says on stderr what is wrong with the command line; returns 64. */
int command_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "streamctl: TEXT" on stderr; returns 1. */
int command_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The option `name` ("-n", "--lines") in the words: takes it out together with its value, which is returned; NULL when it is not there.
 * *missing: it is there without a value. command_flag: an option without a value. */
const char *command_option(int *argc, char **argv, const char *letter, const char *name, int *missing);
int command_flag(int *argc, char **argv, const char *letter, const char *name);

#endif
