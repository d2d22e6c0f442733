#ifndef BASE_DESCRIPTORS_H
#define BASE_DESCRIPTORS_H

#include "base/err.h"

/* Raises the soft limit of open files to what the hard one allows, 16384 at most. */
void descriptors_raise(void);

/* Whether `count` more can be opened now. The error names the limit and the remedy. */
int descriptors_room(unsigned count, err_t *err);

#endif
