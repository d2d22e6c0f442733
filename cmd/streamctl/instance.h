#ifndef STREAMCTL_INSTANCE_H
#define STREAMCTL_INSTANCE_H

#include "stage_log.h"

/* Starts an instance of a configuration in the background and waits until it is ready, or says why not. The exit status.
 * reset: its state is deleted first, after a question unless `yes`. */
int start_background(const char *config_path, bool reset, bool yes);

#endif
