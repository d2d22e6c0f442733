/* From a configuration to processes: one ingest per source, one process per pipeline and worker, one broadcast, one façade; and an
 * acknowledged ipc link of its own for each edge, named after its two ends. */
#include "topology.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/memory.h"
#include "base/text.h"

const char *const topology_role_names[4] = {"source", "pipeline", "broadcast", "server"};
const char *const topology_tool_names[4] = {"ingest", "process", "broadcast", "facade"};

/* An ipc path holds 107 bytes; the link adds endings of its own for acknowledgements, locks and partitions. */
#define LINK_PATH_MAX (107 - 12)
#define BYTES_PER_EVENT 1024          /* what buffer_size counts an event as */
#define WINDOW_MIN 65536

typedef struct builder {
    topology_t *topology;
    const config_t *config;
    map_t *paths;                     /* of links, so that none is given twice */
} builder_t;

static topology_stage_t *add_stage(builder_t *builder, topology_role_t role, const char *group, int64_t worker) {
    topology_t *topology = builder->topology;
    topology_stage_t *stage = &topology->stages[topology->count++];
    stage->name = worker < 0 ? mem_text(group) : mem_format("%s.%lld", group, (long long) worker);
    stage->group = mem_text(group);
    stage->role = role;
    stage->autostart = true;
    stage->settings = json_object();
    stage->metrics = mem_format("%s/%s.metrics", topology->run_dir, stage->name);
    stage->log = mem_format("%s/%s.log", topology->run_dir, stage->name);
    if (builder->config->state_dir && role != ROLE_SERVER)
        stage->state = mem_format("%s/%s", builder->config->state_dir, stage->name);
    return stage;
}

static void set_text(json_t *settings, const char *key, const char *value) {
    json_object_set_new(settings, key, json_string(value));
}

/* What every tool is told: its name, where its numbers go, how much to log. */
static void set_common(const builder_t *builder, topology_stage_t *stage) {
    set_text(stage->settings, "name", stage->role == ROLE_SERVER ? builder->config->name : stage->group);
    set_text(stage->settings, "metrics", stage->metrics);
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    set_text(stage->settings, "log_level", levels[builder->config->log_level]);
}

static void set_duration(json_t *settings, const char *key, int64_t ns) {
    buf_t text = {0};
    text_put_duration(&text, ns);
    set_text(settings, key, buf_text(&text));
    buf_fini(&text);
}

/* delivery's dead_letter is a directory; each stage writes a file of its own there. A stage with state has one beside it. */
static void set_dead_letter(const builder_t *builder, topology_stage_t *stage) {
    const char *directory = json_string_value(json_object_get(builder->config->delivery, "dead_letter"));
    if (!directory && !stage->state)
        return;
    char *file = directory ? mem_format("%s/%s.ndjson", directory, stage->name) : mem_format("%s/dead.ndjson", stage->state);
    set_text(stage->settings, "dead_letter", file);
    mem_free(file);
}

/* Whether delivery's option is one of the stage's: each tool has what it has a use for. */
static bool takes(const topology_stage_t *stage, const char *key) {
    if (text_starts(key, "dead"))
        return strcmp(key, "dead_letter") != 0;      /* a directory there, a file here */
    if (strcmp(key, "snapshot") == 0)
        return stage->role == ROLE_PIPELINE;
    return stage->role != ROLE_BROADCAST || text_starts(key, "sync");
}

/* Options of delivery and stream_config; what the stage itself was given comes later and wins. */
static void set_delivery(const builder_t *builder, topology_stage_t *stage, bool sends) {
    const config_t *config = builder->config;
    json_t *settings = stage->settings;
    set_duration(settings, "drain_limit", config->limits.drain);
    if (sends && config->stream.batch_size)
        json_object_set_new(settings, "batch_size", json_integer(config->stream.batch_size));
    if (sends && config->stream.buffer_size) {
        int64_t window = config->stream.buffer_size * BYTES_PER_EVENT;
        json_object_set_new(settings, "window", json_integer(window < WINDOW_MIN ? WINDOW_MIN : window));
    }
    const char *key;
    json_t *value;
    json_object_foreach(config->delivery, key, value)
        if (takes(stage, key))
            json_object_set(settings, key, value);
    if (config->limits.memory)
        json_object_set_new(settings, "memory", json_integer((json_int_t) config->limits.memory));
    if (stage->state)
        set_text(settings, "state", stage->state);
    set_dead_letter(builder, stage);
}

/* Later settings win whatever their spelling: "batch-size" takes the place of "batch_size". */
static void merge(json_t *settings, const json_t *more) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *) more, key, value) {
        char *plain = mem_text(key);
        for (char *c = plain; *c; c++)
            *c = (char) (*c == '-' ? '_' : *c);
        json_object_set(settings, plain, value);
        mem_free(plain);
    }
}

