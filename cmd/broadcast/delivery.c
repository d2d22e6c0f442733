/* Frames on their way to sinks, per sender: the ledger's entry of each once every sink has answered, how far that and each sink
 * has come, and the acknowledgement. What may still be taken back is kept from the sinks that cannot take anything back. */
#include "delivery.h"

#include <string.h>

#include "base/memory.h"

bool reached_covers(reached_t reached, const frame_t *frame) {
    if (reached.epoch == frame->epoch)
        return frame->sequence <= reached.number;
    bool known;
    uint64_t common = frame_common(frame->past, frame->past_count, reached.epoch, &known);
    return known && frame->sequence <= reached.number && frame->sequence <= common;
}

deliveries_t *deliveries_new(stage_t *stage, unsigned sinks) {
    deliveries_t *all = mem_zero(sizeof *all);
    all->stage = stage;
    all->sinks = sinks;
    return all;
}

static void origin_free(origin_t *origin) {
    mem_free(origin->key);
    mem_free(origin->name);
    mem_free(origin->sinks);
    mem_free(origin->runs);
    mem_free(origin);
}

/* Rather one that has ended than one that has not, rather one of former times than a present one. */
static void forget_one(deliveries_t *all) {
    unsigned worst = all->count;
    for (unsigned i = 0; i < all->count; i++) {
        const origin_t *origin = all->origins[i], *other = worst < all->count ? all->origins[worst] : NULL;
        if (origin->first)
            continue;
        bool over = origin->ended || !origin->seen, other_over = other && (other->ended || !other->seen);
        if (!other || (over && !other_over) || (over == other_over && origin->used < other->used))
            worst = i;
    }
    if (worst == all->count)
        return; /* all are at work; what they have under way bounds them */
    origin_free(all->origins[worst]);
    all->origins[worst] = all->origins[--all->count];
    all->last = NULL;
}

static origin_t *find_origin(const deliveries_t *all, unsigned input, const char *key, const char *name) {
    for (unsigned i = 0; i < all->count; i++) {
        origin_t *origin = all->origins[i];
        if (origin->input == input && strcmp(origin->name, name) == 0 &&
            (input != ORIGIN_AWAY || strcmp(origin->key, key) == 0))
            return origin;
    }
    return NULL;
}

origin_t *deliveries_origin(deliveries_t *all, unsigned input, const char *key, const char *name) {
    origin_t *origin = find_origin(all, input, key, name);
    if (origin)
        return origin;
    if (all->count >= ORIGINS_MAX)
        forget_one(all);
    if (all->count == all->room) {
        all->room = all->room ? 2 * all->room : 8;
        all->origins = mem_resize(all->origins, all->room * sizeof *all->origins);
    }
    origin = mem_zero(sizeof *origin);
    origin->input = input;
    origin->key = mem_text(key);
    origin->name = mem_text(name);
    origin->sinks = mem_zero((all->sinks + 1) * sizeof *origin->sinks);
    all->origins[all->count++] = origin;
    return origin;
}

static origin_t *origin_of(deliveries_t *all, unsigned input, const frame_t *frame) {
    origin_t *origin = all->last;
    if (!origin || origin->input != input || strcmp(origin->name, frame->origin) != 0) {
        origin = find_origin(all, input, "", frame->origin);
        if (!origin)
            origin = deliveries_origin(all, input, all->by_progress ? stage_input_key(all->stage, input) : "", frame->origin);
        all->last = origin;
    }
    origin->used = ++all->clock;
    origin->seen = true;
    return origin;
}

/* The first frames after a restart: what became of them at sinks that will not see them again. */
static void recall(delivery_t *delivery) {
    const origin_t *origin = delivery->origin;
    uint64_t number = delivery->frame->sequence;
    for (size_t i = 0; i < origin->run_count; i++) {
        const odd_run_t *run = &origin->runs[i];
        if (number >= run->first && number <= run->last) {
            delivery->outcome = run->outcome;
            delivery->dead = run->dead < delivery->frame->events ? run->dead : delivery->frame->events;
            return;
        }
    }
}

