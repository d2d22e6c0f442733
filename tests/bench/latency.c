/* Measures latency end to end: one thread writes events that carry the time of their writing (t_ns), at a fixed rate, to standard
 * output or to a file that is being followed; the other receives them as a ZeroMQ subscriber or as a WebSocket client, and compares.
 *     latency --rate N --seconds S --result FILE [--append FILE] (--sub ENDPOINT | --ws PORT) --stream NAME
 * The result is a JSON object. Measuring begins once a first event has come through, and leaves out the first tenth. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "data/frame.h"
#include "data/pack.h"

#define QUIET_MS 2000              /* nothing has come for so long after the last was sent: it is over */
#define PATIENCE_S 30              /* for the first event to come through */
#define TICK_NS (100 * 1000)       /* between two writes at least: one write for each of 100,000 events a second takes most of a core,
                                      and what would be measured is how the generator keeps the stages from running */

typedef struct options {
    double rate, seconds;
    const char *result, *append, *sub, *ws, *stream;
} options_t;

static options_t options;
static int out_fd = STDOUT_FILENO;
static atomic_bool joined, sent_all;
static atomic_llong begin_at;      /* monotonic ns: events stamped from then on are counted */
static uint64_t sent;              /* counted ones; read after sent_all */

static int64_t *samples;
static size_t sample_count, sample_room;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "latency: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Returns false when nobody takes them any more. */
static bool put_events(uint64_t count, uint64_t seq) {
    static buf_t text;
    int64_t stamp = now();
    buf_clear(&text);
    for (uint64_t i = 0; i < count; i++)
        buf_format(&text, "{\"t_ns\":%" PRId64 ",\"device\":\"sensor_%04u\",\"site\":\"warehouse_a\",\"temperature\":%u.%04u,"
                   "\"humidity\":45.12,\"pressure\":1013.2,\"status\":\"ok\",\"seq\":%" PRIu64 "}\n",
                   stamp, (unsigned) ((seq + i) % 1000), (unsigned) (15 + (seq + i) % 30), (unsigned) ((seq + i) * 7919 % 10000), seq + i);
    for (size_t done = 0; done < text.size;) {
        ssize_t n = write(out_fd, text.data + done, text.size - done);
        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t) n : 0;
    }
    return true;
}

static void sleep_until(int64_t when) {
    struct timespec t = {when / NS_PER_S, when % NS_PER_S};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static void *send_events(void *argument) {
    prctl(PR_SET_TIMERSLACK, 1000UL);
    uint64_t seq = 0;
    while (!joined) {              /* subscribing takes a moment: probes until one has come through */
        if (!put_events(1, seq++))
            die("write");
        sleep_until(now() + 20 * NS_PER_MS);
    }
    int64_t start = now(), interval = (int64_t) (1e9 / options.rate);
    int64_t begin = start + (int64_t) (options.seconds * 1e8);
    uint64_t total = (uint64_t) (options.rate * options.seconds * 1.1), done = 0;
    atomic_store(&begin_at, begin);
    while (done < total) {
        int64_t at = now();
        uint64_t due = (uint64_t) ((at - start) / interval) + 1;
        due = due > total ? total : due;
        if (due > done) {
            if (at >= begin)
                sent += due - done;
            if (!put_events(due - done, seq))
                break;
            seq += due - done;
            done = due;
        }
        int64_t next = start + (int64_t) done * interval, soonest = at + TICK_NS;
        sleep_until(next > soonest ? next : soonest);
    }
    if (!options.append)
        close(out_fd);
    sent_all = true;
    return NULL;
}

static void received(int64_t stamp) {
    int64_t begin = atomic_load(&begin_at);
    joined = true;
    if (!begin || stamp < begin)
        return;
    if (sample_count == sample_room) {
        sample_room = sample_room ? 2 * sample_room : 65536;
        samples = mem_resize(samples, sample_room * sizeof *samples);
    }
    samples[sample_count++] = now() - stamp;
}

static void receive_frame(zmq_msg_t parts[3]) {
    frame_t frame = {0};
    err_t err;
    if (frame_decode(&frame, zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0]), zmq_msg_data(&parts[1]), zmq_msg_size(&parts[1]),
                     zmq_msg_data(&parts[2]), zmq_msg_size(&parts[2]), FRAME_MAX_DEFAULT, &err)) {
        fprintf(stderr, "latency: %s\n", err.text);
        exit(1);
    }
    frame_walk_t walk = {0};
    event_t event;
    value_t value;
    while (frame_next(&frame, &walk, &event) == 1)
        if (pack_map_get(event.record, event.record_size, text_of("t_ns"), &value) && value.type == VALUE_INT)
            received(value.integer);
}