/* What a stage says of itself, over what delivery says to all: an interval is of no use to one that syncs otherwise. */
static void merge_own(json_t *settings, const json_t *own) {
    merge(settings, own);
    const char *sync = json_string_value(json_object_get(settings, "sync"));
    if (sync && strcmp(sync, "interval") != 0 && !json_object_get(own, "sync_interval") && !json_object_get(own, "sync-interval"))
        json_object_del(settings, "sync_interval");
}

json_t *topology_source_settings(const config_t *config, const config_source_t *source) {
    topology_stage_t stage = {.name = source->name, .role = ROLE_SOURCE, .settings = json_object()};
    const builder_t builder = {.config = config};
    if (config->state_dir)
        stage.state = mem_format("%s/%s", config->state_dir, source->name);
    set_delivery(&builder, &stage, true);
    merge_own(stage.settings, source->settings);
    mem_free(stage.state);
    return stage.settings;
}

static unsigned hash_of(const char *a, const char *b) {
    unsigned hash = 2166136261u;
    for (; *a; a++)
        hash = (hash ^ (unsigned char) *a) * 16777619u;
    hash = (hash ^ '\n') * 16777619u;
    for (; *b; b++)
        hash = (hash ^ (unsigned char) *b) * 16777619u;
    return hash;
}

/* RUN/l/FROM-TO, or a hash in its place when that is too long or means two things ("a-b" to "c", "a" to "b-c"). */
static char *link_path(builder_t *builder, const char *from, const char *to) {
    const char *run = builder->topology->run_dir;
    char *path = mem_format("%s/l/%s-%s", run, from, to);
    unsigned hash = hash_of(from, to);
    while (strlen(path) > LINK_PATH_MAX || map_get(builder->paths, text_of(path))) {
        mem_free(path);
        path = mem_format("%s/l/%08x", run, hash++);
        if (strlen(path) > LINK_PATH_MAX)
            break;
    }
    map_put(builder->paths, text_of(path), builder);
    return path;
}

static void put_encoded(buf_t *out, const char *text) {
    for (; *text; text++) {
        if (isalnum((unsigned char) *text) || strchr("_.-", *text))
            buf_put_byte(out, (uint8_t) *text);
        else
            buf_format(out, "%%%02X", (unsigned char) *text);
    }
}

static void append(json_t *settings, const char *key, const char *value) {
    json_t *list = json_object_get(settings, key);
    if (!list)
        json_object_set_new(settings, key, list = json_array());
    json_array_append_new(list, json_string(value));
}

static void add_index(size_t **list, size_t *count, size_t index) {
    *list = mem_resize(*list, (*count + 1) * sizeof **list);
    (*list)[(*count)++] = index;
}

static void connect_stages(topology_t *topology, size_t from, size_t to) {
    add_index(&topology->stages[from].outputs, &topology->stages[from].output_count, to);
    add_index(&topology->stages[to].inputs, &topology->stages[to].input_count, from);
}

/* "?partitions=2&key=device" for several workers. */
static void put_split(buf_t *split, size_t workers, const char *key) {
    if (workers > 1) {
        buf_format(split, "?partitions=%zu", workers);
        if (key) {
            buf_put_text(split, "&key=");
            put_encoded(split, key);
        }
    }
}

char *topology_side_link(const topology_stage_t *stage) {
    buf_t split = {0};
    put_split(&split, stage->workers, stage->key);
    char *link = mem_format(">ipc://%s%s", stage->side, buf_text(&split));
    buf_fini(&split);
    return link;
}

char *topology_sink_side_link(const char *path) {
    return mem_format(">ipc://%s", path);
}

/* One stage to the workers (or the only process) of a group: one endpoint here, one there for each. */
static void add_edge(builder_t *builder, size_t from, size_t first, size_t workers, const char *key) {
    topology_t *topology = builder->topology;
    char *path = link_path(builder, topology->stages[from].name, topology->stages[first].group);
    buf_t split = {0};
    put_split(&split, workers, key);
    char *sender = mem_format("@ipc://%s%s", path, buf_text(&split));
    append(topology->stages[from].settings, "to", sender);
    for (size_t i = 0; i < workers; i++) {
        char *receiver = workers > 1 ? mem_format(">ipc://%s?partition=%zu", path, i) : mem_format(">ipc://%s", path);
        append(topology->stages[first + i].settings, "from", receiver);
        connect_stages(topology, from, first + i);
        mem_free(receiver);
    }
    mem_free(sender);
    buf_fini(&split);
    mem_free(path);
}