void origin_recall_dead(origin_t *origin, uint64_t number) {
    for (size_t i = 0; i < origin->run_count; i++) {
        odd_run_t *run = &origin->runs[i];
        if (run->first == number && run->last == number) {
            run->dead++;
            return;
        }
    }
    origin->runs = mem_resize(origin->runs, (origin->run_count + 1) * sizeof *origin->runs);
    memmove(origin->runs + 1, origin->runs, origin->run_count * sizeof *origin->runs); /* found before those of a longer run */
    origin->runs[0] = (odd_run_t){number, number, 1, OUTCOME_OUT};
    origin->run_count++;
}

static bool is_stable(const origin_t *origin, const frame_t *frame) {
    return frame->epoch <= origin->stable.epoch && frame->sequence <= origin->stable.number;
}

static void mark_odd(delivery_t *delivery) {
    bool odd = delivery->dead || delivery->outcome == OUTCOME_DROPPED;
    if (odd && !delivery->odd) {
        delivery->odd = true;
        delivery->origin->odd++;
    }
}

delivery_t *delivery_begin(deliveries_t *all, unsigned input, frame_t *frame) {
    origin_t *origin = origin_of(all, input, frame);
    delivery_t *delivery = all->spare;
    if (delivery)
        all->spare = delivery->next;
    else
        delivery = mem_alloc(sizeof *delivery);
    *delivery = (delivery_t){.frame = frame_ref(frame), .origin = origin, .first = frame->sequence, .last = {frame->epoch, frame->sequence},
                             .events = frame->events, .size = frame->body_size, .end = frame->end, .waiting = 1, .previous = origin->last};
    if (origin->last)
        origin->last->next = delivery;
    else
        origin->first = delivery;
    origin->last = delivery;
    all->stage->ledger.held += frame->events;
    if (origin->run_count) {
        recall(delivery);
        mark_odd(delivery);
    }
    if (frame->has_stable)
        origin_stable(origin, frame->epoch, frame->stable);
    delivery->stable = !all->by_progress || (!origin->unstable && (!frame->has_stable || is_stable(origin, frame)));
    if (!delivery->stable) {
        delivery->waiting++;
        origin->unstable_bytes += delivery->size;
        if (!origin->unstable) {
            origin->unstable = delivery;
            all->unstable++;
        }
    }
    return delivery;
}

bool delivery_had(const delivery_t *delivery, unsigned sink) {
    const origin_t *origin = delivery->origin;
    return origin->name[0] && reached_covers(origin->sinks[sink], delivery->frame);
}

void origin_stable(origin_t *origin, uint64_t epoch, uint64_t number) {
    reached_t *stable = &origin->stable;
    if (epoch > stable->epoch || (epoch == stable->epoch && number > stable->number))
        *stable = (reached_t){epoch, number};
}

static uint64_t share(const deliveries_t *all, const origin_t *origin, uint64_t limit) {
    return limit / (all->unstable + !origin->unstable);
}

bool deliveries_room(deliveries_t *all, unsigned input, const frame_t *frame, uint64_t limit) {
    origin_t *origin = origin_of(all, input, frame);
    origin->refused = frame->has_stable && origin->unstable && origin->unstable_bytes + frame->body_size > share(all, origin, limit);
    return !origin->refused;
}

bool deliveries_wanted(const deliveries_t *all, origin_t *origin, uint64_t limit) {
    if (!origin->refused || (origin->unstable && origin->unstable_bytes > share(all, origin, limit) / 2))
        return false;
    origin->refused = false;
    return true;
}

delivery_t *origin_next_stable(deliveries_t *all, origin_t *origin) {
    delivery_t *delivery = origin->unstable;
    if (!delivery || (delivery->frame->has_stable && !is_stable(origin, delivery->frame)))
        return NULL;
    delivery->stable = true;
    origin->unstable_bytes -= delivery->size;
    origin->unstable = delivery->next;
    all->unstable -= !origin->unstable;
    return delivery;
}

void delivery_hold(delivery_t *delivery) {
    delivery->waiting++;
}

