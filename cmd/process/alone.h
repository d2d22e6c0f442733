#ifndef PROCESS_ALONE_H
#define PROCESS_ALONE_H

#include "base/err.h"

/* What process does with a program alone, without a stage: --check=json and --explain. */
int alone_main(int argc, char **argv, const char *option);               /* the exit status */

/* Reads the program's file. The text is the caller's. */
int alone_read_file(const char *path, char **text, err_t *err);

#endif