/* With state: a link of its own, which nobody sends on until dead letters are sent again. Here the receivers bind. */
static void add_side(builder_t *builder, size_t first, size_t workers, const char *key) {
    topology_t *topology = builder->topology;
    if (!topology->stages[first].state)
        return;
    char *path = link_path(builder, "replay", topology->stages[first].group);
    for (size_t i = 0; i < workers; i++) {
        topology_stage_t *stage = &topology->stages[first + i];
        char *receiver = workers > 1 ? mem_format("@ipc://%s?partition=%zu", path, i) : mem_format("@ipc://%s", path);
        append(stage->settings, "side", receiver);
        stage->side = mem_text(path);
        stage->workers = workers;
        stage->key = mem_text(key);
        mem_free(receiver);
    }
    mem_free(path);
}

/* Every stage of the group `name` to the given workers. */
static void add_edges(builder_t *builder, const char *name, size_t first, size_t workers, const char *key) {
    for (size_t i = 0; i < builder->topology->count; i++)
        if (strcmp(builder->topology->stages[i].group, name) == 0)
            add_edge(builder, i, first, workers, key);
}

static void add_sources(builder_t *builder) {
    for (size_t i = 0; i < builder->config->source_count; i++) {
        const config_source_t *source = &builder->config->sources[i];
        topology_stage_t *stage = add_stage(builder, ROLE_SOURCE, source->name, -1);
        stage->type = mem_text(source->type);
        stage->autostart = source->autostart;
        stage->takes_interval = source->takes_interval;
        set_common(builder, stage);
        set_delivery(builder, stage, true);
        merge_own(stage->settings, source->settings);
    }
}

/* Alerts and latecomers of these pipelines reach broadcast by themselves: those who read them need not pass them on. */
static bool all_published(const config_t *config, const option_list_t *from) {
    for (size_t i = 0; i < config->pipeline_count; i++)
        for (size_t j = 0; j < from->count; j++)
            if (!config->pipelines[i].publish && strcmp(config->pipelines[i].name, from->items[j]) == 0)
                return false;
    return true;
}

static void add_workers(builder_t *builder, const config_pipeline_t *pipeline) {
    size_t first = builder->topology->count, workers = (size_t) pipeline->workers;
    for (size_t i = 0; i < workers; i++) {
        topology_stage_t *stage = add_stage(builder, ROLE_PIPELINE, pipeline->name, workers > 1 ? (int64_t) i : -1);
        set_common(builder, stage);
        set_delivery(builder, stage, true);
        if (all_published(builder->config, &pipeline->from))
            set_text(stage->settings, "others", "drop");
        merge_own(stage->settings, pipeline->settings);
        set_text(stage->settings, "program", pipeline->program);
    }
    for (size_t i = 0; i < pipeline->from.count; i++)
        add_edges(builder, pipeline->from.items[i], first, workers, pipeline->key);
    add_side(builder, first, workers, pipeline->key);
}

/* Pipelines in such an order that each comes after what it reads; the configuration has no circles. */
static void add_pipelines(builder_t *builder) {
    const config_t *config = builder->config;
    bool *done = mem_zero(config->pipeline_count + 1);
    for (size_t left = config->pipeline_count; left;) {
        size_t before = left;
        for (size_t i = 0; i < config->pipeline_count; i++) {
            bool ready = !done[i];
            for (size_t f = 0; ready && f < config->pipelines[i].from.count; f++)
                for (size_t p = 0; ready && p < config->pipeline_count; p++)
                    ready = done[p] || strcmp(config->pipelines[p].name, config->pipelines[i].from.items[f]) != 0;
            if (!ready)
                continue;
            add_workers(builder, &config->pipelines[i]);
            done[i] = true;
            left--;
        }
        ASSERT(left < before);
    }
    mem_free(done);
}

/* What a sink refused goes to this sink only when it is sent again. */
static json_t *sink_with_side(builder_t *builder, topology_stage_t *stage, size_t index) {
    const config_sink_t *sink = &builder->config->sinks[index];
    json_t *settings = json_copy(sink->settings);
    if (!stage->state)
        return settings;
    if (!stage->sink_sides)
        stage->sink_sides = mem_zero((builder->config->sink_count + 1) * sizeof *stage->sink_sides);
    stage->sink_sides[index] = link_path(builder, "replay-broadcast", sink->name);
    char *link = mem_format("@ipc://%s", stage->sink_sides[index]);
    append(stage->settings, "side", link);
    set_text(settings, "replay", link);
    mem_free(link);
    return settings;
}