static void receive_zmq(void) {
    void *context = zmq_ctx_new(), *sub = zmq_socket(context, ZMQ_SUB);
    int timeout = 100, mark = 100000, zero = 0;
    zmq_setsockopt(sub, ZMQ_RCVTIMEO, &timeout, sizeof timeout);
    zmq_setsockopt(sub, ZMQ_RCVHWM, &mark, sizeof mark);
    zmq_setsockopt(sub, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(sub, ZMQ_SUBSCRIBE, options.stream, strlen(options.stream));
    if (zmq_connect(sub, options.sub))
        die(options.sub);
    int64_t started = now(), last = started;
    while (!(sent_all && now() - last > QUIET_MS * NS_PER_MS)) {
        zmq_msg_t parts[3];
        unsigned n = 0;
        for (bool more = true; more; n++) {
            zmq_msg_t part;
            zmq_msg_init(&part);
            if (zmq_msg_recv(&part, sub, 0) < 0)
                break;
            more = zmq_msg_more(&part);
            if (n < 3)
                parts[n] = part;
            else
                zmq_msg_close(&part);
        }
        if (n == 3) {
            receive_frame(parts);
            last = now();
        }
        for (unsigned i = 0; i < n && i < 3; i++)
            zmq_msg_close(&parts[i]);
        if (!joined && now() - started > PATIENCE_S * NS_PER_S)
            die("no event has come through");
    }
    zmq_close(sub);
    zmq_ctx_term(context);
}

/* A WebSocket client, just enough: RFC 6455. */
static void send_websocket(int fd, uint8_t opcode, const void *bytes, size_t size) {
    uint8_t frame[256] = {(uint8_t) (0x80 | opcode), (uint8_t) (0x80 | size)};     /* the mask is zero */
    if (size > 125)
        die("a long message");
    memcpy(frame + 6, bytes, size);
    if (write(fd, frame, size + 6) < 0)
        die("write");
}

static int open_websocket(buf_t *in) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) atoi(options.ws)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct timeval timeout = {0, 100000};
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof address))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    dprintf(fd, "GET /ws HTTP/1.1\r\nHost: localhost:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", options.ws);
    char *end = NULL;
    for (int64_t started = now(); !end;) {
        ssize_t n = read(fd, buf_reserve(in, 4096), 4096);
        if (n == 0 || now() - started > PATIENCE_S * NS_PER_S)
            die("the server did not answer the upgrade");
        in->size += n > 0 ? (size_t) n : 0;
        end = strstr(buf_text(in), "\r\n\r\n");
    }
    if (!strstr(buf_text(in), " 101 "))
        die(buf_text(in));
    buf_consume(in, (size_t) (end + 4 - (char *) in->data));
    char subscribe[128];
    int size = snprintf(subscribe, sizeof subscribe, "{\"subscribe\":[\"%s\"]}", options.stream);
    send_websocket(fd, 1, subscribe, (size_t) size);
    return fd;
}

static void scan_stamps(const uint8_t *text, size_t size) {
    static const char mark[] = "\"t_ns\":";
    const uint8_t *end = text + size;
    while ((text = memmem(text, (size_t) (end - text), mark, sizeof mark - 1))) {
        int64_t stamp = 0;
        for (text += sizeof mark - 1; text < end && *text >= '0' && *text <= '9'; text++)
            stamp = 10 * stamp + (*text - '0');
        received(stamp);
    }
}

/* Takes whole messages off the front of the buffer. */
static void take_messages(int fd, buf_t *in) {
    size_t at = 0;
    while (in->size - at >= 2) {
        const uint8_t *p = in->data + at;
        size_t head = 2, size = p[1] & 127;
        unsigned more = size == 126 ? 2 : size == 127 ? 8 : 0;
        if (in->size - at < head + more)
            break;
        if (more) {
            size = 0;
            for (unsigned i = 0; i < more; i++)
                size = size << 8 | p[head + i];
            head += more;
        }
        if (in->size - at < head + size)
            break;
        if ((p[0] & 15) == 9)
            send_websocket(fd, 10, p + head, size);
        else if ((p[0] & 15) == 8)
            die("the server closed the WebSocket");
        else
            scan_stamps(p + head, size);
        at += head + size;
    }
    buf_consume(in, at);
}

static void receive_websocket(void) {
    buf_t in = {0};
    int fd = open_websocket(&in);
    int64_t started = now(), last_stamp = started;
    size_t seen = 0;
    while (!(sent_all && now() - last_stamp > QUIET_MS * NS_PER_MS)) {
        ssize_t n = read(fd, buf_reserve(&in, 1 << 18), 1 << 18);
        if (n == 0)
            die("the server closed the connection");
        in.size += n > 0 ? (size_t) n : 0;
        take_messages(fd, &in);
        if (sample_count > seen)
            last_stamp = now();
        seen = sample_count;
        if (!joined && now() - started > PATIENCE_S * NS_PER_S)
            die("no event has come through");
    }
    close(fd);
    buf_fini(&in);
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;
    return (x > y) - (x < y);
}

static double quantile_us(double q) {
    return sample_count ? (double) samples[(size_t) (q * (double) (sample_count - 1))] / 1e3 : 0;
}

static void parse(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--rate") == 0) options.rate = atof(value);
        else if (strcmp(name, "--seconds") == 0) options.seconds = atof(value);
        else if (strcmp(name, "--result") == 0) options.result = value;
        else if (strcmp(name, "--append") == 0) options.append = value;
        else if (strcmp(name, "--sub") == 0) options.sub = value;
        else if (strcmp(name, "--ws") == 0) options.ws = value;
        else if (strcmp(name, "--stream") == 0) options.stream = value;
    }
    if (options.rate > 0 && options.seconds > 0 && options.result && options.stream && (options.sub || options.ws))
        return;
    fprintf(stderr, "usage: latency --rate N --seconds S --result FILE [--append FILE] (--sub ENDPOINT | --ws PORT) --stream NAME\n");
    exit(64);
}

int main(int argc, char **argv) {
    parse(argc, argv);
    if (options.append && (out_fd = open(options.append, O_WRONLY | O_CREAT | O_APPEND, 0644)) < 0)
        die(options.append);
    pthread_t sender;
    if (pthread_create(&sender, NULL, send_events, NULL))
        die("thread");
    if (options.sub)
        receive_zmq();
    else
        receive_websocket();
    pthread_join(sender, NULL);
    if (sample_count)
        qsort(samples, sample_count, sizeof *samples, compare);
    FILE *result = fopen(options.result, "w");
    if (!result)
        die(options.result);
    fprintf(result, "{\"sent\":%" PRIu64 ",\"received\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f}\n", sent,
            sample_count, quantile_us(0.5), quantile_us(0.99), quantile_us(0.999), quantile_us(1));
    return fclose(result) ? 1 : 0;
}
