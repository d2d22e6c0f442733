/* The consumer: fetching within the loop, partitions that come and leave, and what the group is told. Before a partition leaves, all that was taken of it
 * is made safe and committed, so that the next one who gets it begins behind. */
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "kafka.h"
#include "net/tls_words.h"

#define ROUND 500                      /* messages before others get their turn */
#define TICK NS_PER_S                  /* the library wants to hear from us even when nothing comes */
#define LONG_PAUSE (10 * NS_PER_S)
#define FIND_EVERY 60                  /* ticks */
#define COMMIT_EVERY NS_PER_S
#define REVOKE_LIMIT (10 * NS_PER_S)
#define CLOSE_LIMIT (5 * NS_PER_S)

static void serve(void *argument);

static void unhealthy(kafka_source_t *self, const char *what, const char *reason) {
    buf_t words = {0};
    secrets_put_masked(&self->secrets, &words, text_of(reason), 300);
    self->troubled = true;
    source_unhealthy(self->setup.host, "%s: %s%s%s; trying again", self->place, what, *what ? ": " : "", buf_text(&words));
    buf_fini(&words);
}

static void healthy(kafka_source_t *self) {
    self->troubled = false;
    source_healthy(self->setup.host);
}

/* Commits. */

static void finish_revoke(kafka_source_t *self);

/* What is safe and the group does not know yet; NULL: nothing. */
static rd_kafka_topic_partition_list_t *to_commit(const kafka_source_t *self) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    for (size_t i = 0; i < self->part_count; i++) {
        const kafka_part_t *part = &self->parts[i];
        if (part->ours && part->durable > part->committed)
            rd_kafka_topic_partition_list_add(list, part->topic, part->number)->offset = part->durable;
    }
    if (list->cnt)
        return list;
    rd_kafka_topic_partition_list_destroy(list);
    return NULL;
}

/* True: an answer will come. */
static bool commit(kafka_source_t *self) {
    rd_kafka_topic_partition_list_t *list = self->grouped && !self->committing ? to_commit(self) : NULL;
    if (!list)
        return self->committing;
    self->committing = rd_kafka_commit_queue(self->rk, list, self->side, NULL, NULL) == RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_destroy(list);
    return self->committing;
}

static void on_commit_time(void *argument) {
    kafka_source_t *self = argument;
    self->commit_timer = NULL;
    commit(self);
}

static void commit_soon(kafka_source_t *self) {
    if (self->grouped && !self->commit_timer && !self->closing)
        self->commit_timer = loop_timer(self->setup.loop, COMMIT_EVERY, 0, on_commit_time, self);
}

static void take_commit(kafka_source_t *self, rd_kafka_event_t *event) {
    const rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    self->committing = false;
    for (int i = 0; !err && list && i < list->cnt; i++) {
        kafka_part_t *part = kafka_part(self, list->elems[i].topic, list->elems[i].partition);
        if (list->elems[i].err || list->elems[i].offset <= part->committed)
            continue;
        part->committed = list->elems[i].offset;
        log_debug("the group knows of %s/%d up to offset %lld", part->topic, (int) part->number, (long long) part->committed);
    }
    if (err && err != RD_KAFKA_RESP_ERR__NO_OFFSET)
        log_info("the group was not told how far we are: %s; it will be", rd_kafka_err2str(err));
    if (self->revoking && (err || !commit(self)))
        finish_revoke(self);
    else if (err)
        commit_soon(self);
}

static void serve_commits(kafka_source_t *self) {
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(self->side, 0))) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_OFFSET_COMMIT)
            take_commit(self, event);
        rd_kafka_event_destroy(event);
    }
}

/* Partitions that leave. */

static bool is_cooperative(const kafka_source_t *self) {
    const char *protocol = rd_kafka_rebalance_protocol(self->rk);
    return protocol && strcmp(protocol, "COOPERATIVE") == 0;
}

