#ifndef STREAMCTL_TOOLS_H
#define STREAMCTL_TOOLS_H

#include "run/config.h"

/* The other tools as streamctl sees them: programs that it finds beside its own binary, and asks what they can do. */

/* The path of a tool: in our own binary's directory when it is there, else its bare name for PATH. The caller frees. */
char *tools_path(const char *name);
char *tools_own_path(void);

/* Runs a program with `input` on descriptor 3 (a memory file) and collects at most `limit` bytes of its output. Returns its exit
 * status, or -1 with the error when it could not run or took longer than 10 s. Its stderr is ours, or with `merge` goes to the output, too. */
int tools_capture(char *const *arguments, const char *directory, text_t input, bool merge, size_t limit, buf_t *output, err_t *err);

/* config.json read and checked with the tools' help: drivers, options, and each program by `process --check=json`. `warnings`, which may
 * be NULL, gets what programs need from outside and would not find now, as "warning: TEXT". */
int tools_load_config(config_t **config, const char *path, config_errors_t *errors, config_errors_t *warnings);

#endif
