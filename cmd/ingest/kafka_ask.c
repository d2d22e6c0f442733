/* Questions to Kafka's brokers, for which the library has only calls that block: each gets a thread, which wakes the loop at its end. */
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "kafka.h"

static rd_kafka_resp_err_t find_parts(kafka_question_t *question) {
    const struct rd_kafka_metadata *all = NULL;
    for (size_t i = 0; i < question->topics->count && !question->stop; i++) {
        rd_kafka_topic_t *topic = rd_kafka_topic_new(question->rk, question->topics->items[i], NULL);
        rd_kafka_resp_err_t err = topic ? rd_kafka_metadata(question->rk, 0, topic, &all, question->timeout) : rd_kafka_last_error();
        if (!err && all->topic_cnt)
            err = all->topics[0].err;
        for (int k = 0; !err && all->topic_cnt && k < all->topics[0].partition_cnt; k++)
            rd_kafka_topic_partition_list_add(question->parts, question->topics->items[i], all->topics[0].partitions[k].id);
        if (all)
            rd_kafka_metadata_destroy(all);
        if (topic)
            rd_kafka_topic_destroy(topic);
        all = NULL;
        if (err)
            return err;
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t find_ranges(kafka_question_t *question) {
    const rd_kafka_topic_partition_list_t *parts = question->parts;
    question->ranges = mem_zero(((size_t) parts->cnt + 1) * sizeof *question->ranges);
    for (int i = 0; i < parts->cnt && !question->stop; i++) {
        kafka_range_t *range = &question->ranges[i];
        rd_kafka_resp_err_t err =
            rd_kafka_query_watermark_offsets(question->rk, parts->elems[i].topic, parts->elems[i].partition, &range->low, &range->high, question->timeout);
        if (err)
            return err;
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t probe(kafka_question_t *question) {
    const struct rd_kafka_metadata *all = NULL;
    rd_kafka_resp_err_t err = rd_kafka_metadata(question->rk, 0, NULL, &all, question->timeout);
    if (all)
        rd_kafka_metadata_destroy(all);
    return err;
}

static void *answer(void *argument) {
    kafka_question_t *question = argument;
    uint64_t one = 1;
    if (question->probe) {
        question->err = probe(question);
    } else {
        if (question->topics)
            question->err = find_parts(question);
        if (!question->err && question->committed)
            question->err = rd_kafka_committed(question->rk, question->parts, question->timeout);
        if (!question->err)
            question->err = find_ranges(question);
    }
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
    question->timeout = (int) (self->settings->connect_timeout / NS_PER_MS);
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