static void unassign(kafka_source_t *self, const rd_kafka_topic_partition_list_t *parts) {
    for (int i = 0; i < parts->cnt; i++) {
        kafka_part(self, parts->elems[i].topic, parts->elems[i].partition)->ours = false;
        log_debug("partition %s/%d has left", parts->elems[i].topic, (int) parts->elems[i].partition);
    }
    if (self->held && !self->held_part->ours)
        kafka_message_leave(self);
    if (is_cooperative(self))
        rd_kafka_error_destroy(rd_kafka_incremental_unassign(self->rk, parts));
    else
        rd_kafka_assign(self->rk, NULL);
}

static void finish_revoke(kafka_source_t *self) {
    rd_kafka_topic_partition_list_t *parts = self->revoking;
    loop_remove(self->revoke_timer);
    self->revoke_timer = NULL;
    self->revoking = NULL;
    unassign(self, parts);
    rd_kafka_topic_partition_list_destroy(parts);
    loop_defer(self->setup.loop, serve, self);
}

static void on_revoke_late(void *argument) {
    kafka_source_t *self = argument;
    self->revoke_timer = NULL;
    log_warning("a partition leaves before all that was taken of it could be committed: the next reader of the group may repeat some");
    finish_revoke(self);
}

static void go_on_revoking(kafka_source_t *self) {
    if (self->revoking && self->durable >= self->revoke_step && !commit(self))
        finish_revoke(self);
}

static void drop_assignment(kafka_source_t *self) {
    if (self->assigning)
        rd_kafka_topic_partition_list_destroy(self->assigning);
    self->assigning = NULL;
}

static void let_go(kafka_source_t *self, const rd_kafka_topic_partition_list_t *parts) {
    bool at_once = self->closing || rd_kafka_assignment_lost(self->rk) || self->revoking;
    drop_assignment(self);
    if (at_once) {
        unassign(self, parts);
        return;
    }
    self->revoking = rd_kafka_topic_partition_list_copy(parts);
    self->revoke_step = self->step;
    source_moved(self->setup.host);
    self->revoke_timer = loop_timer(self->setup.loop, REVOKE_LIMIT, 0, on_revoke_late, self);
    go_on_revoking(self);
}

/* Partitions that come. */

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *parts, void *opaque) {
    kafka_source_t *self = opaque;
    if (err != RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        let_go(self, parts);
        return;
    }
    drop_assignment(self);
    if (!parts->cnt) { /* there are more of us than partitions */
        if (is_cooperative(self))
            rd_kafka_error_destroy(rd_kafka_incremental_assign(rk, parts));
        else
            rd_kafka_assign(rk, parts);
        healthy(self);
        return;
    }
    self->assigning = rd_kafka_topic_partition_list_copy(parts);
    kafka_ask(self, self->assigning, false);
}

/* Messages that nobody has any more. */
static void tell_gap(kafka_source_t *self, const kafka_part_t *part, int64_t from, int64_t to) {
    log_warning("%s, partition %d: %lld messages were deleted before we read them", part->topic, (int) part->number, (long long) (to - from));
    source_dropped(self->setup.host, (uint64_t) (to - from));
}

static int64_t start_of(kafka_source_t *self, kafka_part_t *part, int64_t committed, kafka_range_t range) {
    int64_t start = part->begun ? part->next : -1;
    if (committed > start)
        start = committed;
    if (start < 0)
        return self->settings->begin == KAFKA_NEW ? range.high : range.low;
    if (start > range.high) {
        log_warning("%s, partition %d ends at offset %lld and we were at %lld: it is another one by the same name, and read from its beginning", part->topic,
                    (int) part->number, (long long) range.high, (long long) start);
        return range.low;
    }
    if (start < range.low)
        tell_gap(self, part, start, range.low);
    return start < range.low ? range.low : start;
}

