/* Questions to Kafka's brokers, for which the library has only calls that block: each gets a thread, which wakes the loop at its end. */
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "kafka.h"

#define SLICE (100 * NS_PER_MS)

typedef rd_kafka_resp_err_t step_fn(kafka_question_t *question, int index, int timeout);

/* A call cannot be taken back, so it is made with a short time, again and again: who leaves waits no longer than that. A broker that is there but
 * slow to answer gets more time each time. */
static rd_kafka_resp_err_t in_slices(kafka_question_t *question, step_fn *step, int index) {
    int64_t end = clock_monotonic() + question->timeout, slice = SLICE;
    for (;;) {
        int64_t begun = clock_monotonic();
        bool last = end - begun <= slice;
        rd_kafka_resp_err_t err = step(question, index, (int) ((last ? end - begun : slice) / NS_PER_MS));
        bool waited = clock_monotonic() - begun >= slice / 2;
        if (last || !waited || question->stop || (err != RD_KAFKA_RESP_ERR__TRANSPORT && err != RD_KAFKA_RESP_ERR__TIMED_OUT))
            return err;
        if (err == RD_KAFKA_RESP_ERR__TIMED_OUT)
            slice *= 2;
    }
}

static rd_kafka_resp_err_t ask_parts(kafka_question_t *question, int index, int timeout) {
    const struct rd_kafka_metadata *all = NULL;
    const char *name = question->topics->items[index];
    rd_kafka_topic_t *topic = rd_kafka_topic_new(question->rk, name, NULL);
    rd_kafka_resp_err_t err = topic ? rd_kafka_metadata(question->rk, 0, topic, &all, timeout) : rd_kafka_last_error();
    if (!err && all->topic_cnt)
        err = all->topics[0].err;
    for (int k = 0; !err && all->topic_cnt && k < all->topics[0].partition_cnt; k++)
        rd_kafka_topic_partition_list_add(question->parts, name, all->topics[0].partitions[k].id);
    if (all)
        rd_kafka_metadata_destroy(all);
    if (topic)
        rd_kafka_topic_destroy(topic);
    return err;
}

static rd_kafka_resp_err_t ask_range(kafka_question_t *question, int index, int timeout) {
    const rd_kafka_topic_partition_t *part = &question->parts->elems[index];
    kafka_range_t *range = &question->ranges[index];
    return rd_kafka_query_watermark_offsets(question->rk, part->topic, part->partition, &range->low, &range->high, timeout);
}

static rd_kafka_resp_err_t ask_committed(kafka_question_t *question, int index, int timeout) {
    return rd_kafka_committed(question->rk, question->parts, timeout);
}

static rd_kafka_resp_err_t probe(kafka_question_t *question, int index, int timeout) {
    const struct rd_kafka_metadata *all = NULL;
    rd_kafka_resp_err_t err = rd_kafka_metadata(question->rk, 0, NULL, &all, timeout);
    if (all)
        rd_kafka_metadata_destroy(all);
    return err;
}

static rd_kafka_resp_err_t ask_all(kafka_question_t *question) {
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (question->probe)
        return in_slices(question, probe, 0);
    for (size_t i = 0; question->topics && i < question->topics->count && !question->stop && !err; i++)
        err = in_slices(question, ask_parts, (int) i);
    if (!err && question->committed)
        err = in_slices(question, ask_committed, 0);
    question->ranges = mem_zero(((size_t) question->parts->cnt + 1) * sizeof *question->ranges);
    for (int i = 0; i < question->parts->cnt && !question->stop && !err; i++)
        err = in_slices(question, ask_range, i);
    return err;
}

static void *answer(void *argument) {
    kafka_question_t *question = argument;
    uint64_t one = 1;
    question->err = ask_all(question);
    question->done = true;
    ssize_t unused = write(question->fd, &one, sizeof one);
    (void) unused;
    return NULL;
}

void kafka_ask(kafka_source_t *self, const rd_kafka_topic_partition_list_t *parts, bool probing) {
    if (self->question)
        return;
    kafka_question_t *question = mem_zero(sizeof *question);
    question->rk = self->rk;
    question->parts = parts ? rd_kafka_topic_partition_list_copy(parts) : rd_kafka_topic_partition_list_new(8);
    question->topics = parts || probing ? NULL : &self->topics;
    question->committed = self->grouped;
    question->probe = probing;
    question->timeout = self->settings->connect_timeout;
    question->fd = self->fd;
    if (pthread_create(&question->thread, NULL, answer, question)) {
        rd_kafka_topic_partition_list_destroy(question->parts);
        mem_free(question);
        return;
    }
    self->question = question;
}

kafka_question_t *kafka_answer(kafka_source_t *self) {
    kafka_question_t *question = self->question;
    if (!question || !question->done)
        return NULL;
    self->question = NULL;
    return question;
}

void kafka_question_free(kafka_question_t *question) {
    if (!question)
        return;
    question->stop = true;
    pthread_join(question->thread, NULL);
    rd_kafka_topic_partition_list_destroy(question->parts);
    mem_free(question->ranges);
    mem_free(question);
}
