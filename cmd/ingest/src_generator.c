/* Source "generator:": made-up events for trials, tests and measuring. sensors: measuring devices whose values wander slowly around a
 * mean of their place, and now and then one heats up for a while. users: people who click through a shop, one session after
 * another. The same seed gives the same events. */
#include <endian.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/pack.h"
#include "source.h"

#define TICK (10 * NS_PER_MS)          /* from 100 events a second on they come in batches, one per tick */
#define ROUND_EVENTS 4096              /* at full speed: so many, then everything else gets its turn */
#define BEHIND_MAX (1 * NS_PER_S)      /* held up for longer: the rest is not made up for */
#define CATCH_UP 262144                /* events of an earlier run in a round: some milliseconds */
#define RECORD_MAX 256

typedef struct generator_settings {
    double rate;
    int64_t count;
    int64_t seed;
    int64_t sensors, users;
    char *start;
    int64_t step;
} generator_settings_t;

#define AT(field) offsetof(generator_settings_t, field)
static const option_t options[] = {
    {"rate", OPTION_NUMBER, AT(rate), "10", "N", "events per second; 0: as fast as they are taken"},
    {"count", OPTION_INT, AT(count), "0", "N", "end after so many events; 0: never", 0, INT64_MAX},
    {"seed", OPTION_INT, AT(seed), "0", "N", "the same seed gives the same events; 0: different ones each time", 0, INT64_MAX},
    {"sensors", OPTION_INT, AT(sensors), "10", "N", "how many sensors there are", 1, 1000000, .needs = "@sensors:generator:sensors"},
    {"users", OPTION_INT, AT(users), "100", "N", "how many users there are", 1, 1000000, .needs = "@users:generator:users"},
    {"start", OPTION_TEXT, AT(start), NULL, "TIME", "event time of the first event (RFC 3339); default: events happen now"},
    {"step", OPTION_DURATION, AT(step), "0", "DURATION", "with --start: time between events; default 1/rate, or 1ms at full speed", 0,
     86400 * NS_PER_S, .needs = "start"},
    {0},
};

/* xoshiro256** by D. Blackman and S. Vigna, seeded by splitmix64. */
typedef struct randomness {
    uint64_t s[4];
} randomness_t;

static void seed_randomness(randomness_t *random, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += UINT64_C(0x9E3779B97F4A7C15));
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        random->s[i] = z ^ (z >> 31);
    }
}

