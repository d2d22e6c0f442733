/* Frames as ZeroMQ messages, without copying bodies: the message that is sent holds a reference to the frame, the frame that
 * is received holds the messages. */
#include <errno.h>
#include <string.h>
#include <zmq.h>

#include "base/memory.h"
#include "net/link_zmq.h"

#define COPY_MAX 1024                     /* up to here a copy costs less than a reference */

/* ---- sending ---- */

static void release_body(void *data, void *hint) {
    frame_unref(hint);                    /* on ZeroMQ's thread */
}

static void message_copy(zmq_msg_t *message, const void *bytes, size_t size) {
    ASSERT(zmq_msg_init_size(message, size) == 0);
    if (size)
        memcpy(zmq_msg_data(message), bytes, size);
}

static int send_part(void *socket, zmq_msg_t *message, int flags) {
    int result;
    do
        result = zmq_msg_send(message, socket, flags | ZMQ_DONTWAIT);
    while (result < 0 && zmq_errno() == EINTR);
    if (result < 0)
        zmq_msg_close(message);
    return result < 0 ? -1 : 0;
}

int zlink_send(void *socket, frame_t *frame, const frame_number_t *number, buf_t *scratch) {
    zmq_msg_t part;
    message_copy(&part, frame->topic, strlen(frame->topic));
    if (send_part(socket, &part, ZMQ_SNDMORE) != 0)
        return -1;
    buf_clear(scratch);
    frame_put_header(scratch, frame, number);
    message_copy(&part, scratch->data, scratch->size);
    if (send_part(socket, &part, ZMQ_SNDMORE) != 0)
        return -1;                        /* the connection went meanwhile: ZeroMQ takes back the first part */
    if (frame->body_size <= COPY_MAX)
        message_copy(&part, frame->body, frame->body_size);
    else
        ASSERT(zmq_msg_init_data(&part, (void *) frame->body, frame->body_size, release_body, frame_ref(frame)) == 0);
    return send_part(socket, &part, 0);
}

/* ---- receiving ---- */

typedef struct holder {
    zmq_msg_t header, body;
} holder_t;

static void release_holder(void *memory) {
    holder_t *holder = memory;
    zmq_msg_close(&holder->header);
    zmq_msg_close(&holder->body);
    mem_free(holder);
}

static bool receive_part(void *socket, zmq_msg_t *part) {
    int result;
    do
        result = zmq_msg_recv(part, socket, ZMQ_DONTWAIT);
    while (result < 0 && zmq_errno() == EINTR);
    return result >= 0;
}

/* Takes the parts of one message: returns how many there were (those above three are dropped), 0 for no message. */
static int receive_parts(void *socket, zmq_msg_t parts[3]) {
    int count = 0;
    bool more = true;
    while (more) {
        zmq_msg_t rest, *part = count < 3 ? &parts[count] : &rest;
        zmq_msg_init(part);
        if (!receive_part(socket, part)) {
            zmq_msg_close(part);
            return count;                 /* only ever before the first: a message arrives whole */
        }
        more = zmq_msg_more(part);
        if (count >= 3)
            zmq_msg_close(part);
        if (count <= 3)
            count++;
    }
    return count;
}

/* The frame takes header and body over. */
static frame_t *frame_of(zmq_msg_t parts[3]) {
    holder_t *holder = mem_alloc(sizeof *holder);
    zmq_msg_init(&holder->header);
    zmq_msg_init(&holder->body);
    zmq_msg_move(&holder->header, &parts[1]);
    zmq_msg_move(&holder->body, &parts[2]);
    frame_t *frame = mem_zero(sizeof *frame);
    atomic_init(&frame->references, 1);
    frame->memory[0] = holder;
    frame->release[0] = release_holder;
    return frame;
}

zlink_result_t zlink_receive(void *socket, size_t frame_max, frame_t **frame, err_t *err) {
    zmq_msg_t parts[3];
    *frame = NULL;
    int count = receive_parts(socket, parts);
    if (count == 0)
        return ZLINK_NONE;
    zlink_result_t result = ZLINK_BAD;
    if (count == 3 && zmq_msg_size(&parts[0]) && *(const char *) zmq_msg_data(&parts[0]) == ZLINK_ASK) {
        err_set(err, "a publisher's answer to a subscriber, where frames are expected");
        result = ZLINK_ANSWER;
    } else if (count == 3) {
        frame_t *made = frame_of(parts);
        holder_t *holder = made->memory[0];
        if (frame_decode(made, zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0]), zmq_msg_data(&holder->header),
                         zmq_msg_size(&holder->header), zmq_msg_data(&holder->body), zmq_msg_size(&holder->body), frame_max, err) == 0)
            result = ZLINK_FRAME;
        if (result == ZLINK_FRAME || made->sequence)
            *frame = made;
        else
            frame_unref(made);
    } else
        err_set(err, "a message of %s parts, where a frame has three", count > 3 ? "more than three" : count == 2 ? "two" : "one");
    for (int i = 0; i < count && i < 3; i++)
        zmq_msg_close(&parts[i]);
    return result;
}

int zlink_receive_pair(void *socket, text_t *topic, text_t *payload, char *memory) {
    int sizes[3] = {0}, count = 0, more = 1;
    size_t length = sizeof more;
    while (more) {
        char spare[1];
        bool wanted = count < 2;
        int size = zmq_recv(socket, wanted ? memory + count * ZLINK_CONTROL_MAX : spare, wanted ? ZLINK_CONTROL_MAX : 0, ZMQ_DONTWAIT);
        if (size < 0 && zmq_errno() == EINTR)
            continue;
        if (size < 0)
            return 0;
        sizes[wanted ? count : 2] = size;
        if (count < 3)
            count++;
        if (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &length) != 0)
            return 0;
    }
    if (count != 2 || sizes[0] > ZLINK_CONTROL_MAX || sizes[1] > ZLINK_CONTROL_MAX)
        return -1;
    *topic = text_make(memory, (size_t) sizes[0]);
    *payload = text_make(memory + ZLINK_CONTROL_MAX, (size_t) sizes[1]);
    return 1;
}