static void add_broadcast(builder_t *builder) {
    const config_t *config = builder->config;
    size_t index = builder->topology->count;
    topology_stage_t *stage = add_stage(builder, ROLE_BROADCAST, "broadcast", -1);
    set_common(builder, stage);
    set_delivery(builder, stage, false);
    char *pub = mem_format("pub+ipc://%s/pub", builder->topology->run_dir);
    set_text(stage->settings, "pub", pub);
    mem_free(pub);
    json_t *sinks = json_array();
    add_side(builder, index, 1, NULL);
    for (size_t i = 0; i < config->sink_count; i++)
        json_array_append_new(sinks, sink_with_side(builder, stage, i));
    if (config->sink_count)
        json_object_set(stage->settings, "sinks", sinks);
    json_decref(sinks);
    for (size_t i = 0; i < config->source_count; i++)
        if (config->sources[i].publish)
            add_edges(builder, config->sources[i].name, index, 1, NULL);
    for (size_t i = 0; i < config->pipeline_count; i++)
        if (config->pipelines[i].publish)
            add_edges(builder, config->pipelines[i].name, index, 1, NULL);
}

static void add_server(builder_t *builder) {
    const config_t *config = builder->config;
    const char *run = builder->topology->run_dir;
    topology_stage_t *stage = add_stage(builder, ROLE_SERVER, "facade", -1);
    set_common(builder, stage);
    json_t *settings = stage->settings;
    char *control = mem_format("%s/control.sock", run), *pub = mem_format("pub+ipc://%s/pub", run);
    set_text(settings, "run_dir", run);
    set_text(settings, "control", control);
    set_text(settings, "pub", pub);
    set_text(settings, "listen", config->server.listen);
    json_object_set_new(settings, "port", json_integer(config->server.port));
    if (config->server.token)
        set_text(settings, "token", config->server.token);
    for (size_t i = 0; i < config->server.origins.count; i++)
        append(settings, "origins", config->server.origins.items[i]);
    if (config->stream.max_connections)
        json_object_set_new(settings, "max_connections", json_integer(config->stream.max_connections));
    if (config->stream.processing_interval)
        set_duration(settings, "interval", config->stream.processing_interval);
    json_object_set(settings, "config", config->redacted);
    mem_free(control);
    mem_free(pub);
}

/* Where it writes what it cannot use, wherever that was said. */
static void find_dead_letters(const builder_t *builder) {
    for (size_t i = 0; i < builder->topology->count; i++) {
        topology_stage_t *stage = &builder->topology->stages[i];
        const char *path = json_string_value(json_object_get(stage->settings, "dead_letter"));
        if (path)
            stage->dead_letter = *path == '/' ? mem_text(path) : mem_format("%s/%s", builder->config->directory, path);
    }
}

/* Sources and pipelines have different names already; "averages.0" may still be a worker and a source. */
static int check_names(const topology_t *topology, err_t *err) {
    for (size_t i = 0; i < topology->count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(topology->stages[i].name, topology->stages[j].name) == 0)
                return err_set(err, "two stages would be called %s: workers of a pipeline are numbered NAME.0, NAME.1, ...",
                               topology->stages[i].name);
    return 0;
}

int topology_new(topology_t **topology, const config_t *config, const char *run_dir, err_t *err) {
    if (strlen(run_dir) + strlen("/l/00000000") > LINK_PATH_MAX)
        return err_set(err, "the run directory %s is too long for sockets: set XDG_RUNTIME_DIR to a shorter path", run_dir);
    size_t count = config->source_count + 2;
    for (size_t i = 0; i < config->pipeline_count; i++)
        count += (size_t) config->pipelines[i].workers;
    topology_t *new = mem_zero(sizeof *new);
    new->run_dir = mem_text(run_dir);
    new->stages = mem_zero(count * sizeof *new->stages);
    builder_t builder = {new, config, map_new()};
    add_sources(&builder);
    add_pipelines(&builder);
    add_broadcast(&builder);
    if (config->server.enabled)
        add_server(&builder);
    find_dead_letters(&builder);
    map_free(builder.paths);
    if (check_names(new, err)) {
        topology_free(new);
        return -1;
    }
    *topology = new;
    return 0;
}

void topology_free(topology_t *topology) {
    if (!topology)
        return;
    for (size_t i = 0; i < topology->count; i++) {
        topology_stage_t *stage = &topology->stages[i];
        mem_free(stage->name);
        mem_free(stage->group);
        mem_free(stage->type);
        mem_free(stage->inputs);
        mem_free(stage->outputs);
        mem_free(stage->metrics);
        mem_free(stage->log);
        mem_free(stage->state);
        mem_free(stage->dead_letter);
        mem_free(stage->key);
        mem_free(stage->side);
        for (char **side = stage->sink_sides; side && *side; side++)
            mem_free(*side);
        mem_free(stage->sink_sides);
        json_decref(stage->settings);
    }
    mem_free(topology->stages);
    mem_free(topology->run_dir);
    mem_free(topology);
}
