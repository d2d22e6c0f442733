#ifndef PROCESS_ARRIVAL_H
#define PROCESS_ARRIVAL_H

#include "base/text.h"
#include "data/frame.h"

/* The name of a field of the frame's first event that reads as a time, when the events have none of their own, so that windows go by their
 * arrival; a size of 0: there is none. Borrowed from the frame. */
text_t arrival_field(const frame_t *frame);

#endif