void delivery_answered(deliveries_t *all, delivery_t *delivery, unsigned sink, uint32_t dead) {
    if (dead > delivery->dead) {
        delivery->dead = dead;
        mark_odd(delivery);
    }
    delivery->origin->sinks[sink] = (reached_t){delivery->frame->epoch, delivery->frame->sequence};
    all->moved = true;
}

/* Each event once: dead, or as the worst of the other sinks did. */
static void enter(struct stage_ledger *ledger, const delivery_t *delivery) {
    uint64_t events = delivery->events, rest = events - delivery->dead;
    ledger->held -= events;
    ledger->dead += delivery->dead;
    switch ((outcome_t) delivery->outcome) {
        case OUTCOME_FILTERED: ledger->filtered += rest; break;
        case OUTCOME_OUT: ledger->out += rest; break;
        case OUTCOME_DROPPED: ledger->dropped += rest; break;
    }
}

static void take_out(deliveries_t *all, delivery_t *delivery) {
    origin_t *origin = delivery->origin;
    *(delivery->previous ? &delivery->previous->next : &origin->first) = delivery->next;
    *(delivery->next ? &delivery->next->previous : &origin->last) = delivery->previous;
    origin->odd -= delivery->odd;
    frame_unref(delivery->frame);
    delivery->next = all->spare;
    all->spare = delivery;
}

static void settle(deliveries_t *all, delivery_t *done) {
    origin_t *origin = done->origin;
    enter(&all->stage->ledger, done);
    origin->done = done->last;
    origin->ended |= done->end;
    while (origin->run_count && done->last.number >= origin->runs[origin->run_count - 1].last)
        origin->run_count--;
    if (!all->by_progress) {
        frame_t last;
        last.epoch = done->last.epoch;
        last.sequence = done->last.number;
        memcpy(last.origin, origin->name, strlen(origin->name) + 1);
        stage_durable(all->stage, origin->input, &last);
    }
    all->moved = true;
    all->bytes += done->size;
    take_out(all, done);
}

/* Frames that went the same way, one behind the other, become one entry. */
static void join(deliveries_t *all, delivery_t *a, delivery_t *b) {
    if (!a || !b || a->waiting || b->waiting || a->outcome != b->outcome || a->dead || b->dead || a->end || a->last.epoch != b->last.epoch ||
        a->last.number + 1 != b->first)
        return;
    a->last = b->last;
    a->events += b->events;
    a->size += b->size;
    a->end = b->end;
    take_out(all, b);
}

void delivery_done(deliveries_t *all, delivery_t *delivery, outcome_t outcome) {
    ASSERT(delivery->waiting > 0);
    if (outcome > delivery->outcome) {
        delivery->outcome = (uint8_t) outcome;
        mark_odd(delivery);
    }
    if (--delivery->waiting)
        return;
    origin_t *origin = delivery->origin;
    if (origin->first != delivery) { /* one that cannot go on may be before it for long */
        frame_unref(delivery->frame);
        delivery->frame = NULL;
        join(all, delivery, delivery->next);
        join(all, delivery->previous, delivery);
        return;
    }
    while (origin->first && !origin->first->waiting)
        settle(all, origin->first);
}

bool deliveries_ended(const deliveries_t *all) {
    bool any = false;
    for (unsigned i = 0; i < all->count; i++) {
        const origin_t *origin = all->origins[i];
        if (!origin->seen)
            continue;
        any = true;
        if (!origin->ended && !(origin->last && origin->last->end) && !stage_input_replaced(all->stage, origin->input, origin->name))
            return false;
    }
    return any;
}

static void free_chain(delivery_t *delivery, bool with_frames) {
    while (delivery) {
        delivery_t *next = delivery->next;
        if (with_frames)
            frame_unref(delivery->frame);
        mem_free(delivery);
        delivery = next;
    }
}

void deliveries_free(deliveries_t *all) {
    if (!all)
        return;
    for (unsigned i = 0; i < all->count; i++) {
        free_chain(all->origins[i]->first, true);
        origin_free(all->origins[i]);
    }
    free_chain(all->spare, false);
    mem_free(all->origins);
    mem_free(all);
}
