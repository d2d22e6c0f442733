/* A Kafka cluster for tests: librdkafka's mock brokers, which listen on loopback ports, and a producer. Arguments: TOPIC:PARTITIONS... The first line it
 * prints is its bootstrap servers. Commands come by standard input, one a line; "ok" answers each when it is done, for messages: when the
 * brokers have them.
 *     add TOPIC PARTITION FIRST COUNT      messages {"n":FIRST} and so on
 *     put TOPIC PARTITION KEY VALUE        in hexadecimal, - for none; with the headers h1=x and h2 (no value)
 *     down, up                             all brokers
 */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static rd_kafka_mock_cluster_t *cluster;
static rd_kafka_t *producer;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "kafka_mock: %s: %s\n", what, why);
    exit(1);
}

static void on_delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *argument) {
    if (message->err)
        fail("delivery", rd_kafka_err2str(message->err));
}

static rd_kafka_t *new_client(const char *servers) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivered);
    if (servers && rd_kafka_conf_set(conf, "bootstrap.servers", servers, why, sizeof why))
        fail("bootstrap.servers", why);
    rd_kafka_conf_set(conf, "linger.ms", "1", why, sizeof why);
    rd_kafka_conf_set(conf, "message.max.bytes", "100000000", why, sizeof why);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!rk)
        fail("client", why);
    return rk;
}

/* The bytes of hexadecimal text; "-" gives NULL. */
static char *from_hex(const char *text, size_t *size) {
    *size = 0;
    if (strcmp(text, "-") == 0)
        return NULL;
    char *bytes = malloc(strlen(text) / 2 + 1);
    for (unsigned value; text[0] && sscanf(text, "%2x", &value) == 1; text += 2)
        bytes[(*size)++] = (char) value;
    return bytes;
}

static void add(const char *topic, int partition, long first, long count) {
    for (long i = first; i < first + count; i++) {
        char text[64];
        int size = snprintf(text, sizeof text, "{\"n\":%ld}", i);
        while (rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                 RD_KAFKA_V_VALUE(text, (size_t) size), RD_KAFKA_V_END))
            rd_kafka_poll(producer, 10); /* its queue is full */
    }
}

static void put(const char *topic, int partition, const char *key_text, const char *value_text) {
    size_t key_size, value_size;
    char *key = from_hex(key_text, &key_size), *value = from_hex(value_text, &value_size);
    if (rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                          RD_KAFKA_V_KEY(key, key_size), RD_KAFKA_V_VALUE(value, value_size), RD_KAFKA_V_TIMESTAMP(1700000000123),
                          RD_KAFKA_V_HEADER("h1", "x", 1), RD_KAFKA_V_HEADER("h2", NULL, 0), RD_KAFKA_V_END))
        fail("put", "refused");
    free(key);
    free(value);
}

static void obey(char *line) {
    char *words[5] = {0};
    int count = 0;
    for (char *word = strtok(line, " \n"); word && count < 5; word = strtok(NULL, " \n"))
        words[count++] = word;
    if (count == 5 && strcmp(words[0], "add") == 0)
        add(words[1], atoi(words[2]), atol(words[3]), atol(words[4]));
    else if (count == 5 && strcmp(words[0], "put") == 0)
        put(words[1], atoi(words[2]), words[3], words[4]);
    else if (count == 1 && strcmp(words[0], "down") == 0)
        rd_kafka_mock_broker_set_down(cluster, 1);
    else if (count == 1 && strcmp(words[0], "up") == 0)
        rd_kafka_mock_broker_set_up(cluster, 1);
    else
        fail("unknown command", words[0] ? words[0] : "");
    if (count == 5)
        rd_kafka_flush(producer, 60000);
    printf("ok\n");
}

/* A mock cluster is called by its address in memory. Where addresses are the same in each process, as a sanitizer's allocator makes them, it
 * moves this one away. */
static void keep_apart(void) {
    static void *blocks[64][128];
    for (int i = 0; i < getpid() % 64; i++)
        for (size_t j = 0; j < 128; j++)
            blocks[i][j] = malloc(16 * (j + 1)); /* for good */
    (void) blocks;
}

int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    keep_apart();
    rd_kafka_t *holder = new_client(NULL);
    cluster = rd_kafka_mock_cluster_new(holder, 1);
    if (!cluster)
        fail("cluster", "cannot be made");
    for (int i = 1; i < argc; i++) {
        char *colon = strchr(argv[i], ':');
        if (!colon)
            fail(argv[i], "TOPIC:PARTITIONS");
        *colon = 0;
        rd_kafka_mock_topic_create(cluster, argv[i], atoi(colon + 1), 1);
    }
    producer = new_client(rd_kafka_mock_cluster_bootstraps(cluster));
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
    static char line[64 << 20];
    while (fgets(line, sizeof line, stdin))
        obey(line);
    rd_kafka_destroy(producer);
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(holder);
    return 0;
}