static bool is_same_cluster(kafka_source_t *self) {
    char *cluster = self->cluster_known ? NULL : rd_kafka_clusterid(self->rk, 0);
    if (!cluster)
        return true;
    self->cluster_known = true;
    bool same = !self->cluster || strcmp(self->cluster, cluster) == 0;
    if (!same) {
        source_failed(self->setup.host, "--state is not for this source: it was made for another cluster (%s), and this is %s; --reset forgets it and begins anew",
                      self->cluster, cluster);
        self->failed = true;
    } else if (!self->cluster) {
        self->cluster = mem_text(cluster);
    }
    rd_kafka_mem_free(self->rk, cluster);
    return same;
}

static void assign(kafka_source_t *self, const kafka_question_t *answer) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(answer->parts->cnt + 1);
    size_t fresh = 0;
    for (int i = 0; i < answer->parts->cnt; i++) {
        const rd_kafka_topic_partition_t *given = &answer->parts->elems[i];
        kafka_part_t *part = kafka_part(self, given->topic, given->partition);
        if (!part->ours) {
            part->next = start_of(self, part, self->grouped ? given->offset : -1, answer->ranges[i]);
            part->committed = part->durable = self->grouped && given->offset >= 0 ? given->offset : -1;
            part->begun = part->ours = true;
            fresh++;
            log_debug("partition %s/%d is read from offset %lld on", part->topic, (int) part->number, (long long) part->next);
        }
        rd_kafka_topic_partition_list_add(list, given->topic, given->partition)->offset = part->next;
    }
    if (self->grouped && is_cooperative(self))
        rd_kafka_error_destroy(rd_kafka_incremental_assign(self->rk, list));
    else if (fresh || self->grouped)
        rd_kafka_assign(self->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (fresh)
        source_moved(self->setup.host);
}

static void ask_again(kafka_source_t *self) {
    if (self->assigning)
        kafka_ask(self, self->assigning, false);
    else if (!self->grouped && !self->part_count)
        kafka_ask(self, NULL, false);
    else if (self->troubled)
        kafka_ask(self, NULL, true);
    else if (!self->grouped && ++self->ticks % FIND_EVERY == 0)
        kafka_ask(self, NULL, false); /* for partitions that are new */
}

static bool is_wanted(const kafka_source_t *self, const kafka_question_t *answer) {
    if (!self->grouped)
        return true;
    const rd_kafka_topic_partition_list_t *wanted = self->assigning;
    if (!wanted || wanted->cnt != answer->parts->cnt)
        return false;
    for (int i = 0; i < wanted->cnt; i++) {
        if (!rd_kafka_topic_partition_list_find(answer->parts, wanted->elems[i].topic, wanted->elems[i].partition))
            return false;
    }
    return true;
}

static void take_answer(kafka_source_t *self) {
    kafka_question_t *answer = kafka_answer(self);
    if (!answer)
        return;
    if (answer->err) { /* the tick asks again; what the connection says tells more */
        if (!self->troubled)
            unhealthy(self, "", rd_kafka_err2str(answer->err));
    } else if (is_same_cluster(self)) {
        if (!answer->probe && is_wanted(self, answer)) {
            drop_assignment(self);
            assign(self, answer);
        }
        healthy(self);
        if (self->assigning)
            ask_again(self);
    }
    kafka_question_free(answer);
}

/* Messages. */

static void take_error(kafka_source_t *self, const rd_kafka_message_t *message) {
    char why[512];
    rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(self->rk, why, sizeof why);
    if (fatal) {
        source_failed(self->setup.host, "%s: %s", self->place, why);
        self->failed = true;
    } else if (message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        unhealthy(self, message->rkt ? rd_kafka_topic_name(message->rkt) : "", rd_kafka_message_errstr(message));
    }
}

/* False: there is no room. */
static bool take(kafka_source_t *self) {
    if (self->held->err) {
        take_error(self, self->held);
    } else if (!self->delivering) {
        self->held_part = kafka_part(self, rd_kafka_topic_name(self->held->rkt), self->held->partition);
        if (self->held_part->ours && self->held->offset >= self->held_part->next && !kafka_message_take(self))
            return false;
    } else if (!kafka_message_take(self)) {
        return false;
    }
    kafka_message_leave(self);
    return true;
}

