/* The least that a stage over ZeroMQ can cost: takes messages from one socket and passes them on at another, with nothing in between. The
 * latency of a chain of these is the floor that the stages' is compared with.
 *     forward FROM TO push|pub */
#include <stdio.h>
#include <string.h>
#include <zmq.h>

static int fail(const char *what) {
    fprintf(stderr, "forward: %s: %s\n", what, zmq_strerror(zmq_errno()));
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: forward FROM TO push|pub\n");
        return 64;
    }
    void *context = zmq_ctx_new();
    void *from = zmq_socket(context, ZMQ_PULL), *to = zmq_socket(context, strcmp(argv[3], "pub") == 0 ? ZMQ_PUB : ZMQ_PUSH);
    if (zmq_bind(to, argv[2]))
        return fail(argv[2]);
    if (zmq_connect(from, argv[1]))
        return fail(argv[1]);
    zmq_msg_t part;
    zmq_msg_init(&part);
    while (zmq_msg_recv(&part, from, 0) >= 0) {
        int more = zmq_msg_more(&part);
        if (zmq_msg_send(&part, to, more ? ZMQ_SNDMORE : 0) < 0)
            return fail(argv[2]);
    }
    return fail(argv[1]);
}
