#ifndef NET_LINK_STREAM_H
#define NET_LINK_STREAM_H

#include <sys/types.h>

#include "base/err.h"
#include "data/frame.h"

/* Frames on a byte stream: each is one msgpack array [topic, header map, body bin], which says by itself where it ends. */

/* Looks at the front of the data. Returns 0 when the frame is not complete yet; its size when it is, with *frame a new frame (the
 * caller's reference, bytes copied) or NULL when it is malformed inside and only to be dropped (*err says why); -1 when
 * the stream itself is malformed or the frame above the limits. */
ssize_t link_stream_read(const uint8_t *data, size_t size, size_t frame_max, frame_t **frame, err_t *err);

#endif