/* Those that came during a long pause are first. */
static rd_kafka_message_t *next_message(kafka_source_t *self) {
    if (!self->early_count)
        return rd_kafka_consumer_poll(self->rk, 0);
    rd_kafka_message_t *message = self->early[0];
    self->early_count--;
    memmove(self->early, self->early + 1, self->early_count * sizeof *self->early);
    return message;
}

static void serve_messages(kafka_source_t *self) {
    int left = ROUND;
    while (left-- && !self->revoking && !self->failed && source_room(self->setup.host)) {
        if (!self->held)
            self->held = next_message(self);
        if (!self->held)
            return;
        bool good = !self->held->err;
        if (!take(self))
            return;
        if (good && self->troubled)
            healthy(self);
        if (!source_keeps_position(self->setup.host))
            kafka_client_durable(self);
    }
    if (left < 0)
        loop_defer(self->setup.loop, serve, self);
}

static void serve(void *argument) {
    kafka_source_t *self = argument;
    take_answer(self);
    serve_commits(self);
    if (!self->revoking)
        serve_messages(self);
}

static void on_wake(void *argument, uint32_t events) {
    kafka_source_t *self = argument;
    uint64_t count;
    ssize_t unused = read(self->fd, &count, sizeof count);
    (void) unused;
    serve(self);
}

/* While there is no room for long the library is told not to fetch; then it can be asked for messages, as it must be, and has hardly any. */
static void pause_long(kafka_source_t *self) {
    rd_kafka_topic_partition_list_t *parts = NULL;
    if (source_room(self->setup.host) || clock_monotonic() - self->paused_at < LONG_PAUSE || self->revoking)
        return;
    if (rd_kafka_assignment(self->rk, &parts) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_pause_partitions(self->rk, parts);
        rd_kafka_topic_partition_list_destroy(parts);
        self->long_pause = true;
    }
    while (self->long_pause && !self->revoking && self->early_count < KAFKA_EARLY_MAX) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(self->rk, 0);
        if (!message)
            break;
        self->early[self->early_count++] = message;
    }
}

static void on_tick(void *argument) {
    kafka_source_t *self = argument;
    pause_long(self);
    ask_again(self);
    serve(self);
}

void kafka_client_wake(kafka_source_t *self) {
    rd_kafka_topic_partition_list_t *parts = NULL;
    if (self->rk && self->long_pause && rd_kafka_assignment(self->rk, &parts) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_resume_partitions(self->rk, parts);
        rd_kafka_topic_partition_list_destroy(parts);
    }
    self->long_pause = false;
    if (self->watch)
        loop_defer(self->setup.loop, serve, self);
}

void kafka_client_durable(kafka_source_t *self) {
    if (!source_keeps_position(self->setup.host)) {
        self->durable = self->step;
        for (size_t i = 0; i < self->part_count; i++) {
            if (self->parts[i].ours)
                self->parts[i].durable = self->parts[i].next;
        }
    }
    commit_soon(self);
    go_on_revoking(self);
}

/* What the library says. */

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque) {
    const char *tail = strstr(reason, " (after "); /* how long it took, and how often it was not said: each time another text */
    char *words = mem_text_n(reason, tail ? (size_t) (tail - reason) : strlen(reason));
    buf_t all = {0};
    if (strstr(words, "PLAINTEXT broker listener?"))
        buf_format(&all, "%s Then leave --tls and its files out", words);
    else if (strstr(words, "SSL listener?"))
        buf_format(&all, "%s Then give --tls", words);
    else if (strstr(words, "SSL handshake failed"))
        tls_put_failure(&all, words, "leave --tls and its files out");
    else
        buf_put_text(&all, words);
    unhealthy(opaque, "", buf_text(&all));
    buf_fini(&all);
    mem_free(words);
}