static inline uint64_t next_random(randomness_t *random) {
    uint64_t *s = random->s, product = s[1] * 5, result = (product << 7 | product >> 57) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

/* 0 .. limit - 1 */
static inline uint32_t below(randomness_t *random, uint32_t limit) {
    return (uint32_t) ((next_random(random) >> 32) * limit >> 32);
}

typedef struct sensor {
    int32_t mean[3], now[3];           /* temperature, humidity, pressure in hundredths */
    uint32_t heat;                     /* events that it still lasts */
    uint16_t size, at[3];              /* of the packed record, and where the three doubles stand in it */
    uint8_t record[RECORD_MAX];
} sensor_t;

typedef struct user {
    uint32_t session, events_left, page;
} user_t;

typedef struct generator {
    source_t source;
    source_setup_t setup;
    const generator_settings_t *settings;
    bool users_kind, paused;
    randomness_t random;
    sensor_t *sensors;
    user_t *users;
    uint32_t next_sensor, sessions;
    uint64_t made;                     /* events in all */
    uint64_t seed;                     /* that was used: --seed, or one of the moment */
    uint64_t behind;                   /* restored: made up to here before; the generator is brought there in rounds */
    uint64_t due_base;                 /* made when the schedule began */
    int64_t due_start;                 /* monotonic ns */
    int64_t start, step;               /* event times; start < 0: now */
    loop_watch_t *timer;
} generator_t;

static const struct place {
    const char *name;
    int32_t temperature, humidity, pressure;    /* means, hundredths */
} places[] = {
    {"warehouse_a", 1850, 5200, 101300}, {"warehouse_b", 1620, 5800, 101290}, {"office", 2230, 4300, 101320},
    {"server_room", 2680, 3500, 101310}, {"laboratory", 2100, 4600, 101330},
};
static const struct {
    int32_t step, span;                /* at most per event; of the sensors' means around their place's; hundredths */
} wander[3] = {{20, 600}, {40, 1200}, {8, 300}};
#define PULL 64                        /* of the distance to the mean, this part is taken back with each event */
#define HEAT 1000                      /* hundredths of a degree */
#define HEAT_EVENTS 300                /* how long it lasts */
#define HEAT_ONE_IN 2048               /* events */

/* Writes a double at its fixed place in a packed record. */
static void patch_double(uint8_t *out, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = htobe64(bits);
    memcpy(out, &bits, sizeof bits);
}

static void build_sensor(generator_t *self, uint32_t index) {
    static const char *const fields[3] = {"temperature", "humidity", "pressure"};
    sensor_t *sensor = &self->sensors[index];
    const struct place *place = &places[index % (sizeof places / sizeof *places)];
    const int32_t means[3] = {place->temperature, place->humidity, place->pressure};
    char id[32];
    int size = snprintf(id, sizeof id, "sensor_%04u", index + 1);
    buf_t record = {0};
    pack_map(&record, 5);
    pack_text(&record, "sensor_id");
    pack_string(&record, id, (size_t) size);
    for (int i = 0; i < 3; i++) {
        sensor->mean[i] = means[i] + (int32_t) below(&self->random, (uint32_t) wander[i].span) - wander[i].span / 2;
        sensor->now[i] = sensor->mean[i];
        pack_text(&record, fields[i]);
        sensor->at[i] = (uint16_t) (record.size + 1);
        pack_double(&record, 0.5);
    }
    pack_text(&record, "location");
    pack_text(&record, place->name);
    ASSERT(record.size <= RECORD_MAX);
    sensor->size = (uint16_t) record.size;
    memcpy(sensor->record, record.data, record.size);
    buf_fini(&record);
}

static void seed_generator(generator_t *self, uint64_t seed) {
    self->seed = seed;
    seed_randomness(&self->random, seed);
    for (uint32_t i = 0; self->sensors && i < self->settings->sensors; i++)
        build_sensor(self, i);
}

/* A step at random, drawn back the stronger the further it is away from the mean. */
static void put_sensor(generator_t *self, buf_t *out) {
    sensor_t *sensor = &self->sensors[self->next_sensor];
    if (++self->next_sensor == (uint32_t) self->settings->sensors)
        self->next_sensor = 0;
    uint64_t random = next_random(&self->random);
    if (sensor->heat)
        sensor->heat--;
    else if ((random >> 48) % HEAT_ONE_IN == 0)
        sensor->heat = HEAT_EVENTS;
    for (int i = 0; i < 3; i++) {
        int32_t step = (int32_t) ((random & 0xFFFF) * (uint32_t) (2 * wander[i].step + 1) >> 16) - wander[i].step;
        int32_t goal = sensor->mean[i] + (i == 0 && sensor->heat ? HEAT : 0);
        random >>= 16;
        sensor->now[i] += step - (sensor->now[i] - goal) / PULL;
        patch_double(sensor->record + sensor->at[i], sensor->now[i] / 100.0);
    }
    buf_put(out, sensor->record, sensor->size);
}

static const char *const pages[] = {"/", "/products", "/products/lamp", "/products/chair", "/products/desk", "/cart", "/checkout", "/account", "/help"};
static const struct { const char *name; uint32_t share, value_low, value_high; } actions[] = {
    /* value: seconds on the page, position clicked, results found, or the price; in hundredths */
    {"page_view", 550, 100, 12000}, {"click", 220, 100, 2000}, {"search", 90, 0, 5000}, {"add_to_cart", 80, 499, 29900},
    {"purchase", 60, 999, 59900},
};

static void put_user(generator_t *self, buf_t *out) {
    uint32_t index = below(&self->random, (uint32_t) self->settings->users);
    user_t *user = &self->users[index];
    const char *action;
    double value = 0;
    if (!user->session) {
        user->session = ++self->sessions;
        user->events_left = 3 + below(&self->random, 20);
        user->page = 0;
        action = "login";
    } else if (user->events_left == 0) {
        action = "logout";
    } else {
        uint32_t roll = below(&self->random, 1000), a = 0;
        while (roll >= actions[a].share)
            roll -= actions[a++].share;
        action = actions[a].name;
        value = (actions[a].value_low + below(&self->random, actions[a].value_high - actions[a].value_low + 1)) / 100.0;
        user->page = a == 3 ? 5 : a == 4 ? 6 : below(&self->random, sizeof pages / sizeof *pages);
    }
    char id[32], session[32];
    int id_size = snprintf(id, sizeof id, "user_%04u", index + 1);
    int session_size = snprintf(session, sizeof session, "s%08u", user->session);
    pack_map(out, 5);
    pack_text(out, "user_id");
    pack_string(out, id, (size_t) id_size);
    pack_text(out, "event_type");
    pack_text(out, action);
    pack_text(out, "page");
    pack_text(out, pages[user->page]);
    pack_text(out, "session_id");
    pack_string(out, session, (size_t) session_size);
    pack_text(out, "value");
    pack_double(out, value);
    if (user->events_left == 0)
        user->session = 0;
    else
        user->events_left--;
}

static bool complete(const generator_t *self) {
    return self->settings->count && self->made >= (uint64_t) self->settings->count;
}

static void put_record(generator_t *self, buf_t *out) {
    if (self->users_kind)
        put_user(self, out);
    else
        put_sensor(self, out);
}

/* Makes up to `events`; fewer when the outputs are full or the end is reached. */
static void make(generator_t *self, uint64_t events) {
    source_host_t *host = self->setup.host;
    for (; events && !self->paused && !complete(self); events--) {
        put_record(self, &source_begin(host)->body);
        int64_t time = self->start + (int64_t) self->made * self->step;
        self->made++;
        if (self->start < 0)
            source_commit(host);
        else
            source_commit_at(host, time);
    }
    if (!self->paused && complete(self)) {
        self->paused = true;
        source_ended(host);
    }
}

static void begin_schedule(generator_t *self);

/* Makes the events of an earlier run once more, for nobody: so everything stands where it stood. True: it is so. */
static bool catch_up(generator_t *self) {
    buf_t scratch = {0};
    for (int i = 0; i < CATCH_UP && self->made < self->behind; i++, self->made++) {
        buf_clear(&scratch);
        put_record(self, &scratch);
    }
    buf_fini(&scratch);
    return self->made >= self->behind;
}

static void on_catch_up(void *argument) {
    generator_t *self = argument;
    if (!catch_up(self))
        loop_defer(self->setup.loop, on_catch_up, self);
    else if (!self->paused)
        begin_schedule(self);
}

static void on_turn(void *argument) {
    generator_t *self = argument;
    make(self, ROUND_EVENTS);
    if (!self->paused)
        loop_defer(self->setup.loop, on_turn, self);
}

/* How many are due by the clock and not yet made. */
static void on_tick(void *argument) {
    generator_t *self = argument;
    double rate = self->settings->rate;
    int64_t now = clock_monotonic();
    double due = floor((double) (now - self->due_start) * rate / 1e9 + 1e-6) + 1;
    double missing = due - (double) (self->made - self->due_base);
    if (missing > rate * (BEHIND_MAX / 1e9) + 1) {
        missing = rate * (BEHIND_MAX / 1e9) + 1;
        self->due_start = now - BEHIND_MAX;
        self->due_base = self->made;
    }
    if (missing >= 1)
        make(self, (uint64_t) missing);
}

static void begin_schedule(generator_t *self) {
    double rate = self->settings->rate;
    if (self->made < self->behind) {
        loop_defer(self->setup.loop, on_catch_up, self);
        return;
    }
    if (rate == 0) {
        loop_defer(self->setup.loop, on_turn, self);
        return;
    }
    int64_t interval = rate > 1e9 / TICK ? TICK : (int64_t) (1e9 / rate);
    self->due_start = clock_monotonic();
    self->due_base = self->made;
    self->timer = loop_timer(self->setup.loop, 0, interval, on_tick, self);
}

static int generator_start(source_t *source, err_t *err) {
    generator_t *self = (generator_t *) source;
    source_patient(self->setup.host);
    source_healthy(self->setup.host);
    begin_schedule(self);
    return 0;
}

static void generator_pause(source_t *source) {
    generator_t *self = (generator_t *) source;
    self->paused = true;
    loop_remove(self->timer);
    self->timer = NULL;
}

static void generator_resume(source_t *source) {
    generator_t *self = (generator_t *) source;
    self->paused = false;
    begin_schedule(self);
}

static void generator_position(const source_t *source, buf_t *out) {
    const generator_t *self = (const generator_t *) source;
    const generator_settings_t *settings = self->settings;
    pack_map(out, 4);
    pack_text(out, "kind");
    pack_text(out, self->setup.rest);
    pack_text(out, "seed");
    pack_uint(out, self->seed);
    pack_text(out, "things");
    pack_int(out, self->users_kind ? settings->users : settings->sensors);
    pack_text(out, "made");
    pack_uint(out, self->made < self->behind ? self->behind : self->made);
}

static bool get_uint(const uint8_t *bytes, size_t size, const char *name, uint64_t *number) {
    value_t value;
    if (!pack_map_get(bytes, size, text_of(name), &value))
        return false;
    *number = value.unsigned_integer;
    return value.type == VALUE_UINT || (value.type == VALUE_INT && value.integer >= 0);
}

static int generator_restore(source_t *source, const uint8_t *position, size_t size, err_t *err) {
    generator_t *self = (generator_t *) source;
    const generator_settings_t *settings = self->settings;
    value_t kind;
    uint64_t seed, things, made, have = (uint64_t) (self->users_kind ? settings->users : settings->sensors);
    if (!pack_map_get(position, size, text_of("kind"), &kind) || kind.type != VALUE_STRING || !get_uint(position, size, "seed", &seed) ||
        !get_uint(position, size, "things", &things) || !get_uint(position, size, "made", &made))
        return err_set(err, "the stored position is none of a generator");
    if (!text_is(text_make(kind.text, kind.size), self->setup.rest))
        return err_set(err, "it was made for generator:%.*s", (int) (kind.size < 40 ? kind.size : 40), kind.text);
    if (things != have)
        return err_set(err, "it was made with --%s %llu", self->setup.rest, (unsigned long long) things);
    if (settings->seed && seed != (uint64_t) settings->seed)
        return err_set(err, "it was made with --seed %llu", (unsigned long long) seed);
    seed_generator(self, seed);
    self->behind = made;
    return 0;
}

static void generator_free(source_t *source) {
    generator_t *self = (generator_t *) source;
    loop_undefer(self->setup.loop, on_turn, self);
    loop_undefer(self->setup.loop, on_catch_up, self);
    loop_remove(self->timer);
    mem_free(self->sensors);
    mem_free(self->users);
    mem_free(self);
}

static const source_class_t class = {
    .start = generator_start,
    .pause = generator_pause,
    .resume = generator_resume,
    .position = generator_position,
    .restore = generator_restore,
    .free = generator_free,
};

static int generator_check(const source_setup_t *setup, err_t *err) {
    static const char *const kinds[] = {"sensors", "users"};
    const generator_settings_t *settings = setup->settings;
    int64_t start;
    if (strcmp(setup->rest, kinds[0]) != 0 && strcmp(setup->rest, kinds[1]) != 0) {
        const char *nearest = text_nearest(setup->rest, kinds, 2);
        return err_set(err, "%s: there is no such generator%s%s%s; there are generator:sensors and generator:users", setup->url,
                       nearest ? "; did you mean generator:" : "", nearest ? nearest : "", nearest ? "?" : "");
    }
    if (!(settings->rate >= 0 && settings->rate <= 1e9))
        return err_set(err, "--rate %g: takes 0 (full speed) to 1e9 events per second", settings->rate);
    if (settings->rate > 0 && settings->rate < 1e-5)
        return err_set(err, "--rate %g: takes at least 0.00001 events per second (one a day), or 0 for full speed", settings->rate);
    if (settings->start && (!clock_parse(text_of(settings->start), &start) || start < 0))
        return err_set(err, "--start %s: takes a time such as 2026-01-01T00:00:00Z", settings->start);
    return 0;
}

static int generator_open(source_t **source, const source_setup_t *setup, err_t *err) {
    generator_t *self = mem_zero(sizeof *self);
    const generator_settings_t *settings = setup->settings;
    self->source.class = &class;
    self->setup = *setup;
    self->settings = settings;
    self->users_kind = strcmp(setup->rest, "users") == 0;
    self->start = -1;
    if (settings->start)
        clock_parse(text_of(settings->start), &self->start);
    self->step = settings->step ? settings->step : settings->rate > 0 ? (int64_t) (1e9 / settings->rate) : NS_PER_MS;
    if (self->users_kind)
        self->users = mem_zero((size_t) settings->users * sizeof *self->users);
    else
        self->sensors = mem_zero((size_t) settings->sensors * sizeof *self->sensors);
    seed_generator(self, settings->seed ? (uint64_t) settings->seed : (uint64_t) clock_now());
    *source = &self->source;
    return 0;
}

static const char *generator_stream(const source_setup_t *setup, buf_t *space) {
    return setup->rest;
}

static int generator_holds(const source_setup_t *setup, text_t name, text_t value) {
    return text_is(name, "sensors") || text_is(name, "users") ? text_is(name, setup->rest) : -1;
}

const source_driver_t source_generator = {
    .name = "generator",
    .schemes = {"generator"},
    .types = {{"generator", NULL}, {"sensors", "generator:sensors"}, {"users", "generator:users"}},
    .usage = "generator:sensors, generator:users",
    .help = "made-up events: measurements of sensors, or clicks of a shop's users",
    .options = options,
    .settings_size = sizeof(generator_settings_t),
    .query = true,
    .formats = "",
    .holds = generator_holds,
    .stream = generator_stream,
    .check = generator_check,
    .open = generator_open,
};