/* Its log is for those who look for a cause; what matters comes by on_error. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text) {
    kafka_source_t *self = rd_kafka_opaque(rk);
    buf_t words = {0};
    secrets_put_masked(&self->secrets, &words, text_of(text), 500);
    log_debug("%s: %s", facility, buf_text(&words));
    buf_fini(&words);
}

int kafka_client_open(kafka_source_t *self, err_t *err) {
    static const uint64_t one = 1;
    char why[512];
    rd_kafka_conf_t *conf;
    if (kafka_configure(self, &conf, err))
        return -1;
    rd_kafka_conf_set_opaque(conf, self);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log);
    self->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (!self->rk) {
        buf_t words = {0};
        rd_kafka_conf_destroy(conf);
        secrets_put_masked(&self->secrets, &words, text_of(why), 400);
        err_set(err, "%s: %s", self->place, buf_text(&words));
        buf_fini(&words);
        return -1;
    }
    rd_kafka_set_log_queue(self->rk, NULL);
    rd_kafka_poll_set_consumer(self->rk);
    self->queue = rd_kafka_queue_get_consumer(self->rk);
    self->side = rd_kafka_queue_new(self->rk);
    self->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->watch = self->fd < 0 ? NULL : loop_fd(self->setup.loop, self->fd, EPOLLIN, on_wake, self);
    if (!self->watch)
        return err_set(err, "no eventfd");
    rd_kafka_queue_io_event_enable(self->queue, self->fd, &one, sizeof one);
    rd_kafka_queue_io_event_enable(self->side, self->fd, &one, sizeof one);
    return 0;
}

static void subscribe(kafka_source_t *self) {
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new((int) self->topics.count);
    for (size_t i = 0; i < self->topics.count; i++)
        rd_kafka_topic_partition_list_add(topics, self->topics.items[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t err = rd_kafka_subscribe(self->rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (err)
        source_failed(self->setup.host, "%s: %s", self->place, rd_kafka_err2str(err));
}

void kafka_client_start(kafka_source_t *self) {
    self->tick = loop_timer(self->setup.loop, TICK, TICK, on_tick, self);
    if (self->grouped)
        subscribe(self);
    else
        kafka_ask(self, NULL, false);
}

/* The last commit, and the good-bye to the group; not for longer than that takes when there is somebody. */
static void say_goodbye(kafka_source_t *self) {
    int64_t end = clock_monotonic() + CLOSE_LIMIT;
    for (commit(self); self->committing && clock_monotonic() < end; commit(self)) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(self->side, 100);
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_OFFSET_COMMIT)
            take_commit(self, event);
        if (event)
            rd_kafka_event_destroy(event);
    }
    if (!self->troubled)
        rd_kafka_consumer_close(self->rk);
}

void kafka_client_close(kafka_source_t *self) {
    if (!self->rk)
        return;
    self->closing = true;
    kafka_question_free(self->question);
    self->question = NULL;
    loop_remove(self->tick);
    loop_remove(self->watch);
    loop_remove(self->commit_timer);
    loop_remove(self->revoke_timer);
    self->tick = self->watch = self->commit_timer = self->revoke_timer = NULL;
    kafka_message_leave(self);
    while (self->early_count)
        rd_kafka_message_destroy(self->early[--self->early_count]);
    if (self->revoking)
        rd_kafka_topic_partition_list_destroy(self->revoking);
    self->revoking = NULL;
    drop_assignment(self);
    if (self->grouped && self->queue)
        say_goodbye(self);
    loop_undefer(self->setup.loop, serve, self);
    if (self->queue) {
        rd_kafka_queue_io_event_enable(self->queue, -1, NULL, 0);
        rd_kafka_queue_io_event_enable(self->side, -1, NULL, 0);
        rd_kafka_queue_destroy(self->queue);
        rd_kafka_queue_destroy(self->side);
    }
    rd_kafka_destroy_flags(self->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    if (self->fd >= 0)
        close(self->fd);
}
